"""What a caller imports: ``from service.client import Client``. Loads neither onnx nor onnxruntime."""

from service.client.client import Client
from service.client.errors import ServiceError
from service.client.result import Result

__all__ = ["Client", "Result", "ServiceError"]
