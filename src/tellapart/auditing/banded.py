"""Near duplicates among millions of pictures: perceptual hashes that differ in few bits, without comparing all pairs.

A hash is cut into bands. Two hashes that differ in at most `most` bits agree in all but `most` of the bands, so in two
of `most + 2` at least (the pigeonhole principle, as in Manku, Jain and Das Sarma 2007). For each two bands the hashes
are sorted by these bits, and those that agree in them stand side by side. No pair is held that is not known to be near.
Of very many hashes three bands are taken: more sorts, but few hashes agree in so many bits by chance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import combinations, pairwise
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from tellapart.auditing.nearest import queries_of
from tellapart.data.statistics import Bytes

Hashes = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]
#: Hashes uint64 [n] → pairs int64 [n_pairs, 2] of numbers of near ones.
Joining: TypeAlias = Callable[[Hashes], Iterator[Ints]]
_BITS = 64
#: Hashes from which three bands are compared, not two.
_VERY_MANY = 4_000_000
#: Bits in which the hashes of one picture and its altered version differ at most, to be compared closely.
MOST = 6


def perceptual_hashes(thumbs: Bytes) -> tuple[Hashes, Hashes, Hashes, Hashes]:
    """Hashes of thumbnails uint8 [n, 32, 32]: whole, mirrored, without their edges, and that mirrored; uint64 [n] each.

    A bit says whether a frequency of the cosine transform is positive, of the lowest 8 × 8 without the mean.
    """
    whole, mirror, cropped, cropped_mirror = (_signs(described) for _, described in queries_of(thumbs)[1])
    return whole, mirror, cropped, cropped_mirror


def _signs(described: npt.NDArray[np.float32]) -> Hashes:
    bits = np.pad(described > 0, ((0, 0), (0, _BITS - described.shape[1])))
    return np.packbits(bits, axis=1).view(">u8").ravel().astype(np.uint64)


def masks_of(n: int, most: int) -> Hashes:
    """The bits of each two or three bands, for n hashes that differ in at most `most` of 64 bits."""
    together = 2 if n < _VERY_MANY else 3
    bounds = np.linspace(0, _BITS, most + together + 1).round().astype(int)
    bands = [sum(1 << bit for bit in range(low, high)) for low, high in pairwise(bounds)]
    return np.array([sum(both) for both in combinations(bands, together)], np.uint64)


def near_hashes(hashes: Hashes, most: int = MOST) -> Iterator[Ints]:
    """All pairs of different hashes that differ in at most `most` bits, and each equal hash with the first of its kind.

    Memory is a few times that of the hashes, whatever they are. Time grows with the number of pairs that agree in the
    bands of one mask.

    Args:
        hashes: uint64 [n].
        most: bits, from 0 to 30.

    Yields:
        int64 [n_pairs, 2] of the lower and the higher number; no pair comes twice.
    """
    different, first, equal = unique_hashes(hashes)
    yield equal
    masks = masks_of(len(different), most)
    for number in range(len(masks)):
        for pairs in pairs_of_mask(different, masks, number, most):
            yield np.sort(first[pairs], axis=1)


def unique_hashes(hashes: Hashes) -> tuple[Hashes, Ints, Ints]:
    """Different hashes, the first row of each, and pairs int64 [n, 2] of that and each further row of the same hash."""
    different, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
    repeated = np.flatnonzero(first[inverse] != np.arange(len(hashes)))
    equal = np.column_stack([first[inverse[repeated]], repeated]).astype(np.int64)
    return different, first.astype(np.int64), equal


def pairs_of_mask(hashes: Hashes, masks: Hashes, number: int, most: int) -> Iterator[Ints]:
    """Pairs of different hashes that agree in this mask, in no mask before it, and differ in at most `most` bits.

    Args:
        hashes: uint64 [n], no two equal.
        masks: from `masks_of`.
        number: of the mask.
        most: see `near_hashes`.

    Yields:
        int64 [n_pairs, 2] of numbers.
    """
    key = hashes & masks[number]
    order = np.argsort(key)
    ordered, key = hashes[order], key[order]
    left = np.arange(len(ordered) - 1)
    for apart in range(1, len(ordered)):
        # Whoever agrees with the one `apart` places on agrees with all between them: the others are done.
        left = left[left < len(ordered) - apart]
        left = left[key[left] == key[left + apart]]
        if not len(left):
            return
        differing = ordered[left] ^ ordered[left + apart]
        near = np.bitwise_count(differing) <= most
        if near.any():
            new = ((differing[near][:, None] & masks[:number]) != 0).all(axis=1)
            one = left[near][new]
            yield np.column_stack([order[one], order[one + apart]])


def near_pictures(thumbs: Bytes, joining: Joining) -> Iterator[Ints]:
    """Pairs of pictures that may show the same, as they are or one of them mirrored.

    Args:
        thumbs: uint8 [n, 32, 32].
        joining: finds near hashes, as `near_hashes` does.

    Yields:
        int64 [n_pairs, 3] of the lower number, the higher one, and 1 where one is mirrored; a pair may come again.
    """
    n = len(thumbs)
    for pairs in joining(np.concatenate(perceptual_hashes(thumbs))):
        rows, views = np.sort(pairs % n, axis=1), pairs // n
        flip = (views[:, 0] ^ views[:, 1]) & 1  # every second view is mirrored
        different = rows[:, 0] != rows[:, 1]
        yield np.column_stack([rows, flip])[different]
