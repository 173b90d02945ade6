from __future__ import annotations

import numpy as np
import pytest

from service.api.codec import chunks, listing, results, tensors
from service.api.codec.fields import FieldError
from service.api.pb.onnx_explain.v1 import explain_pb2, result_pb2, types_pb2
from service.types import ExplainRequest, Progress
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
