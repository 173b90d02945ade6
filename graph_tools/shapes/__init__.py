"""Types and shapes: what onnx infers, what it gets wrong or leaves open."""
