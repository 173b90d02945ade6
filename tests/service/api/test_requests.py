"""Requests and methods: message <-> value, and every field that can be wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from service.api.codec import methods, requests
from service.api.codec.fields import FieldError
from service.api.codec.requests import Call, Render, decode_request, encode_request
from service.api.pb.onnx_explain.v1 import explain_pb2, methods_pb2, types_pb2
from service.types import ExplainRequest, Selector, Target

T = types_pb2
F32 = T.DATA_TYPE_FLOAT32

FULL = Call(
    ExplainRequest(
        model="net",
        version="2",
        method="occlusion",
        parameters={"patch": (16, 8), "baseline": "blur", "value": 0.1, "score": "probability"},
        images=(b"png", b"jpeg"),
        targets=(
            Target(Selector(index=0)),
            Target(Selector(name="cat"), Selector(index=3), "logits"),
            Target(Selector(rank=2), Selector(index=1)),
        ),
        top_k=0,
        seed=2**64 - 1,
        max_seconds=0.5,
        max_rows=10**12,
    ),
    Render("sheet", 0.0, 640),
)


def test_requests_survive() -> None:
    message = encode_request(FULL)
    assert decode_request(explain_pb2.ExplainRequest.FromString(message.SerializeToString())) == FULL


def test_an_almost_empty_request_has_the_defaults() -> None:
    message = explain_pb2.ExplainRequest(model="net", method=methods.to_method("predict", {}))
    assert decode_request(message) == Call(ExplainRequest(model="net", method="predict"))
    assert encode_request(Call(ExplainRequest(model="net", method="predict"))).top_k == 5


def test_a_rank_is_not_subtracted() -> None:
    request = ExplainRequest("net", "predict", targets=(Target(Selector(index=1), Selector(rank=2)),))
    with pytest.raises(FieldError, match="not by rank"):
        encode_request(Call(request))


def test_pixels_and_tensors_survive() -> None:
    picture = np.random.default_rng(1).integers(0, 256, (4, 5, 3)).astype(np.uint8)
    call = decode_request(encode_request(Call(ExplainRequest("net", "predict", images=(picture, b"x")))))
    assert np.array_equal(call.request.images[0], picture)
    assert call.request.images[1] == b"x"
    rows = {"a": np.ones((2, 3), np.float32), "b": np.array([["x"], ["y"]], object)}
    call = decode_request(encode_request(Call(ExplainRequest("net", "predict", tensors=rows))))
    assert list(call.request.tensors) == ["a", "b"]
    assert all(np.array_equal(call.request.tensors[k], rows[k]) for k in rows)


def test_top_k_stands_for_that_many_targets() -> None:
    message = explain_pb2.ExplainRequest(
        model="net",
        method=methods.to_method("predict", {}),
        targets=[T.Target(top_k=2, minus=T.ClassSelector(class_index=7)), T.Target()],
    )
    seven = Selector(index=7)
    assert decode_request(message).request.targets == (
        Target(Selector(rank=1), seven),
        Target(Selector(rank=2), seven),
        Target(Selector(rank=1)),
    )


def image(data: bytes = b"x") -> T.Input:
    return T.Input(image=T.EncodedImage(data=data))


def tensor(name: str = "", raw: bytes = b"\0\0\0\0") -> T.Input:
    return T.Input(name=name, tensor=T.Tensor(dtype=F32, shape=[1], raw=raw))


def pixels(shape: list[int], dtype: int = T.DATA_TYPE_UINT8) -> T.Input:
    return T.Input(pixels=T.Tensor(dtype=dtype, shape=shape, raw=bytes(max(0, int(np.prod(shape))))))  # type: ignore[arg-type]


BAD_REQUESTS = [
    ("inputs", {"inputs": [image()] * 257}),
    ("inputs[1]", {"inputs": [image(), T.Input()]}),
    ("inputs[1]", {"inputs": [image(), tensor()]}),
    ("inputs[1]", {"inputs": [tensor("a"), image()]}),
    ("inputs[0].image.data", {"inputs": [image(b"")]}),
    ("inputs[1].name", {"inputs": [tensor("a"), tensor("a")]}),
    ("inputs[0].name", {"inputs": [tensor(""), tensor("a")]}),
    ("inputs[0].name", {"inputs": [tensor("a\0")]}),
    ("inputs[0].tensor.raw", {"inputs": [tensor("a", b"\0")]}),
    ("inputs[0].pixels.dtype", {"inputs": [pixels([2, 2], F32)]}),
    ("inputs[0].pixels.shape", {"inputs": [pixels([2, 2, 2])]}),
    ("inputs[0].pixels.shape", {"inputs": [pixels([4])]}),
    ("inputs[0].pixels.shape", {"inputs": [pixels([0, 4])]}),
    ("inputs[0].pixels.shape[0]", {"inputs": [pixels([-1, 4])]}),
    ("targets", {"targets": [T.Target()] * 101}),
    ("targets", {"targets": [T.Target(top_k=100), T.Target(top_k=1)]}),
    ("targets[0].top_k", {"targets": [T.Target(top_k=0)]}),
    ("targets[0].top_k", {"targets": [T.Target(top_k=101)]}),
    ("targets[1].class_index", {"targets": [T.Target(), T.Target(class_index=-1)]}),
    ("targets[0].class_name", {"targets": [T.Target(class_name="")]}),
    ("targets[0].class_name", {"targets": [T.Target(class_name="x" * 1025)]}),
    ("targets[0].rank", {"targets": [T.Target(rank=0)]}),
    ("targets[0].minus", {"targets": [T.Target(minus=T.ClassSelector())]}),
    ("targets[0].minus.class_index", {"targets": [T.Target(minus=T.ClassSelector(class_index=-2))]}),
    ("targets[0].output_name", {"targets": [T.Target(output_name="x" * 1025)]}),
    ("top_k", {"top_k": 1001}),
    ("budget.max_seconds", {"budget": T.Budget(max_seconds=0)}),
    ("budget.max_seconds", {"budget": T.Budget(max_seconds=float("nan"))}),
    ("budget.max_seconds", {"budget": T.Budget(max_seconds=float("inf"))}),
    ("budget.max_rows", {"budget": T.Budget(max_rows=0)}),
    ("render.style", {"render": T.RenderOptions(style=99)}),
    ("render.opacity", {"render": T.RenderOptions(opacity=1.5)}),
    ("render.opacity", {"render": T.RenderOptions(opacity=float("nan"))}),
    ("render.max_side", {"render": T.RenderOptions(max_side=5000)}),
    ("model", {"model": "../x"}),
    ("version", {"version": "1/../2"}),
    ("method", {"method": methods_pb2.Method()}),
    ("occlusion.baseline", {"method": methods_pb2.Method(occlusion=methods_pb2.OcclusionParameters(baseline=99))}),
    ("occlusion.patch", {"method": methods_pb2.Method(occlusion=methods_pb2.OcclusionParameters(patch=[1] * 1001))}),
    ("grad_cam.layer", {"method": methods_pb2.Method(grad_cam=methods_pb2.GradCamParameters(layer="x" * 1025))}),
]


@pytest.mark.parametrize(("field", "given"), BAD_REQUESTS, ids=[f for f, _ in BAD_REQUESTS])
def test_bad_requests(field: str, given: dict[str, Any]) -> None:
    whole = {"model": "net", "method": methods.to_method("predict", {}), **given}
    with pytest.raises(FieldError) as caught:
        decode_request(explain_pb2.ExplainRequest(**whole))
    assert caught.value.field == field
    assert caught.value.reason


def test_paths_begin_where_the_message_came() -> None:
    with pytest.raises(FieldError) as caught:
        decode_request(explain_pb2.ExplainRequest(method=methods.to_method("predict", {})), "request.")
    assert caught.value.field == "request.model"


def test_a_parameter_newer_than_the_server_is_not_ignored() -> None:
    method = methods.to_method("saliency", {})
    method.saliency.MergeFromString(b"\xf8\x0a\x01")
    with pytest.raises(FieldError, match="newer than this server"):
        methods.from_method(method)


def test_parameters_keep_presence() -> None:
    assert methods.from_method(methods.to_method("saliency", {})) == ("saliency", {})
    given = {"relu": False, "resize": None}
    assert methods.from_method(methods.to_method("grad_cam", given)) == ("grad_cam", {"relu": False})
    assert methods.from_method(methods.to_method("occlusion", {}), echo=True)[1] == {"patch": (), "stride": ()}


def test_parameters_from_text() -> None:
    text = {"patch": "16, 8", "baseline": "BLUR", "value": "0.5", "score": "probability"}
    parsed = {"patch": (16, 8), "baseline": "blur", "value": 0.5, "score": "probability"}
    assert methods.from_method(methods.to_method("occlusion", text)) == ("occlusion", parsed)
    assert methods.from_method(methods.to_method("occlusion", {"patch": 16}))[1] == {"patch": (16,)}
    layers = methods.to_method("activations", {"layers": "a,b", "channels": "3"})
    assert methods.from_method(layers)[1] == {"layers": ("a", "b"), "channels": 3}
    for word, value in (("no", False), ("False", False), ("1", True), ("yes", True)):
        assert methods.from_method(methods.to_method("grad_cam", {"relu": word}))[1] == {"relu": value}


@pytest.mark.parametrize(
    ("method", "given", "field"),
    [
        ("nothing", {}, "method"),
        ("occlusion", {"patches": 1}, "occlusion.patches"),
        ("occlusion", {"patch": -1}, "occlusion.patch"),
        ("occlusion", {"patch": [1.5]}, "occlusion.patch"),
        ("occlusion", {"value": "x"}, "occlusion.value"),
        ("occlusion", {"baseline": "pink"}, "occlusion.baseline"),
        ("grad_cam", {"relu": "maybe"}, "grad_cam.relu"),
        ("grad_cam", {"layer": 3}, "grad_cam.layer"),
    ],
)
def test_parameters_that_do_not_fit(method: str, given: dict[str, object], field: str) -> None:
    with pytest.raises(FieldError) as caught:
        methods.to_method(method, given)
    assert caught.value.field == field


def test_every_style_has_a_code() -> None:
    assert set(requests.STYLES) == set(T.RenderStyle.values())


@pytest.mark.parametrize("given", [{"seed": -1}, {"seed": 2**64}, {"top_k": -1}, {"max_rows": 0.5}])
def test_numbers_that_do_not_fit_are_told(given: dict[str, Any]) -> None:
    with pytest.raises(FieldError, match="cannot be sent"):
        encode_request(Call(ExplainRequest("net", "predict", **given)))


def test_a_million_inputs_are_not_looked_at() -> None:
    message = explain_pb2.ExplainRequest.FromString(
        encode_request(Call(ExplainRequest("net", "predict"))).SerializeToString() + b"\x22\x00" * 1_000_000
    )
    assert len(message.inputs) == 1_000_000
    with pytest.raises(FieldError, match="at most 256"):
        decode_request(message)
