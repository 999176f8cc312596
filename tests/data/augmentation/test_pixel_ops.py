"""Each operation against torchvision, scipy or its formula."""

from __future__ import annotations

import io

import numpy as np
import pytest
import scipy.ndimage
import torch
import torchvision.transforms.v2.functional as tv
from PIL import Image
from torchvision.transforms import InterpolationMode

from tellapart.data.augmentation import pixel_ops as ops


def smooth(height: int = 60, width: int = 80) -> np.ndarray:
    """A picture with colours of all kinds and no hard edge, so that ways of interpolating hardly differ."""
    y, x = np.mgrid[0:height, 0:width].astype(float)
    waves = [np.sin(x / 9 + phase) + np.cos(y / 7 - phase) for phase in (0.0, 1.5, 3.0)]
    return np.stack([np.rint((wave + 2) / 4 * 255) for wave in waves], axis=2).astype(np.uint8)


def noisy(height: int = 60, width: int = 80) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def difference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    assert a.shape == b.shape
    assert a.dtype == b.dtype == np.uint8
    return np.abs(a.astype(int) - b.astype(int))


@pytest.mark.parametrize(
    ("own", "torchvisions", "argument"),
    [
        (ops.brightness, tv.adjust_brightness, 0.0),
        (ops.brightness, tv.adjust_brightness, 1.4),
        (ops.contrast, tv.adjust_contrast, 0.5),
        (ops.contrast, tv.adjust_contrast, 1.7),
        (ops.saturation, tv.adjust_saturation, 0.0),
        (ops.saturation, tv.adjust_saturation, 1.6),
        (ops.sharpness, tv.adjust_sharpness, 0.3),
        (ops.sharpness, tv.adjust_sharpness, 1.9),
        (ops.posterize, tv.posterize, 3),
        (ops.solarize, tv.solarize, 100.0),
    ],
)
@pytest.mark.parametrize("make", [smooth, noisy])
def test_colours_as_in_torchvision(own, torchvisions, argument, make):
    pixels = make()
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)
    expected = torchvisions(tensor, argument).permute(1, 2, 0).numpy()
    # torchvision computes on tensors in floats, Pillow in integers: they may round differently.
    assert difference(own(pixels, argument), expected).max() <= 2


@pytest.mark.parametrize(
    ("own", "torchvisions"),
    [(ops.negative, tv.invert), (ops.autocontrast, tv.autocontrast), (ops.equalize, tv.equalize)],
)
@pytest.mark.parametrize("make", [smooth, noisy])
def test_colours_without_strength_as_in_torchvision(own, torchvisions, make):
    pixels = make() // 2 + 30
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)
    assert difference(own(pixels), torchvisions(tensor).permute(1, 2, 0).numpy()).max() <= 1


def test_brightness_is_a_product():
    pixels = noisy()
    assert difference(ops.brightness(pixels, 1.3), np.minimum(pixels * 1.3, 255).astype(np.uint8)).max() <= 1


def test_negative_and_flips_are_exact():
    pixels = noisy()
    assert np.array_equal(ops.negative(pixels), 255 - pixels)
    assert np.array_equal(ops.flip_horizontal(pixels), pixels[:, ::-1])
    assert np.array_equal(ops.flip_vertical(pixels), pixels[::-1])


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_quarter_turns_are_numpys(turns):
    assert np.array_equal(ops.quarter_turn(noisy(), 90 * turns), np.rot90(noisy(), turns))


def test_greyscale_is_the_luma_in_all_channels():
    grey = ops.greyscale(noisy())
    luma = noisy() @ np.array([0.299, 0.587, 0.114])
    assert np.abs(grey - luma[:, :, None]).max() <= 1


def test_all_eight_bits_change_nothing_and_one_leaves_two_levels():
    assert np.array_equal(ops.posterize(noisy(), 8), noisy())
    assert set(np.unique(ops.posterize(noisy(), 1))) == {0, 128}


@pytest.mark.parametrize("sigma", [0.5, 1.0, 2.0, 4.0])
def test_blur_is_gaussian(sigma):
    exact = scipy.ndimage.gaussian_filter(noisy().astype(float), (sigma, sigma, 0), mode="nearest")
    assert np.abs(ops.blur(noisy(), sigma) - exact).mean() < 2
    exact = scipy.ndimage.gaussian_filter(smooth().astype(float), (sigma, sigma, 0), mode="nearest")
    assert np.abs(ops.blur(smooth(), sigma) - exact)[8:-8, 8:-8].max() <= 3


def test_no_blur_changes_nothing():
    assert np.array_equal(ops.blur(noisy(), 0), noisy())


def test_noise_is_added_rounded_and_cut_off():
    pixels = np.array([[[0, 100, 250]]], np.uint8)
    assert ops.add(pixels, np.array([[[-3, 0.6, 20]]], np.float32)).tolist() == [[[0, 101, 255]]]


def test_erase_fills_its_box_alone():
    erased = ops.erase(noisy(), (10, 20, 30, 25), (1.2, 127.5, 254.9))
    assert (erased[20:25, 10:30] == (1, 128, 255)).all()
    erased[20:25, 10:30] = noisy()[20:25, 10:30]
    assert np.array_equal(erased, noisy())


@pytest.mark.parametrize("quality", [5, 50, 95])
def test_jpeg_is_as_pillow_would_store_it(quality):
    stored = io.BytesIO()
    Image.fromarray(smooth()).save(stored, "JPEG", quality=quality, subsampling="4:2:0")
    expected = np.asarray(Image.open(stored).convert("RGB"))
    assert difference(ops.jpeg(smooth(), quality), expected).mean() < 1


def test_lower_quality_changes_more():
    changes = [difference(ops.jpeg(noisy(), quality), noisy()).mean() for quality in (95, 60, 20, 2)]
    assert changes == sorted(changes)


MATRICES = {
    "rotation": ops.rotation(17),
    "other way": ops.rotation(-140),
    "shift": ops.shift(13.5, -7),
    "larger": ops.scaling(1.7),
    "smaller": ops.scaling(0.6),
    "shear x": ops.shear(20, 0),
    "shear y": ops.shear(0, -15),
    "all": ops.shear(10, 5) @ ops.scaling(0.8) @ ops.rotation(30) @ ops.shift(5, 9),
    "far away": ops.shift(200, -300),
}


@pytest.mark.parametrize("name", MATRICES)
def test_warp_is_bilinear_and_mirrors_at_the_edge(name):
    pixels, matrix = smooth(), MATRICES[name]
    height, width = pixels.shape[:2]
    # scipy goes by indices (row, column) of pixels' middles, and from the result back to the picture.
    swap = np.array([[0, 1, 0], [1, 0, 0], [0, 0, 1]])
    back = swap @ np.linalg.inv(matrix) @ swap
    middle = np.array([(height - 1) / 2, (width - 1) / 2])
    offset = middle - back[:2, :2] @ middle + back[:2, 2]
    expected = np.stack(
        [
            scipy.ndimage.affine_transform(pixels[:, :, c].astype(float), back[:2, :2], offset, order=1, mode="reflect")
            for c in range(3)
        ],
        axis=2,
    )
    assert np.abs(ops.warp(pixels, matrix) - expected).max() <= 2


@pytest.mark.parametrize(
    ("matrix", "angle", "translate", "scale", "shear"),
    [
        (ops.rotation(20), -20, [0, 0], 1.0, [0, 0]),
        (ops.shift(6, -4), 0, [6, -4], 1.0, [0, 0]),
        (ops.scaling(1.5), 0, [0, 0], 1.5, [0, 0]),
        (ops.shear(12, 0), 0, [0, 0], 1.0, [12, 0]),
        (ops.shear(0, 12), 0, [0, 0], 1.0, [0, 12]),
    ],
)
def test_moves_go_the_way_torchvisions_do(matrix, angle, translate, scale, shear):
    """torchvision measures angles clockwise; it fills what is missing, so the inner part is compared."""
    tensor = torch.from_numpy(smooth()).permute(2, 0, 1)
    expected = tv.affine(tensor, angle, translate, scale, shear, InterpolationMode.BILINEAR).permute(1, 2, 0).numpy()
    inner = (slice(20, 40), slice(20, 60))
    assert difference(ops.warp(smooth(), matrix)[inner], expected[inner]).max() <= 2


def test_standing_still_changes_nothing():
    assert np.array_equal(ops.warp(noisy(), np.eye(3)), noisy())


@pytest.mark.parametrize(
    "change",
    [
        lambda p: ops.warp(p, ops.rotation(5)),
        ops.flip_horizontal,
        ops.flip_vertical,
        ops.greyscale,
        ops.negative,
        lambda p: ops.solarize(p, 100),
        lambda p: ops.add(p, np.ones(p.shape, np.float32)),
        lambda p: ops.erase(p, (0, 0, 5, 5), (0, 0, 0)),
        lambda p: ops.jpeg(p, 50),
    ],
)
def test_nothing_writes_into_its_input(change):
    pixels = noisy()
    pixels.flags.writeable = False
    change(pixels)
    assert np.array_equal(pixels, noisy())
