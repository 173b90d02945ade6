"""Whole pictures: tiles, panels, tensor charts, channel grids, contact sheets, PNG files."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from graph_tools.errors import InvalidRequest
from service.pictures.charts import bar_chart, tensor_picture
from service.pictures.geometry import inside_crop
from service.pictures.grid import channel_grid
from service.pictures.heatmap import scale_of
from service.pictures.panel import explanation_picture, target_lines, words
from service.pictures.png import read_metadata, to_png
from service.pictures.predictions import mark_colour, predictions_block
from service.pictures.sheet import SheetRow, contact_sheet
from service.pictures.style import AGAINST, ALPHA, BOX, FOR
from service.pictures.tile import map_over, map_scale, photo_of, rgb
from service.types import Array, Attribution, Geometry, ItemResult, LayerActivations, ResolvedTarget, Score


def photo(height: int, width_: int) -> Array:
    rng = np.random.default_rng(height * 1000 + width_)
    return rng.integers(0, 256, (height, width_, 3), dtype=np.uint8)


CROP = Geometry(original=(200, 400), resized=(100, 200), crop=(10, 60, 80, 80))


def blob(height: int, width_: int) -> Array:
    y, x = np.mgrid[:height, :width_]
    return np.asarray(np.exp(-((y - height / 3) ** 2 + (x - width_ / 2) ** 2) / 20), np.float32)


def target(index: int = 3, label: str = "cat", minus: int | None = None, other: str = "") -> ResolvedTarget:
    return ResolvedTarget(index, label, minus, other, 2.5)


SCORES = tuple(
    Score(i, name, logit, p)
    for i, name, logit, p in [(3, "cat", 4.0, 0.8), (5, "dog", 2.0, 0.19), (0, "plane", -3.0, 0.0001)]
)


# tiles and panels


def test_small_images_keep_every_pixel_and_large_ones_fit_the_box() -> None:
    image = photo(28, 28)
    shown = photo_of(ItemResult(original=image), 300)
    assert shown is not None
    np.testing.assert_array_equal(shown.pixels, image.repeat(10, 0).repeat(10, 1))
    large = photo_of(ItemResult(original=photo(606, 517)), 320)
    assert large is not None
    assert large.pixels.shape == (320, 273, 3)
    assert photo_of(ItemResult(), 320) is None


def test_what_the_crop_cut_off_is_faded_in_the_tile_only_there() -> None:
    dark = np.zeros((200, 400, 3), np.uint8)
    shown = photo_of(ItemResult(original=dark, geometry=CROP), 400)
    assert shown is not None
    values = np.zeros((80, 80), np.float32)
    values[40, 40] = 1.0
    attribution = Attribution(values, target(), layer="conv")
    tile = np.asarray(map_over(shown, attribution, map_scale(attribution)))
    inside = inside_crop(CROP)
    assert (tile[~inside].min(), tile[inside].min()) == (133, 0)  # 255 · 0.62 · 0.84 on the hatching
    bright = np.argwhere(np.where(inside[..., None], tile, 0).sum(axis=2) > 150)
    assert bright.mean(axis=0).round().tolist() == pytest.approx([100, 200], abs=1)


def test_geometry_of_another_image_is_refused() -> None:
    with pytest.raises(InvalidRequest, match=r"geometry.original: is \(200, 400\)"):
        photo_of(ItemResult(original=photo(20, 40), geometry=CROP), 100)


def test_rgb_of_grey_and_transparent_images() -> None:
    grey = np.array([[7]], np.uint8)
    assert rgb(grey).tolist() == rgb(grey[..., None]).tolist() == [[[7, 7, 7]]]
    assert rgb(np.array([[[10, 20, 30, 0]]], np.uint8)).tolist() == [[[255, 255, 255]]]
    with pytest.raises(InvalidRequest, match="float32"):
        rgb(np.zeros((2, 2, 3), np.float32))


@pytest.mark.parametrize(
    ("height", "width_"), [(224, 224), (606, 517), (28, 28), (60, 300), (1, 500), (500, 1), (4000, 3)]
)
@pytest.mark.parametrize("count", [0, 1, 2, 5, 9])
def test_panels_of_all_shapes(height: int, width_: int, count: int) -> None:
    maps = tuple(Attribution(blob(14, 14) * (-1) ** i, target(i), signed=i % 2 == 1) for i in range(count))
    item = ItemResult(maps, predictions=SCORES, original=photo(height, width_))
    picture = explanation_picture(item, model="m", method="grad_cam")
    assert picture.mode == "RGB"
    assert picture.width >= 300
    assert picture.getpixel((0, 0)) == picture.getpixel((picture.width - 1, picture.height - 1)) == (255,) * 3


def test_panel_shows_the_input_and_the_map_at_the_same_height() -> None:
    image = np.full((224, 224, 3), 90, np.uint8)
    item = ItemResult((Attribution(np.zeros((7, 7), np.float32), target()),), original=image)
    pixels = np.asarray(explanation_picture(item, model="m", method="grad_cam"))
    grey = (pixels == 90).all(axis=2)
    rows, columns = np.flatnonzero(grey.any(axis=1)), np.flatnonzero(grey.any(axis=0))
    assert (len(rows), len(columns)) == (BOX, 2 * BOX - 2)  # the map has a hairline around it
    assert rows[-1] - rows[0] == BOX - 1


@pytest.mark.parametrize(("height", "width_"), [(4000, 3), (3, 4000)])
def test_thin_photos_are_seen_in_panels_and_sheets(height: int, width_: int) -> None:
    image = np.full((height, width_, 3), (10, 200, 30), np.uint8)
    item = ItemResult((Attribution(np.zeros((7, 7), np.float32), target(), layer="conv"),), original=image)
    panel = np.asarray(explanation_picture(item, model="m", method="grad_cam"))
    sheet = np.asarray(contact_sheet([SheetRow("One", {"grad_cam": item})], box=160))
    for picture, longest in ((panel, BOX), (sheet, 160)):
        seen = (picture == (10, 200, 30)).all(axis=2)
        assert seen.sum() >= 1.8 * longest - 24  # the input and the map; a sheet's tag covers the end of a tall one


def test_channels_of_a_thin_layer_show_their_values() -> None:
    values = np.linspace(0, 1, 2 * 400, dtype=np.float32).reshape(2, 400, 1)
    layer = LayerActivations("conv", values, np.arange(2), np.ones(2), 0.0, 2)
    pixels = np.asarray(channel_grid(layer)).reshape(-1, 3)
    assert len(np.unique(pixels[np.ptp(pixels.astype(int), axis=1) > 60], axis=0)) > 20  # colours, not the frame alone


def test_panel_chooses_maps_and_refuses_others() -> None:
    maps = tuple(Attribution(blob(8, 8), target(i)) for i in range(3))
    item = ItemResult(maps, original=photo(64, 64))
    one = explanation_picture(item, model="m", method="saliency", attributions=[2])
    two = explanation_picture(item, model="m", method="saliency", attributions=[2, 0])
    assert two.width > one.width
    with pytest.raises(InvalidRequest, match="this item has 3 maps"):
        explanation_picture(item, model="m", method="saliency", attributions=[3])


def test_panel_refuses_maps_with_nan() -> None:
    values = blob(8, 8)
    values[3, 3] = np.nan
    for item in (
        ItemResult((Attribution(values, target()),), original=photo(8, 8)),
        ItemResult((Attribution(values, target()),)),
    ):
        with pytest.raises(InvalidRequest, match="1 of 64 values are NaN or infinite"):
            explanation_picture(item, model="m", method="saliency")


def test_difference_targets_are_titled_a_minus_b() -> None:
    both = target(243, "bull mastiff", 285, "Egyptian cat")
    assert "".join(text for _, text in target_lines(both, 320)[0]) == "bull mastiff − Egyptian cat"
    assert [[text for _, text in line] for line in target_lines(both, 150)] == [
        ["bull mastiff"],
        ["− ", "Egyptian cat"],
    ]
    assert (mark_colour(243, [both]), mark_colour(285, [both]), mark_colour(1, [both])) == (
        FOR,
        AGAINST,
        None,
    )


def test_prediction_bars_are_as_long_as_the_probabilities() -> None:
    pixels = np.asarray(predictions_block(SCORES, [target(3, "cat", 5, "dog")], 200, heading=False))
    longest = [int((pixels == colour).all(axis=2).sum(axis=1).max()) for colour in (FOR, AGAINST)]
    assert longest == [160, 38]


def test_targets_that_are_not_listed_are_added() -> None:
    listed = predictions_block(SCORES, [target(3)])
    added = predictions_block(SCORES, [target(99, "zebra")])
    assert added.height > listed.height


def test_methods_in_words() -> None:
    names = ["grad_cam", "saliency", "grad_cam_pp", "kernel_shap", "integrated_gradients", "cam"]
    assert [words(name) for name in names] == [
        "Grad-CAM", "Saliency", "Grad-CAM++", "Kernel SHAP", "Integrated gradients", "CAM",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ((1, 4), "4 entries"),
        ((300,), "300 entries, left to right"),
        ((1, 28, 2), "28 x 2"),
        ((3, 12, 60), "12 x 60, sum over [3]"),
        ((), "1 entries"),
    ],
)
def test_tensor_inputs_are_drawn_without_a_photo(shape: tuple[int, ...], said: str) -> None:
    values = np.asarray(np.random.default_rng(0).normal(size=shape), np.float32)
    picture, axes = tensor_picture(values, scale_of(values, signed=True), 320)
    assert axes == said
    assert (picture.width, picture.height <= 640) == (320, True)
    item = ItemResult((Attribution(values, target(), signed=True),), predictions=SCORES)
    assert explanation_picture(item, model="m", method="lime").width > 600


def test_bars_have_the_height_of_their_values() -> None:
    pixels = np.asarray(bar_chart(np.array([1.0, -0.5]), ["0", "1"], (200, 300)))
    red = (pixels == FOR).all(axis=2).sum(axis=0).max()
    blue = (pixels == AGAINST).all(axis=2).sum(axis=0).max()
    assert red == pytest.approx(2 * blue, abs=2)


# grids and sheets


def activations(values: Array) -> LayerActivations:
    energy = (values.reshape(len(values), -1) ** 2).mean(axis=1)
    order = np.argsort(-energy)
    return LayerActivations("block/conv", values[order], order, energy[order], 0.25, len(values))


def test_channel_grid_draws_the_strongest_first_and_no_more_than_asked() -> None:
    values = np.zeros((12, 8, 8), np.float32)
    for channel in range(12):
        values[channel, channel // 2, 3] = channel
    only_11 = np.where(np.arange(12)[:, None, None] == 11, values, 0)
    strongest = [np.asarray(channel_grid(activations(v), top=1)) for v in (values, only_11)]
    np.testing.assert_array_equal(strongest[0], strongest[1])
    both = np.asarray(channel_grid(activations(values), top=2))
    assert (both != np.asarray(channel_grid(activations(only_11), top=2))).any()
    wide = channel_grid(activations(values), top=12, columns=12)
    assert wide.width > 2 * channel_grid(activations(values), top=4, columns=4).width


@pytest.mark.parametrize("shape", [(20, 24, 40), (3, 112, 112), (2, 1, 1), (1280,), (10,), (12, 64), (5, 1, 300)])
def test_channel_grids_of_all_shapes(shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    for drawn in (values, np.maximum(values, 0), np.zeros_like(values)):
        assert channel_grid(activations(drawn)).mode == "RGB"


def test_channel_grid_refuses_nonsense() -> None:
    good = activations(np.ones((2, 3, 3), np.float32))
    with pytest.raises(InvalidRequest, match="top"):
        channel_grid(good, top=0)
    with pytest.raises(InvalidRequest, match="names 3 channels"):
        channel_grid(LayerActivations("c", good.values, np.arange(3), np.ones(3), 0.0))
    with pytest.raises(InvalidRequest, match="NaN"):
        channel_grid(activations(np.full((2, 3, 3), np.nan, np.float32)))


def scene(name: str, maps: int = 2) -> SheetRow:
    image = photo(96, 96)
    attributions = tuple(Attribution(blob(12, 12), target(i, f"class {i}"), layer="c") for i in range(maps))
    item = ItemResult(attributions, predictions=SCORES, original=image)
    return SheetRow(name, {"saliency": item, "grad_cam": item, "occlusion": item}, {0: blob(96, 96) > 0.5})


def test_contact_sheet_grows_by_rows_and_refuses_uneven_ones() -> None:
    one = contact_sheet([scene("a")], title="Three scenes", box=100)
    two = contact_sheet([scene("a"), scene("b")], title="Three scenes", box=100)
    assert two.width == one.width
    assert two.height > one.height + 100
    with pytest.raises(InvalidRequest, match="same methods"):
        contact_sheet([scene("a"), scene("b", maps=1)])
    with pytest.raises(InvalidRequest, match="at least one row"):
        contact_sheet([])
    blind = SheetRow("x", {"saliency": ItemResult(predictions=SCORES)})
    with pytest.raises(InvalidRequest, match="has no image"):
        contact_sheet([blind])


def test_contact_sheet_says_which_maps_are_flat() -> None:
    dead = Attribution(np.zeros((12, 12), np.float32), target())
    item = ItemResult((dead,), original=np.full((96, 96, 3), 9, np.uint8))
    sheet = np.asarray(contact_sheet([SheetRow("a", {"occlusion": item})], box=100))
    dark = (sheet == 9).all(axis=2).sum(axis=0)
    assert dark.max() == 100  # the input
    assert (dark == 78).sum() == 98  # the map: less a strip of 21 rows and the hairline above


# files


def test_png_carries_its_metadata_and_is_reproducible() -> None:
    image = Image.fromarray(photo(5, 7))
    metadata = {"model": "m", "digest": "sha256:00", "target": "bull mastiff − Egyptian cat", "labels": "猫"}
    png = to_png(image, metadata)
    assert read_metadata(png) == metadata
    assert png == to_png(image.copy(), dict(metadata))
    with Image.open(io.BytesIO(png)) as back:
        np.testing.assert_array_equal(np.asarray(back), np.asarray(image))
    with pytest.raises(InvalidRequest, match="key of a PNG text"):
        to_png(image, {"": "x"})


def test_the_default_opacity_keeps_the_photo_visible() -> None:
    assert 0.4 < ALPHA < 0.9
