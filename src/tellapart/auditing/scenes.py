"""Pictures of one scene: photographs of the same thing, taken moments apart. They are no copies, yet leak like copies.

A pair counts as one scene by the first of these that holds, each with its evidence:

* features: those of a pretrained network are close, where there are any (centred and scaled over the set first, so
  that networks of any kind compare), or nearly so and the pictures look alike too;
* looks: thumbnails are alike in coarse structure and in colour; more so than pictures of different labels are, which
  serve as decoys: where all have one form, such as slides under a microscope, a scene is told by closer looks, or none;
* time: taken within seconds by EXIF, and somewhat alike;
* numbers: neighbours in a series of running numbers, and more alike than pictures far apart in such a series are. How
  much more is measured on the set itself: in a folder numbered by somebody else, neighbours are like any others, and
  numbers prove nothing. Pairs far apart serve as decoys.

Of what is tied at most one in twenty may be chance, by the decoys.

The limits were chosen on groceries, animals and breeds; `benchmarks/scenes.py` measures them. With one label a picture,
pictures of different labels are never tied: what a scene gives away is then no help to name them.

Source of the decoys: J. E. Elias, S. P. Gygi, Target-decoy search strategy, Nature Methods 4 (2007).
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from tellapart.auditing.duplicates import FEW_COLOURS, comparable_rows, tied_rows
from tellapart.auditing.nearest import candidates, describe
from tellapart.core.events import Computing
from tellapart.core.vectors import unit_length
from tellapart.data.catalog import Catalog
from tellapart.data.statistics import Floats, Measured

Ints = npt.NDArray[np.int64]
Times = npt.NDArray[np.float64]
#: Cosine similarity of centred features from which two pictures show one scene; and with thumbnails alike, lower.
FEATURES, FEATURES_BESIDE, LOOKS_BESIDE = 0.75, 0.5, 0.6
#: Cosine similarity of thumbnails from which two show one scene, and the largest difference of their mean colours.
LOOKS, COLOUR = 0.8, 15.0
#: Smaller pictures are not compared; by looks neither those of few colours: digits and drawings are easily alike.
LEAST_SIDE = 64
#: Seconds between two photographs of one scene, and how alike they must look at least.
SECONDS, SOMEWHAT = 10.0, 0.3
# Neighbours in a series are at most so many numbers apart; decoys half a series, in series of so many pictures.
_APART, _SERIES = 2, 20
_FEWEST_NEIGHBOURS, _FALSE = 10, 0.05
#: Groups that a class keeps at least: with fewer it could not be divided.
FEWEST_GROUPS = 4


@dataclass(frozen=True)
class Scenes:
    """Pairs of rows of one scene, the lower row first.

    Attributes:
        first, second: int64 [n].
        score: float32 [n], how alike they are, up to 1.
        evidence: [n], in words.
    """

    first: Ints
    second: Ints
    score: Floats
    evidence: tuple[str, ...]

    def take(self, keep: npt.NDArray[np.bool_]) -> Scenes:
        """Some of the pairs."""
        evidence = tuple(words for words, wanted in zip(self.evidence, keep.tolist(), strict=True) if wanted)
        return Scenes(self.first[keep], self.second[keep], self.score[keep], evidence)


@dataclass(frozen=True)
class _Likeness:
    """How alike pairs are.

    Attributes:
        looks, features: cosine similarities of thumbnails and of features, 0 where there are none.
        colour: the largest difference of a channel's mean, 0 to 255.
        coloured: whether both have many colours, as photographs have.
    """

    looks: Floats
    features: Floats
    colour: Floats
    coloured: npt.NDArray[np.bool_]

    def take(self, keep: npt.NDArray[np.bool_]) -> _Likeness:
        """Some of the pairs."""
        return _Likeness(self.looks[keep], self.features[keep], self.colour[keep], self.coloured[keep])


def find_scenes(
    catalog: Catalog, measured: Measured, features: Floats | None = None
) -> Generator[Computing, None, Scenes]:
    """Pairs of different pictures that show one scene. Copies count once.

    Args:
        catalog: the pictures.
        measured: their measures.
        features: float32 [n, d] of a pretrained network, NaN or 0 where there are none.
    """
    rows = comparable_rows(catalog, measured, LEAST_SIDE)
    looks = describe(measured.thumb[rows])
    vectors = None if features is None else _centred(features[rows])
    pieces = [np.empty((0, 2), np.int64)]
    yield Computing(-1, "searching scenes", 0, len(rows))
    for pairs, done in candidates(looks, [(0, looks)], LOOKS):
        pieces.append(pairs[:, :2])
        yield Computing(-1, "searching scenes", done, len(rows))
    if vectors is not None:
        for pairs, done in candidates(vectors, [(0, vectors)], FEATURES_BESIDE):
            pieces.append(pairs[:, :2])
            yield Computing(-1, "searching scenes by features", done, len(rows))
    taken = measured.taken[rows]
    series = _series(catalog.table["path"].gather(rows))
    neighbours = series.neighbours()
    pieces += [_within(taken), neighbours]
    pairs = np.unique(np.concatenate(pieces), axis=0)
    like = _likeness(pairs, looks, vectors, measured.take(rows))
    by_looks = (like.looks >= LOOKS) & (like.colour < COLOUR) & like.coloured
    if not catalog.multilabel:
        labels = catalog.target(rows)
        same = labels[pairs[:, 0]] == labels[pairs[:, 1]]
        by_looks &= like.looks >= _looks_limit(like.looks[by_looks & same], like.looks[by_looks & ~same], labels)
        pairs, like, by_looks = pairs[same], like.take(same), by_looks[same]
    least = _numbers_limit(series, looks, vectors)
    return _proven(rows, pairs, like, by_looks, taken, series, least)


def _proven(
    rows: Ints,
    pairs: Ints,
    like: _Likeness,
    by_looks: npt.NDArray[np.bool_],
    taken: Times,
    series: _Series,
    least: float,
) -> Scenes:
    """The pairs with evidence, and that evidence in words."""
    one, two = pairs.T
    by_features = like.features >= FEATURES
    by_features |= (like.features >= FEATURES_BESIDE) & (like.looks >= LOOKS_BESIDE)
    somewhat = np.maximum(like.looks, like.features)
    apart = np.abs(taken[one] - taken[two])
    by_time = (apart <= SECONDS) & (somewhat >= SOMEWHAT)
    by_numbers = series.are_neighbours(one, two) & (somewhat >= least)
    keep = np.flatnonzero(by_features | by_looks | by_time | by_numbers)
    evidence = []
    for i in keep.tolist():
        words = [f"features {100 * like.features[i]:.0f} of 100 alike"] if by_features[i] else []
        words += ["alike in structure and colour"] if by_looks[i] else []
        words += [f"taken {apart[i]:.0f} s apart"] if by_time[i] else []
        numbers = series.number[one[i]], series.number[two[i]]
        words += [f"numbered {numbers[0]} and {numbers[1]}"] if by_numbers[i] else []
        evidence.append(", ".join(words))
    score = np.clip(somewhat[keep], 0, 1).astype(np.float32)
    first, second = rows[one[keep]], rows[two[keep]]
    return Scenes(np.minimum(first, second), np.maximum(first, second), score, tuple(evidence))


def scene_groups(catalog: Catalog, copies: Ints, scenes: Scenes) -> tuple[Ints, tuple[str, ...]]:
    """Groups that copies and scenes tie together, and the classes that are left as they were.

    A class of which fewer than `FEWEST_GROUPS` groups would be left could not be divided: its scenes are not tied.

    Args:
        catalog: the pictures.
        copies: int64 [n], equal numbers for copies of each other, see `duplicates.tied`.
        scenes: from `find_scenes`.

    Returns:
        int64 [n], each the lowest row of its group; names of such classes.
    """
    numbers = catalog.table.with_row_index("row").select("row", "labels").explode("labels").drop_nulls()
    label, row = numbers["labels"].to_numpy(), numbers["row"].to_numpy()

    def n_groups(groups: Ints) -> Ints:
        pairs = np.unique(np.column_stack([label, groups[row]]), axis=0)
        return np.bincount(pairs[:, 0], minlength=len(catalog.classes))

    groups = _joined(copies, scenes)
    small = (n_groups(groups) < FEWEST_GROUPS) & (n_groups(groups) < n_groups(copies))
    if not small.any():
        return groups, ()
    untied = np.zeros(len(catalog), bool)
    untied[row[small[label]]] = True
    groups = _joined(copies, scenes.take(~(untied[scenes.first] | untied[scenes.second])))
    return groups, tuple(name for name, few in zip(catalog.classes, small.tolist(), strict=True) if few)


def _joined(copies: Ints, scenes: Scenes) -> Ints:
    n = len(copies)
    return tied_rows(n, np.append(copies, scenes.first), np.append(np.arange(n), scenes.second))


def _centred(features: Floats) -> Floats:
    """Features of length 1 after centring and scaling each over the set; 0 where there are none."""
    values = np.nan_to_num(features).astype(np.float32)
    known = values.any(axis=1)
    if known.sum() < 2:
        return np.zeros_like(values)
    values = (values - values[known].mean(axis=0)) / (values[known].std(axis=0) + 1e-6)
    values[~known] = 0
    return unit_length(values)


def _likeness(pairs: Ints, looks: Floats, vectors: Floats | None, measured: Measured) -> _Likeness:
    one, two = pairs.T
    alike = [np.einsum("ij,ij->i", each[one], each[two]) for each in (looks, *([] if vectors is None else [vectors]))]
    features = alike[1] if vectors is not None else np.zeros(len(pairs), np.float32)
    colour = np.abs(measured.colour[one] - measured.colour[two]).max(axis=1, initial=0)
    many = measured.n_colours > FEW_COLOURS
    return _Likeness(alike[0], features, colour, many[one] & many[two])


def _within(taken: Times) -> Ints:
    """Pairs of pictures taken within `SECONDS` of each other, each with the next three in time."""
    order = np.argsort(taken, kind="stable")  # those without a time come last
    pairs = [np.column_stack([order[:-step], order[step:]]) for step in (1, 2, 3) if len(order) > step]
    every = np.concatenate([np.empty((0, 2), np.int64), *pairs])
    close = np.abs(taken[every[:, 0]] - taken[every[:, 1]]) <= SECONDS
    return np.sort(every[close], axis=1)


@dataclass(frozen=True)
class _Series:
    """Running numbers in file names.

    Attributes:
        name: int64 [n], equal for names that differ in their last number alone; number: that number, -1 without one.
    """

    name: Ints
    number: Ints

    def neighbours(self) -> Ints:
        """Pairs of neighbours in a series."""
        order = np.lexsort((self.number, self.name))
        pairs = np.column_stack([order[:-1], order[1:]])
        return np.sort(pairs[self.are_neighbours(*pairs.T)], axis=1)

    def decoys(self) -> Ints:
        """Pairs that stand half a series apart, of series of at least `_SERIES` pictures."""
        order = np.lexsort((self.number, self.name))
        _, starts, sizes = np.unique(self.name[order], return_index=True, return_counts=True)
        pairs = [np.empty((0, 2), np.int64)]
        for start, size in zip(starts.tolist(), sizes.tolist(), strict=True):
            if size >= _SERIES and self.number[order[start]] >= 0:
                members = order[start : start + size]
                pairs.append(np.column_stack([members, np.roll(members, size // 2)]))
        return np.concatenate(pairs)

    def are_neighbours(self, one: Ints, two: Ints) -> npt.NDArray[np.bool_]:
        """Whether rows one [n] and two [n] are neighbours, bool [n]."""
        apart = np.abs(self.number[one] - self.number[two])
        alike = (self.name[one] == self.name[two]) & (self.number[one] >= 0) & (apart <= _APART)
        return np.asarray(alike, np.bool_)


def _series(paths: pl.Series) -> _Series:
    names = paths.str.extract_groups(r"^(?<before>.*?)(?<number>\d{1,15})(?<after>\D*)$").struct.unnest()
    name = pl.select(pl.concat_str(names["before"], pl.lit("\0"), names["after"]).rank("dense")).to_series()
    number = names["number"].cast(pl.Int64).fill_null(-1)
    return _Series(name.cast(pl.Int64).fill_null(0).to_numpy(), number.to_numpy())


def _looks_limit(same: Floats, decoys: Floats, labels: Ints) -> float:
    """The least likeness of thumbnails from which pictures of one label are one scene; infinite where none proves it.

    Args:
        same: likeness of the pairs of one label that look alike.
        decoys: the same of pairs of different labels.
        labels: [n], of all pictures.
    """
    if not len(decoys):
        return LOOKS
    sizes = np.unique(labels, return_counts=True)[1].astype(np.int64)
    n_same = (sizes * (sizes - 1)).sum() / 2
    n_decoys = len(labels) * (len(labels) - 1) / 2 - n_same
    limits = np.unique(same)
    near, far = (len(each) - np.searchsorted(np.sort(each), limits, side="left") for each in (same, decoys))
    enough = far / n_decoys <= _FALSE * near / n_same
    return float(limits[np.argmax(enough)]) if enough.any() else np.inf


def _numbers_limit(series: _Series, looks: Floats, vectors: Floats | None) -> float:
    """The least likeness from which neighbours are one scene; infinite where numbers prove nothing."""
    compared = [looks, *([] if vectors is None else [vectors])]

    def likeness(pairs: Ints) -> Floats:
        one, two = pairs.T
        return np.asarray(
            np.max([np.einsum("ij,ij->i", each[one], each[two]) for each in compared], axis=0), np.float32
        )

    near, far = series.neighbours(), series.decoys()
    if len(near) < _FEWEST_NEIGHBOURS or len(far) < _FEWEST_NEIGHBOURS:
        return np.inf
    alike, decoys = np.sort(likeness(near)), np.sort(likeness(far))
    limits = alike[alike >= SOMEWHAT]
    n_near, n_far = (len(values) - np.searchsorted(values, limits, side="left") for values in (alike, decoys))
    # One decoy more than there are: a few that all stay below prove little.
    enough = (n_near >= _FEWEST_NEIGHBOURS) & ((n_far + 1) / len(decoys) <= _FALSE * n_near / len(alike))
    return float(limits[np.argmax(enough)]) if enough.any() else np.inf
