"""The wire: requests become commands, outcomes become answers and statuses. Only here is gRPC known.

No rule about points lives here; a rule about the form of a request lives nowhere else.
"""
