"""Decoding: what each kind of picture becomes, what is refused and how it is said; resizing, geometry."""

from __future__ import annotations

import contextlib
import io
import struct
import warnings
import zlib
from typing import Any, Literal

import numpy as np
import pytest
from PIL import Image, ImageFile

from graph_tools.errors import InvalidRequest
from service.models.card import InputCard
from service.models.images import decode
from service.models.resize import MAX_RESIZED, fit, rule
from service.types import Array, Geometry
from tests.service import zoo

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def encode(picture: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def noise(*shape: int) -> Array:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def png(width: int, height: int, bits: int, colour: int, rows: bytes) -> bytes:
    """A PNG written by hand; ``rows`` = filter byte and pixels of every row."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize("options", [{"kind": "PNG"}, {"kind": "WEBP", "lossless": True}])
def test_lossless_rgb_is_exact(options: dict[str, Any]) -> None:
    pixels = noise(5, 7, 3)
    assert np.array_equal(decode(encode(Image.fromarray(pixels), **options)), pixels)


def test_jpeg_and_the_command_lines_formats() -> None:
    pixels = np.full((16, 24, 3), (200, 100, 50), np.uint8)
    jpeg = decode(encode(Image.fromarray(pixels), "JPEG", quality=95))
    assert jpeg.shape == (16, 24, 3)
    assert np.abs(jpeg.astype(int) - pixels).max() <= 2
    for kind in ("BMP", "GIF"):
        data = encode(Image.fromarray(pixels), kind)
        assert np.array_equal(decode(data, extra=True), pixels)
        with pytest.raises(InvalidRequest, match=rf"\(PNG, JPEG, WebP\); they look like {kind}"):
            decode(data)


def test_grey_is_itu_r_601() -> None:
    pixels = noise(6, 4, 3)
    expected = np.rint(pixels @ [0.299, 0.587, 0.114])
    got = decode(encode(Image.fromarray(pixels)), 1)
    assert got.shape == (6, 4, 1)
    assert np.abs(got[..., 0] - expected).max() <= 1
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert np.array_equal(decode(encode(Image.fromarray(levels)), 1)[..., 0], levels)
    assert np.array_equal(decode(encode(Image.fromarray(levels)))[..., 2], levels)


def _palette(transparent: bool) -> Image.Image:
    picture = Image.new("P", (2, 1))
    picture.putpalette([*RED, *BLUE])
    picture.putpixel((1, 0), 1)
    if transparent:
        picture.info["transparency"] = 1
    return picture


def _alpha(mode: str, *pixels: tuple[int, ...]) -> Image.Image:
    picture = Image.new(mode, (len(pixels), 1))
    for x, pixel in enumerate(pixels):
        picture.putpixel((x, 0), pixel)
    return picture


MODES = {
    "one bit": (Image.fromarray(np.array([[True, False]])), [WHITE, (0, 0, 0)]),
    "palette": (_palette(False), [RED, BLUE]),
    "palette with a transparent entry": (_palette(True), [RED, WHITE]),
    "alpha over white": (
        _alpha("RGBA", (*RED, 255), (*RED, 0), (0, 0, 0, 51)),
        [RED, WHITE, (204, 204, 204)],
    ),
    "grey with alpha": (_alpha("LA", (10, 255), (10, 0)), [(10, 10, 10), WHITE]),
}


@pytest.mark.parametrize("kind", MODES)
def test_modes(kind: str) -> None:
    picture, expected = MODES[kind]
    assert decode(encode(picture))[0].tolist() == [list(pixel) for pixel in expected]


def test_transparent_colour_of_an_rgb_png() -> None:
    data = encode(Image.fromarray(np.array([[RED, GREEN]], np.uint8)), transparency=RED)
    assert decode(data)[0].tolist() == [list(WHITE), list(GREEN)]


def test_cmyk_jpeg() -> None:
    ink = Image.new("CMYK", (16, 16), (0, 255, 255, 0))  # magenta and yellow: red
    got = decode(encode(ink, "JPEG", quality=95)).reshape(-1, 3).astype(int)
    assert np.abs(got - RED).max() <= 3


def test_16_bits_are_scaled_to_8() -> None:
    levels = np.array([0, 127, 128, 129, 257, 32767, 32768, 65407, 65535], ">u2")
    data = png(len(levels), 1, 16, 0, b"\0" + levels.tobytes())
    assert decode(data, 1)[0, :, 0].tolist() == [0, 0, 0, 1, 1, 127, 128, 255, 255]
    colour = png(1, 1, 16, 2, b"\0" + np.array([65535, 0, 32768], ">u2").tobytes())
    assert decode(colour)[0, 0].tolist() == [255, 0, 128]


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_animations_give_the_first_frame(kind: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in (RED, GREEN, BLUE)]
    data = encode(frames[0], kind, save_all=True, append_images=frames[1:], lossless=True)
    assert np.array_equal(decode(data, extra=True), np.asarray(frames[0]))


# How a picture is stored for each EXIF orientation, so that it is `upright` when turned.
STORED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a, 3),
}


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_exif_orientation(orientation: int, kind: str) -> None:
    upright = noise(3, 5, 3)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](upright)))
    assert np.array_equal(decode(encode(stored, kind, exif=exif, lossless=True)), upright)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_broken_exif_is_ignored() -> None:
    pixels = np.full((8, 8, 3), 128, np.uint8)
    data = encode(Image.fromarray(pixels), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f broken")
    assert np.array_equal(decode(data), pixels)


def test_arrays() -> None:
    grey, colour = noise(4, 6), noise(4, 6, 3)
    assert np.array_equal(decode(grey), np.stack([grey] * 3, -1))
    assert np.array_equal(decode(grey[..., None], 1)[..., 0], grey)
    assert np.array_equal(decode(colour[:, ::-1]), colour[:, ::-1])
    clear = np.concatenate([colour, np.zeros((4, 6, 1), np.uint8)], -1)
    assert (decode(clear) == 255).all()


@pytest.mark.parametrize(
    ("array", "text"),
    [
        (np.zeros((4, 4, 3), np.float32), "must be uint8 .* not float32"),
        (np.zeros((4, 4, 2), np.uint8), r"not \[4, 4, 2\]"),
        (np.zeros((1, 4, 4, 3), np.uint8), r"not \[1, 4, 4, 3\]"),
        (np.zeros((0, 4, 3), np.uint8), r"not \[0, 4, 3\]"),
        (np.zeros((3,), np.uint8), r"not \[3\]"),
        (np.broadcast_to(np.uint8(0), (6000, 6000, 3)), "36.0 megapixels.*limit of 32 megapixels"),
    ],
)
def test_wrong_arrays(array: Array, text: str) -> None:
    with pytest.raises(InvalidRequest, match=text) as caught:
        decode(array, field="input.image")
    assert caught.value.field == "input.image"


JPEG = encode(Image.fromarray(noise(64, 64, 3)), "JPEG")
PNG = encode(Image.fromarray(noise(64, 64, 3)))
WEBP = encode(Image.fromarray(noise(64, 64, 3)), "WEBP", lossless=True)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "empty"),
        (b"hello, this is no image", "no image in a format read here .*begin with b'hello, t'"),
        (b"GIF89a", "look like GIF"),
        (b"%PDF-1.7", "look like PDF"),
        (b"\x93NUMPY\x01\x00", "pass it as a tensor"),
        (b"\0\0\0\x1cftypavif", "AVIF"),
        (PNG[:-200], "PNG is truncated or damaged"),
        (PNG[:20], "PNG is truncated or damaged"),
        (PNG[:100] + bytes(len(PNG) - 200) + PNG[-100:], "PNG is truncated or damaged"),
        (JPEG[: len(JPEG) // 2], "JPEG is truncated or damaged"),
        (JPEG[:3], "JPEG is truncated or damaged"),
        (WEBP[: len(WEBP) // 2], "WEBP is truncated or damaged|no image"),
    ],
)
def test_what_cannot_be_decoded(data: bytes, text: str) -> None:
    with pytest.raises(InvalidRequest, match=text) as caught:
        decode(data, field="items[3].image")
    assert caught.value.field == "items[3].image"


def test_damaged_bytes_never_raise_anything_else() -> None:
    rng = np.random.default_rng(1)
    for seed in (PNG, JPEG, WEBP):
        for _ in range(60):
            data = bytearray(seed)
            for place in rng.integers(0, len(data), 4):
                data[place] = rng.integers(0, 256)
            with contextlib.suppress(InvalidRequest):
                assert decode(bytes(data)).dtype == np.uint8


@pytest.mark.parametrize("side", [12_000, 20_000])
@pytest.mark.parametrize("action", ["ignore", "error"])
def test_bombs_are_refused_from_the_header(
    side: int, action: Literal["ignore", "error"], monkeypatch: pytest.MonkeyPatch
) -> None:
    """144 megapixels in 140 kB (Pillow only warns) and 400 megapixels (Pillow refuses)."""
    row = b"\0" + bytes(side)
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(row) for _ in range(side if side == 12_000 else 10)) + packer.flush()
    data = png(side, side, 8, 0, b"").replace(zlib.compress(b"", 9), packed)
    assert len(data) < 150_000
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("a pixel was decoded"))
    with warnings.catch_warnings():
        warnings.simplefilter(action, Image.DecompressionBombWarning)
        with pytest.raises(InvalidRequest, match="limit of 32 megapixels"):
            decode(data)


def test_the_cap_is_the_callers() -> None:
    data = encode(Image.fromarray(noise(10, 10, 3)))
    assert decode(data, max_pixels=100).shape == (10, 10, 3)
    with pytest.raises(InvalidRequest, match="10 x 10"):
        decode(data, max_pixels=99)


def test_identity_and_exact_reductions() -> None:
    pixels = noise(8, 8, 3)
    same, geometry = fit(pixels, InputCard(resize="stretch"), (8, 8))
    assert np.array_equal(same, pixels)
    assert geometry == Geometry((8, 8), (8, 8), (0, 0, 8, 8))
    cut, geometry = fit(pixels, InputCard(resize_to=8), (4, 4))
    assert np.array_equal(cut, pixels[2:6, 2:6])
    assert geometry == Geometry((8, 8), (8, 8), (2, 2, 4, 4))
    means, _ = fit(pixels, InputCard(resize="stretch", filter="box"), (4, 4))
    blocks = pixels.reshape(4, 2, 4, 2, 3).mean((1, 3))
    assert np.abs(means - blocks).max() <= 1  # rounded twice: across, then down
    first, _ = fit(
        np.arange(64, dtype=np.uint8).reshape(8, 8, 1), InputCard(resize="stretch", filter="nearest"), (2, 2)
    )
    assert first[..., 0].tolist() == [[18, 22], [50, 54]]


@pytest.mark.parametrize(
    ("shape", "size", "card", "expected"),
    [
        # floor(256/224 · size) for the short side, the long side rounded, the middle
        ((606, 517), (224, 224), {}, Geometry((606, 517), (300, 256), (38, 16, 224, 224))),
        ((183, 275), (160, 160), {}, Geometry((183, 275), (182, 273), (11, 56, 160, 160))),
        ((224, 224), (224, 224), {}, Geometry((224, 224), (256, 256), (16, 16, 224, 224))),
        ((100, 300), (128, 128), {"resize_to": 128}, Geometry((100, 300), (128, 384), (0, 128, 128, 128))),
        ((100, 100), (50, 100), {"resize": "crop"}, Geometry((100, 100), (114, 114), (32, 7, 50, 100))),
        ((30, 60), (32, 32), {}, Geometry((30, 60), (32, 32), (0, 0, 32, 32))),
        ((30, 60), (48, 192), {}, Geometry((30, 60), (48, 192), (0, 0, 48, 192))),
        ((100, 50), (64, 64), {"resize": "pad"}, Geometry((100, 50), (64, 32), (0, -16, 64, 64))),
        ((1, 1000), (64, 64), {"resize": "pad"}, Geometry((1, 1000), (1, 64), (-31, 0, 64, 64))),
    ],
)
def test_geometry(shape: tuple[int, int], size: tuple[int, int], card: dict[str, Any], expected: Geometry) -> None:
    for channels in (1, 3):
        got, geometry = fit(noise(*shape, channels), InputCard(**card), size)
        assert got.shape == (*size, channels)
        assert got.flags.c_contiguous
        assert geometry == expected


def test_crop_equals_resizing_the_whole_and_cutting() -> None:
    pixels = noise(183, 275, 3)
    got, _ = fit(pixels, InputCard(), (224, 224))
    whole = Image.fromarray(pixels).resize((385, 256), Image.Resampling.BILINEAR)
    assert np.array_equal(got, np.asarray(whole)[16:240, 80:304])


def test_long_pictures_are_resized_only_where_they_are_seen() -> None:
    pixels = np.zeros((1, 2_000_000, 3), np.uint8)
    pixels[:, 1_000_000:] = 255
    got, geometry = fit(pixels, InputCard(), (224, 224))
    assert geometry.resized[0] * geometry.resized[1] > MAX_RESIZED
    assert geometry.resized == (256, 512_000_000)
    ramp = 255 * ((np.arange(224) - 112 + 0.5) / 256 + 0.5)
    assert np.abs(got[..., 0] - ramp).max() <= 1


def test_pad_fills_with_the_cards_level() -> None:
    pixels = np.full((4, 2, 3), 200, np.uint8)
    got, _ = fit(pixels, InputCard(resize="pad", pad_value=7), (4, 4))
    assert got[..., 0].tolist() == [[7, 200, 200, 7]] * 4


def test_default_rule() -> None:
    assert [rule(InputCard(), size) for size in ((97, 97), (96, 96), (224, 256))] == [
        "crop",
        "stretch",
        "stretch",
    ]
    assert rule(InputCard(resize_to=40), (32, 32)) == "crop"
    with pytest.raises(InvalidRequest, match="smaller than the model's input") as caught:
        fit(noise(9, 9, 3), InputCard(resize_to=31), (32, 32))
    assert caught.value.field == "input.resize_to"


@pytest.mark.parametrize("file", zoo.PHOTOS)
def test_real_photos(file: str) -> None:
    zoo.need(f"images/{file}")
    data = (zoo.SHARED / "images" / file).read_bytes()
    with Image.open(io.BytesIO(data)) as picture:
        size = (picture.height, picture.width)
    assert decode(data, extra=True).shape == (*size, 3)
