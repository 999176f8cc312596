"""Test-time augmentation: changed copies of a picture, always the same; in NumPy, so that serving can make them.

Source of the idea: A. Krizhevsky, I. Sutskever, G. Hinton, ImageNet classification with deep convolutional neural
networks, NIPS 2012 (answers averaged over five crops and their mirror images).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count, islice

import numpy as np

from tellapart.core.preprocess import Interpolation, Pixels, resize

SHARE = 0.9  # of the side that a crop keeps
_ANCHORS = ((0.5, 0.5), (0.0, 0.0), (1.0, 1.0), (0.0, 1.0), (1.0, 0.0))  # centre and corners: (down, right)


def copies(pictures: Pixels, n: int, flip: bool, interpolation: Interpolation = "bicubic") -> Iterator[Pixels]:
    """The pictures and n changed copies of each: mirrored, then crops brought back to size, every other one mirrored.

    One after the other, so that many copies need no more memory than one.

    Args:
        pictures: uint8 [k, height, width, 3], preprocessed.
        n: copies of each, at least 0.
        flip: whether left and right may be swapped: where training did so. A mirrored letter is another letter.
        interpolation: filter of the crops.

    Yields:
        uint8 [k, height, width, 3], n + 1 times; first the pictures themselves.
    """
    yield pictures
    for mirrored, share, anchor in islice(_variants(flip), n):
        changed = pictures
        if share < 1:
            changed = np.stack([_crop(picture, share, anchor, interpolation) for picture in pictures])
        yield np.ascontiguousarray(changed[:, :, ::-1]) if mirrored else changed


def _variants(flip: bool) -> Iterator[tuple[bool, float, tuple[float, float]]]:
    """Whether mirrored, share of the side, place; without end, each round of crops smaller than the last."""
    if flip:
        yield True, 1.0, (0.5, 0.5)
    for round_ in count(1):
        for number, anchor in enumerate(_ANCHORS):
            yield flip and (round_ + number) % 2 == 0, SHARE**round_, anchor


def _crop(picture: Pixels, share: float, anchor: tuple[float, float], interpolation: Interpolation) -> Pixels:
    height, width = picture.shape[:2]
    top, left = anchor[0] * (1 - share) * height, anchor[1] * (1 - share) * width
    box = (left, top, min(left + share * width, width), min(top + share * height, height))
    return resize(picture, height, width, interpolation, box)
