"""Everything that can be wrong with a request, over a real connection: the code, the field, and the server lives on."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile

from graph_tools.errors import InvalidRequest
from service.api.codec.requests import encode_request
from service.api.pb.onnx_explain.v1 import explain_pb2, types_pb2
from service.client import Result, ServiceError
from service.client.errors import clean
from service.client.requests import make_call
from service.core import Engine
from service.runtime.context import Run
from service.types import ExplainRequest, Selector, Target
from tests.service.conftest import MOST_BYTES, Served
from tests.service.test_end_to_end import same

RNG = np.random.default_rng(6)
PIXELS = RNG.integers(0, 256, (16, 16, 3)).astype(np.uint8)
ROW = np.ones((1, 4), np.float32)
PLANES = np.zeros((1, 3, 16, 16), np.float32)
T = types_pb2
pytestmark = pytest.mark.filterwarnings("error::PIL.Image.DecompressionBombWarning")  # as outside pytest


def encoded(kind: str, size: int = 64) -> bytes:
    out = io.BytesIO()
    Image.fromarray(RNG.integers(0, 256, (size, size, 3)).astype(np.uint8)).save(out, kind)
    return out.getvalue()


def bomb(side: int = 12_000) -> bytes:
    """A grey PNG of 144 megapixels and 140 kB."""
    pack, row = zlib.compressobj(9), bytes(side + 1)
    data = b"".join(pack.compress(row * 100) for _ in range(side // 100)) + pack.flush()

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


PNG, JPEG, WEBP, BOMB = encoded("PNG"), encoded("JPEG"), encoded("WEBP"), bomb()


def ask(model: str = "nchw", image: Any = PIXELS, **given: Any) -> explain_pb2.ExplainRequest:
    """A request that is good where nothing is said."""
    return encode_request(make_call(model, None if "tensor" in given else image, **{"method": "predict", **given}))


def changed(change: Callable[[explain_pb2.ExplainRequest], None], **given: Any) -> explain_pb2.ExplainRequest:
    message = ask(**given)
    change(message)
    return message


def table(**tensor: Any) -> explain_pb2.ExplainRequest:
    """A request to ``table`` with fields of its tensor replaced."""
    message = ask("table", tensor=ROW)
    for name, value in tensor.items():
        message.inputs[0].tensor.ClearField(name)  # type: ignore[arg-type]
        if isinstance(value, list):
            message.inputs[0].tensor.shape.extend(value)
        else:
            setattr(message.inputs[0].tensor, name, value)
    return message


def floats(value: float) -> bytes:
    return np.array([1, 1, value, 1], "<f4").tobytes()


@dataclass(frozen=True)
class Bad:
    """A request, and the error it must get: code, field, a word of the text."""

    message: explain_pb2.ExplainRequest
    code: str
    field: str
    words: str


INVALID, MISSING = "INVALID_ARGUMENT", "NOT_FOUND"
ROWS = {
    "unknown model": Bad(ask("nchv"), MISSING, "", "nearest: nchw"),
    "unknown version": Bad(ask("versioned", version="11"), MISSING, "", "nearest: 1"),
    "no method": Bad(changed(lambda m: m.ClearField("method")), INVALID, "method", "grad_cam"),
    "method of a newer server": Bad(
        changed(lambda m: m.method.ParseFromString(b"\xba\x0c\x00")), INVALID, "method", "newer"
    ),
    "unknown layer": Bad(ask(method="grad_cam", layer="featurs"), MISSING, "", "nearest: features"),
    "unknown layer of activations": Bad(ask(method="activations", layers=["r1", "R3"]), MISSING, "", "nearest: r"),
    "constant as layer": Bad(ask(method="grad_cam", layer="w1"), MISSING, "", "no layer"),
    "our own value as layer": Bad(ask(method="grad_cam", layer="preprocessed"), MISSING, "", "no layer"),
    "layer without space": Bad(ask(method="grad_cam", layer="logits"), INVALID, "grad_cam.layer", "[N, 5]"),
    "no default layer": Bad(ask("table", tensor=ROW, method="activations"), INVALID, "activations.layers", "such as t"),
    "class out of range": Bad(ask(method="saliency", targets=5), INVALID, "targets[0].class_index", "0 to 4"),
    "class subtracted out of range": Bad(
        ask(method="saliency", targets=[(0, 7)]), INVALID, "targets[0].minus.class_index", "0 to 4"
    ),
    "class out of the range of a file that says none": Bad(
        ask("linear", tensor=ROW, method="occlusion", targets=3), INVALID, "targets[0].class_index", "0 to 2"
    ),
    "rank out of range": Bad(ask(method="occlusion", targets=Selector(rank=6)), INVALID, "targets[0].rank", "1 to 5"),
    "top_k out of range": Bad(
        changed(lambda m: m.targets.extend([T.Target(rank=2), T.Target(top_k=6)]), method="saliency"),
        INVALID, "targets[1].top_k", "1 to 5",
    ),
    "bad target behind top_k": Bad(
        changed(lambda m: m.targets.extend([T.Target(top_k=3), T.Target(class_index=9)]), method="saliency"),
        INVALID, "targets[1].class_index", "0 to 4",
    ),
    "too many targets": Bad(ask(method="saliency", targets=[0] * 101), INVALID, "targets", "at most 100"),
    "unknown label": Bad(ask(method="saliency", targets="wolf"), MISSING, "", "5 classes"),
    "label of a model without": Bad(
        ask("two", method="saliency", targets="cat"), INVALID, "targets[0].class_name", "model card"
    ),
    "unknown output": Bad(ask("two", method="saliency", targets=Target(output="agee")), MISSING, "", "nearest: age"),
    "output that is not explained": Bad(
        ask("two", method="saliency", targets=Target(output="age")), INVALID, "targets[0].output_name", "species"
    ),
    "wrong dtype": Bad(ask("table", tensor=ROW.astype(np.int64)), INVALID, "inputs[0].tensor.dtype", "takes float32"),
    "text for numbers": Bad(
        ask("table", tensor=np.array([["a"] * 4], object)), INVALID, "inputs[0].tensor.dtype", "string"
    ),
    "floats for bytes": Bad(ask("quantised", tensor=PLANES), INVALID, "inputs[0].tensor.dtype", "takes uint8"),
    "dtype unset": Bad(table(dtype=T.DATA_TYPE_UNSPECIFIED), INVALID, "inputs[0].tensor.dtype", ""),
    "wrong shape": Bad(ask("table", tensor=ROW[:, :3]), INVALID, "inputs[0].tensor.shape", "takes [N, 4]"),
    "wrong rank": Bad(ask("table", tensor=ROW[0]), INVALID, "inputs[0].tensor.shape", "takes [N, 4]"),
    "no rows": Bad(ask("table", tensor=ROW[:0]), INVALID, "inputs[0].tensor.shape", "[0, 4]"),
    "negative size": Bad(table(shape=[-1, 4]), INVALID, "inputs[0].tensor.shape[0]", "negative"),
    "sizes whose product overflows": Bad(table(shape=[2**62, 4]), INVALID, "inputs[0].tensor.raw", "16 bytes, but"),
    "too few bytes": Bad(table(raw=bytes(15)), INVALID, "inputs[0].tensor.raw", "takes 16 bytes"),
    "too many bytes": Bad(table(raw=bytes(17)), INVALID, "inputs[0].tensor.raw", "takes 16 bytes"),
    "NaN": Bad(table(raw=floats(np.nan)), INVALID, "inputs[0].tensor.raw", "finite"),
    "infinity": Bad(table(raw=floats(-np.inf)), INVALID, "inputs[0].tensor.raw", "finite"),
    "more than float16 holds": Bad(ask("half", tensor=PLANES + 1e6), INVALID, "inputs[0].tensor.raw", "not finite"),
    "an input missing": Bad(ask("pair", tensor={"x": ROW}), INVALID, "inputs", "'weight' is missing"),
    "an input too many": Bad(
        ask("table", tensor={"x": ROW, "y": ROW}), INVALID, "inputs[1].name", "the model takes x"
    ),
    "rows that differ": Bad(
        ask("pair", tensor={"x": ROW, "weight": np.ones((2, 1), np.float32)}), INVALID, "inputs", "number of rows"
    ),
    "truncated PNG": Bad(ask(image=PNG[: len(PNG) // 2]), INVALID, "inputs[0].image", "truncated"),
    "truncated JPEG": Bad(ask(image=JPEG[: len(JPEG) // 2]), INVALID, "inputs[0].image", "truncated"),
    "truncated WebP": Bad(ask(image=WEBP[: len(WEBP) // 2]), INVALID, "inputs[0].image", "truncated"),
    "PNG header alone": Bad(ask(image=PNG[:12]), INVALID, "inputs[0].image", "header"),
    "no image": Bad(ask(image=RNG.bytes(3000)), INVALID, "inputs[0].image", "PNG, JPEG, WebP"),
    "another format": Bad(ask(image=encoded("GIF")), INVALID, "inputs[0].image", "look like GIF"),
    "no bytes": Bad(ask(image=b""), INVALID, "inputs[0].image.data", "empty"),
    "144 megapixels": Bad(ask(image=BOMB), INVALID, "inputs[0].image", "limit of 32 megapixels"),
    "the second image": Bad(ask(image=[PNG, b"x" * 99]), INVALID, "inputs[1].image", "no image"),
    "pixels that are floats": Bad(ask(image=PIXELS / 2), INVALID, "inputs[0].pixels.dtype", "UINT8"),
    "pixels in five channels": Bad(
        ask(image=np.zeros((8, 8, 5), np.uint8)), INVALID, "inputs[0].pixels.shape", "[H, W, 3]"
    ),
    "no inputs": Bad(ask(image=None), INVALID, "inputs", "give images"),
    "an input of nothing": Bad(changed(lambda m: m.inputs[0].Clear()), INVALID, "inputs[0]", "no value"),
    "image and tensor": Bad(
        changed(lambda m: m.inputs.append(ask("nchw", tensor=PLANES).inputs[0])), INVALID, "inputs[1]", "do not mix"
    ),
    "too many inputs": Bad(ask(image=[PIXELS] * 257), INVALID, "inputs", "at most 256"),
    "an image for a table": Bad(ask("table"), INVALID, "inputs", "send a tensor"),
    "an image for a model of two inputs": Bad(ask("mixed"), INVALID, "inputs", "weight"),
    "patch too large": Bad(ask(method="occlusion", patch=17), INVALID, "occlusion.patch", "only 16"),
    "stride beyond the patch": Bad(
        ask(method="occlusion", patch=2, stride=3), INVALID, "occlusion.stride", "never be covered"
    ),
    "parameter that is no number": Bad(
        ask(method="occlusion", value=float("nan")), INVALID, "occlusion.value", "finite"
    ),
    "probability of a number": Bad(
        ask("whole", tensor=ROW, method="occlusion", score="probability", targets=4), INVALID,
        "targets[0].class_index", "0 to 3",
    ),
    "message too large": Bad(ask(image=bytes(MOST_BYTES + 1)), "RESOURCE_EXHAUSTED", "", "larger than max"),
}  # fmt: skip


def refused(served: Served, bad: Bad) -> ServiceError:
    with pytest.raises(ServiceError) as caught, clean(served.address):
        served.stub.Explain(bad.message)
    return caught.value


@pytest.fixture(scope="module")
def good(served: Served) -> Result:
    return served.client.explain("nchw", PIXELS, method="predict")


@pytest.mark.parametrize("name", ROWS)
def test_bad_requests(served: Served, good: Result, name: str) -> None:
    bad = ROWS[name]
    error = refused(served, bad)
    assert (error.code, error.field) == (bad.code, bad.field), error.message
    assert bad.words in error.message
    assert str(served.folder.parent) not in error.message
    assert same(served.client.explain("nchw", PIXELS, method="predict").items, good.items)


def test_all_at_once_and_good_ones_between(served: Served, good: Result) -> None:
    def both(bad: Bad) -> tuple[ServiceError, Result]:
        return refused(served, bad), served.client.explain("nchw", PIXELS, method="predict")

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(both, ROWS.values()))
    for bad, (error, answer) in zip(ROWS.values(), outcomes, strict=True):
        assert (error.code, error.field) == (bad.code, bad.field)
        assert same(answer.items, good.items)


def test_no_pixel_of_the_bomb_is_decoded(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    loads = []
    load = ImageFile.ImageFile.load
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: loads.append(self.size) or load(self))
    assert len(BOMB) < 150_000
    refused(served, ROWS["144 megapixels"])
    assert loads == []
    served.client.explain("nchw", PNG, method="predict")
    assert (64, 64) in loads


def test_many_large_images_are_too_many(served: Served) -> None:
    engine = Engine(served.engine.repository, max_pixels=16 * 16)
    request = {"model": "nchw", "method": "predict"}
    assert len(engine.explain(ExplainRequest(**request, images=(PIXELS,) * 8), Run()).items) == 8
    with pytest.raises(InvalidRequest, match="in all") as caught:
        engine.explain(ExplainRequest(**request, images=(PIXELS,) * 9), Run())
    assert caught.value.field == "inputs"


STREAMED = ["no method", "top_k out of range", "no inputs", "wrong dtype", "NaN", "truncated PNG"]


@pytest.mark.parametrize("name", STREAMED)
def test_fields_of_a_stream_begin_at_its_message(served: Served, name: str) -> None:
    bad = ROWS[name]
    with pytest.raises(ServiceError) as caught, clean(served.address):
        list(served.stub.ExplainStream(explain_pb2.ExplainStreamRequest(request=bad.message)))
    assert (caught.value.code, caught.value.field) == (bad.code, f"request.{bad.field}")


def test_parameters_of_a_stream_keep_their_names(served: Served) -> None:
    bad = ROWS["patch too large"]
    with pytest.raises(ServiceError) as caught, clean(served.address):
        list(served.stub.ExplainStream(explain_pb2.ExplainStreamRequest(request=bad.message)))
    assert caught.value.field == "occlusion.patch"


@pytest.fixture(autouse=True)
def no_bugs(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Nothing that went wrong was an internal error."""
    yield
    assert not [r for r in caplog.records if "incident" in r.getMessage()]
