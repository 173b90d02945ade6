"""Explain a picture on a server: ``python -m service.client.example localhost:8001 MODEL IMAGE``."""

import sys
from pathlib import Path

from service.client import Client

address, model, image = sys.argv[1:4]
with Client(address, timeout=60) as client:
    result = client.explain(model, image, method="grad_cam", render="overlay")
for score in result.predictions:
    print(f"{score.label or score.index}: {score.probability:.1%}" if score.probability else score)
print(f"map {result.map.shape} on {result.provider} in {1000 * result.timing.total:.0f} ms")
Path("explanation.png").write_bytes(result.picture)
