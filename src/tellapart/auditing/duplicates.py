"""Findings on repeated pictures: exact copies and near duplicates, as leaks, contradictions or repetitions."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from tellapart.auditing.alignment import sameness
from tellapart.auditing.banded import Joining, near_hashes, near_pictures
from tellapart.auditing.findings import Finding
from tellapart.auditing.nearest import candidates, queries_of
from tellapart.core.events import Computing
from tellapart.core.extras import require
from tellapart.core.vectors import unit_length
from tellapart.data.catalog import Catalog
from tellapart.data.statistics import Floats, Measured

Ints = npt.NDArray[np.int64]
Sides = npt.NDArray[np.str_]
#: `sameness` from which two pictures are near duplicates, chosen on photographs with planted ones.
SAME = 0.82
#: Cosine similarity of a pretrained network's features from which two pictures are compared as well.
_FEATURES_ALIKE = 0.85
#: Pictures with a shorter side are not compared: few pixels are easily alike.
LEAST_SIDE = 16
#: Thumbnails of less contrast are not compared: they have no structure.
_LEAST_CONTRAST = 4.0
# Copies of a picture with few colours, and of any picture, from which it counts as a placeholder.
_MANY_PLAIN, _MANY, FEW_COLOURS = 5, 20, 24
_SAID = {"train": "training", "validation": "validation", "test": "the test"}
_WHAT = "Tying copies of pictures together"
#: Number of pictures from which candidates come from hashes: in less memory and time, and a tenth fewer.
MANY = 1_000_000
_ROOM = 20_000  # pairs compared between two events


@dataclass(frozen=True)
class Pairs:
    """Pairs of rows that show the same. `score` is 1 for exact copies. `mirrored`: one is the other's mirror image."""

    first: Ints
    second: Ints
    score: Floats
    exact: npt.NDArray[np.bool_]
    mirrored: npt.NDArray[np.bool_]


def find_pairs(
    catalog: Catalog,
    measured: Measured,
    features: Floats | None,
    near: bool = True,
    joining: Joining = near_hashes,
) -> Generator[Computing, None, Pairs]:
    """Exact copies, each with the first of them, and near duplicates among pictures of different content.

    Args:
        catalog: the pictures.
        measured: their measures.
        features: float32 [n, d] of a pretrained network, NaN or 0 where there are none; they add candidates.
        near: look for near duplicates too.
        joining: finds near hashes among very many pictures.
    """
    content = _contents(catalog)
    _, first, inverse = np.unique(content, return_index=True, return_inverse=True)
    known = content >= 0
    copy = np.flatnonzero(known & (first[inverse] != np.arange(len(content))))
    one, two, score, flip = (
        [first[inverse][copy]],
        [copy],
        [np.ones(len(copy), np.float32)],
        [np.zeros(len(copy), np.int64)],
    )
    if near:
        rows = comparable_rows(catalog, measured)
        near_one, near_two, near_score, near_flip = yield from _near(rows, measured.thumb, features, joining)
        one, two = [*one, near_one], [*two, near_two]
        score, flip = [*score, near_score], [*flip, near_flip]
    exact = np.zeros(sum(map(len, one)), bool)
    exact[: len(copy)] = True
    return Pairs(
        np.concatenate(one).astype(np.int64),
        np.concatenate(two).astype(np.int64),
        np.concatenate(score).astype(np.float32),
        exact,
        np.concatenate(flip).astype(bool),
    )


def comparable_rows(catalog: Catalog, measured: Measured, least_side: int = LEAST_SIDE) -> Ints:
    """Rows of pictures that have structure and pixels enough to be compared, the first of each content, ascending."""
    content = _contents(catalog)
    first = np.unique(content, return_index=True)[1]
    sides = catalog.table.select(pl.min_horizontal("width", "height").fill_null(0)).to_series().to_numpy()
    comparable = (content >= 0) & (measured.contrast >= _LEAST_CONTRAST) & (sides >= least_side)
    return np.intersect1d(first, np.flatnonzero(comparable))


def _near(
    rows: Ints, thumbs: npt.NDArray[np.uint8], features: Floats | None, joining: Joining
) -> Generator[Computing, None, tuple[Ints, Ints, Floats, Ints]]:
    thumb = thumbs[rows]
    activity = "searching near duplicates"
    pieces = [np.empty((0, 3), np.int64)]
    yield Computing(-1, activity, 0, len(rows))
    if len(rows) > MANY:
        pieces += near_pictures(thumb, joining)
    else:
        for pairs, done in candidates(*queries_of(thumb)):
            pieces.append(pairs)
            yield Computing(-1, activity, done, len(rows))
    if features is not None:
        vectors = unit_length(np.nan_to_num(features[rows]).astype(np.float32))
        for pairs, done in candidates(vectors, [(0, vectors)], _FEATURES_ALIKE):
            pieces += [pairs, pairs + np.array([0, 0, 1])]  # features do not say whether it is mirrored
            yield Computing(-1, f"{activity} by features", done, len(rows))
    pairs = np.unique(np.concatenate(pieces), axis=0)
    alike = [np.empty((0, 4))]
    for start in range(0, len(pairs), _ROOM):
        part = pairs[start : start + _ROOM]
        other = thumb[part[:, 1]]
        flip = part[:, 2, None, None] == 1
        score = sameness(thumb[part[:, 0]], np.where(flip, other[:, :, ::-1], other))
        alike.append(np.column_stack([part, score])[score >= SAME])
        yield Computing(-1, "comparing pictures", start + len(part), len(pairs))
    table = np.concatenate(alike)
    # A symmetrical picture matches mirrored too: the higher score counts.
    table = table[np.lexsort((table[:, 2], -table[:, 3], table[:, 1], table[:, 0]))]
    table = table[np.unique(table[:, :2], axis=0, return_index=True)[1]]
    return (
        rows[table[:, 0].astype(np.int64)],
        rows[table[:, 1].astype(np.int64)],
        table[:, 3].astype(np.float32),
        table[:, 2].astype(np.int64),
    )


def _contents(catalog: Catalog) -> Ints:
    """Equal numbers for equal content; -1 where it cannot be read."""
    content = catalog.table["sha256"].rank("dense").cast(pl.Int64).fill_null(-1).to_numpy().copy()
    content[catalog.table["problem"].is_not_null().to_numpy()] = -1
    return content


def tied(n: int, pairs: Pairs) -> Ints:
    """Number the groups that pairs tie together, int64 [n]: each the lowest row of its group."""
    return tied_rows(n, pairs.first, pairs.second)


def tied_rows(n: int, first: Ints, second: Ints) -> Ints:
    """As `tied`, for pairs of rows."""
    if not len(first):
        return np.arange(n)
    sparse, graph = require("scipy.sparse", _WHAT, "train"), require("scipy.sparse.csgraph", _WHAT, "train")
    edges = sparse.coo_array((np.ones(len(first), bool), (first, second)), shape=(n, n))
    _, component = graph.connected_components(edges, directed=False)
    _, lowest, inverse = np.unique(component, return_index=True, return_inverse=True)
    return np.asarray(lowest[inverse], np.int64)


def placeholders(catalog: Catalog, measured: Measured) -> list[Finding]:
    """One plain picture many times over."""
    content = _contents(catalog)
    order = np.argsort(content, kind="stable")
    _, starts, counts = np.unique(content[order], return_index=True, return_counts=True)
    findings = []
    for start, n in zip(starts[counts >= _MANY_PLAIN], counts[counts >= _MANY_PLAIN], strict=True):
        rows = order[start : start + n]
        if content[rows[0]] < 0:  # unreadable
            continue
        if measured.n_colours[rows[0]] <= FEW_COLOURS or len(rows) >= _MANY:
            findings += [Finding("placeholder", f"there {len(rows):,} times", int(row)) for row in rows]
    return findings


def pair_findings(
    catalog: Catalog, pairs: Pairs, sides: Sides | None, left_out: npt.NDArray[np.bool_]
) -> list[Finding]:
    """The findings on pairs: a leak between parts, a contradiction between labels, or a mere repetition.

    Each row is named by at most one finding of a kind, with the picture it is most like.

    Args:
        catalog: the pictures.
        pairs: from `find_pairs`.
        sides: [n], "train", "validation", "test" or "", or None where nothing is divided.
        left_out: bool [n], rows without findings.
    """
    labels = _label_keys(catalog)
    sides_of = [""] * len(labels) if sides is None else [str(side) for side in sides]
    of_each = [f"{side}/{label}" for side, label in zip(sides_of, labels, strict=True)]
    pairs = _expanded(pairs, _contents(catalog), of_each)
    rank = {"train": 0, "": 1, "validation": 2, "test": 3}
    pixels = catalog.table.select(pl.col("width").cast(pl.Int64) * pl.col("height")).to_series().fill_null(0).to_numpy()
    findings: list[Finding] = []
    named: set[tuple[str, int]] = set()  # of contradictions both pictures, since neither label can be trusted
    for i in np.lexsort((pairs.second, pairs.first, -pairs.score)).tolist():
        one, two = int(pairs.first[i]), int(pairs.second[i])
        if left_out[one] or left_out[two]:
            continue
        exact, score = bool(pairs.exact[i]), float(pairs.score[i])
        same = "an exact copy" if exact else f"nearly the same{', mirrored' if pairs.mirrored[i] else ''}"
        # The larger picture is the one to keep; of equal ones the first.
        less, more = (one, two) if (pixels[one], -one) < (pixels[two], -two) else (two, one)
        kinds = []
        if sides is not None and sides[one] and sides[two] and sides[one] != sides[two]:
            less, more = sorted((one, two), key=lambda row: rank[str(sides[row])])
            kinds.append(("leak", f"{same}; one for {_SAID[str(sides[less])]}, one for {_SAID[str(sides[more])]}"))
        if labels[one] != labels[two] and labels[one] and labels[two]:
            kinds.append(("contradiction", f"{same}; labelled “{labels[less]}” and “{labels[more]}”"))
        if not kinds:
            kinds.append(("duplicate", same))
        for kind, detail in kinds:
            name = kind if exact else f"near-{kind}"
            says = {(name, less), (name, more)} if kind == "contradiction" else {(name, less)}
            if not says <= named:
                named |= says
                findings.append(Finding(name, detail, less, more, score))
    return findings


def _expanded(pairs: Pairs, content: Ints, kinds: list[str]) -> Pairs:
    """Pairs of the first of some exact copies, repeated for the other copies whose label or part differs.

    Args:
        pairs: from `find_pairs`, which compares only the first of exact copies.
        content: [n], equal for exact copies.
        kinds: [n], equal for pictures of the same label on the same side.
    """
    tied = np.unique(np.concatenate([pairs.first[pairs.exact], pairs.second[pairs.exact]]))
    copies: dict[int, list[int]] = {}
    for row in tied.tolist():
        copies.setdefault(int(content[row]), []).append(row)
    # One of each label and side stands for all of its kind; every copy is compared with all of these.
    leading = {number: list({kinds[row]: row for row in reversed(rows)}.values()) for number, rows in copies.items()}
    lines: list[tuple[int, int, float, bool, bool]]
    lines = [(one, two, 1.0, True, False) for number, rows in copies.items() for one in leading[number] for two in rows]
    columns = (pairs.first, pairs.second, pairs.score, pairs.mirrored)
    for one, two, score, mirrored in zip(*(column[~pairs.exact].tolist() for column in columns), strict=True):
        all_one, all_two = (copies.get(int(content[row]), [row]) for row in (one, two))
        some_one, some_two = (leading.get(int(content[row]), [row]) for row in (one, two))
        both = {*((a, b) for a in all_one for b in some_two), *((a, b) for a in some_one for b in all_two)}
        lines += [(a, b, score, False, mirrored) for a, b in both]
    lines = sorted({(min(a, b), max(a, b), score, exact, flip) for a, b, score, exact, flip in lines if a != b})
    if not lines:
        return pairs
    ones, twos, scores, exact, flip = (np.array(column) for column in zip(*lines, strict=True))
    return Pairs(ones, twos, scores.astype(np.float32), exact, flip)


def _label_keys(catalog: Catalog) -> list[str]:
    return ["; ".join(sorted(catalog.classes[i] for i in numbers)) for numbers in catalog.table["labels"].to_list()]
