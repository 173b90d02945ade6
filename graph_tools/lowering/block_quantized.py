"""Bodies of products with weights of 2, 4 or 8 bits, quantised in blocks: dequantise, then the float operator.

From opset 21 on 4-bit weights stay packed (a UINT4 initializer and DequantizeLinear in blocks): ONNX Runtime fuses
the pair again. Else the weights are dequantised here, in the scales' type.
"""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir

from graph_tools.emit import Emitter, array_of
from graph_tools.lowering.fused import given
from graph_tools.lowering.table import lowering

# QLoRA (Dettmers et al. 2023, arXiv:2305.14314), appendix E: the 16 quantiles of the normal distribution
NF4 = (-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
       -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
       0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941, 0.7229568362236023,
       1.0)  # fmt: skip
FP4 = (0.0, 5.208333333e-03, 0.66666667, 1.0, 0.33333333, 0.5, 0.16666667, 0.25)  # and the same below zero


@lowering("com.microsoft::MatMulNBits", at_load=True)
def matmul_nbits(b: Emitter, node: ir.Node) -> ir.Value | None:
    """A · Wᵀ (+ bias), W [N, K] in blocks along K: (q − zero) · scale, zero 2^(bits−1) where not given."""
    x, packed, scales, zeros, order, bias = (given(node, i) for i in range(6))
    stored, scale = array_of(packed), array_of(scales)
    n, k = node.attributes.get_int("N", 0), node.attributes.get_int("K", 0)
    bits, block = node.attributes.get_int("bits", 4), node.attributes.get_int("block_size", 32)
    if stored is None or scale is None or bits not in (2, 4, 8) or node.attributes.get_int("weight_prepacked", 0) != 0:
        return None
    if (zeros is not None and array_of(zeros) is None) or (order is not None and array_of(order) is None):
        return None
    blocks = -(-k // block)
    scale = scale.reshape(n, blocks)
    zero = _zero_points(array_of(zeros), n, blocks, bits)
    if bits == 4 and order is None and k % block == 0 and b.graph.opset_imports[""] >= 21 and zero.dtype == np.uint8:
        q = _packed(b, f"{packed.name}_uint4", stored, (n, k))  # type: ignore[union-attr]
        z = _packed(b, f"{packed.name}_zero", _pack(zero), (n, blocks))  # type: ignore[union-attr]
        s = b.const(scale, dtype=scales.dtype)  # type: ignore[union-attr]
        w = b.DequantizeLinear(q, s, z, axis=1, block_size=block)
        w = b.Transpose(w, perm=[1, 0])
    else:
        numbers = unpack(stored.reshape(n, -1), bits)[:, :k].astype(np.float32)
        which = np.arange(k) // block if order is None else np.asarray(array_of(order))[:k]
        wide = (numbers - zero[:, which]) * scale.astype(np.float32)[:, which]
        w = b.initializer(b.fresh(f"{packed.name}_float"), np.ascontiguousarray(wide.T).astype(scale.dtype))  # type: ignore[union-attr]
    y = b.MatMul(x, w)
    return y if bias is None else b.Add(y, bias)  # type: ignore[no-any-return]


def _zero_points(zeros: np.ndarray | None, n: int, blocks: int, bits: int) -> np.ndarray:
    """[N, blocks]: packed like the weights (uint8), or floats."""
    if zeros is None:
        return np.full((n, blocks), 2 ** (bits - 1), np.uint8)
    if zeros.dtype != np.uint8:
        return np.asarray(zeros.reshape(n, blocks).astype(np.float32))
    return unpack(zeros.reshape(n, -1), bits)[:, :blocks]


def unpack(stored: np.ndarray, bits: int) -> np.ndarray:
    """uint8 [rows, bytes] as uint8 numbers [rows, bytes · 8 / bits], the lowest bits first."""
    if bits == 8:
        return stored
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    return np.asarray(((stored[..., None] >> shifts) & (2**bits - 1)).reshape(*stored.shape[:-1], -1))


def _pack(numbers: np.ndarray) -> np.ndarray:
    """4-bit numbers, two to a byte, the first in the lower half."""
    flat = np.append(numbers.reshape(-1), np.zeros(numbers.size % 2, np.uint8))
    return flat[::2] | (flat[1::2] << 4)  # type: ignore[no-any-return]


def _packed(b: Emitter, name: str, stored: np.ndarray, shape: tuple[int, ...]) -> ir.Value:
    """A UINT4 initializer from its bytes."""
    name = b.fresh(name)
    proto = onnx.TensorProto(name=name, data_type=onnx.TensorProto.UINT4, dims=shape, raw_data=stored.tobytes())
    tensor = ir.serde.deserialize_tensor(proto)
    v = ir.Value(name=name, shape=ir.Shape(shape), type=ir.TensorType(ir.DataType.UINT4), const_value=tensor)
    b.graph.register_initializer(v)
    return v


@lowering("com.microsoft::MatMulBnb4", at_load=True)
def matmul_bnb4(b: Emitter, node: ir.Node) -> ir.Value | None:
    """A · Wᵀ, W [N, K] in blocks of the flattened matrix: code[q] · absmax, the first number in the upper half."""
    x, packed, largest = node.inputs[:3]
    stored, scale = array_of(packed), array_of(largest)
    n, k = node.attributes.get_int("N", 0), node.attributes.get_int("K", 0)
    block = node.attributes.get_int("block_size", 64)
    if stored is None or scale is None or not node.attributes.get_int("transB", 1):
        return None
    flat = stored.reshape(-1)
    q = np.stack([flat >> 4, flat & 15], axis=1).reshape(-1)[: n * k]
    code = np.array(NF4 if node.attributes.get_int("quant_type", 1) == 1 else (*FP4, *(-c for c in FP4)), np.float32)
    wide = code[q] * scale.astype(np.float32).reshape(-1)[np.arange(n * k) // block]
    w = b.initializer(b.fresh(f"{packed.name}_float"), np.ascontiguousarray(wide.reshape(n, k).T).astype(scale.dtype))  # type: ignore[union-attr]
    return b.MatMul(x, w)  # type: ignore[no-any-return]


@lowering("com.microsoft::GatherBlockQuantized", at_load=True)
def gather_block_quantized(b: Emitter, node: ir.Node) -> ir.Value | None:
    """Gather from a table that is quantised in blocks along ``quantize_axis``."""
    data, indices, scales, zeros = (given(node, i) for i in range(4))
    stored, scale, zero = array_of(data), array_of(scales), array_of(zeros)
    if stored is None or scale is None or data is None or (zeros is not None and zero is None):
        return None
    bits = node.attributes.get_int("bits", 4)
    packed = stored.dtype == np.uint8 and data.dtype == ir.DataType.UINT8
    quantised_axis = node.attributes.get_int("quantize_axis", 1) % stored.ndim
    q = unpack(stored, bits) if packed else stored
    table = q.astype(np.float32)
    which = np.arange(table.shape[quantised_axis]) // node.attributes.get_int("block_size", 128)
    if zero is not None:
        wide = unpack(zero, bits) if packed else zero
        wide = wide.astype(np.float32)[tuple(slice(0, d) for d in scale.shape)]
        table = table - np.take(wide, which, axis=quantised_axis)
    elif packed:
        table = table - 2 ** (bits - 1)
    table = table * np.take(scale.astype(np.float32), which, axis=quantised_axis)
    rows = b.initializer(b.fresh(f"{data.name}_float"), table.astype(scale.dtype))
    return b.Gather(rows, indices, axis=node.attributes.get_int("gather_axis", 0))  # type: ignore[no-any-return]
