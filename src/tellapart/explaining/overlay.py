"""Heat maps for people: heat in 0..1, colours, overlays; and the rank correlation of two maps."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from PIL import Image
from scipy.ndimage import gaussian_filter
from scipy.stats import spearmanr

from tellapart.core.preprocess import Pixels

Map = npt.NDArray[np.float32]
_LEAST_SIDE, _MOST_SIDE = 192, 320  # of an overlay, in pixels
_SHARE = 99.5  # the heat's top: higher values are rare, and would darken all others
_FAINT, _STRONG = 0.4, 0.75  # opacity of the colours without heat, and at the highest heat


def heat(map: Map) -> Map:
    """The positive part of a map, scaled so that the highest values are 1. All 0 where there is no positive part.

    Args:
        map: float32 [..., h, w], see `attribution.attribute`.
    """
    positive = np.maximum(map, 0)
    top = np.percentile(positive, _SHARE, axis=(-2, -1), keepdims=True)
    top = np.where(top > 0, top, positive.max(axis=(-2, -1), keepdims=True))
    return np.asarray(np.clip(positive / np.where(top > 0, top, 1), 0, 1), np.float32)


def smooth(map: Map, share: float = 0.015) -> Map:
    """Each map smoothed by a Gaussian, so that single pixels become regions that people see.

    Args:
        map: float32 [n, h, w].
        share: standard deviation of the Gaussian, as a share of the longer side.
    """
    sigma = share * max(map.shape[1:])
    radius = max(1, round(3 * sigma))
    return np.asarray(gaussian_filter(map, max(sigma, 0.5), mode="nearest", radius=radius, axes=(1, 2)), np.float32)


def coloured(values: Map) -> npt.NDArray[np.float32]:
    """Values in 0..1 as colours of viridis, whose brightness alone tells the order: float32 [..., 3], 0 to 255."""
    return np.asarray(255 * colormaps["viridis"](values)[..., :3], np.float32)


def at_eye_size(pixels: Pixels) -> Pixels:
    """A picture as large as an overlay: tiny ones are enlarged pixel by pixel, large ones made smaller."""
    size = _eye_size(*pixels.shape[:2])
    way = Image.Resampling.NEAREST if size[0] > pixels.shape[1] else Image.Resampling.LANCZOS
    return np.asarray(Image.fromarray(pixels).resize(size, way))


def overlay(pixels: Pixels, warm: Map) -> Pixels:
    """A heat map over the picture in grey, at the size of `at_eye_size`.

    Args:
        pixels: uint8 [h, w, 3], as the network saw it.
        warm: float32 [h, w], 0 to 1, see `heat`.
    """
    grey = np.asarray(Image.fromarray(at_eye_size(pixels)).convert("L"), np.float32)[..., None]
    size = _eye_size(*pixels.shape[:2])
    large = np.asarray(Image.fromarray(warm).resize(size, Image.Resampling.BILINEAR), np.float32)
    cover = (_FAINT + (_STRONG - _FAINT) * large)[..., None]
    return np.asarray(np.clip((1 - cover) * grey + cover * coloured(large), 0, 255), np.uint8)


def legend(width: int, height: int) -> Pixels:
    """The colours from little to much, from left to right."""
    line = coloured(np.linspace(0, 1, width, dtype=np.float32))
    return np.asarray(np.broadcast_to(line, (height, width, 3)), np.uint8).copy()


def rank_correlation(one: Map, other: Map) -> float:
    """Spearman's rank correlation of two maps, -1 to 1; equal values share their mean rank.

    Where one of them is the same everywhere it is 0, and 1 where both are.
    """
    constant = np.ptp(one) == 0, np.ptp(other) == 0
    return float(all(constant)) if any(constant) else float(spearmanr(one.ravel(), other.ravel()).statistic)


def _eye_size(height: int, width: int) -> tuple[int, int]:
    """Width and height of an overlay."""
    longest = max(height, width)
    times = -(-_LEAST_SIDE // longest) if longest < _LEAST_SIDE else min(1.0, _MOST_SIDE / longest)
    return max(1, round(width * times)), max(1, round(height * times))
