"""Everything that runs a graph: sessions, providers, the program cache, cancelling, the private model store.

The only package that imports onnxruntime, and only through :mod:`service.runtime.ort`.
"""

import os

# Read by onnxruntime at import; without it 1.31 writes a device id and a database below ~/.cache.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
