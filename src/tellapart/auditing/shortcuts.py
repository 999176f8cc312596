"""Shortcuts: facts about files and edges that predict the class, by a small decision tree.

A classic failure: all wolves were photographed in snow, or all pictures of one class come from one camera. A network
that scores well has then learned the snow or the camera (Lapuschkin 2019, "Clever Hans").
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tellapart.auditing.findings import Finding, Severity
from tellapart.core.extras import require
from tellapart.core.text import percent
from tellapart.data.catalog import Catalog
from tellapart.data.statistics import Measured

Ints = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]

_FOLDS = 5
_LEAST = 8  # fewest pictures of a class that takes part
_MOST_ROWS = 5_000
_MOST_LABELS = 30
_SURE = 4.0  # standard errors above chance
#: Share of the way from chance to certainty from which a shortcut is a finding.
_CLEAR = 0.15


@dataclass(frozen=True)
class Source:
    """Facts that may predict the class.

    Attributes:
        name: in words.
        values: [n, k].
        severity: "note" where the facts may be true of the classes, as colour is of fruit.
        clear: share of the way from chance to certainty from which it is a finding.
    """

    name: str
    values: Values
    severity: Severity = "warning"
    clear: float = _CLEAR


def sources(catalog: Catalog, measured: Measured) -> list[Source]:
    """The facts to try, [n_rows of the catalog, k] each."""
    table = catalog.table
    width, height, n_bytes = (table[name].cast(float).fill_null(0).to_numpy() for name in ("width", "height", "bytes"))
    pixels = np.maximum(width * height, 1)
    kinds = table.select(pair=table["format"].fill_null("") + " " + table["mode"].fill_null(""))["pair"]
    names = sorted(set(kinds))
    form = np.stack([(kinds == name).to_numpy().astype(float) for name in names], axis=1)
    edge = np.column_stack([measured.border, measured.border_contrast]).astype(float)
    return [
        Source("the size of the picture", np.column_stack([width, height, width / np.maximum(height, 1)])),
        Source("the size of the file beside that of the picture", (8 * n_bytes / pixels)[:, None], clear=0.3),
        Source("the format of the file", form),
        Source("the date of the file", _dates(catalog)[:, None], clear=0.3),
        Source("the border of the picture", edge, "note", 0.4),
        Source("the mean colour", measured.colour.astype(float), "note", 0.4),
    ]


def _dates(catalog: Catalog) -> Values:
    dates = np.zeros(len(catalog))
    for row in range(len(catalog)):
        try:
            dates[row] = catalog.path(row).stat().st_mtime
        except OSError:
            dates[row] = 0
    return dates


def shortcut_findings(catalog: Catalog, measured: Measured, groups: Ints, seed: int = 0) -> list[Finding]:
    """Facts that predict the class clearly better than chance.

    Args:
        catalog: the pictures.
        measured: their measures.
        groups: [n], equal numbers for copies of a picture. One of each takes part: a tree would recognise copies.
        seed: of the sample and the folds.

    Raises:
        MissingExtraError: scikit-learn is not installed.
    """
    rows = np.intersect1d(np.intersect1d(catalog.readable, catalog.labelled), np.unique(groups))
    random = np.random.default_rng(seed)
    if len(rows) > _MOST_ROWS:
        rows = np.sort(random.choice(rows, _MOST_ROWS, replace=False))
    if not len(rows):
        return []
    tried = _tasks(catalog, rows)
    findings = []
    for source in sources(catalog, measured):
        if not np.ptp(source.values[rows], axis=0).any():
            continue
        for label, target in tried:
            score = tree_score(source.values[rows], target, seed, n_tried=len(tried))
            if score is not None and score.gain >= source.clear:
                facts = f"{label}: {source.name}" if label else source.name
                findings.append(
                    Finding(
                        "shortcut",
                        f"{facts} alone tells {'it' if label else 'the class'} in {percent(score.right, 0)}"
                        f" of the pictures of a class (by chance: {percent(score.chance, 0)})",
                        score=score.gain,
                        severity=source.severity,
                    )
                )
    return sorted(findings, key=lambda finding: (finding.severity != "warning", -(finding.score or 0)))


def _tasks(catalog: Catalog, rows: Ints) -> list[tuple[str, Ints]]:
    """The targets to predict: the class; or, with several labels, each of the commonest ones."""
    target: Any = catalog.target(rows)
    if not catalog.multilabel:
        return [("", target)]
    n = target.sum(axis=0, dtype=np.int64)
    common = np.argsort(-np.minimum(n, len(rows) - n), kind="stable")[:_MOST_LABELS]
    return [(f"“{catalog.classes[i]}”", target[:, i].astype(np.int64)) for i in common]


@dataclass(frozen=True)
class TreeScore:
    """The score of a tree: `right` is its balanced accuracy, `chance` that of guessing."""

    right: float
    chance: float

    @property
    def gain(self) -> float:
        """Share of the way from chance to certainty."""
        return (self.right - self.chance) / (1 - self.chance)


def tree_score(values: Values, target: Ints, seed: int, n_tried: int = 1) -> TreeScore | None:
    """Balanced accuracy of a small tree, cross-validated; None where it is not surely better than chance.

    The tree has learned from other pictures. So where the facts say nothing of the class, the recall of each class is
    binomial about some rate, and these rates sum to 1: chance is 1 / n_classes, and the standard error follows from the
    number of pictures of each class.

    Args:
        values: [n, k].
        target: [n], class numbers; negative for none. Classes of fewer than eight pictures are left out.
        seed: of the folds.
        n_tried: number of tests of this kind, for which the limit is raised.
    """
    trees = require("sklearn.tree", "Looking for shortcuts", "train", "scikit-learn")
    selection = require("sklearn.model_selection", "Looking for shortcuts", "train", "scikit-learn")
    classes, counts = np.unique(target[target >= 0], return_counts=True)
    classes, counts = classes[counts >= _LEAST], counts[counts >= _LEAST]
    if len(classes) < 2:
        return None
    taking_part = np.isin(target, classes)
    values, target = np.nan_to_num(values[taking_part]), np.searchsorted(classes, target[taking_part])
    tree = trees.DecisionTreeClassifier(
        max_depth=max(3, int(np.ceil(np.log2(len(classes)))) + 1),
        min_samples_leaf=max(2, min(10, int(counts.min()) // 4)),
        class_weight="balanced",
        random_state=seed,
    )
    folds = selection.StratifiedKFold(_FOLDS, shuffle=True, random_state=seed)
    answer = selection.cross_val_predict(tree, values, target, cv=folds)
    rates = np.array([(answer[target == i] == i).mean() for i in range(len(classes))])
    chance = 1 / len(classes)
    error = np.sqrt((chance * (1 - chance) / counts).sum()) / len(classes)
    limit = _SURE + 0.5 * np.log10(max(n_tried, 1))
    return TreeScore(float(rates.mean()), chance) if rates.mean() > chance + limit * error else None
