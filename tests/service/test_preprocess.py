"""The preprocessing graph against formulas written out by hand, and which inputs are images."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx.reference import ReferenceEvaluator

from graph_tools.errors import InvalidRequest, UnknownValue
from service.models.card import InputCard, Layout, parse_card
from service.models.preprocess import IMAGE, READY, graph, sentence
from service.models.shapes import ImageEntry, find_entry, image_entry
from service.types import Array
from tests.service import zoo

DTYPES = ("float32", "float16", "float64", "uint8", "int8")


def card(preset: str = "", **keys: Any) -> InputCard:
    entry = parse_card({"preset": preset or "none", "input": keys}, "card.toml").input
    assert entry.pixels_known
    return entry


def run(entry: InputCard, image: Array, dtype: str = "float32", layout: Layout = "nhwc") -> Array:
    """``image`` [N, H, W, C] through the checked graph."""
    _, H, W, C = image.shape
    proto = ir.to_proto(graph(entry, dtype=dtype, layout=layout, channels=C, size=(H, W)))
    onnx.checker.check_model(proto, full_check=True)
    (out,) = ReferenceEvaluator(proto).run([READY], {IMAGE: image.astype(np.float32)})
    return np.asarray(out)


def levels(*shape: int) -> Array:
    return np.random.default_rng(0).integers(0, 256, shape).astype(np.float32)


RGB = np.array([[[[0, 128, 255], [51, 102, 153]]]], np.float32)  # one row of two pixels


@pytest.mark.parametrize(
    ("preset", "expected"),
    [
        ("none", [[0, 128, 255], [51, 102, 153]]),
        ("zero-to-one", [[0, 128 / 255, 1], [0.2, 0.4, 0.6]]),
        ("minus-one-to-one", [[-1, 128 / 127.5 - 1, 1], [-0.6, -0.2, 0.2]]),
        (
            "imagenet-torch",
            [
                [-0.485 / 0.229, (128 / 255 - 0.456) / 0.224, (1 - 0.406) / 0.225],
                [(0.2 - 0.485) / 0.229, (0.4 - 0.456) / 0.224, (0.6 - 0.406) / 0.225],
            ],
        ),
        (
            "imagenet-caffe",
            [[255 - 103.939, 128 - 116.779, -123.68], [153 - 103.939, 102 - 116.779, 51 - 123.68]],
        ),
    ],
)
@pytest.mark.parametrize("layout", ["nhwc", "nchw"])
def test_presets(preset: str, expected: list[list[float]], layout: Layout) -> None:
    wanted = np.array([[expected]], np.float64)
    if layout == "nchw":
        wanted = wanted.transpose(0, 3, 1, 2)
    got = run(card(preset), RGB, layout=layout)
    assert got.dtype == np.float32
    assert got.shape == wanted.shape
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-6 * np.abs(wanted).max())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", ["nhwc", "nchw"])
@pytest.mark.parametrize("channels", ["rgb", "bgr", "grey"])
def test_every_dtype_layout_and_channel_order(dtype: str, layout: Layout, channels: str) -> None:
    C = 1 if channels == "grey" else 3
    image = levels(2, 4, 5, C)
    mean, std = ([100.0], [2.0]) if C == 1 else ([100.0, 110.0, 120.0], [2.0, 4.0, 8.0])
    exact = (image[..., ::-1] if channels == "bgr" else image).astype(np.float64)
    exact = (exact - mean) / std
    if layout == "nchw":
        exact = exact.transpose(0, 3, 1, 2)
    if dtype in ("uint8", "int8"):
        bounds = np.iinfo(dtype)
        exact = np.clip(np.rint(exact), bounds.min, bounds.max)
    got = run(card(channels=channels, mean=mean, std=std), image, dtype, layout)
    assert got.dtype == np.dtype(dtype)
    # Powers of two and small whole numbers: exact in every one of these types.
    assert np.array_equal(got.astype(np.float64), exact)


def test_integer_inputs_round_half_to_even_and_saturate() -> None:
    image = np.array([-3.0, 0.49, 0.5, 1.5, 2.5, 254.5, 255.5, 300.0], np.float32).reshape(1, 1, 8, 1)
    assert run(card(), image, "uint8").ravel().tolist() == [0, 0, 0, 2, 2, 254, 255, 255]
    shifted = run(card(mean=128), image, "int8").ravel().tolist()
    assert shifted == [-128, -128, -128, -126, -126, 126, 127, 127]
    assert run(card(), image, "int8").ravel().tolist() == [-3, 0, 0, 2, 2, 127, 127, 127]


def test_one_value_serves_all_channels_and_scale_comes_first() -> None:
    got = run(card(scale=0.5, mean=[10], std=[4, 2, 1]), RGB)
    assert got[0, 0].tolist() == [[-2.5, 27, 117.5], [3.875, 20.5, 66.5]]


def _operators(entry: InputCard, **keys: Any) -> list[str]:
    options = {"dtype": "float32", "layout": "nhwc", "channels": 3} | keys
    return [node.op_type for node in graph(entry, **options).graph]


def test_only_the_nodes_that_are_needed() -> None:
    assert _operators(card()) == ["Identity"]
    assert _operators(card(), layout="nchw") == ["Transpose"]
    assert _operators(card(), dtype="uint8") == ["QuantizeLinear"]
    assert _operators(card("zero-to-one")) == ["Mul"]
    assert _operators(card("imagenet-torch"), layout="nchw") == ["Mul", "Add", "Transpose"]
    caffe = _operators(card("imagenet-caffe"), layout="nchw", dtype="float16")
    assert caffe == ["Gather", "Add", "Transpose", "Cast"]


def test_the_graphs_face() -> None:
    model = graph(card("imagenet-caffe"), dtype="float16", layout="nchw", channels=3, size=(None, "width"))
    (x,), (y,) = model.graph.inputs, model.graph.outputs
    assert (x.name, x.dtype, str(x.shape)) == ("image", ir.DataType.FLOAT, "[N,H,width,3]")
    assert (y.name, y.dtype, str(y.shape)) == ("preprocessed", ir.DataType.FLOAT16, "[N,3,H,width]")
    assert model.graph.opset_imports == {"": 18}
    names = [v.name for n in model.graph for v in n.outputs] + list(model.graph.initializers) + [x.name]
    assert len(set(names)) == len(names)
    for node in model.graph:
        assert all(v.dtype is not None and v.shape is not None for v in node.outputs)


def test_open_sizes_and_batches_run() -> None:
    proto = ir.to_proto(graph(card("imagenet-torch"), dtype="float32", layout="nchw", channels=3))
    session = ReferenceEvaluator(proto)
    for shape in ((1, 2, 3, 3), (4, 5, 6, 3)):
        (out,) = session.run(None, {IMAGE: levels(*shape)})
        assert out.shape == (shape[0], 3, *shape[1:3])


@pytest.mark.parametrize(
    ("keys", "channels", "field"),
    [
        ({"channels": "grey"}, 3, "input.channels"),
        ({"channels": "rgb"}, 1, "input.channels"),
        ({"channels": "bgr"}, 1, "input.channels"),
        ({"mean": [1, 2, 3]}, 1, "input.mean"),
        ({"std": [1, 2, 3]}, 1, "input.std"),
    ],
)
def test_channels_that_do_not_fit(keys: dict[str, Any], channels: int, field: str) -> None:
    with pytest.raises(InvalidRequest, match="channel") as caught:
        graph(card(**keys), dtype="float32", layout="nhwc", channels=channels)
    assert caught.value.field == field


def test_a_card_without_numbers_is_no_preprocessing() -> None:
    with pytest.raises(ValueError, match="assuming"):
        graph(InputCard(), dtype="float32", layout="nhwc", channels=3)
    assert _operators(InputCard().assuming("minus-one-to-one")) == ["Mul", "Add"]


def test_sentence() -> None:
    assert sentence(card(), 1) == "grey, grey levels 0-255 as they are"
    assert sentence(card("zero-to-one"), 3) == "RGB, x · 0.00392157 of grey levels 0-255"
    assert sentence(card("imagenet-caffe"), 3) == "BGR, x - (103.939, 116.779, 123.68) of grey levels 0-255"


NO = InputCard()


@pytest.mark.parametrize(
    ("dtype", "shape", "expected"),
    [
        ("tensor(float)", [1, 3, 224, 224], ("float32", "nchw", 3, 224, 224)),
        ("FLOAT16", ["N", 1, 28, 28], ("float16", "nchw", 1, 28, 28)),
        ("tensor(double)", [None, 96, 64, 3], ("float64", "nhwc", 3, 96, 64)),
        ("UINT8", ["N", 224, 224, 3], ("uint8", "nhwc", 3, 224, 224)),
        ("int8", ["N", "h", None, 1], ("int8", "nhwc", 1, None, None)),
        ("float", ["N", 3, "h", 100], ("float32", "nchw", 3, None, 100)),
        ("float32", [1, 3, 3, 4], ("float32", "nchw", 3, 3, 4)),
    ],
)
def test_image_entries(dtype: str, shape: list[Any], expected: tuple[Any, ...]) -> None:
    assert image_entry("x", dtype, shape, NO) == (ImageEntry("x", *expected), "")


@pytest.mark.parametrize(
    ("dtype", "shape", "reason"),
    [
        ("float32", None, "shape is unknown"),
        ("float32", ["N", 4], "table of features"),
        ("float32", ["N", 28, 1], "sequence"),
        ("float32", [1, 3, 8, 32, 32], "video"),
        ("tensor(int32)", ["N", 2048], "tokens"),
        ("INT64", [1, 3, 32, 32], "tokens"),
        ("tensor(string)", ["N", 3, 32, 32], "is not one of"),
        ("float32", ["N", 4, 32, 32], "neither 1 nor 3"),
        ("float32", ["N", None, 32, 32], "leaves the channels open"),
        ("float32", [None, None, None, None], "leaves the channels open"),
        ("float32", ["N", 3, 64, 3], "both be the channels"),
        ("float32", ["N", 1, "H", 3], "both be the channels"),
        ("float32", ["N", 3, 1, 100], "one pixel thin"),
    ],
)
def test_what_is_no_image(dtype: str, shape: list[Any] | None, reason: str) -> None:
    entry, why = image_entry("x", dtype, shape, NO)
    assert entry is None
    assert reason in why
    assert "'x'" in why


def test_the_card_settles_what_shapes_leave_open() -> None:
    both = ["N", 3, 64, 3]
    assert image_entry("x", "float", both, InputCard(layout="nhwc"))[0] == ImageEntry("x", "float32", "nhwc", 3, 3, 64)
    grey = InputCard(layout="nchw", channels="grey", size=(32, 48))
    expected = ImageEntry("x", "float32", "nchw", 1, 32, 48)
    assert image_entry("x", "float", [None, None, None, None], grey)[0] == expected


@pytest.mark.parametrize(
    ("entry", "field"),
    [
        (InputCard(layout="nhwc"), "input.layout"),
        (InputCard(channels="grey"), "input.channels"),
        (InputCard(size=(224, 225)), "input.size"),
    ],
)
def test_cards_that_contradict_the_file(entry: InputCard, field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        image_entry("x", "float", [1, 3, 224, 224], entry)
    assert caught.value.field == field


def test_the_image_among_several_inputs() -> None:
    photo, mask = ("photo", "float", [1, 3, 8, 8]), ("mask", "float", [1, 1, 8, 8])
    row = ("row", "float", [1, 4])
    assert find_entry([row, photo], NO)[0] == ImageEntry("photo", "float32", "nchw", 3, 8, 8)
    assert find_entry([photo, mask], NO) == (
        None, "several inputs could be the image (photo, mask): name one as input.name in the card"
    )  # fmt: skip
    chosen, _ = find_entry([photo, mask], InputCard(name="mask"))
    assert chosen is not None
    assert chosen.name == "mask"
    assert find_entry([row], NO)[0] is None
    assert find_entry([], NO) == (None, "the model has no input")
    with pytest.raises(UnknownValue, match="nearest: mask"):
        find_entry([photo, mask], InputCard(name="masks"))


@pytest.mark.parametrize("model", [*zoo.ZOO, *zoo.OTHERS], ids=lambda m: m.name)
def test_real_models_are_entered(model: zoo.Model) -> None:
    """Every real image model has one image entry, and its card's graph makes exactly that input."""
    zoo.need(f"models/{model.name}.onnx")
    proto = onnx.load(model.path, load_external_data=False)
    constants = {tensor.name for tensor in proto.graph.initializer}
    inputs = []
    for value in proto.graph.input:
        if value.name not in constants:
            tensor = value.type.tensor_type
            dims = [d.dim_value or d.dim_param or None for d in tensor.shape.dim]
            inputs.append((value.name, onnx.TensorProto.DataType.Name(tensor.elem_type), dims))
    entry_card = parse_card(zoo.card_of(model), model.name).input
    entry, why = find_entry(inputs, entry_card)
    assert entry is not None, why
    assert entry.height is not None
    assert entry.width is not None
    out = run(entry_card, levels(1, entry.height, entry.width, entry.channels), entry.dtype, entry.layout)
    assert out.dtype == np.dtype(entry.dtype)
    (dims,) = [shape for name, _, shape in inputs if name == entry.name]
    assert all(own in (None, made) or isinstance(own, str) for own, made in zip(dims[1:], out.shape[1:], strict=True))
