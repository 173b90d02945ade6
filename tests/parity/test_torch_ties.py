"""Ties and kinks as torch has them: constant images, grey levels, integer grids, quantised activations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper
from torch import Tensor, nn
from torch.nn import functional

import graph_tools
from tests.parity.exports import run, write
from tests.service.zoo import SHARED, need

pytestmark = pytest.mark.parity

FORMS = ("torchscript-9", "torchscript-17", "dynamo-18")


class Of(nn.Module):
    """A function of one tensor as a net."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function, self.unused = function, nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def grid(shape: tuple[int, ...], levels: int, seed: int = 2) -> Tensor:
    """Integers −levels … levels as float32: ties everywhere."""
    return torch.randint(-levels, levels + 1, shape, generator=torch.Generator().manual_seed(seed)).float()


POOLS: dict[str, nn.Module] = {
    "2x2": nn.MaxPool2d(2),
    "overlapping": nn.MaxPool2d(3, 2, 1),
    "every position": nn.MaxPool2d(3, 1, 1),
    "ceil": nn.MaxPool2d(3, 2, 1, ceil_mode=True),
    "dilated": nn.MaxPool2d(2, 1, dilation=2),
    "oblong": nn.MaxPool2d((3, 2), (1, 2), (1, 0)),
    "behind a ReLU": nn.Sequential(nn.ReLU(), nn.MaxPool2d(3, 2, 1)),
    "global": nn.AdaptiveMaxPool2d(1),
}
ANOTHER = {
    ("dilated", "torchscript-9"): "torch refuses it",
    ("ceil", "torchscript-9"): "torch writes pads that ONNX Runtime refuses",
    ("global", "dynamo-18"): "torch writes a ReduceMax",
}
IMAGES: dict[str, Callable[[], Tensor]] = {
    "constant": lambda: torch.full((2, 3, 9, 8), 0.5),
    "zeros": lambda: torch.zeros((1, 2, 9, 8)),
    "three levels": lambda: grid((2, 3, 9, 8), 1),
    "int8 levels": lambda: grid((2, 3, 9, 8), 128) / 16,
}


def compare(module: nn.Module, x: Tensor, form: str) -> None:
    """Ours and autograd's for a cotangent of small integers, which any order of summation adds exactly."""
    file = write(module, (x,), form)
    x = x.clone().requires_grad_()
    y = module(x)
    c = grid(tuple(y.shape), 8, seed=4)
    (wanted,) = torch.autograd.grad(y, x, c)
    got = run(graph_tools.gradient(file, ["y0"], ["x0"]), {"x0": x.detach().numpy(), "cotangent_y0": c.numpy()})
    for name, theirs in (("y0", y.detach()), ("grad_x0", wanted)):
        np.testing.assert_allclose(got[name], theirs.numpy(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("image", IMAGES)
@pytest.mark.parametrize(
    ("pool", "form"), [(pool, form) for pool in POOLS for form in FORMS if (pool, form) not in ANOTHER]
)
def test_max_pool(pool: str, form: str, image: str) -> None:
    compare(POOLS[pool], IMAGES[image](), form)


@pytest.mark.parametrize("image", IMAGES)
def test_a_global_pool_written_as_a_reduction_shares_as_amax_does(image: str) -> None:
    file = write(POOLS["global"], (IMAGES[image](),), "dynamo-18")
    assert [n.op_type for n in file.graph.node] == ["ReduceMax"]
    compare(Of(lambda x: x.amax((2, 3), keepdim=True)), IMAGES[image](), "dynamo-18")


def test_a_dilated_pool_is_refused_at_opset_9() -> None:
    with pytest.raises(Exception, match="dilation"):
        write(POOLS["dilated"], (IMAGES["zeros"](),), "torchscript-9")


@pytest.mark.parametrize("shape", [(2, 3, 12), (1, 2, 6, 5, 4)], ids=["1-d", "3-d"])
def test_max_pool_of_other_ranks(shape: tuple[int, ...]) -> None:
    pool = nn.MaxPool1d(3, 2, 1) if len(shape) == 3 else nn.MaxPool3d(2, 1)
    for x in (torch.ones(shape), grid(shape, 1)):
        compare(pool, x, "torchscript-17")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("photo", ["both_dog_cat.png", "zebra.jpeg"])
def test_max_pools_of_a_grey_photo(photo: str, form: str) -> None:
    """256 levels, flat sky and saturated whites: a tenth of the windows are tied."""
    need(f"images/{photo}")
    from PIL import Image

    picture = Image.open(SHARED / "images" / photo).convert("L").resize((96, 96))
    x = torch.from_numpy(np.asarray(picture, np.float32))[None, None]
    two = functional.unfold(x, 2, stride=2).topk(2, 1).values
    assert (two[:, 0] == two[:, 1]).float().mean() > 0.02
    compare(nn.Sequential(nn.MaxPool2d(2), nn.MaxPool2d(3, 2, 1)), x, form)


ELEMENTWISE: dict[str, tuple[Callable[[Tensor], Tensor], float]] = {
    "relu": (functional.relu, 1),
    "relu6": (functional.relu6, 1),
    "hardtanh": (lambda x: functional.hardtanh(x, -2.0, 3.0), 1),
    "leaky_relu": (lambda x: functional.leaky_relu(x, 0.25), 1),
    "elu": (functional.elu, 1),
    "hardswish": (functional.hardswish, 1),
    "hardsigmoid": (functional.hardsigmoid, 1),
    "softshrink": (lambda x: functional.softshrink(x, 0.5), 0.5),
    "hardshrink": (lambda x: functional.hardshrink(x, 0.5), 0.5),
    "abs": (torch.abs, 1),
    "sign": (lambda x: torch.sign(x) * x, 1),
    "maximum of its mirror image": (lambda x: torch.maximum(x, x.flip(-1)), 1),
    "minimum of its mirror image": (lambda x: torch.minimum(x, x.flip(-1)), 1),
    "amax": (lambda x: x.amax(-1), 1),
    "amin": (lambda x: x.amin((1, 2), keepdim=True), 1),
    "product with zeros": (lambda x: x[..., :3].prod(-1), 1),
    "norm": (lambda x: (x * x).sum(-1), 1),
}


@pytest.mark.parametrize("form", ["torchscript-17", "dynamo-18"])
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_at_kinks(name: str, form: str) -> None:
    """Integers (halves) −7 … 7: every kink is met, and ties."""
    function, step = ELEMENTWISE[name]
    compare(Of(function), grid((3, 5, 8), 7) * step, form)


def quantised_pool(signed: bool) -> onnx.ModelProto:
    """QuantizeLinear, MaxPool of int8 or uint8, DequantizeLinear; scale 1/8."""
    kind, zero = (np.int8, -3) if signed else (np.uint8, 100)
    initializers = [
        onnx.numpy_helper.from_array(np.array(0.125, np.float32), "scale"),
        onnx.numpy_helper.from_array(np.array(zero, kind), "zero"),
    ]
    nodes = [
        helper.make_node("QuantizeLinear", ["x0", "scale", "zero"], ["q"]),
        helper.make_node("MaxPool", ["q"], ["m"], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("DequantizeLinear", ["m", "scale", "zero"], ["y0"]),
    ]
    x, y = (helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, None) for n in ("x0", "y0"))
    x = helper.make_tensor_value_info("x0", onnx.TensorProto.FLOAT, [2, 3, 9, 8])
    graph = helper.make_graph(nodes, "g", [x], [y], initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


@pytest.mark.parametrize("signed", [True, False], ids=["int8", "uint8"])
def test_max_pool_of_quantised_activations(signed: bool) -> None:
    """torch's fake quantisation: the gradient passes where nothing was clipped, and the first of equal ones gets it."""
    low, high, zero = (-128, 127, -3) if signed else (0, 255, 100)
    x = torch.randn((2, 3, 9, 8), generator=torch.Generator().manual_seed(6)) * 8
    x[0] = x[0].round() / 4  # few levels: ties
    x.requires_grad_()
    y = functional.max_pool2d(torch.fake_quantize_per_tensor_affine(x, 0.125, zero, low, high), 3, 2, 1)
    c = grid(tuple(y.shape), 8, seed=4)
    (wanted,) = torch.autograd.grad(y, x, c)
    program = graph_tools.gradient(quantised_pool(signed), ["y0"], ["x0"])
    got: dict[str, Any] = run(program, {"x0": x.detach().numpy(), "cotangent_y0": c.numpy()})
    np.testing.assert_array_equal(got["y0"], y.detach().numpy())
    np.testing.assert_array_equal(got["grad_x0"], wanted.numpy())
