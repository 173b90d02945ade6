"""External data of an ONNX file: which tensors have it, and opening it without leaving the model's folder.

ONNX Runtime refuses ``..``, absolute paths and symlinks, but takes hard links, and resolves a model given as
bytes against the working directory. Here all of it is refused before anything is loaded.
"""

from __future__ import annotations

import math
import os
import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import onnx
from google.protobuf.message import DecodeError
from onnx import GraphProto, ModelProto, NodeProto, SparseTensorProto, TensorProto

from graph_tools.errors import UnsupportedModel

_BITS: dict[int, int] = {
    TensorProto.UINT4: 4, TensorProto.INT4: 4, TensorProto.FLOAT4E2M1: 4,
    TensorProto.UINT2: 2, TensorProto.INT2: 2, TensorProto.FLOAT6E2M3: 6, TensorProto.FLOAT6E3M2: 6,
}  # fmt: skip


@dataclass(frozen=True)
class Reference:
    """Bytes of another file that a tensor refers to.

    Attributes:
        tensor: its name.
        location: normalised relative POSIX path below the model's folder.
        end: first byte after the tensor's data, counted from the start of the file.
    """

    tensor: str
    location: str
    end: int


def parse(path: Path) -> ModelProto:
    """The model proto without its external data.

    Raises:
        UnsupportedModel: not an ONNX file, cut short, or empty.
    """
    try:
        model = onnx.load_model(path, format="protobuf", load_external_data=False)
    except (DecodeError, ValueError, RecursionError):
        raise UnsupportedModel("it is not an ONNX file, or it is cut short") from None
    if not model.HasField("graph"):
        raise UnsupportedModel("it is not an ONNX file: it holds no graph")
    return model


def references(model: ModelProto) -> list[Reference]:
    """External data of every tensor of ``model``, those in subgraphs, functions and attributes included.

    Raises:
        UnsupportedModel: a path that is not below the model's folder, or an offset or length that is no
            number.
    """
    return [_reference(t) for t in tensors(model) if t.data_location == TensorProto.EXTERNAL]


def tensors(model: ModelProto) -> Iterator[TensorProto]:
    """Every tensor stored in ``model``."""
    yield from _of_graph(model.graph)
    for function in model.functions:
        yield from _of_nodes(function.node)
    for training in model.training_info:
        yield from _of_graph(training.initialization)
        yield from _of_graph(training.algorithm)


def _of_graph(graph: GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    yield from _of_sparse(graph.sparse_initializer)
    yield from _of_nodes(graph.node)


def _of_nodes(nodes: Iterable[NodeProto]) -> Iterator[TensorProto]:
    for attribute in (a for node in nodes for a in node.attribute):
        if attribute.HasField("t"):
            yield attribute.t
        yield from attribute.tensors
        if attribute.HasField("sparse_tensor"):
            yield from _of_sparse([attribute.sparse_tensor])
        yield from _of_sparse(attribute.sparse_tensors)
        if attribute.HasField("g"):
            yield from _of_graph(attribute.g)
        for graph in attribute.graphs:
            yield from _of_graph(graph)


def _of_sparse(sparse: Iterable[SparseTensorProto]) -> Iterator[TensorProto]:
    for tensor in sparse:
        yield tensor.values
        yield tensor.indices


def _reference(tensor: TensorProto) -> Reference:
    entries = {e.key: e.value for e in tensor.external_data}
    if len(entries) != len(tensor.external_data):
        raise UnsupportedModel(f"external data of {tensor.name!r}: a key is given twice")
    if any(isinstance(text, bytes) for entry in entries.items() for text in entry):  # proto2's answer to no UTF-8
        raise UnsupportedModel(f"external data of {tensor.name!r}: a key or value is not UTF-8")
    offset, length = (_number(tensor.name, key, entries.get(key, "0")) for key in ("offset", "length"))
    return Reference(
        tensor.name,
        _location(tensor.name, entries.get("location", "")),
        offset + max(length, _nbytes(tensor)),
    )


def _number(tensor: str, key: str, text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,19}", text, re.ASCII):
        raise UnsupportedModel(f"external data of {tensor!r}: {key} {text[:30]!r} is not a number of bytes")
    return int(text)


def _nbytes(tensor: TensorProto) -> int:
    """Bytes of the tensor's data by its shape and type."""
    if tensor.data_type in (TensorProto.STRING, TensorProto.UNDEFINED) or any(d < 0 for d in tensor.dims):
        raise UnsupportedModel(f"external data of {tensor.name!r}: its type or shape allows none")
    bits = _BITS.get(tensor.data_type)
    if bits is None:
        try:
            bits = 8 * int(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)
        except KeyError:
            raise UnsupportedModel(f"external data of {tensor.name!r}: unknown type {tensor.data_type}") from None
    return int(-(-math.prod(tensor.dims) * bits // 8))


def _location(tensor: str, text: str) -> str:
    """``text`` as a relative path of plain names; ``*`` is refused because ``*/_ORT_MEM_ADDR_/*`` means raw memory."""
    path = PurePosixPath(text)
    plain = text and not path.is_absolute() and ".." not in path.parts and path.parts
    if not plain or re.search(r"[\\*:\x00-\x1f]", text):
        raise UnsupportedModel(
            f"external data of {tensor!r}: {text[:80]!r} is not a plain relative path; "
            "the data must lie in the model's folder or below"
        )
    return str(path)


def open_below(folder: Path, location: str) -> int:
    """A read-only file descriptor of ``folder/location``; no link is followed on the way.

    Args:
        folder: the model's folder.
        location: as in :class:`Reference`.

    Raises:
        UnsupportedModel: missing, a link (symbolic, or a file with several hard links), or not a regular
            file.
    """
    directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        *above, name = PurePosixPath(location).parts
        for part in above:
            _refuse_links(directory, part, location)
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            child = os.open(part, flags, dir_fd=directory)
            os.close(directory)
            directory = child
        _refuse_links(directory, name, location)
        # O_NONBLOCK: opening a FIFO must not wait for a writer.
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    except OSError as error:
        raise UnsupportedModel(f"external data file {location!r} cannot be opened: {error.strerror}") from None
    finally:
        os.close(directory)
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode) and status.st_nlink == 1:
        return descriptor
    os.close(descriptor)
    kind = "has several hard links" if stat.S_ISREG(status.st_mode) else "is not a regular file"
    raise UnsupportedModel(f"external data file {location!r} {kind}; put a plain copy in its place")


def _refuse_links(directory: int, name: str, location: str) -> None:
    """The message for a symbolic link; O_NOFOLLOW at the open is what holds."""
    if stat.S_ISLNK(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
        raise UnsupportedModel(
            f"external data file {location!r} is or lies behind a symbolic link; put a plain copy in its place"
        )
