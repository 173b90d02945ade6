"""Save a model without copying what lies in files already: weights stay in the file that they came in."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import onnx_ir as ir

INLINE_BYTES = 1 << 28  # more than this in memory goes to a file of its own; protobuf ends at 2 GB
_SMALL = 1024
_ALIGN = 4096  # page size: ONNX Runtime maps the file


def save(model: ir.Model, path: str | os.PathLike[str], *, inline_bytes: int = INLINE_BYTES) -> None:
    """Write ``model`` to ``path``; new large weights (flipped, transposed) go to ``<path>.data``, one at a time.

    Args:
        model: any model, for example the result of ``gradient``; not changed.
        path: the ``.onnx`` file. External data in its folder or below is referred to; what lies elsewhere is copied
            to ``<path>.data``, for ONNX Runtime reads nothing outside the model's folder.
        inline_bytes: weights that are in memory stay in the ``.onnx`` file up to this total.

    Raises:
        OSError: the folder cannot be written.
    """
    target = Path(path).absolute()
    copy = model.clone()
    values = [v for graph in copy.graphs() for v in graph.initializers.values() if v.const_value is not None]
    moved: list[ir.Value] = []
    held = sum(d.nbytes for v in values if (d := v.const_value) and not isinstance(d, ir.ExternalTensor))
    for v in values:
        data = v.const_value
        if isinstance(data, ir.ExternalTensor):
            inside = _inside(data, target.parent)
            if inside is None:
                moved.append(v)
            else:
                v.const_value = _refer(data, inside, data.offset or 0, target.parent)
        elif data is not None and held > inline_bytes and data.nbytes >= _SMALL and data.dtype != ir.DataType.STRING:
            moved.append(v)
    if moved:
        with _Published(target.with_name(target.name + ".data")) as file:
            for v in moved:
                data = v.const_value
                assert data is not None
                file.seek(-(-file.tell() // _ALIGN) * _ALIGN)
                place = file.tell()
                for part in _bytes_of(data):
                    file.write(part)
                v.const_value = _refer(data, target.name + ".data", place, target.parent)
    with _Published(target) as file:
        file.write(ir.to_proto(copy).SerializeToString())


def _inside(data: ir.ExternalTensor, folder: Path) -> str | None:
    """The location of the tensor's file relative to ``folder``, None where it is not below it."""
    path = Path(data.path).absolute()
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else None


def _refer(data: ir.TensorProtocol, location: str, offset: int, folder: Path) -> ir.ExternalTensor:
    return ir.ExternalTensor(
        location,
        offset,
        data.nbytes,
        data.dtype,
        shape=ir.Shape(data.shape.numpy()),
        name=data.name or "",
        base_dir=folder,
    )


def _bytes_of(data: ir.TensorProtocol) -> Iterator[bytes]:
    """The tensor's bytes; those of a file in pieces."""
    if not isinstance(data, ir.ExternalTensor):
        yield data.tobytes()
        return
    with open(data.path, "rb") as file:
        file.seek(data.offset or 0)
        left = data.nbytes
        while left and (part := file.read(min(left, 1 << 24))):
            left -= len(part)
            yield part


class _Published:
    """A file that appears under its name when it is complete."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __enter__(self) -> BinaryIO:
        descriptor, self.staging = tempfile.mkstemp(dir=self.target.parent, prefix=".new-")
        self.file: BinaryIO = os.fdopen(descriptor, "wb")
        return self.file

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.file.close()
        if kind is None:
            os.chmod(self.staging, 0o644)
            os.replace(self.staging, self.target)
        else:
            os.unlink(self.staging)
