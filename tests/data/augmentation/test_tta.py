"""Copies for test-time augmentation: always the same, as many as asked for, mirrored only where that is allowed."""

from __future__ import annotations

import numpy as np
import pytest

from tellapart.data.augmentation.tta import copies


@pytest.fixture
def pictures():
    return np.random.default_rng(0).integers(0, 256, (3, 20, 30, 3), np.uint8)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("n", [0, 1, 4, 32])
def test_as_many_as_asked_for_and_no_two_the_same(pictures, n, flip):
    made = np.stack(list(copies(pictures, n, flip)))
    assert made.shape == (n + 1, *pictures.shape)
    assert made.dtype == np.uint8
    assert (made[0] == pictures).all()
    assert len({copy.tobytes() for copy in made}) == n + 1
    assert (made == np.stack(list(copies(pictures, n, flip)))).all()


def test_the_first_is_mirrored_where_that_is_allowed(pictures):
    _, mirrored = copies(pictures, 1, flip=True)
    assert (mirrored == pictures[:, :, ::-1]).all()


def test_without_mirroring_what_is_left_stays_left(pictures):
    dark = pictures // 8
    dark[:, :, :15] += 150
    for copy in copies(dark, 12, flip=False):
        assert (copy[:, :, :10].mean(axis=(1, 2, 3)) > copy[:, :, -10:].mean(axis=(1, 2, 3))).all()


def test_crops_show_the_corners(pictures):
    """The second crop is the upper left: a mark in the lower right corner is not in it."""
    marked = np.zeros((1, 40, 40, 3), np.uint8)
    marked[:, -3:, -3:] = 255
    _, _, upper_left, lower_right, *_ = copies(marked, 5, flip=False)
    assert upper_left.max() == 0
    assert lower_right.max() > 200
