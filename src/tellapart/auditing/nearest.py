"""Candidates for near duplicates among thousands of pictures, by the coarse shape of their thumbnails.

The descriptor of a picture is the low frequencies of its thumbnail's cosine transform, as in a perceptual hash, but
their values instead of one bit each. The mirrored picture has the same values with the sign of every odd horizontal
frequency inverted. A second descriptor, of the picture without its edges, matches pictures that were cropped.

Up to `EXACT` pictures all are compared with all, in blocks. Beyond, an inverted file (Sivic and Zisserman 2003; k-means
cells, the nearest few of which are searched) leaves out nearly all comparisons.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np
import numpy.typing as npt

from tellapart.auditing.alignment import window
from tellapart.core.vectors import unit_length
from tellapart.data.statistics import SIDE, Bytes

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
#: Number of pictures up to which every pair is compared.
EXACT = 20_000
#: Cosine similarity of descriptors from which two pictures are compared closely.
ALIKE = 0.82
#: Nearest pictures that are compared with each one, for each of its descriptors.
NEIGHBOURS = 8
_FREQUENCIES = 8
_CROP = 0.93  # side of the part that the second descriptor sees
_BLOCK = 1024
_CELLS_SEARCHED = 6
_PLAIN = 1e-3  # length of the descriptor of a picture without structure


def describe(thumbs: Bytes, crop: float = 1.0) -> Floats:
    """Descriptors of thumbnails.

    Args:
        thumbs: uint8 [n, 32, 32].
        crop: side of the part in the middle that is described.

    Returns:
        float32 [n, 63] of length 1 (0 where a picture is quite plain): the lowest 8 × 8 frequencies without the mean,
        each weighted by the root of its frequency, since low ones are strong in every picture.
    """
    basis = _basis()
    descriptors = np.empty((len(thumbs), _FREQUENCIES * _FREQUENCIES - 1), np.float32)
    inside = window(np.zeros(1, np.float32), np.full(1, crop, np.float32))[0]
    along = basis @ inside
    for start in range(0, len(thumbs), 4 * _BLOCK):
        part = thumbs[start : start + 4 * _BLOCK].astype(np.float32)
        wave = along @ part @ along.T
        descriptors[start : start + 4 * _BLOCK] = (wave * _weights()).reshape(len(part), -1)[:, 1:]
    return unit_length(descriptors, _PLAIN)


def queries_of(thumbs: Bytes) -> tuple[Floats, list[tuple[int, Floats]]]:
    """Descriptors to search among, and the queries of each picture: whole or cropped, as it is or mirrored.

    Returns:
        [n, 63]; and pairs of 0 or 1 (mirrored) and [n, 63].
    """
    whole, cropped = describe(thumbs), describe(thumbs, _CROP)
    return whole, [(0, whole), (1, mirrored(whole)), (0, cropped), (1, mirrored(cropped))]


def mirrored(descriptors: Floats) -> Floats:
    """Descriptors of the same pictures flipped left to right."""
    sign = np.where(np.arange(_FREQUENCIES) % 2, -1, 1).astype(np.float32)
    return descriptors * np.tile(sign, _FREQUENCIES)[1:]


@cache
def _basis() -> Floats:
    """The first rows of the cosine transform (DCT-II), [8, 32]."""
    k, x = np.arange(_FREQUENCIES)[:, None], np.arange(SIDE)[None]
    return np.asarray(np.cos(np.pi * k * (2 * x + 1) / (2 * SIDE)) / SIDE, np.float32)


@cache
def _weights() -> Floats:
    k = np.arange(_FREQUENCIES)
    return np.asarray(np.sqrt(np.hypot(k[:, None], k[None])), np.float32)


def candidates(
    vectors: Floats, queries: Sequence[tuple[int, Floats]], alike: float = ALIKE, exact: int = EXACT
) -> Iterator[tuple[Ints, int]]:
    """Pairs of pictures that may show the same; a pair may come more than once.

    Args:
        vectors: [n, d], of length 1, or 0 for pictures that are like no other.
        queries: of the same pictures: pairs of a mark and [n, d].
        alike: least cosine similarity.
        exact: number of pictures beyond which the search is approximate.

    Yields:
        int64 [n_pairs, 3] of the lower number, the higher one and the mark; and the number of pictures done.
    """
    usable = np.flatnonzero(np.any(vectors, axis=1))
    vectors = vectors[usable]
    queries = [(mark, each[usable]) for mark, each in queries]
    if len(usable) <= exact:
        cells = [(np.arange(len(usable)), [np.arange(len(usable))] * len(queries))] if len(usable) else []
    else:
        cells = _cells(vectors, queries)
    done = 0
    for members, rows_of_queries in cells:
        for (mark, each), rows in zip(queries, rows_of_queries, strict=True):
            for start in range(0, len(rows), _BLOCK):
                block = rows[start : start + _BLOCK]
                pairs = _closest(each[block] @ vectors[members].T, block, members, alike)
                yield np.column_stack([usable[pairs], np.full(len(pairs), mark)]), done
        done += len(members)


def _closest(cosine: Floats, queries: Ints, others: Ints, alike: float) -> Ints:
    """Pairs of a block that are alike, [n, 2]: each query with those nearest to it."""
    # Of a single line, since NumPy finds the few that are True there several times as fast.
    line, column = np.divmod(np.flatnonzero(cosine >= alike), cosine.shape[1])
    if len(line) > NEIGHBOURS * len(queries):
        k = min(NEIGHBOURS + 1, cosine.shape[1])  # one more: a picture is its own neighbour
        nearest = np.argpartition(cosine, -k, axis=1)[:, -k:]
        line, column = np.repeat(np.arange(len(queries)), k), nearest.ravel()
        enough = cosine[line, column] >= alike
        line, column = line[enough], column[enough]
    pair = np.sort(np.stack([queries[line], others[column]], axis=1), axis=1).astype(np.int64)
    return np.unique(pair[pair[:, 0] != pair[:, 1]], axis=0)


def _cells(vectors: Floats, queries: Sequence[tuple[int, Floats]]) -> list[tuple[Ints, list[Ints]]]:
    """The pictures of each cell, and for each kind of query the pictures to compare with them."""
    centres = _centres(vectors)
    members = _sorted_by_cell(_nearest(vectors, centres, 1), len(centres))
    searching = [_sorted_by_cell(_nearest(each, centres, _CELLS_SEARCHED), len(centres)) for _, each in queries]
    return [(members[cell], [rows[cell] for rows in searching]) for cell in range(len(centres))]


def _sorted_by_cell(cells: Ints, n_cells: int) -> list[Ints]:
    """[n, k] numbers of cells → the rows of each cell."""
    order = np.argsort(cells, axis=None, kind="stable")
    bounds = np.searchsorted(cells.ravel()[order], np.arange(1, n_cells))
    return np.split(order // cells.shape[1], bounds)


def _centres(vectors: Floats) -> Floats:
    """Centres of about √n cells, by a few rounds of spherical k-means on a sample; always the same."""
    random = np.random.default_rng(0)
    n_cells = round(len(vectors) ** 0.5)
    sample = vectors[random.choice(len(vectors), min(len(vectors), 32 * n_cells), replace=False)]
    centres = sample[:n_cells].copy()
    for _ in range(5):
        cell = _nearest(sample, centres, 1)[:, 0]
        order = np.argsort(cell, kind="stable")
        present, starts = np.unique(cell[order], return_index=True)
        centres[present] = np.add.reduceat(sample[order], starts, axis=0)
        centres = unit_length(centres, _PLAIN)
    return np.asarray(centres, np.float32)


def _nearest(vectors: Floats, centres: Floats, k: int) -> Ints:
    """int64 [n, k], the nearest centres."""
    k = min(k, len(centres))
    cells = np.empty((len(vectors), k), np.int64)
    for start in range(0, len(vectors), 4 * _BLOCK):
        cosine = vectors[start : start + 4 * _BLOCK] @ centres.T
        cells[start : start + 4 * _BLOCK] = np.argpartition(cosine, -k, axis=1)[:, -k:]
    return cells
