"""Explain a picture on a server: ``python -m service.client.example localhost:8001 MODEL IMAGE``."""

import sys

from service.client import Client

address, model, image = sys.argv[1:4]
with Client(address, timeout=60) as client:
    result = client.explain(model, image, method="grad_cam", render="overlay")
for score in result.predictions:
    print(score.index, score.label, score.probability)
with open("explanation.png", "wb") as file:
    file.write(result.picture)
