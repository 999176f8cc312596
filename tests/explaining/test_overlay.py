"""Heat, colours, overlays and rank correlation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d

from tellapart.explaining.overlay import at_eye_size, coloured, heat, legend, overlay, rank_correlation, smooth


def test_rank_correlation() -> None:
    one = np.array([[1, 2], [3, 4]], np.float32)
    assert rank_correlation(one, np.exp(one)) == pytest.approx(1)
    assert rank_correlation(one, -one) == pytest.approx(-1)
    # Equal values share their mean rank: 0.5, 0.5, 2, 3 beside 0, 1, 2, 3.
    assert rank_correlation(one, np.array([[0, 0], [1, 2]], np.float32)) == pytest.approx(0.9486833)
    flat = np.zeros((2, 2), np.float32)
    assert (rank_correlation(one, flat), rank_correlation(flat, one), rank_correlation(flat, flat)) == (0, 0, 1)


def test_heat_is_what_speaks_for_the_class() -> None:
    warm = heat(np.array([[[-5, 0], [1, 2]], [[-1, -2], [-3, 0]]], np.float32))
    assert warm.min() == 0
    assert warm.max() == 1
    assert warm[0, 0, 0] == 0
    assert not warm[1].any()
    lonely = np.zeros((1, 40, 40), np.float32)
    lonely[0, 3, 3] = 7  # rarer than the share above which values are cut
    assert heat(lonely)[0, 3, 3] == 1


def test_each_map_is_smoothed_alone() -> None:
    rough = np.random.default_rng(0).normal(size=(2, 200, 120)).astype(np.float32)
    expected = rough
    for axis in (1, 2):
        expected = gaussian_filter1d(expected, 3.0, axis, mode="nearest", radius=9)
    np.testing.assert_allclose(smooth(rough), expected, atol=1e-5)


def test_brightness_alone_tells_the_order() -> None:
    light = coloured(np.linspace(0, 1, 50, dtype=np.float32)) @ np.array([0.2126, 0.7152, 0.0722])
    assert (np.diff(light) > 0).all()
    np.testing.assert_allclose(legend(9, 3)[0, [0, -1]], [[68, 1, 84], [253, 231, 37]], atol=1)


@pytest.mark.parametrize("shape", [(32, 32), (24, 40), (500, 300), (1, 7)])
def test_overlays_lie_on_the_picture(shape: tuple[int, int]) -> None:
    pixels = np.full((*shape, 3), 120, np.uint8)
    warm = np.zeros(shape, np.float32)
    warm[:, shape[1] // 2 :] = 1
    seen, covered = at_eye_size(pixels), overlay(pixels, warm)
    assert seen.shape == covered.shape
    assert covered.dtype == np.uint8
    height, width = covered.shape[:2]
    assert height / width == pytest.approx(shape[0] / shape[1], rel=0.15)
    assert 192 <= max(height, width) <= 320
    assert covered[height // 2, -1].sum() > covered[height // 2, 0].sum() + 100
