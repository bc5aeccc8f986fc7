"""The rules: pure functions from a preloaded snapshot and a command to a decision.

Nothing in this package reads a clock, a database, a socket or a source of randomness, and nothing in it knows protobuf,
gRPC or SQL.
"""
