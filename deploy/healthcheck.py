"""Leaves with 0 while the server answers that it is ready: ``python healthcheck.py [HOST:PORT]``.

For the image's HEALTHCHECK, which has no shell. Kubernetes asks the same over its own gRPC probe
(service ``readiness``).
"""

from __future__ import annotations

import sys

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

SERVICE = "readiness"
TIMEOUT = 4.0  # seconds; below the HEALTHCHECK's own


def ready(address: str, timeout: float = TIMEOUT) -> bool:
    """Whether the server at ``address`` (``host:port``) serves requests; False where nobody answers in time."""
    with grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(service=SERVICE), timeout=timeout
            )
        except grpc.RpcError as error:
            sys.stderr.write(f"{address}: {error.code().name} {error.details()}\n")
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


if __name__ == "__main__":
    sys.exit(not ready(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:8001"))
