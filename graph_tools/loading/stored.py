"""Tensors as a file stores them: is the data there, and is there as much of it as type and shape say?

External data stays where it is: the file is only measured. It must lie in the model's folder or below.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import onnx
from onnx import GraphProto, ModelProto, NodeProto, SparseTensorProto, TensorProto

from graph_tools.errors import UnsupportedModel

_BITS: dict[int, int] = {
    TensorProto.UINT4: 4, TensorProto.INT4: 4, TensorProto.FLOAT4E2M1: 4,
    TensorProto.UINT2: 2, TensorProto.INT2: 2, TensorProto.FLOAT6E2M3: 6, TensorProto.FLOAT6E3M2: 6,
}  # fmt: skip
_TYPED: dict[int, tuple[str, int]] = {
    TensorProto.FLOAT: ("float_data", 1), TensorProto.COMPLEX64: ("float_data", 2),
    TensorProto.DOUBLE: ("double_data", 1), TensorProto.COMPLEX128: ("double_data", 2),
    TensorProto.INT64: ("int64_data", 1), TensorProto.UINT64: ("uint64_data", 1),
    TensorProto.UINT32: ("uint64_data", 1), TensorProto.STRING: ("string_data", 1),
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


def check(proto: ModelProto, folder: Path | None) -> None:
    """Check the data of every tensor of ``proto``; external data lies in ``folder``.

    Raises:
        UnsupportedModel: names the tensor whose type is unknown, whose data is missing, of another length than its
            shape, outside the folder, or external while no folder is known.
    """
    sizes: dict[str, int] = {}
    for tensor in tensors(proto):
        if tensor.data_location != TensorProto.EXTERNAL:
            _check_length(tensor)
            continue
        found = reference(tensor)
        if folder is None:
            raise UnsupportedModel(
                f"the data of {tensor.name!r} lies in the file {found.location!r}, and where that file is cannot be "
                "told from bytes or a ModelProto: give the model's path, or its folder"
            )
        if found.location not in sizes:
            sizes[found.location] = _measure(folder, found)
        if found.end > sizes[found.location]:
            raise UnsupportedModel(
                f"external data file {found.location!r} is too short: {tensor.name!r} refers to byte {found.end}, "
                f"it has {sizes[found.location]}"
            )


def references(model: ModelProto) -> list[Reference]:
    """External data of every tensor of ``model``, those in subgraphs, functions and attributes included.

    Raises:
        UnsupportedModel: a path that is not below the model's folder, or an offset or length that is no number.
    """
    return [reference(t) for t in tensors(model) if t.data_location == TensorProto.EXTERNAL]


def tensors(model: ModelProto) -> Iterator[TensorProto]:
    """Every tensor stored in ``model``."""
    yield from _of_graph(model.graph)
    for function in model.functions:
        yield from _of_nodes(function.node)
    for training in model.training_info:
        yield from _of_graph(training.initialization)
        yield from _of_graph(training.algorithm)


def reference(tensor: TensorProto) -> Reference:
    """Where the data of an external tensor lies.

    Raises:
        UnsupportedModel: see :func:`references`.
    """
    entries = {e.key: e.value for e in tensor.external_data}
    if len(entries) != len(tensor.external_data):
        raise UnsupportedModel(f"external data of {tensor.name!r}: a key is given twice")
    if any(isinstance(text, bytes) for entry in entries.items() for text in entry):  # proto2's answer to no UTF-8
        raise UnsupportedModel(f"external data of {tensor.name!r}: a key or value is not UTF-8")
    offset, length = (_number(tensor.name, key, entries.get(key, "0")) for key in ("offset", "length"))
    if tensor.data_type in (TensorProto.STRING, TensorProto.UNDEFINED) or any(d < 0 for d in tensor.dims):
        raise UnsupportedModel(f"external data of {tensor.name!r}: its type or shape allows none")
    needed = nbytes(tensor)
    if 0 < length < needed:
        raise UnsupportedModel(f"external data of {tensor.name!r}: {length} bytes, where its shape needs {needed}")
    return Reference(tensor.name, _location(tensor.name, entries.get("location", "")), offset + max(length, needed))


def nbytes(tensor: TensorProto) -> int:
    """Bytes of the tensor's data by its shape and type.

    Raises:
        UnsupportedModel: a type that ONNX does not have.
    """
    bits = _BITS.get(tensor.data_type)
    if bits is None:
        try:
            bits = 8 * int(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)
        except KeyError:
            raise UnsupportedModel(f"data of {tensor.name!r}: unknown type {tensor.data_type}") from None
    return int(-(-math.prod(tensor.dims) * bits // 8))


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


def _check_length(tensor: TensorProto) -> None:
    """Whether the data in the file is as long as type and shape say."""
    name, kind = tensor.name, tensor.data_type
    if kind == TensorProto.UNDEFINED or kind not in TensorProto.DataType.values():
        raise UnsupportedModel(f"data of {name!r}: unknown type {kind}")
    if isinstance(name, bytes):
        raise UnsupportedModel(f"the file has a tensor whose name is no UTF-8 text: {name[:40]!r}")
    if any(d < 0 for d in tensor.dims):
        raise UnsupportedModel(f"data of {name!r}: its shape {list(tensor.dims)} has a negative dimension")
    if tensor.HasField("raw_data"):
        have, want, unit = len(tensor.raw_data), 0 if kind == TensorProto.STRING else nbytes(tensor), "bytes"
    else:
        field, per_element = _TYPED.get(kind, ("int32_data", 1))
        count = math.prod(tensor.dims)
        if kind in _BITS:  # packed: two or more in each element
            count, per_element = nbytes(tensor), 1
        have, want, unit = len(getattr(tensor, field)), count * per_element, f"elements of {field}"
    if have != want:
        raise UnsupportedModel(
            f"data of {name!r}: {have} {unit}, where its type {TensorProto.DataType.Name(kind)} and shape "
            f"{list(tensor.dims)} need {want}"
        )


def _measure(folder: Path, found: Reference) -> int:
    """Size of an external file that is a plain file inside ``folder``."""
    path = (folder / found.location).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise UnsupportedModel(f"external data file {found.location!r} is a link that leaves the model's folder")
    if not path.is_file():
        raise UnsupportedModel(f"external data file {found.location!r} (of {found.tensor!r}) is not there")
    return path.stat().st_size


def _number(tensor: str, key: str, text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,19}", text, re.ASCII):
        raise UnsupportedModel(f"external data of {tensor!r}: {key} {text[:30]!r} is not a number of bytes")
    return int(text)


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
