from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from service.api.codec import chunks, listing, methods, requests, results, tensors
from service.api.codec.fields import FieldError
from service.api.codec.requests import Call, Render, decode_request, encode_request
from service.api.pb.onnx_explain.v1 import explain_pb2, methods_pb2, result_pb2, types_pb2
from service.types import ExplainRequest, Progress, Selector, Target
from tests.service.api.fake import result

T = types_pb2
NUMERIC = [
    "bool",
    "uint8",
    "int8",
    "uint16",
    "int16",
    "uint32",
    "int32",
    "uint64",
    "int64",
    "float16",
    "float32",
    "float64",
]


@pytest.mark.parametrize("dtype", NUMERIC)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 3), (2, 3, 4)])
def test_numbers_survive(dtype: str, shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).integers(0, 2, shape).astype(dtype)
    message = tensors.to_tensor(array)
    back = tensors.to_array(T.Tensor.FromString(message.SerializeToString()), "x")
    assert back.dtype == array.dtype
    assert back.shape == array.shape
    assert np.array_equal(back, array)


def test_raw_is_little_endian_and_row_major() -> None:
    array = np.array([[1, 2], [3, 4]], ">i2").T
    message = tensors.to_tensor(array)
    assert message.raw == b"\1\0\3\0\2\0\4\0"
    assert list(message.shape) == [2, 2]


def test_text_survives() -> None:
    array = np.array([["", "ä"], ["a\nb", "日本"]], object)
    message = tensors.to_tensor(array)
    assert message.raw[:10] == b"\0\0\0\0\2\0\0\0\xc3\xa4"
    assert tensors.to_array(message, "x").tolist() == array.tolist()
    assert tensors.to_tensor(array.astype(str)) == message


F32 = T.DATA_TYPE_FLOAT32
BAD_TENSORS = [
    (T.Tensor(shape=[1], raw=b"\0" * 4), "x.dtype"),
    (T.Tensor(dtype=99, shape=[1], raw=b"\0" * 4), "x.dtype"),  # type: ignore[arg-type]
    (T.Tensor(dtype=F32, shape=[2, 3], raw=b"\0" * 23), "x.raw"),
    (T.Tensor(dtype=F32, shape=[2, 3], raw=b"\0" * 28), "x.raw"),
    (T.Tensor(dtype=F32, shape=[], raw=b""), "x.raw"),
    (T.Tensor(dtype=F32, shape=[2, -3], raw=b""), "x.shape[1]"),
    (T.Tensor(dtype=F32, shape=[-1, -6], raw=b"\0" * 24), "x.shape[0]"),
    (T.Tensor(dtype=F32, shape=[1 << 62, 4], raw=b""), "x.raw"),
    (T.Tensor(dtype=F32, shape=[1 << 62] * 16, raw=b""), "x.raw"),
    (T.Tensor(dtype=F32, shape=[1] * 17, raw=b"\0" * 4), "x.shape"),
    (T.Tensor(dtype=F32, shape=[1], raw=np.float32(np.nan).tobytes()), "x.raw"),
    (T.Tensor(dtype=F32, shape=[1], raw=np.float32(np.inf).tobytes()), "x.raw"),
    (T.Tensor(dtype=T.DATA_TYPE_FLOAT16, shape=[1], raw=np.float16(-np.inf).tobytes()), "x.raw"),
    (T.Tensor(dtype=T.DATA_TYPE_FLOAT64, shape=[1], raw=np.float64(np.nan).tobytes()), "x.raw"),
    (T.Tensor(dtype=T.DATA_TYPE_BOOL, shape=[2], raw=b"\1\2"), "x.raw"),
    (T.Tensor(dtype=T.DATA_TYPE_STRING, shape=[1], raw=b"\5\0\0\0abc"), "x.raw"),
    (T.Tensor(dtype=T.DATA_TYPE_STRING, shape=[1], raw=b"\2\0\0\0\xff\xff"), "x.raw"),
    (T.Tensor(dtype=T.DATA_TYPE_STRING, shape=[1], raw=b"\1\0\0\0abc"), "x.raw"),
    (T.Tensor(dtype=T.DATA_TYPE_STRING, shape=[2], raw=b"\4\0\0\0abcd"), "x.raw"),
    (T.Tensor(dtype=T.DATA_TYPE_STRING, shape=[1 << 60], raw=b"\0" * 8), "x.raw"),
    (T.Tensor(dtype=F32, shape=[1], artifact="a"), "x.artifact"),
]


@pytest.mark.parametrize(("message", "field"), BAD_TENSORS, ids=range(len(BAD_TENSORS)))
def test_bad_tensors(message: T.Tensor, field: str) -> None:
    with pytest.raises(FieldError) as caught:
        tensors.to_array(message, "x")
    assert caught.value.field == field


def test_place_of_a_nan_is_told() -> None:
    array = np.zeros((2, 3), np.float32)
    array[1, 2] = np.nan
    with pytest.raises(FieldError, match=r"nan at \[1, 2\]"):
        tensors.to_array(tensors.to_tensor(array), "x")


@pytest.mark.parametrize("array", [np.array([1j]), np.array([object()], object), np.array(["2020"], "M8[D]")])
def test_arrays_that_cannot_be_sent(array: np.ndarray) -> None:
    with pytest.raises(FieldError):
        tensors.to_tensor(array)


FULL = Call(
    ExplainRequest(
        model="net",
        version="2",
        method="occlusion",
        parameters={"patch": (16, 8), "baseline": "blur", "value": 0.1, "resize": False},
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
    given = {"signed": False, "resize": None}
    assert methods.from_method(methods.to_method("saliency", given)) == ("saliency", {"signed": False})


def test_parameters_from_text() -> None:
    text = {"patch": "16, 8", "baseline": "BLUR", "value": "0.5", "resize": "no", "score": "probability"}
    parsed = {"patch": (16, 8), "baseline": "blur", "value": 0.5, "resize": False, "score": "probability"}
    assert methods.from_method(methods.to_method("occlusion", text)) == ("occlusion", parsed)
    assert methods.from_method(methods.to_method("occlusion", {"patch": 16}))[1] == {"patch": (16,)}
    layers = methods.to_method("activations", {"layers": "a,b"})
    assert methods.from_method(layers)[1] == {"layers": ("a", "b")}


@pytest.mark.parametrize(
    ("method", "given", "field"),
    [
        ("nothing", {}, "method"),
        ("occlusion", {"patches": 1}, "occlusion.patches"),
        ("occlusion", {"patch": -1}, "occlusion.patch"),
        ("occlusion", {"patch": [1.5]}, "occlusion.patch"),
        ("occlusion", {"value": "x"}, "occlusion.value"),
        ("occlusion", {"baseline": "pink"}, "occlusion.baseline"),
        ("occlusion", {"resize": "maybe"}, "occlusion.resize"),
        ("grad_cam", {"layer": 3}, "grad_cam.layer"),
    ],
)
def test_parameters_that_do_not_fit(method: str, given: dict[str, object], field: str) -> None:
    with pytest.raises(FieldError) as caught:
        methods.to_method(method, given)
    assert caught.value.field == field


def echo() -> ExplainRequest:
    return ExplainRequest("net", "grad_cam", parameters={"layer": "r", "relu": True, "resize": False}, seed=7)


def test_results_survive() -> None:
    given = result(echo(), values=np.array([[np.nan, 1.0]], np.float32))
    message = results.encode_result(given)
    back = results.decode_result(result_pb2.ExplainResponse.FromString(message.SerializeToString()))
    assert back.items[0].attributions[0].values.flags.writeable
    for field in ("model", "version", "digest", "method", "parameters", "provider", "seed", "timing", "notes"):
        assert getattr(back, field) == getattr(given, field), field
    (mine,), (theirs,) = given.items, back.items
    assert (mine.predictions, mine.geometry) == (theirs.predictions, theirs.geometry)
    assert mine.attributions[0].target == theirs.attributions[0].target
    assert np.array_equal(mine.attributions[0].values, theirs.attributions[0].values, equal_nan=True)
    for field in ("values", "channels", "energy"):
        assert np.array_equal(getattr(mine.activations[0], field), getattr(theirs.activations[0], field))
    assert mine.activations[0].sparsity == theirs.activations[0].sparsity
    assert mine.activations[0].total == theirs.activations[0].total == 8


def test_progress_survives() -> None:
    given = Progress(3, 9, "rows", np.ones((2, 2), np.float32))
    back = results.decode_progress(results.encode_progress(given))
    assert (back.done, back.total, back.unit) == (3, 9, "rows")
    assert np.array_equal(back.partial, given.partial)
    assert results.decode_progress(results.encode_progress(Progress(0, 1))).partial is None


def test_large_results_travel_in_pieces() -> None:
    values = np.random.default_rng(2).random((700, 700), np.float32)
    whole = results.encode_result(result(echo(), values=values), lambda item, part: b"\x89PNG" * 200_000)
    parts = result_pb2.ExplainResponse.FromString(whole.SerializeToString())
    pieces = list(chunks.take_apart(parts, "a"))
    assert parts.ByteSize() < 2000
    assert max(p.ByteSize() for p in pieces) < 1_000_000
    assert len({p.name for p in pieces}) == 4
    together = chunks.Assembler()
    for piece in pieces:
        together.add(piece)
    together.complete(parts, "a")
    assert parts == whole


def test_small_results_stay_whole() -> None:
    response = results.encode_result(result(echo()))
    before = response.SerializeToString()
    assert list(chunks.take_apart(response, "a")) == []
    assert response.SerializeToString() == before


def test_a_missing_piece_is_told() -> None:
    together = chunks.Assembler()
    with pytest.raises(FieldError, match="5 after 0 bytes"):
        together.add(explain_pb2.ArtifactChunk(item_id="a", name="x", offset=5, data=b"1"))


def test_pages() -> None:
    items = list(range(250))
    seen, token, sizes = [], "", []
    while True:
        shown, token = listing.page(items, 0, token)
        sizes.append(len(shown))
        seen += shown
        if not token:
            break
    assert seen == items
    assert sizes == [100, 100, 50]
    assert listing.page(items, 5000, "") == (items, "")
    assert listing.page(items, 250, "") == (items, "")
    for token in ("x", "!!", "cGFnZTotMQ==", "cGFnZTr5", "ä"):
        with pytest.raises(FieldError) as caught:
            listing.page(items, 0, token)
        assert caught.value.field == "page_token"


def test_every_style_has_a_code() -> None:
    assert set(requests.STYLES) == set(T.RenderStyle.values())
