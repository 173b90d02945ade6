"""Maps laid back on the caller's image: known pixels through crop, stretch, enlargement and padding."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from service.pictures.geometry import inside_crop, resample, stretched, to_original
from service.types import Array, Geometry

CROP = Geometry(original=(200, 400), resized=(100, 200), crop=(10, 60, 80, 80))
STRETCH = Geometry(original=(300, 100), resized=(50, 50), crop=(0, 0, 50, 50))
ENLARGED = Geometry(original=(32, 32), resized=(224, 224), crop=(0, 0, 224, 224))
PADDED = Geometry(original=(10, 20), resized=(10, 20), crop=(-5, 0, 20, 20))  # square with bars above and below


def hot(size: tuple[int, int], row: int, column: int) -> Array:
    values = np.zeros(size, np.float32)
    values[row, column] = 1.0
    return values


@pytest.mark.parametrize(
    ("geometry", "at", "rows", "columns"),
    [
        (CROP, (0, 0), (20, 21), (120, 121)),  # (i + top) · 2
        (CROP, (79, 40), (178, 179), (200, 201)),
        (STRETCH, (10, 20), (60, 65), (40, 41)),  # 6 rows and 2 columns of the original per pixel
        (PADDED, (5, 3), (0, 0), (3, 3)),
        (PADDED, (14, 19), (9, 9), (19, 19)),
    ],
)
def test_hot_pixel_lands_on_its_pixels_of_the_original(
    geometry: Geometry, at: tuple[int, int], rows: tuple[int, int], columns: tuple[int, int]
) -> None:
    values = hot(geometry.crop[2:], *at)
    sharp = to_original(values, geometry, nearest=True)
    assert sharp.shape == geometry.original
    lit = np.argwhere(sharp == 1.0)
    assert (lit[:, 0].min(), lit[:, 0].max()) == rows
    assert (lit[:, 1].min(), lit[:, 1].max()) == columns
    smooth = to_original(values, geometry)
    peak = [int(i) for i in np.unravel_index(smooth.argmax(), smooth.shape)]
    assert rows[0] <= peak[0] <= rows[1]
    assert columns[0] <= peak[1] <= columns[1]


def test_no_value_is_lost_where_the_original_is_smaller_than_the_input() -> None:
    for row in range(0, 224, 13):
        laid = to_original(hot((224, 224), row, 100), ENLARGED)
        assert divmod(int(laid.argmax()), 32) == (row // 7, 100 // 7)
        assert laid.max() > 0


def test_a_coarse_map_covers_the_crop() -> None:
    laid = to_original(np.array([[1.0, 2.0], [3.0, 4.0]]), CROP, fill=-1.0, nearest=True)
    expected = np.full((200, 400), -1.0)
    expected[20:180, 120:280] = np.array([[1, 2], [3, 4]]).repeat(80, 0).repeat(80, 1)
    np.testing.assert_array_equal(laid, expected)
    np.testing.assert_array_equal(inside_crop(CROP), expected > 0)


def test_nothing_is_drawn_outside_the_crop_and_same_size_is_the_identity() -> None:
    laid = to_original(np.ones((80, 80), np.float32), CROP, fill=7.0)
    inside = inside_crop(CROP)
    assert inside.sum() == 160 * 160
    assert (laid[~inside] == 7.0).all()
    np.testing.assert_allclose(laid[inside], 1.0, rtol=1e-6)
    values = np.random.default_rng(0).normal(size=(17, 23)).astype(np.float32)
    np.testing.assert_array_equal(to_original(values, stretched((17, 23))), values)


def test_padding_is_no_part_of_the_original() -> None:
    values = np.arange(400, dtype=np.float32).reshape(20, 20)
    np.testing.assert_array_equal(to_original(values, PADDED), values[5:15])
    assert inside_crop(PADDED).all()


def test_resample_equals_pillow_bilinear() -> None:
    values = np.random.default_rng(1).normal(size=(14, 9)).astype(np.float32)
    for size in [(40, 70), (5, 4), (14, 3)]:
        expected = np.asarray(Image.fromarray(values).resize(size[::-1], Image.Resampling.BILINEAR))
        np.testing.assert_allclose(resample(values, size), expected, atol=2e-6)


def test_to_original_at_a_shown_size() -> None:
    laid = to_original(np.ones((80, 80), np.float32), CROP, size=(50, 100))
    assert laid.shape == (50, 100)
    assert (np.argwhere(laid > 0).min(axis=0).tolist(), np.argwhere(laid > 0).max(axis=0).tolist()) == (
        [5, 30],
        [44, 69],
    )
