"""Large results in pieces: every message of ExplainBatch stays small whatever a method returns."""

from __future__ import annotations

from collections.abc import Iterator

from service.api.codec.fields import FieldError
from service.api.pb.onnx_explain.v1 import explain_pb2, result_pb2, types_pb2

CHUNK = 1 << 19
"""Bytes in one piece, and the size from which a result is taken apart."""


def take_apart(response: result_pb2.ExplainResponse, item_id: str) -> Iterator[explain_pb2.ArtifactChunk]:
    """Move the arrays and files of a large ``response`` into pieces; a small one stays whole.

    When the iterator is exhausted, the response refers to what the pieces carried.
    """
    if response.ByteSize() < CHUNK:
        return
    for name, part in _parts(response):
        if isinstance(part, types_pb2.Tensor):
            data, part.raw, part.artifact = part.raw, b"", name
        else:
            data, part.data = part.data, b""
        for start in range(0, len(data), CHUNK):
            yield explain_pb2.ArtifactChunk(item_id=item_id, name=name, offset=start, data=data[start : start + CHUNK])


class Assembler:
    """Puts the pieces of a stream back where they belong."""

    def __init__(self) -> None:
        """Nothing received yet."""
        self._pieces: dict[str, dict[str, bytearray]] = {}

    def add(self, chunk: explain_pb2.ArtifactChunk) -> None:
        """Take one piece.

        Raises:
            FieldError: it does not continue the piece before.
        """
        data = self._pieces.setdefault(chunk.item_id, {}).setdefault(chunk.name, bytearray())
        if chunk.offset != len(data):
            raise FieldError("chunk.offset", f"{chunk.name}: {chunk.offset} after {len(data)} bytes")
        data += chunk.data

    def complete(self, response: result_pb2.ExplainResponse, item_id: str) -> None:
        """Fill ``response`` with the pieces received for ``item_id``."""
        pieces = self._pieces.pop(item_id, {})
        for name, part in _parts(response):
            if isinstance(part, types_pb2.Tensor):
                if part.artifact:
                    part.raw = bytes(pieces.get(part.artifact, b""))
                    part.artifact = ""
            elif name in pieces:
                part.data = bytes(pieces[name])


def _parts(
    response: result_pb2.ExplainResponse,
) -> Iterator[tuple[str, types_pb2.Tensor | result_pb2.Artifact]]:
    for i, item in enumerate(response.items):
        for kind, layers in (("attributions", item.attributions), ("activations", item.activations)):
            for k, part in enumerate(layers):
                yield f"items[{i}].{kind}[{k}].values", part.values
                if part.HasField("picture"):
                    yield part.picture.name, part.picture
        for artifact in item.artifacts:
            yield artifact.name, artifact
    for artifact in response.artifacts:
        yield artifact.name, artifact
