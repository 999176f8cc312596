"""Alignment of thumbnails: whether two pictures show the same, once one is laid upon the other."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from tellapart.data.statistics import SIDE, Bytes

Floats = npt.NDArray[np.float32]
_BLOCK = 64  # what is computed of so many stays in the processor's cache
_ROUNDS = 4
# A cropped picture is a window inside the other: its centre is no further from the middle than it is smaller. Limits of
# its size and of its offset beyond that, as shares of half the picture's side.
_STRETCH, _OFF = 0.25, 0.05
_MARGIN = 4
_GRID = ((np.arange(SIDE) + 0.5) / SIDE * 2 - 1).astype(np.float32)


def sameness(first: Bytes, second: Bytes) -> Floats:
    """The correlation of two thumbnails once one is shifted, stretched and adapted in brightness and contrast.

    Gauss-Newton steps find shift and stretch (Lucas and Kanade 1981). The correlation is that of the fine structure:
    that of the coarse one is high for any two pictures with something light in the middle of something dark.

    Args:
        first, second: uint8 [n, 32, 32].

    Returns:
        float32 [n], up to 1; 0 where one would have to be shifted or stretched more than a crop of a quarter does.
    """
    blocks = [slice(start, start + _BLOCK) for start in range(0, len(first), _BLOCK)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        parts = pool.map(lambda block: _sameness(first[block], second[block]), blocks)
        return np.concatenate([np.empty(0, np.float32), *parts])


def _sameness(first: Bytes, second: Bytes) -> Floats:
    still, moving = first.astype(np.float32), second.astype(np.float32)
    soft_still, soft_moving = _soft(still), _soft(moving)
    n = len(still)
    # centre and half width of the moving picture's window, horizontally and vertically
    windows = np.zeros((n, 4), np.float32)
    windows[:, 2:] = 1
    for round_ in range(_ROUNDS):
        # The coarse structure leads near the right position, the fine one to it.
        a, b = (soft_still, soft_moving) if round_ < _ROUNDS - 2 else (still, moving)
        windows += _step(a, _resample(b, windows))
    fine = _fine(still), _fine(_resample(moving, windows))
    inner = slice(_MARGIN, SIDE - _MARGIN)
    score = _correlation(fine[0][:, inner, inner], fine[1][:, inner, inner])
    coarse = _correlation(still[:, inner, inner], _resample(moving, windows)[:, inner, inner])
    stretch = np.abs(windows[:, 2:] - 1)
    far = ((stretch > _STRETCH) | (np.abs(windows[:, :2]) > stretch + _OFF)).any(axis=1)
    return np.where(far, np.float32(0), np.minimum(score, coarse)).astype(np.float32)


def _step(still: Floats, moved: Floats) -> Floats:
    """The Gauss-Newton step [n, 4] of the windows that brings the moved pictures closer to those that stay."""
    middle = (still + moved) / 2
    right = np.gradient(middle, _GRID, axis=2)
    down = np.gradient(middle, _GRID, axis=1)
    derivatives = [right, down, right * _GRID[None, None], down * _GRID[None, :, None], middle, np.ones_like(middle)]
    inner = slice(_MARGIN // 2, SIDE - _MARGIN // 2)
    system = np.stack([way[:, inner, inner].reshape(len(still), -1) for way in derivatives], axis=1)
    residual = (still - moved)[:, inner, inner].reshape(len(still), -1, 1)
    normal = system @ system.transpose(0, 2, 1)
    scale = np.trace(normal, axis1=1, axis2=2)[:, None, None]
    normal = normal + (1e-6 * scale + 1e-3) * np.eye(6, dtype=np.float32)
    solved = np.linalg.solve(normal, system @ residual)[:, :4, 0]
    return np.clip(solved, -0.1, 0.1).astype(np.float32)


def _resample(picture: Floats, windows: Floats) -> Floats:
    """The part of each picture under its window, by linear interpolation along either axis."""
    across = window(windows[:, 0], windows[:, 2])
    along = window(windows[:, 1], windows[:, 3])
    return np.asarray(along @ picture @ across.transpose(0, 2, 1), np.float32)


def window(centre: Floats, half: Floats) -> Floats:
    """Interpolation matrices [n, 32, 32] for rows of pixels; beyond the edge the last pixel counts.

    Args:
        centre, half: [n], middle and half width of the window, where the picture reaches from -1 to 1.
    """
    position = (centre[:, None] + half[:, None] * _GRID[None] + 1) / 2 * SIDE - 0.5
    position = np.clip(position, 0, SIDE - 1)
    away = np.abs(position[:, :, None] - np.arange(SIDE, dtype=np.float32))
    return np.asarray(np.maximum(0, 1 - away), np.float32)


def _soft(pictures: Floats) -> Floats:
    kernel = np.array([1, 4, 6, 4, 1], np.float32) / 16
    padded = np.pad(pictures, ((0, 0), (2, 2), (2, 2)), mode="edge")
    rows = sum(weight * padded[:, i : i + SIDE] for i, weight in enumerate(kernel))
    return np.asarray(sum(weight * rows[:, :, i : i + SIDE] for i, weight in enumerate(kernel)), np.float32)


def _fine(pictures: Floats) -> Floats:
    return pictures - _soft(pictures)


def _correlation(a: Floats, b: Floats) -> Floats:
    a = a - a.mean(axis=(1, 2), keepdims=True)
    b = b - b.mean(axis=(1, 2), keepdims=True)
    length = np.sqrt((a * a).sum(axis=(1, 2)) * (b * b).sum(axis=(1, 2)))
    correlation = np.zeros(len(a), np.float32)
    np.divide((a * b).sum(axis=(1, 2)), length, out=correlation, where=length > 1e-3)
    return correlation
