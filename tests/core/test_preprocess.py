"""A picture becomes an array of the size wanted: every fit, against Pillow's own scaling."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from tellapart.core.preprocess import Preprocessing, preprocess, resize

FITS = ("crop", "squash", "pad")
FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
sides = st.integers(1, 80)


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def close(one: np.ndarray, other: np.ndarray, tolerance: int = 1) -> bool:
    return one.shape == other.shape and int(np.abs(one.astype(int) - other.astype(int)).max()) <= tolerance


@given(sides, sides, sides, sides, st.sampled_from(FITS), st.floats(0.01, 1), st.sampled_from(list(FILTERS)))
def test_the_result_is_of_the_size_wanted_whatever_the_picture(height, width, h, w, fit, crop, interpolation):
    made = preprocess(picture(height, width), Preprocessing(h, w, fit, crop, interpolation))
    assert made.shape == (h, w, 3)
    assert made.dtype == np.uint8
    assert made.flags.c_contiguous


@pytest.mark.parametrize("shape", [(1, 5000), (5000, 1), (1, 1), (2, 3000)])
@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("crop", [1.0, 0.875, 0.01])
def test_extreme_pictures(shape, fit, crop):
    assert preprocess(picture(*shape), Preprocessing(64, 48, fit, crop)).shape == (64, 48, 3)


@given(sides, sides, st.integers(1, 40), st.integers(1, 40), st.sampled_from(FITS), st.sampled_from(list(FILTERS)))
def test_one_colour_stays_that_colour(height, width, h, w, fit, interpolation):
    plain = np.full((height, width, 3), (12, 200, 99), np.uint8)
    made = preprocess(plain, Preprocessing(h, w, fit, 0.9, interpolation, background=(12, 200, 99)))
    assert (made == (12, 200, 99)).all()


@pytest.mark.parametrize("fit", FITS)
def test_a_picture_of_the_right_size_is_not_touched(fit):
    pixels = picture(24, 32)
    before = pixels.copy()
    assert np.array_equal(preprocess(pixels, Preprocessing(24, 32, fit)), before)
    assert np.array_equal(pixels, before)


@pytest.mark.parametrize("fit", FITS)
def test_the_picture_itself_is_not_changed_and_may_be_a_view(fit):
    whole = picture(60, 80)
    view = whole[::2, ::-1]
    view.flags.writeable = False
    before = whole.copy()
    made = preprocess(view, Preprocessing(16, 16, fit))
    assert np.array_equal(whole, before)
    assert np.array_equal(made, preprocess(np.ascontiguousarray(view), Preprocessing(16, 16, fit)))


# Crop

crops = st.tuples(st.integers(4, 24), st.integers(0, 8), st.integers(0, 8), st.integers(1, 4))


def scaled_whole(pixels: np.ndarray, height: int, width: int, interpolation: str) -> list[Image.Image]:
    """The picture, its rows scaled before its columns, and the other way round.

    Pillow takes the order that costs less, which a cut may change. In between it rounds and clips to bytes, so that a
    filter that overshoots gives other bytes.
    """
    whole, scale = Image.fromarray(pixels), FILTERS[interpolation]
    rows_first = whole.resize((width, whole.height), scale).resize((width, height), scale)
    columns_first = whole.resize((whole.width, height), scale).resize((width, height), scale)
    return [rows_first, columns_first]


@given(crops, st.sampled_from(["bilinear", "bicubic", "lanczos"]))
@example((8, 0, 3, 2), "lanczos")
def test_crop_is_the_middle_of_the_picture_that_pillow_scales_whole(sizes, interpolation):
    side, right, down, factor = sizes
    scaled_height, scaled_width = side + 2 * down, side + 2 * right
    pixels = picture(scaled_height * factor, scaled_width * factor)
    preprocessing = Preprocessing(side, side, "crop", side / min(scaled_height, scaled_width), interpolation)
    made = preprocess(pixels, preprocessing)
    middle = (right, down, right + side, down + side)
    expected = [whole.crop(middle) for whole in scaled_whole(pixels, scaled_height, scaled_width, interpolation)]
    assert any(close(made, np.asarray(one)) for one in expected)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 20), st.booleans(), st.sampled_from(list(FILTERS)))
def test_crop_without_a_margin_cuts_the_longer_side_alone(height, width, more, wide, interpolation):
    """Scaled by a whole number, so that no filter sees past the cut: as if cut first and scaled then."""
    pixels = picture(height + 2 * more * (not wide), width + 2 * more * wide)
    preprocessing = Preprocessing(height, width, "crop", 1.0, interpolation)
    top, left = more * (not wide), more * wide
    assert np.array_equal(preprocess(pixels, preprocessing), pixels[top : top + height, left : left + width])


def test_crop_scales_up_what_is_too_small():
    pixels = picture(10, 20)
    expected = Image.fromarray(pixels).resize((40, 20), Image.Resampling.BICUBIC).crop((10, 0, 30, 20))
    assert close(preprocess(pixels, Preprocessing(20, 20)), np.asarray(expected))


def test_crop_of_a_frame_that_is_no_square():
    pixels = picture(96, 96)
    expected = Image.fromarray(pixels).resize((64, 64), Image.Resampling.BICUBIC).crop((4, 16, 60, 48))
    made = preprocess(pixels, Preprocessing(32, 56, "crop", 0.875))
    assert close(made, np.asarray(expected))


@given(st.integers(1, 500), st.integers(1, 500), st.integers(1, 300), st.integers(1, 300), st.floats(0.1, 1))
def test_a_picture_decoded_at_the_size_told_is_never_scaled_up(height, width, h, w, crop):
    preprocessing = Preprocessing(h, w, "crop", crop)
    shorter = min(height, width)
    reduced = preprocessing.decode_at_least / shorter  # such that the shorter side is as short as allowed
    scale = max(h / (height * reduced), w / (width * reduced)) / crop
    assert scale <= 1 + 0.5 / preprocessing.decode_at_least + 1e-9  # half a pixel, for rounding


# Pad


@given(sides, sides, st.integers(1, 60), st.integers(1, 60), st.tuples(*[st.integers(0, 255)] * 3))
def test_pad_shows_the_whole_picture_in_the_middle_of_its_background(height, width, h, w, background):
    pixels = picture(height, width)
    made = preprocess(pixels, Preprocessing(h, w, "pad", interpolation="bilinear", background=background))
    scale = min(h / height, w / width)
    inner_height, inner_width = min(h, max(1, round(height * scale))), min(w, max(1, round(width * scale)))
    assert inner_height == h or inner_width == w
    inner = np.asarray(Image.fromarray(pixels).resize((inner_width, inner_height), Image.Resampling.BILINEAR))
    top, left = (h - inner_height) // 2, (w - inner_width) // 2
    expected = np.full((h, w, 3), background, np.uint8)
    expected[top : top + inner_height, left : left + inner_width] = inner
    assert np.array_equal(made, expected)


@pytest.mark.parametrize("fit", ["crop", "squash"])
def test_no_other_fit_shows_the_background(fit):
    made = preprocess(np.zeros((7, 50, 3), np.uint8), Preprocessing(30, 30, fit, background=(255, 0, 0)))
    assert (made == 0).all()


# Squash


@given(sides, sides, sides, sides, st.sampled_from(list(FILTERS)))
def test_squash_is_pillows_scaling(height, width, h, w, interpolation):
    pixels = picture(height, width)
    expected = np.asarray(Image.fromarray(pixels).resize((w, h), FILTERS[interpolation]))
    assert np.array_equal(preprocess(pixels, Preprocessing(h, w, "squash", 0.5, interpolation)), expected)


# Scaling, and plain values


def test_scaling_a_box():
    pixels = picture(20, 30)
    assert np.array_equal(resize(pixels, 6, 8, "nearest", (4, 2, 12, 8)), pixels[2:8, 4:12])
    assert np.array_equal(resize(pixels, 20, 30, box=(0.0, 0.0, 30.0, 20.0)), pixels)
    assert not np.array_equal(resize(pixels, 20, 30, box=(1.0, 1.0, 29.0, 19.0)), pixels)


def test_what_is_scaled_can_be_written_to():
    made = resize(picture(20, 30), 5, 5)
    made[:] = 0


@given(st.sampled_from(FITS), st.floats(0.01, 1), st.sampled_from(list(FILTERS)), st.tuples(*[st.integers(0, 255)] * 3))
def test_plain_values_survive_json(fit, crop, interpolation, background):
    preprocessing = Preprocessing(64, 48, fit, crop, interpolation, background, (0.5, 0.25, 0.125), (1.0, 0.5, 0.25))
    assert Preprocessing.from_dict(json.loads(json.dumps(preprocessing.as_dict()))) == preprocessing
