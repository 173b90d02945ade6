"""Every operator that a rule emits in its CUDA form has a CUDA kernel; the exceptions stand below with their reason."""

from __future__ import annotations

import dataclasses
import importlib.metadata
from collections.abc import Callable, Iterator

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper

import graph_tools
from graph_tools.cuda_kernels import CudaException, cuda_exceptions, kernels, why_not
from graph_tools.emit import operator_name
from graph_tools.errors import UnsupportedGradient, UnsupportedModel
from graph_tools.lowering.table import BODIES
from graph_tools.vjp.table import SAMPLERS
from tests.bench import nets
from tests.graph_tools.harness import Case, build
from tests.graph_tools.test_vjp import CASES

OPSETS = (18, 19, 20, 21)

# (operator differentiated, operator emitted) -> why there is no equivalent with a CUDA kernel.
EXCEPTIONS = {
    ("CumProd", "CumProd"): "the forward operator (opset 26) has no CUDA kernel either",
    ("Det", "Det"): "cofactors are determinants; the forward operator has no CUDA kernel either",
    ("DFT", "DFT"): "a transform's adjoint is one; the forward operator has no CUDA kernel either",
    ("STFT", "DFT"): "its body transforms each frame; the forward operator has no CUDA kernel either",
    ("Einsum", "Einsum"): "a diagonal's cotangent; the forward operator's CUDA kernel refuses diagonals too",
}


def forward(case: Case, node: str) -> bool:
    """Whether it is the operator itself, or a node of the function body that ONNX defines for it."""
    ours = f"{case.domain}::{case.op}" if case.domain else case.op
    return node == "the_node" or (node.startswith("the_node/") and ours not in BODIES)


def _programs(case: Case) -> Iterator[ir.Model]:
    """The gradient at the lowest and at the highest safe opset, and with every dimension unknown."""
    forms = [(OPSETS[0], False), (OPSETS[-1], False), *([(OPSETS[0], True)] if case.open_dims else [])]
    for opset, open_dims in forms:
        model, feeds = build(dataclasses.replace(case, opset=max(opset, case.opset)), np.float32, open_dims)
        wrt = [f"x{i}" for i in case.wrt] if case.wrt else [n for n, a in feeds.items() if a.dtype == np.float32]
        try:
            yield graph_tools.gradient(model, [f"y{i}" for i in case.through], wrt, form="cuda")
        except UnsupportedGradient:
            assert open_dims, "the row is differentiable"
        except UnsupportedModel:
            if opset <= case.opset:  # else: the row is written for an older version of the operator
                raise


NO_PATH = SAMPLERS | {"Shape", "Size", "QuantizeLinear", "DynamicQuantizeLinear", "MatMulInteger", "ConvInteger"}
DIFFERENTIABLE = [c for c in CASES if c.numeric or c.op not in NO_PATH]


@pytest.mark.parametrize("case", DIFFERENTIABLE, ids=[c.label for c in DIFFERENTIABLE])
def test_rules_emit_what_the_gpu_runs(case: Case) -> None:
    """No node beside the forward operator stays on the CPU, at any opset from 18 to 21 (or the operator's own)."""
    for program in _programs(case):
        made = program.graph.opset_imports[""]
        left = [(e.operator, e.why) for e in cuda_exceptions(program) if not forward(case, e.node)]
        nodes = [n for n in program.graph.all_nodes() if not forward(case, n.name or "")]
        judged = {n for n in nodes if not why_not(n, made)}
        left += [(operator_name(n), why) for o in OPSETS if o >= made for n in judged if (why := why_not(n, o))]
        assert [e for e in left if (case.op, e[0]) not in EXCEPTIONS] == []


NETS = [make for name, make in nets.NETS.items() if name != "vit_base"]  # it has the operators of vit_tiny


@pytest.mark.parametrize("opset", [18, 20, 21])
@pytest.mark.parametrize("make", NETS, ids=lambda f: f.__name__)
def test_gradients_of_the_benchmark_nets(make: Callable[..., onnx.ModelProto], opset: int) -> None:
    model = make(64)
    del model.opset_import[:]
    model.opset_import.append(helper.make_opsetid("", opset))
    (entry,), (y,) = model.graph.input, model.graph.output
    program = graph_tools.gradient(model, [y.name], [entry.name], form="cuda")
    assert len(program.graph) > len(model.graph.node)
    assert cuda_exceptions(program) == []


def test_the_source_is_the_release_in_use() -> None:
    """A new release: `python -m tests.gpu.read_kernels`."""
    source, table = kernels()
    assert len(table) > 200
    try:
        installed = importlib.metadata.version("onnxruntime-gpu")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("onnxruntime-gpu is not installed here")
    assert source.endswith(f"onnxruntime-gpu {installed}")


def _one(op: str, opset: int, dtype: int = 1, domain: str = "", **attributes: object) -> list[CudaException]:
    x = helper.make_tensor_value_info("x", dtype, [1, 1, 4, 4])
    y = helper.make_tensor_value_info("y", dtype, None)
    graph = helper.make_graph([helper.make_node(op, ["x"], ["y"], "n", domain=domain, **attributes)], "g", [x], [y])
    opsets = [helper.make_opsetid("", opset)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    return cuda_exceptions(ir.from_proto(helper.make_model(graph, opset_imports=opsets, ir_version=10)))


def test_a_kernel_without_a_last_version_serves_the_version_it_names() -> None:
    """MaxPool 12 is the last registered: at opset 22 the operator has a new version, and no kernel."""
    assert _one("MaxPool", 21, kernel_shape=[2, 2]) == []
    ((node, operator, why),) = _one("MaxPool", 22, kernel_shape=[2, 2])
    assert (node, operator) == ("n", "MaxPool")
    assert "opset 22" in why


@pytest.mark.parametrize(
    ("op", "dtype", "word"),
    [("Celu", 1, "no CUDA kernel"), ("Log", 16, "bfloat16"), ("Relu", 16, ""), ("Relu", 10, ""), ("Tan", 1, "kernel"),
     ("Conv", 1, "")],
)  # fmt: skip
def test_types_and_missing_operators(op: str, dtype: int, word: str) -> None:
    found = _one(op, 18, dtype) if op != "Conv" else []
    assert bool(found) == bool(word)
    assert all(word in e.why for e in found)


def _deconv(pads: list[int]) -> list[CudaException]:
    infos = [helper.make_tensor_value_info(n, 1, s) for n, s in (("x", [1, 2, 5, 5]), ("w", [2, 2, 3, 3]))]
    node = helper.make_node("ConvTranspose", ["x", "w"], ["y"], "n", pads=pads)
    graph = helper.make_graph([node], "g", infos, [helper.make_tensor_value_info("y", 1, None)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return cuda_exceptions(ir.from_proto(model))


def test_what_the_provider_drops_to_the_cpu() -> None:
    assert _deconv([1, 1, 1, 1]) == []
    assert "asymmetric" in _deconv([0, 1, 1, 1])[0].why


def test_constants_and_shape_arithmetic_are_no_exceptions() -> None:
    """Celu of a constant is folded; a product of dimensions (int64) is computed on the host anyway."""
    nodes = [
        helper.make_node("Celu", ["w"], ["c"], "folded"),
        helper.make_node("Shape", ["x"], ["s"], "shape"),
        helper.make_node("ReduceProd", ["s"], ["p"], "product", keepdims=1),
        helper.make_node("Reshape", ["x", "p"], ["r"], "flat"),
        helper.make_node("Add", ["r", "c"], ["y"], "sum"),
    ]
    w = onnx.numpy_helper.from_array(np.ones(1, np.float32), "w")
    x, y = (helper.make_tensor_value_info(n, 1, s) for n, s in (("x", ["a", "b"]), ("y", None)))
    model = helper.make_model(helper.make_graph(nodes, "g", [x], [y], [w]), opset_imports=[helper.make_opsetid("", 18)],
                              ir_version=10)  # fmt: skip
    assert cuda_exceptions(model) == []


def test_nodes_of_subgraphs_are_read_too() -> None:
    branches = {}
    for name in ("then_branch", "else_branch"):
        out = helper.make_tensor_value_info(f"{name}_y", 1, None)
        node = helper.make_node("Celu", ["x"], [f"{name}_y"], f"{name}_celu")
        branches[name] = helper.make_graph([node], name, [], [out])
    x, c = helper.make_tensor_value_info("x", 1, [2]), helper.make_tensor_value_info("c", 9, [])
    node = helper.make_node("If", ["c"], ["y"], "if", **branches)
    graph = helper.make_graph([node], "g", [x, c], [helper.make_tensor_value_info("y", 1, None)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    assert {e.node for e in cuda_exceptions(model)} == {"then_branch_celu", "else_branch_celu"}
