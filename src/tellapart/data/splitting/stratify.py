"""Stratified drawing: each part gets its share of every class, and at least one picture of it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from tellapart.core.extras import require
from tellapart.core.text import first_few
from tellapart.errors import SplitError

Ints = npt.NDArray[np.int64]
_WHAT = "Dividing pictures into parts"


def tie(copies: Ints, groups: Ints | None) -> Ints:
    """Number the ties that must stay on one side: pictures of one content or one group, directly or through others.

    Args:
        copies: [n], equal numbers for equal content.
        groups: [n], equal numbers for one group, -1 for none; or None.

    Returns:
        [n], numbers from 0 without gaps.
    """
    if groups is None:
        return np.unique(copies, return_inverse=True)[1].astype(np.int64)
    # Pictures and groups are the two kinds of nodes of a graph; its connected pieces are the ties.
    sparse, graph = require("scipy.sparse", _WHAT, "train"), require("scipy.sparse.csgraph", _WHAT, "train")
    nodes = np.unique(copies, return_inverse=True)[1]
    n_nodes = int(nodes.max()) + 1 + int(groups.max()) + 1
    grouped = groups >= 0
    edges = (np.ones(int(grouped.sum()), bool), (nodes[grouped], int(nodes.max()) + 1 + groups[grouped]))
    _, pieces = graph.connected_components(sparse.coo_array(edges, shape=(n_nodes, n_nodes)), directed=False)
    return np.unique(pieces[nodes], return_inverse=True)[1].astype(np.int64)


@dataclass(frozen=True)
class Ties:
    """Pictures to divide, with the ties between them.

    Attributes:
        tie: [n], number of the tie of each picture, from 0 without gaps.
        target: as `Catalog.target` gives it: class numbers [n], or 0 and 1 [n, n_classes].
        classes: names.
        by_group: True where the user has given groups.
    """

    tie: Ints
    target: npt.NDArray[Any]
    classes: Sequence[str]
    by_group: bool

    @property
    def n(self) -> int:
        """Number of ties."""
        return int(self.tie.max()) + 1 if len(self.tie) else 0

    def labels(self) -> tuple[Ints, Ints]:
        """Pairs of tie and class, each pair once, sorted by tie."""
        if self.target.ndim == 1:
            pairs = np.stack([self.tie, self.target], axis=1)
        else:
            row, number = np.nonzero(self.target)
            pairs = np.stack([self.tie[row], number], axis=1)
        unique = np.unique(pairs, axis=0).astype(np.int64)
        return unique[:, 0], unique[:, 1]


def divide(
    ties: Ties,
    shares: Mapping[str, float],
    seed: int,
    may_lack: bool = False,
    numbers: Mapping[str, int] | None = None,
) -> dict[str, Ints]:
    """Divide pictures into the named parts and "train".

    Args:
        ties: the pictures.
        shares: of each part but "train"; they sum to less than 1.
        seed: of all that is random.
        may_lack: allow classes without any picture.
        numbers: of some of these parts, the number of pictures that they should get exactly, if ties allow it.

    Returns:
        Positions of the pictures of each part, ascending.

    Raises:
        SplitError: a class has fewer ties than there are parts, or cannot be put on every side.
    """
    _check_sizes(ties, list(shares), may_lack)
    part = np.zeros(ties.n, np.int64)  # 0 is "train", then as in `shares`
    taken = 0.0
    for number, share in enumerate(shares.values(), start=1):
        free = np.flatnonzero(part == 0)
        part[free[_draw(ties, free, share / (1 - taken), seed + number)]] = number
        taken += share
    random = np.random.default_rng(seed)
    _mend(ties, part, len(shares) + 1, random)
    names = ["train", *shares]
    for name, n_pictures in (numbers or {}).items():
        _fill(ties, part, names.index(name), n_pictures, random)
    return {name: np.flatnonzero(part[ties.tie] == number) for number, name in enumerate(names)}


def _check_sizes(ties: Ties, parts: list[str], may_lack: bool) -> None:
    _, number = ties.labels()
    n_ties = np.bincount(number, minlength=len(ties.classes))
    needed = len(parts) + 1
    small = np.flatnonzero((n_ties < needed) & ((n_ties > 0) | (not may_lack)))
    if not len(small):
        return
    worst = int(small[np.argmin(n_ties[small])])
    one = ties.target.ndim == 1
    n = int((ties.target == worst).sum() if one else ties.target[:, worst].sum())
    noun = "class" if one else "label"
    tied = f", {n_ties[worst]} where groups and exact copies count once" if n_ties[worst] < n else ""
    others = [ties.classes[int(i)] for i in small if i != worst]
    sides = ", ".join(["training", *(f"the {part}" if part == "test" else part for part in reversed(parts))])
    without = "; or do without a test part: --set data.test=0" if "test" in parts else ""
    raise SplitError(
        f"The {noun} {ties.classes[worst]!r} has {n} usable {'picture' if n == 1 else 'pictures'}{tied}; "
        f"at least {needed} are needed, one each for {sides}."
        + (f" Too small as well: {first_few(others)}." if others else ""),
        f"Add pictures or leave the {noun} out{without}.",
    )


def _draw(ties: Ties, free: Ints, share: float, seed: int) -> Ints:
    """Which of the free ties to take, as positions in `free`, so that they are about this share of every class."""
    if ties.target.ndim == 2 and ties.target.shape[1] > 1:
        return _draw_by_labels(ties, free, share, seed)
    if ties.by_group:
        return _draw_by_group(ties, free, share, seed)
    first = np.unique(ties.tie, return_index=True)[1]
    return _draw_by_class(ties.target.reshape(len(ties.tie))[first[free]], share, seed)


def _draw_by_class(target: Ints, share: float, seed: int) -> Ints:
    selection = require("sklearn.model_selection", _WHAT, "train", "scikit-learn")
    # scikit-learn wants two of each class, and places for each class on either side.
    _, inverse, counts = np.unique(target, return_inverse=True, return_counts=True)
    able = np.flatnonzero(counts[inverse] > 1)
    n_kinds = int((counts > 1).sum())
    n = min(max(round(share * len(target)), n_kinds), len(able) - n_kinds)
    if n_kinds == 0 or n < 1:
        return np.empty(0, np.int64)
    draw = selection.StratifiedShuffleSplit(n_splits=1, test_size=n, random_state=seed)
    _, taken = next(draw.split(np.zeros(len(able)), target[able]))
    return np.sort(able[taken])


def _draw_by_labels(ties: Ties, free: Ints, share: float, seed: int) -> Ints:
    stratifiers = require("iterstrat.ml_stratifiers", _WHAT, "train", "iterative-stratification")
    target = np.zeros((ties.n, ties.target.shape[1]), np.uint8)
    np.maximum.at(target, ties.tie, ties.target)
    draw = stratifiers.MultilabelStratifiedShuffleSplit(n_splits=1, test_size=share, random_state=seed)
    _, taken = next(draw.split(np.zeros(len(free)), target[free]))
    return np.sort(np.asarray(taken, np.int64))


def _draw_by_group(ties: Ties, free: Ints, share: float, seed: int) -> Ints:
    """Some of the folds of a stratified division by groups: those whose number of pictures comes closest."""
    selection = require("sklearn.model_selection", _WHAT, "train", "scikit-learn")
    position = np.full(ties.n, -1)
    position[free] = np.arange(len(free))
    rows = np.flatnonzero(position[ties.tie] >= 0)
    target, group = ties.target.reshape(len(ties.tie))[rows], position[ties.tie[rows]]
    wanted = Fraction(share).limit_denominator(max(2, min(10, len(free))))
    n_taken, n_folds = max(1, wanted.numerator), max(2, wanted.denominator)
    if np.bincount(target).max() < n_folds:
        n_taken, n_folds = 1, 2
    folds = selection.StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():  # it warns of classes with fewer pictures than folds: those are mended after
        warnings.filterwarnings("ignore", message="The least populated class", category=UserWarning)
        fold = np.empty(len(rows), np.int64)
        for number, (_, inside) in enumerate(folds.split(rows, target, group)):
            fold[inside] = number
    sizes = np.bincount(fold, minlength=n_folds)
    turns = [np.roll(sizes, -start)[:n_taken].sum() for start in range(n_folds)]
    start = int(np.argmin(np.abs(np.array(turns) - share * len(rows))))
    chosen = (fold - start) % n_folds < n_taken
    return np.unique(group[chosen]).astype(np.int64)


def _mend(ties: Ties, part: Ints, n_parts: int, random: np.random.Generator) -> None:
    """Move single ties until every class is on every side: drawing by shares can leave a small class out of one."""
    tie, number = ties.labels()
    counts = np.zeros((n_parts, len(ties.classes)), np.int64)
    np.add.at(counts, (part[tie], number), 1)
    n_ties = counts.sum(axis=0)
    for lacking in np.argsort(n_ties, kind="stable"):
        for empty in np.flatnonzero(counts[:, lacking] == 0):
            if n_ties[lacking] == 0:
                continue
            moved = _spare(tie, number, part, counts, int(lacking), random)
            if moved is None:
                raise SplitError(
                    f"The pictures of {ties.classes[lacking]!r} cannot be put on every side: those that go together, "
                    "by group, as exact copies or by their other labels, are too few.",
                    "Add pictures, make the groups smaller, or leave the label out.",
                )
            its = number[tie == moved]
            counts[part[moved], its] -= 1
            counts[empty, its] += 1
            part[moved] = empty


def _fill(ties: Ties, part: Ints, number: int, n_pictures: int, random: np.random.Generator) -> None:
    """Move ties between training and a part until it has its number of pictures, or no tie is small enough.

    Drawing by shares comes close to it. Ties are taken at random, which keeps the shares of labels, and only where
    their part keeps each of their labels.
    """
    tie, label = ties.labels()
    sizes = np.bincount(ties.tie, minlength=ties.n)
    missing = n_pictures - int(sizes[part == number].sum())
    source, target = (0, number) if missing > 0 else (number, 0)
    missing = abs(missing)
    counts = np.bincount(label[part[tie] == source], minlength=len(ties.classes))
    own: list[Ints] = np.split(label, np.flatnonzero(np.diff(tie)) + 1)
    labels_of = dict(zip(np.unique(tie).tolist(), own, strict=True))
    nothing = np.empty(0, np.int64)
    candidates = np.flatnonzero(part == source)
    for candidate in candidates[random.permutation(len(candidates))].tolist():
        its = labels_of.get(candidate, nothing)
        if missing and sizes[candidate] <= missing and (counts[its] > 1).all():
            part[candidate] = target
            counts[its] -= 1
            missing -= int(sizes[candidate])


def _spare(tie: Ints, number: Ints, part: Ints, counts: Ints, lacking: int, random: np.random.Generator) -> int | None:
    """A tie with this class that its part can do without, from the part that has most of them."""
    candidates = tie[number == lacking]
    candidates = candidates[random.permutation(len(candidates))]
    candidates = candidates[np.argsort(-counts[part[candidates], lacking], kind="stable")]
    for candidate in candidates:
        if (counts[part[candidate], number[tie == candidate]] > 1).all():
            return int(candidate)
    return None
