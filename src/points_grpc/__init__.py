"""Loyalty points over gRPC: typed, exact and durable.

What a client needs lives in `points_grpc.client`, `points_grpc.v1` (the generated stubs) and `points_grpc.codes` (the
catalogue of coded outcomes); none of them imports the server.
"""

__version__ = "0.1.0"
