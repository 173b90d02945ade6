"""Explainers on models whose answer is known in closed form, through the whole core."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from graph_tools.errors import ExplainError, InvalidRequest, UnknownModel, UnknownValue, UnsupportedGradient
from service.core import Engine
from service.models.card import Card, parse_card
from service.models.repository import Repository
from service.runtime.context import Run
from service.runtime.home import Runtime
from service.types import ExplainRequest, Selector, Target
from tests.graph_tools.nets import cnn, model, tensor

RNG = np.random.default_rng(5)
W = RNG.normal(size=(3, 6 * 6)).astype(np.float32)


def _linear(activation: str | None = None, classes: int = 3) -> onnx.ModelProto:
    """scores = W · grey image (6 x 6), one channel."""
    nodes = [helper.make_node("Flatten", ["x"], ["flat"]), helper.make_node("Gemm", ["flat", "w"], ["z"], transB=1)]
    if activation:
        nodes.append(helper.make_node(activation, ["z"], ["p"]))
    out = "p" if activation else "z"
    return model(nodes, [tensor("x", ["N", 1, 6, 6])], [tensor(out, ["N", classes])], {"w": W[:classes]})


@pytest.fixture(scope="module")
def runtime():
    return Runtime("cpu")


@pytest.fixture
def engine(runtime):
    return Engine(Repository(runtime))


def _add(engine: Engine, folder: Path, proto: onnx.ModelProto, name: str = "m", card: dict | None = None):
    path = folder / f"{name}.onnx"
    onnx.save(proto, path)
    parsed = parse_card(card, name) if card is not None else Card()
    return engine.repository.add(name, path, parsed=parsed)


def _explain(engine: Engine, method: str, **fields):
    return engine.explain(ExplainRequest("m", method, **fields), Run())


IMAGE = RNG.integers(0, 256, (6, 6, 3)).astype(np.uint8)
RAW = {"preset": "none"}


def test_saliency_of_a_linear_model_is_its_weights(engine, tmp_path):
    _add(engine, tmp_path, _linear("Softmax"), card={"preset": "zero-to-one"})
    targets = (*(Target(Selector(index=i)) for i in range(3)), Target(Selector(index=0), Selector(index=2)))
    item = _explain(engine, "saliency", images=(IMAGE,), targets=targets, parameters={"signed": True}).items[0]
    want = [*W, W[0] - W[2]]
    for attribution, w in zip(item.attributions, want, strict=True):
        np.testing.assert_allclose(attribution.values, w.reshape(6, 6) / 255, rtol=1e-5)
    absolute = _explain(engine, "saliency", images=(IMAGE,), targets=targets[:1]).items[0].attributions[0].values
    np.testing.assert_allclose(absolute, np.abs(W[0]).reshape(6, 6) / 255, rtol=1e-5)


def test_signed_saliency_keeps_the_channel_of_largest_magnitude(engine, tmp_path):
    w = np.float32([[1.0, -3.0, 2.0]])
    nodes = [
        helper.make_node("Conv", ["x", "k"], ["c"]),
        helper.make_node("ReduceMean", ["c", "axes"], ["z"], keepdims=0),
    ]
    weights = {"k": w.reshape(1, 3, 1, 1), "axes": np.array([2, 3])}
    proto = model(nodes, [tensor("x", ["N", 3, 4, 4])], [tensor("z", ["N", 1])], weights)
    _add(engine, tmp_path, proto, card=RAW)
    image = np.zeros((4, 4, 3), np.uint8)
    signed = _explain(engine, "saliency", images=(image,), parameters={"signed": True}).items[0].attributions[0]
    np.testing.assert_allclose(signed.values, np.full((4, 4), -3 / 16), rtol=1e-6)
    assert signed.signed


def test_grad_cam_of_the_papers_formula(engine, tmp_path):
    """alpha_k = mean_ij dS/dA, L = ReLU(sum_k alpha_k A_k), rewritten with NumPy on the exposed layer."""
    _add(engine, tmp_path, cnn(), card={"preset": "zero-to-one"})
    image = RNG.integers(0, 256, (16, 16, 3)).astype(np.uint8)
    acts = _explain(engine, "activations", images=(image,), parameters={"channels": 0}).items[0].activations[0]
    a = np.empty_like(acts.values)
    a[acts.channels] = acts.values
    w3 = onnx.numpy_helper.to_array(next(t for t in cnn().graph.initializer if t.name == "w3"))
    for c in range(5):
        alpha = np.broadcast_to(w3[c][:, None, None] / 64, a.shape).mean(axis=(1, 2))  # logits = W · mean(A)
        want = np.maximum(np.tensordot(alpha, a, 1), 0)
        got = (
            _explain(
                engine, "grad_cam", images=(image,), targets=(Target(Selector(index=c)),), parameters={"resize": False}
            )
            .items[0]
            .attributions[0]
        )
        np.testing.assert_allclose(got.values, want, atol=1e-6)
        assert got.layer == "features"


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_several_targets_share_one_forward_and_equal_single_ones(engine, tmp_path, layout):
    _add(engine, tmp_path, cnn(layout=layout), card={"preset": "zero-to-one"})
    images = tuple(RNG.integers(0, 256, (3, 16, 16, 3)).astype(np.uint8))
    targets = (Target(Selector(rank=1)), Target(Selector(rank=3)), Target(Selector(index=4), Selector(index=1)))
    for method in ("saliency", "grad_cam", "occlusion"):
        together = _explain(engine, method, images=images, targets=targets)
        for k, target in enumerate(targets):
            single = _explain(engine, method, images=images, targets=(target,))
            for a, b in zip(together.items, single.items, strict=True):
                assert a.attributions[k].target.index == b.attributions[0].target.index
                np.testing.assert_allclose(a.attributions[k].values, b.attributions[0].values, atol=1e-6)
        ranked = [p.index for p in together.items[0].predictions]
        assert together.items[0].attributions[0].target.index == ranked[0]
        assert together.items[0].attributions[1].target.index == ranked[2]


def test_layouts_give_the_same_maps(engine, tmp_path):
    _add(engine, tmp_path, cnn(layout="nchw"), "nchw", {"preset": "zero-to-one"})
    _add(engine, tmp_path, cnn(layout="nhwc"), "nhwc", {"preset": "zero-to-one"})
    image = RNG.integers(0, 256, (16, 16, 3)).astype(np.uint8)
    for method in ("saliency", "grad_cam", "occlusion"):
        a, b = (
            engine.explain(ExplainRequest(n, method, images=(image,)), Run()).items[0].attributions[0].values
            for n in ("nchw", "nhwc")
        )
        np.testing.assert_allclose(a, b, atol=1e-6)


@pytest.mark.parametrize(
    ("patch", "stride"), [((2,), (2,)), ((2,), (1,)), ((4,), (3,)), ((3, 2), (2, 2)), ((6,), (6,))]
)
def test_occlusion_of_a_linear_model(engine, tmp_path, patch, stride):
    """Mean over the covering patches of sum_inside w (x − 128), by brute force; the last patches are clipped."""
    _add(engine, tmp_path, _linear(), card=RAW)
    grey = IMAGE[..., 0]
    image = np.repeat(grey[..., None], 3, axis=2)
    got = _explain(
        engine, "occlusion", images=(image,), targets=(Target(Selector(index=1)),),
        parameters={"patch": patch, "stride": stride},
    ).items[0].attributions[0]  # fmt: skip
    drop = W[1].reshape(6, 6) * (grey.astype(np.float64) - 128)
    p, s = (patch * 2)[:2], (stride * 2)[:2]
    total, cover = np.zeros((6, 6)), np.zeros((6, 6))
    tops = range(0, -(-(6 - p[0]) // s[0]) * s[0] + 1, s[0])
    lefts = range(0, -(-(6 - p[1]) // s[1]) * s[1] + 1, s[1])
    for top in tops:
        for left in lefts:
            window = (slice(top, min(top + p[0], 6)), slice(left, min(left + p[1], 6)))
            total[window] += drop[window].sum()
            cover[window] += 1
    assert cover.min() >= 1
    np.testing.assert_allclose(got.values, total / cover, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(("baseline", "fill"), [("grey", 128), ("zero", 0), ("value", 40), ("mean", None)])
def test_occlusion_baselines(engine, tmp_path, baseline, fill):
    _add(engine, tmp_path, _linear(), card=RAW)
    grey = IMAGE[..., :1]
    image = np.repeat(grey, 3, axis=2)
    got = _explain(
        engine, "occlusion", images=(image,), targets=(Target(Selector(index=0)),),
        parameters={"patch": (6,), "baseline": baseline, "value": 40},
    ).items[0].attributions[0]  # fmt: skip
    level = grey.astype(np.float64).mean() if fill is None else float(fill)
    want = (W[0].reshape(6, 6) * (grey[..., 0] - level)).sum()
    np.testing.assert_allclose(got.values, np.full((6, 6), want), rtol=1e-4, atol=1e-3)


def test_occlusion_watches_probabilities_too(engine, tmp_path):
    _add(engine, tmp_path, _linear("Softmax"), card={"preset": "zero-to-one"})
    result = _explain(engine, "occlusion", images=(IMAGE,), parameters={"patch": (6,), "score": "probability"})
    item = result.items[0]
    assert item.attributions[0].target.value == pytest.approx(item.predictions[0].probability, rel=1e-5)


def test_budget_ends_occlusion_early_and_says_so(engine, tmp_path):
    _add(engine, tmp_path, _linear(), card=RAW)
    fields = {"images": (IMAGE,), "parameters": {"patch": (1,), "stride": (1,)}}
    cut = _explain(engine, "occlusion", **fields, max_rows=16)
    assert cut.truncated
    assert not _explain(engine, "occlusion", **fields).truncated


def test_occlusion_reports_progress_and_partial_maps(engine, tmp_path):
    _add(engine, tmp_path, _linear(), card=RAW)
    seen = []
    run = Run(on_progress=seen.append)
    engine.explain(ExplainRequest("m", "occlusion", images=(IMAGE,), parameters={"patch": (1,), "stride": (1,)}), run)
    assert (seen[-1].done, seen[-1].total, seen[-1].unit) == (36, 36, "windows")
    assert seen[-1].partial.shape == (6, 6)


def test_binary_model_with_one_logit(engine, tmp_path):
    _add(engine, tmp_path, _linear("Sigmoid", 1), card={**RAW, "labels": ["no", "yes"]})
    targets = (Target(Selector(name="yes")), Target(Selector(name="no")))
    item = _explain(engine, "saliency", images=(IMAGE,), targets=targets, parameters={"signed": True}).items[0]
    np.testing.assert_allclose(item.attributions[0].values, W[0].reshape(6, 6), rtol=1e-5)
    np.testing.assert_allclose(item.attributions[1].values, -W[0].reshape(6, 6), rtol=1e-5)
    assert sum(p.probability for p in item.predictions) == pytest.approx(1)


def test_multi_label_model(engine, tmp_path):
    _add(engine, tmp_path, _linear("Sigmoid"), card={"preset": "zero-to-one"})
    item = _explain(engine, "predict", images=(IMAGE,)).items[0]
    for p in item.predictions:
        assert p.probability == pytest.approx(1 / (1 + np.exp(-p.logit)), rel=1e-4)


def test_tensor_inputs_are_taken_as_they_are(engine, tmp_path):
    _add(engine, tmp_path, _linear(), card=RAW)
    x = RNG.normal(size=(2, 1, 6, 6)).astype(np.float32)
    result = _explain(engine, "saliency", tensors={"x": x}, parameters={"signed": True},
                      targets=(Target(Selector(index=2)),))  # fmt: skip
    assert len(result.items) == 2
    np.testing.assert_allclose(result.items[1].attributions[0].values, W[2].reshape(1, 6, 6), rtol=1e-5)


def test_occlusion_of_a_table_row(engine, tmp_path):
    w = np.float32([[1, -2, 3, 4]])
    proto = model([helper.make_node("Gemm", ["x", "w"], ["y"], transB=1)], [tensor("x", ["N", 4])],
                  [tensor("y", ["N", 1])], {"w": w})  # fmt: skip
    _add(engine, tmp_path, proto)
    x = np.float32([[1, 1, 2, 0.5]])
    result = _explain(engine, "occlusion", tensors={"x": x}, parameters={"patch": (1,), "stride": (1,)})
    np.testing.assert_allclose(result.items[0].attributions[0].values, (w * x)[0], rtol=1e-5)


def test_the_second_request_builds_nothing(engine, tmp_path, runtime):
    _add(engine, tmp_path, cnn(seed=11), card={"preset": "zero-to-one"})
    image = RNG.integers(0, 256, (16, 16, 3)).astype(np.uint8)
    first = _explain(engine, "grad_cam", images=(image,))
    before = runtime.programs.built
    second = _explain(engine, "grad_cam", images=(image,), targets=(Target(Selector(index=2)),))
    assert first.timing.built >= 1
    assert second.timing.built == 0
    assert runtime.programs.built == before


def test_the_reply_reproduces_the_request(engine, tmp_path):
    _add(engine, tmp_path, cnn(), card={"preset": "zero-to-one"})
    image = RNG.integers(0, 256, (20, 30, 3)).astype(np.uint8)
    result = _explain(engine, "occlusion", images=(image,), parameters={"patch": [4]}, seed=7)
    assert result.parameters["patch"] == (4,)
    assert result.parameters["baseline"] == "grey"
    assert result.seed == 7
    assert result.digest.startswith("sha256:")
    assert result.provider == "CPUExecutionProvider"
    assert result.items[0].geometry.original == (20, 30)


def test_an_assumed_preset_is_said(engine, tmp_path):
    _add(engine, tmp_path, cnn())
    image = RNG.integers(0, 256, (16, 16, 3)).astype(np.uint8)
    assert "assumed preset" in " ".join(_explain(engine, "predict", images=(image,)).notes)


BAD = [
    ({"method": "grad_camm"}, UnknownValue, "grad_cam"),
    ({"parameters": {"layer": "featurs"}}, UnknownValue, "features"),
    ({"parameters": {"lyer": "x"}}, InvalidRequest, "no such parameter"),
    ({"parameters": {"layer": "logits"}}, InvalidRequest, "needs a layer with space"),
    ({"targets": (Target(Selector(index=5)),)}, InvalidRequest, "0 to 4"),
    ({"targets": (Target(Selector(index=-1)),)}, InvalidRequest, "0 to 4"),
    ({"targets": (Target(Selector(rank=6)),)}, InvalidRequest, "1 to 5"),
    ({"targets": (Target(Selector(name="cat")),)}, InvalidRequest, "no labels"),
    ({"method": "occlusion", "parameters": {"patch": 17}}, InvalidRequest, "only 16"),
    ({"method": "occlusion", "parameters": {"patch": "a"}}, InvalidRequest, "is not an int"),
    ({"method": "occlusion", "parameters": {"patch": (17,)}}, InvalidRequest, "only 16"),
    ({"method": "occlusion", "parameters": {"patch": (2,), "stride": (3,)}}, InvalidRequest, "never be covered"),
    ({"method": "occlusion", "parameters": {"baseline": "black"}}, InvalidRequest, "grey, mean, zero"),
    ({"model": "n"}, UnknownModel, "m"),
    ({"images": (b"not a picture",)}, InvalidRequest, ""),
    ({"images": ()}, InvalidRequest, "give images"),
    ({"images": (), "tensors": {"x": np.zeros((1, 3, 16, 16), np.int32)}}, InvalidRequest, "takes float32"),
    ({"images": (), "tensors": {"x": np.zeros((1, 3, 15, 16), np.float32)}}, InvalidRequest, "takes"),
    ({"images": (), "tensors": {"z": np.zeros((1, 3, 16, 16), np.float32)}}, InvalidRequest, "takes x"),
    ({"images": (), "tensors": {"x": np.full((1, 3, 16, 16), np.nan, np.float32)}}, InvalidRequest, "not finite"),
]


@pytest.mark.parametrize(("change", "error", "words"), BAD, ids=range(len(BAD)))
def test_bad_requests_say_what_is_wrong(engine, tmp_path, change, error, words):
    _add(engine, tmp_path, cnn(), card={"preset": "zero-to-one"})
    fields = {"model": "m", "method": "grad_cam", "images": (np.zeros((16, 16, 3), np.uint8),), **change}
    with pytest.raises(error) as caught:
        engine.explain(ExplainRequest(**fields), Run())
    assert words in str(caught.value)
    assert isinstance(caught.value, ExplainError)


def test_a_model_without_a_gradient_path_says_where_it_ends(engine, tmp_path):
    nodes = [
        helper.make_node("Flatten", ["x"], ["flat"]),
        helper.make_node("Cast", ["flat"], ["whole"], to=onnx.TensorProto.INT64, name="to_integers"),
        helper.make_node("Cast", ["whole"], ["again"], to=onnx.TensorProto.FLOAT),
        helper.make_node("Gemm", ["again", "w"], ["z"], transB=1),
    ]
    proto = model(nodes, [tensor("x", ["N", 1, 6, 6])], [tensor("z", ["N", 3])], {"w": W})
    _add(engine, tmp_path, proto, card=RAW)
    with pytest.raises(UnsupportedGradient, match=r"Cast.*to_integers.*black-box"):
        _explain(engine, "saliency", images=(IMAGE,))
    got = _explain(engine, "occlusion", images=(IMAGE,), parameters={"patch": (3,)})
    assert np.abs(got.items[0].attributions[0].values).max() > 0
