"""Pictures: the numbers behind them exactly, colour by colour and pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest

from graph_tools.errors import ExplainError, InvalidRequest
from service.pictures import colormaps
from service.pictures.charts import bar_chart
from service.pictures.heatmap import heatmap, overlay, scale_of
from service.pictures.legend import legend_bar, legend_texts, ramp
from service.pictures.style import number, probability
from service.pictures.text import drawable, shorten, width, wrap
from service.types import Array


def photo(height: int, width_: int) -> Array:
    rng = np.random.default_rng(height * 1000 + width_)
    return rng.integers(0, 256, (height, width_, 3), dtype=np.uint8)


# colour maps


def lightness(colours: Array) -> Array:
    """CIE L* of sRGB, 0..100 (independent of the OKLab that made the map)."""
    c = colours / 255.0
    linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    y = linear @ np.array([0.2126, 0.7152, 0.0722])
    return np.asarray(np.where(y > 216 / 24389, 116 * np.cbrt(y) - 16, y * 24389 / 27))


def test_heat_gets_lighter_with_every_step() -> None:
    steps = np.diff(lightness(colormaps.table("heat")))
    assert (steps > 0).all()
    assert steps.max() < 3 * 95 / 255  # no band: nowhere three times steeper than an even run


def test_signed_gets_darker_with_every_step_away_from_zero_on_both_sides_alike() -> None:
    light = lightness(colormaps.table("signed"))
    assert (np.diff(light[:129]) > 0).all()
    assert (np.diff(light[128:]) < 0).all()
    assert np.abs(light - light[::-1]).max() < 3


def test_ends_of_the_colour_maps() -> None:
    dark, bright = colormaps.apply(np.array([[0.0, 1.0]]), "heat")[0].astype(int)
    assert dark.max() < 30
    assert bright.min() > 150
    against, zero, for_ = colormaps.apply(np.array([[0.0, 0.5, 1.0]]), "signed")[0].astype(int)
    assert against[2] > 2 * against[0]  # blue
    assert zero.tolist() == [255, 255, 255]
    assert for_[0] > 2 * for_[2]  # red


def test_apply_clips_and_refuses_nan_and_unknown_names() -> None:
    clipped = colormaps.apply(np.array([[-5.0, 0.0, 1.0, 9.0]]), "heat")[0]
    assert clipped[0].tolist() == clipped[1].tolist()
    assert clipped[2].tolist() == clipped[3].tolist()
    with pytest.raises(InvalidRequest, match="NaN"):
        colormaps.apply(np.array([[np.nan]]), "heat")
    with pytest.raises(InvalidRequest, match="heat, signed"):
        colormaps.apply(np.zeros((1, 1)), "jet")


# scales and heat maps


def test_unsigned_scale_is_zero_to_the_maximum_and_negatives_count_as_zero() -> None:
    scale = scale_of(np.array([[-1.0, 0.0], [2.0, 4.0]]))
    assert (scale.low, scale.high, scale.flat, scale.clipped) == (0.0, 4.0, False, False)
    assert scale.unit(np.array([-1.0, 0.0, 2.0, 4.0])).tolist() == [0.0, 0.0, 0.5, 1.0]


def test_signed_scale_is_symmetric_and_one_extreme_pixel_does_not_set_it() -> None:
    values = np.linspace(-1, 1, 10_000, dtype=np.float32).reshape(100, 100)
    values[0, 0] = -50
    scale = scale_of(values, signed=True)
    assert scale.low == -scale.high
    assert scale.high == pytest.approx(0.995, abs=1e-3)
    assert scale.minimum == -50
    assert scale.clipped
    assert scale.unit(np.array([-50.0, 0.0])).tolist() == [0.0, 0.5]


def test_a_single_hot_pixel_still_has_a_scale() -> None:
    values = np.zeros((100, 100), np.float32)
    values[7, 9] = -3
    assert scale_of(values, signed=True).high == 3
    assert scale_of(-values, percentile=99.5).high == 3


def test_heatmap_of_known_values() -> None:
    values = np.array([[0.0, 1.0], [2.0, 4.0]], np.float32)
    table = colormaps.table("heat")
    expected = table[np.array([[0, 64], [128, 255]])]  # rint(255 · v / 4); 127.5 goes to the even 128
    np.testing.assert_array_equal(heatmap(values), expected)
    doubled = heatmap(values, size=(4, 4), nearest=True)
    np.testing.assert_array_equal(doubled, expected.repeat(2, 0).repeat(2, 1))
    assert heatmap(values, size=(6, 10)).shape == (6, 10, 3)
    assert heatmap(values, size=(6, 10)).dtype == np.uint8


def test_signed_heatmap_has_white_at_zero() -> None:
    picture = heatmap(np.array([[-2.0, 0.0, 2.0]]), signed=True)
    np.testing.assert_array_equal(picture[0], colormaps.table("signed")[[0, 128, 256]])


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("value", [0.0, 5.0, -5.0, 1e-35])
def test_flat_maps_are_drawn_flat_and_the_legend_says_so(value: float, signed: bool) -> None:
    values = np.full((8, 8), value, np.float32)
    values[0, 0] *= 1 + 1e-7  # rounding noise must not become contrast
    scale = scale_of(values, signed)
    assert scale.flat
    assert len(np.unique(heatmap(values, signed).reshape(-1, 3), axis=0)) == 1
    assert legend_texts(scale)[0].startswith("flat: every value is ")
    image = photo(8, 8)
    np.testing.assert_array_equal(overlay(image, values, signed), image)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_refused_with_the_count(bad: float) -> None:
    values = np.zeros((4, 4), np.float32)
    values[1, 2] = bad
    for draw in (
        lambda: heatmap(values),
        lambda: overlay(photo(4, 4), values),
        lambda: overlay(photo(4, 4), values, scale=scale_of(np.ones((1, 2)) * [0, 1])),
        lambda: bar_chart(values[1], ["a"] * 4, (100, 100)),
    ):
        with pytest.raises(ExplainError, match=r"\d+ of \d+ values are NaN or infinite") as error:
            draw()
        assert isinstance(error.value, InvalidRequest)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((0, 4)), "is empty"),
        (np.zeros(4), r"\[4\]; a heat map needs \[height, width\]"),
        (np.zeros((2, 2), complex), "complex128"),
    ],
)
def test_maps_that_are_no_maps(values: Array, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        heatmap(values)


# overlays


def test_overlay_leaves_the_photo_where_the_map_is_zero_and_only_there() -> None:
    image, values = photo(20, 30), np.zeros((20, 30), np.float32)
    values[5:9, 10:20] = 1.0
    for signed in (False, True):
        shown = overlay(image, values, signed)
        changed = (shown != image).any(axis=2)
        assert not changed[values == 0].any()
        assert changed[values == 1].mean() > 0.9


def test_overlay_opacity_follows_strength() -> None:
    image = np.full((1, 3, 3), 100, np.uint8)
    values = np.array([[-1.0, 0.5, 1.0]], np.float32)
    scale = scale_of(values, signed=True, percentile=100)
    shown = overlay(image, values, alpha=0.6, scale=scale).astype(float)
    colours = heatmap(values, scale=scale).astype(float)
    expected = 100 + (colours - 100) * (0.6 * np.array([1.0, 0.5, 1.0]))[None, :, None]
    np.testing.assert_allclose(shown, expected, atol=0.5001)


def test_overlay_stretches_a_coarse_map_over_the_photo() -> None:
    image = np.zeros((40, 60, 3), np.uint8)
    shown = overlay(image, np.array([[0.0, 1.0]], np.float32)).sum(axis=2)
    assert shown[:, :10].max() == 0
    assert shown[:, 50:].min() > 0


def test_overlay_refuses_what_is_no_photo_and_alpha_out_of_range() -> None:
    with pytest.raises(InvalidRequest, match=r"uint8 \[H, W, 3\]"):
        overlay(np.zeros((4, 4), np.uint8), np.zeros((4, 4)))
    with pytest.raises(InvalidRequest, match="alpha"):
        overlay(photo(4, 4), np.zeros((4, 4)), alpha=1.5)


# numbers and text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (1, "1.00"),
        (0.012345, "0.0123"),
        (-4.5678, "−4.57"),
        (999.6, "1000"),
        (1234.5, "1230"),
        (0.09996, "0.100"),
        (1.2e-7, "1.2e-7".replace("-", "−")),
        (3.456e9, "3.46e9"),
    ],
)
def test_numbers_have_three_significant_digits(value: float, text: str) -> None:
    assert number(value) == text


def test_probabilities_never_round_to_certainty() -> None:
    shown = [probability(p) for p in (0.0, 1e-5, 0.05, 0.59, 0.9994, 0.9997, 1.0)]
    assert shown == ["0.000", "<0.001", "0.050", "0.590", "0.999", ">0.999", "1.000"]


def test_text_is_shortened_to_fit_and_wrapped() -> None:
    label = "cash machine, cash dispenser, automated teller machine, automatic teller"
    short = shorten(label, 13, 150)
    assert short.endswith("...")
    assert label.startswith(short[:-3])
    assert width(short, 13) <= 150
    assert width(label[: len(short) - 2] + "...", 13) > 150 - 13  # nothing much longer would have fitted
    assert shorten("cat", 13, 150) == "cat"
    assert shorten("cat", 13, 1) == ""
    lines = wrap(label, 13, 200, 3)
    assert len(lines) == 3
    assert all(width(line, 13) <= 200 for line in lines)


def test_what_the_font_lacks_is_replaced() -> None:
    assert drawable("Dvořák × naïve\n…") == "Dvorak x naive ..."
    assert drawable("猫 cat") == "? cat"
    assert drawable("A − B · C") == "A − B · C"


# legends


def test_legend_numbers() -> None:
    values = np.array([[-2.0, 0.5, 1.0]])
    assert legend_texts(scale_of(values, signed=True, percentile=100)) == ("−2.00 against", "0", "for 2.00")
    assert legend_texts(scale_of(values)) == ("0", "", "1.00")
    spiky = np.append(np.ones(999), 80.0)
    assert legend_texts(scale_of(spiky, percentile=99)) == ("0", "", "1.00 (max 80.0)")
    assert legend_texts(scale_of(np.full((2, 2), 3.0)))[0] == "flat: every value is 3.00"


def test_legend_bar_shows_the_whole_colour_map() -> None:
    bar = legend_bar(scale_of(np.array([[-1.0, 1.0]]), signed=True), 260)
    assert bar.width == 260
    pixels = np.asarray(bar)[4, 1:-1]
    np.testing.assert_array_equal(pixels, ramp(True, 258, 1)[0])
    flat = np.asarray(legend_bar(scale_of(np.zeros((2, 2))), 260))[4, 1:-1]
    assert len(np.unique(flat, axis=0)) == 1
