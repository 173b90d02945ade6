"""Tensor <-> NumPy: every count is checked before anything is allocated."""

from __future__ import annotations

import math
import struct

import numpy as np

from service.api.codec.fields import MAX_RANK, FieldError
from service.api.pb.onnx_explain.v1.types_pb2 import DataType, Tensor
from service.types import Array

_NUMERIC = {
    DataType.DATA_TYPE_BOOL: np.dtype("?"),
    DataType.DATA_TYPE_UINT8: np.dtype("u1"),
    DataType.DATA_TYPE_INT8: np.dtype("i1"),
    DataType.DATA_TYPE_UINT16: np.dtype("<u2"),
    DataType.DATA_TYPE_INT16: np.dtype("<i2"),
    DataType.DATA_TYPE_UINT32: np.dtype("<u4"),
    DataType.DATA_TYPE_INT32: np.dtype("<i4"),
    DataType.DATA_TYPE_UINT64: np.dtype("<u8"),
    DataType.DATA_TYPE_INT64: np.dtype("<i8"),
    DataType.DATA_TYPE_FLOAT16: np.dtype("<f2"),
    DataType.DATA_TYPE_FLOAT32: np.dtype("<f4"),
    DataType.DATA_TYPE_FLOAT64: np.dtype("<f8"),
}
_CODES = {dtype: code for code, dtype in _NUMERIC.items()}


def to_array(tensor: Tensor, path: str, *, finite: bool = True) -> Array:
    """The array of a message; numbers are a read-only view of its bytes, text an object array of ``str``.

    Args:
        tensor: the message.
        path: its path in the message that came, for errors.
        finite: refuse NaN and infinity.

    Raises:
        FieldError: dtype unset or unknown, negative size, byte count that does not fit, NaN or infinity, a
            bool that is neither 0 nor 1, broken UTF-8. The field is ``path`` and what follows it.
    """
    count = _count(tensor, path)
    if tensor.artifact:
        raise FieldError(f"{path}.artifact", "only replies refer to artifacts; put the bytes into raw")
    if tensor.dtype == DataType.DATA_TYPE_STRING:
        return _to_text(tensor, count, path)
    dtype = _NUMERIC.get(tensor.dtype)
    if dtype is None:
        raise FieldError(f"{path}.dtype", f"{tensor.dtype} is no element type that this server knows")
    wanted = count * dtype.itemsize
    if len(tensor.raw) != wanted:
        shape = "x".join(map(str, tensor.shape)) or "scalar"
        raise FieldError(f"{path}.raw", f"{len(tensor.raw)} bytes, but {shape} of {_name(dtype)} takes {wanted} bytes")
    array = np.frombuffer(tensor.raw, dtype).reshape(tuple(tensor.shape))
    if dtype.kind == "b" and tensor.raw.translate(None, b"\0\1"):
        raise FieldError(f"{path}.raw", "a bool is one byte, 0 or 1")
    if finite and dtype.kind == "f":
        _finite(array, path)
    return array


def to_tensor(array: Array) -> Tensor:
    """The message of an array: bool, integer, float, or text (``str`` objects).

    Raises:
        FieldError: another dtype.
    """
    if array.dtype.kind in "OU":
        return _from_text(array)
    dtype = array.dtype.newbyteorder("<") if array.dtype.itemsize > 1 else array.dtype
    if dtype not in _CODES:
        raise FieldError("", f"arrays of {array.dtype} cannot be sent; bool, integer, float or text can")
    raw = np.ascontiguousarray(array, dtype).tobytes()
    return Tensor(dtype=_CODES[dtype], shape=array.shape, raw=raw)


def _name(dtype: np.dtype[np.generic]) -> str:
    return dtype.newbyteorder("=").name


def _count(tensor: Tensor, path: str) -> int:
    if len(tensor.shape) > MAX_RANK:
        raise FieldError(f"{path}.shape", f"{len(tensor.shape)} sizes; at most {MAX_RANK}")
    for i, size in enumerate(tensor.shape):
        if size < 0:
            raise FieldError(f"{path}.shape[{i}]", f"{size} is negative; send the size that the array has")
    return math.prod(tensor.shape)


def _finite(array: Array, path: str) -> None:
    finite = np.isfinite(array)
    if not finite.all():
        where = np.unravel_index(int(np.argmin(finite)), array.shape)
        at = ", ".join(str(int(i)) for i in where)
        raise FieldError(f"{path}.raw", f"{array[where]} at [{at}]; values must be finite")


def _to_text(tensor: Tensor, count: int, path: str) -> Array:
    raw, start, items = tensor.raw, 0, []
    if 4 * count > len(raw):
        raise FieldError(f"{path}.raw", f"{len(raw)} bytes cannot hold {count} texts of 4 bytes length each")
    for i in range(count):
        end = start + 4
        if end <= len(raw):
            end += struct.unpack_from("<I", raw, start)[0]
        if end > len(raw) or end < start + 4:
            raise FieldError(f"{path}.raw", f"ends within text {i} of {count}")
        try:
            items.append(raw[start + 4 : end].decode())
        except UnicodeDecodeError:
            raise FieldError(f"{path}.raw", f"text {i} is not UTF-8") from None
        start = end
    if start != len(raw):
        raise FieldError(f"{path}.raw", f"{len(raw) - start} bytes are left after {count} texts")
    out = np.empty(count, object)
    out[:] = items
    return out.reshape(tuple(tensor.shape))


def _from_text(array: Array) -> Tensor:
    pieces = []
    for item in array.ravel().tolist():
        if not isinstance(item, str):
            raise FieldError("", f"arrays of objects may hold text only, not {type(item).__name__}")
        data = item.encode()
        pieces += [struct.pack("<I", len(data)), data]
    return Tensor(dtype=DataType.DATA_TYPE_STRING, shape=array.shape, raw=b"".join(pieces))
