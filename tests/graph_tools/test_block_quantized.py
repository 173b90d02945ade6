"""Weights of 2, 4 and 8 bits in blocks: the body equals ONNX Runtime's kernel, packed and unpacked."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

import graph_tools
from tests.graph_tools.harness import run_plain
from tests.graph_tools.test_lowered_quantized import node_model

RNG = np.random.default_rng(2)
F32, U8 = np.float32, np.uint8


def check(op: str, operands: list[Any], attrs: dict[str, Any], opset: int, inputs: tuple[int, ...] = (0,)) -> set[str]:
    proto, feeds = node_model(op, operands, attrs, 1, inputs=inputs, opset=opset)
    loaded = ir.to_proto(graph_tools.load(proto))
    assert {n.domain for n in loaded.graph.node} == {""}
    np.testing.assert_allclose(run_plain(loaded, feeds)["y"], run_plain(proto, feeds)["y"], rtol=1e-4, atol=1e-4)
    return {n.op_type for n in loaded.graph.node}


@pytest.mark.parametrize("opset", [18, 21])
@pytest.mark.parametrize("zeros", ["none", "packed", "float"])
@pytest.mark.parametrize(("k", "bits"), [(64, 4), (40, 4), (64, 8), (64, 2)])
def test_matmul_nbits(k: int, bits: int, zeros: str, opset: int) -> None:
    if (bits, zeros) == (8, "float"):
        pytest.skip("ONNX Runtime has no kernel for 8 bits with float zero points")
    n, block = 6, 16
    blocks = -(-k // block)
    operands = [
        RNG.normal(size=(3, k)).astype(F32),
        RNG.integers(0, 256, (n, blocks, block * bits // 8)).astype(U8),
        RNG.uniform(0.01, 0.1, n * blocks).astype(F32),
    ]
    if zeros == "packed":
        operands.append(RNG.integers(0, 256, n * -(-blocks * bits // 8)).astype(U8))
    elif zeros == "float":
        operands.append(RNG.uniform(0, 2**bits, n * blocks).astype(F32))
    attrs = {"K": k, "N": n, "bits": bits, "block_size": block}
    used = check("MatMulNBits", operands, attrs, opset)
    assert ("DequantizeLinear" in used) == (opset >= 21 and bits == 4 and k % block == 0 and zeros != "float")


@pytest.mark.parametrize("opset", [18, 21])
def test_matmul_nbits_with_bias_has_the_gradient_of_its_weights(opset: int) -> None:
    n, k, block = 5, 32, 16
    operands = [RNG.normal(size=(2, 3, k)).astype(F32), RNG.integers(0, 256, (n, 2, 8)).astype(U8),
                RNG.uniform(0.01, 0.1, n * 2).astype(F32), None, None, RNG.normal(size=n).astype(F32)]  # fmt: skip
    proto, feeds = node_model("MatMulNBits", operands, {"K": k, "N": n, "block_size": block}, 1, opset=opset)
    program = ir.to_proto(graph_tools.gradient(proto, ["y"], ["x0"]))
    ct = RNG.normal(size=(2, 3, n)).astype(F32)
    got = run_plain(program, {**feeds, "cotangent_y": ct})["grad_x0"]
    low, high = operands[1] & 15, operands[1] >> 4
    w = (np.stack([low, high], axis=-1).reshape(n, k).astype(F32) - 8) * np.repeat(operands[2].reshape(n, 2), block, 1)
    np.testing.assert_allclose(got, ct @ w, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", [0, 1])
def test_matmul_bnb4(kind: int) -> None:
    n, k, block = 6, 40, 16
    operands = [RNG.normal(size=(3, k)).astype(F32), RNG.integers(0, 256, n * k // 2).astype(U8),
                RNG.uniform(0.5, 2, n * k // block).astype(F32)]  # fmt: skip
    check("MatMulBnb4", operands, {"K": k, "N": n, "block_size": block, "quant_type": kind}, 18)


@pytest.mark.parametrize(("bits", "zeros"), [(4, False), (4, True), (8, False), (8, True)])
def test_gather_block_quantized(bits: int, zeros: bool) -> None:
    rows, k, block = 7, 64, 16
    operands = [RNG.integers(0, 256, (rows, k * bits // 8)).astype(U8), np.array([[0, 6], [3, 3]], np.int64),
                RNG.uniform(0.01, 0.1, (rows, k // block)).astype(F32)]  # fmt: skip
    if zeros:
        operands.append(RNG.integers(0, 256, (rows, k // block * bits // 8)).astype(U8))
    check("GatherBlockQuantized", operands, {"bits": bits, "block_size": block}, 18, inputs=(1,))
