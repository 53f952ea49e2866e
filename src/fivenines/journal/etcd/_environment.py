"""What gRPC must find in the environment when it is first imported; so this is the first import of the package.

A node forks to write its snapshots, and the child never calls gRPC. gRPC has handlers that make it ready for calls in
the child, and these crash the child when another thread is within gRPC at the moment of the fork.
"""

import os

__all__ = ["FORK_SUPPORT"]

FORK_SUPPORT = os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
