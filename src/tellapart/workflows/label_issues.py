"""Label issues: a quick cross-validated classifier on the pictures' features ranks labels that may be wrong."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import polars as pl

from tellapart.core.bundle_description import DESCRIPTION, read_description
from tellapart.core.predictions import Floats, Predictions, probabilities
from tellapart.core.text import counted
from tellapart.core.vectors import nearest
from tellapart.data.catalog import Catalog
from tellapart.data.splitting.split import ties_of
from tellapart.data.splitting.stratify import Ties, divide
from tellapart.errors import DataError, WeightsError
from tellapart.evaluation.label_issues import agreement, label_quality
from tellapart.evaluation.label_issues_table import LabelIssues
from tellapart.report.formatting import certainty
from tellapart.runs.run import Run
from tellapart.training.cross_val_predict import kernel_map, out_of_sample
from tellapart.training.extract_features import features, features_by_fastest
from tellapart.training.runtime import plain_runtime

if TYPE_CHECKING:
    from tellapart.models.network import Network
    from tellapart.workflows.progress import ProgressSink

Rows = npt.NDArray[np.int64]
_FOLDS, _LEAST = 5, 3  # folds; pictures that a class needs to be compared
_NEIGHBOURS, _SHOWN = 10, 5  # asked for the ranking; named in the reason
_MOST_ASKED = 20_000  # pictures whose neighbours are looked for: the work grows with their number times all others


def issues_of_run(run: Run, progress: ProgressSink, seed: int = 0) -> LabelIssues:
    """Label issues among all pictures of a run: training, validation and test ones."""
    network, source = _backbone_of(run, progress)
    broken = run.catalog.table["path"].is_in([entry["path"] for entry in run.skipped])
    return find_issues(run.catalog, network, source, progress, seed, np.flatnonzero(broken.to_numpy()))


def issues_of_pictures(catalog: Catalog, model: str | None, progress: ProgressSink, seed: int = 0) -> LabelIssues:
    """Label issues of pictures without a run, by a pretrained network.

    Args:
        model: its name; None: that of the recipe `transfer`.

    Raises:
        WeightsError: its weights are not at hand.
    """
    network, source = _pretrained(model, catalog, progress)
    return find_issues(catalog, network, source, progress, seed)


def answers_and_features(
    run: Run, catalog: Catalog, rows: Rows, progress: ProgressSink
) -> tuple[Floats, npt.NDArray[np.float32]]:
    """A run's probabilities for other pictures, and their features.

    Returns:
        Calibrated probabilities [n, n_classes], and float32 [n, d].
    """
    import torch

    network = trained(run, "best")
    runtime = plain_runtime()
    vectors = progress.watch(features(network, catalog, rows, runtime, "features"))
    with torch.no_grad():
        logits = network.to("cpu").head(torch.from_numpy(vectors)).numpy()
    temperature = run.evaluation_values["temperature"]
    return probabilities(logits / np.asarray(temperature, np.float32), run.catalog.multilabel), vectors


def find_issues(
    catalog: Catalog, network: Network, source: str, progress: ProgressSink, seed: int = 0, without: Rows | None = None
) -> LabelIssues:
    """Rank the labels of a catalog.

    Args:
        catalog: pictures with labels.
        network: its backbone gives the features. source: describes these.
        progress: where it is shown.
        seed: of the folds.
        without: rows to leave out.

    Raises:
        DataError: fewer than two classes with pictures enough.
        MissingExtraError: cleanlab is not installed.
    """
    rows = np.setdiff1d(np.intersect1d(catalog.readable, catalog.labelled), [] if without is None else without)
    together = ties_of(catalog, rows).tie
    compared = _with_enough(catalog, rows, together)
    if not catalog.multilabel:
        inside = np.isin(catalog.target(rows), compared)
        rows, together = rows[inside], np.unique(together[inside], return_inverse=True)[1]
    vectors = progress.watch(features_by_fastest(network, catalog, rows, "features"))
    target = _numbered(catalog, rows, compared)
    p, table = progress.watch(_ranked(catalog, rows, compared, target, vectors, together, seed))
    left_out = len(catalog.classes) - len(compared)
    method = f"{source}; {_n_folds(target, together)} folds."
    if left_out:
        method += f" Not compared, for want of pictures: {counted(left_out, 'class', 'classes')}."
    classes = tuple(catalog.classes[i] for i in compared)
    odds = np.log(np.clip(p, 1e-12, 1)) - (np.log(np.clip(1 - p, 1e-12, 1)) if catalog.multilabel else 0)
    unknown = _unknown(catalog, rows, compared)
    return LabelIssues(table, Predictions.of(rows, odds, target, classes, unknown), method)


def _with_enough(catalog: Catalog, rows: Rows, together: Rows) -> list[int]:
    """Numbers of the classes with pictures enough for cross-validation."""
    _, number = Ties(together, catalog.target(rows), catalog.classes, False).labels()
    counts = np.bincount(number, minlength=len(catalog.classes))
    compared = np.flatnonzero(counts >= _LEAST).tolist()
    if len(compared) < (1 if catalog.multilabel else 2):
        raise DataError(
            f"Wrong labels are found by comparing classes, and of the {len(catalog.classes)} classes {len(compared)} "
            f"{'has' if len(compared) == 1 else 'have'} {_LEAST} different pictures or more. {catalog.layout}",
            "Give pictures with labels: each class in a folder of its own, or a table.",
        )
    return compared


def _numbered(catalog: Catalog, rows: Rows, compared: list[int]) -> npt.NDArray[Any]:
    """Targets, numbered among the classes that are compared alone."""
    target = catalog.target(rows)
    return target[:, compared] if catalog.multilabel else np.searchsorted(compared, target)


def _unknown(catalog: Catalog, rows: Rows, compared: list[int]) -> npt.NDArray[np.bool_] | None:
    """The cells of `_numbered` that are not known."""
    unknown = catalog.unknown(rows)
    return None if unknown is None else unknown[:, compared]


def _n_folds(target: npt.NDArray[Any], together: Rows) -> int:
    line, number = Ties(together, target, [""] * (int(target.max()) + 1), False).labels()
    return int(min(_FOLDS, np.bincount(number).min())) if len(line) else _FOLDS


def _ranked(
    catalog: Catalog,
    rows: Rows,
    compared: list[int],
    target: npt.NDArray[Any],
    vectors: npt.NDArray[np.float32],
    together: Rows,
    seed: int,
) -> Any:
    """Yield progress; return probabilities [n, n_classes] and the table of label issues."""
    names = [catalog.classes[i] for i in compared]
    n_folds = _n_folds(target, together)
    ties = Ties(together, target, names, bool(catalog.table["group"].is_not_null().any()))
    folds = divide(ties, {str(k): 1 / n_folds for k in range(1, n_folds)}, seed)
    fold = np.zeros(len(rows), np.int64)
    for number, inside in enumerate(folds.values()):
        fold[inside] = number
    unknown = _unknown(catalog, rows, compared)
    p = yield from out_of_sample(kernel_map(vectors), target, fold, unknown=unknown)
    if unknown is not None:
        p = np.where(unknown, 0.0, p)  # what is not known cannot be wrong
    unsure = np.argsort(_of_labels(target, p), kind="stable")[:_MOST_ASKED]
    near = np.full((len(rows), _NEIGHBOURS), -1, np.int64)
    near[unsure], _ = nearest(vectors[unsure], vectors, _NEIGHBOURS, together[unsure], together)
    doubt = label_quality(target, p, agreement(target, near, p))
    order = np.argsort(doubt.score, kind="stable")
    lines = [
        _line(target[i], p[i], doubt.suggested[i], names, target[near[i][:_SHOWN][near[i][:_SHOWN] >= 0]])
        for i in order
    ]
    table = pl.DataFrame(
        {
            "row": rows[order],
            "file": catalog.table["path"].gather(rows[order]),
            "sha256": [content.hex() for content in catalog.table["sha256"].gather(rows[order])],
            **{name: [line[name] for line in lines] for name in ("given", "suggested", "p_given", "p_suggested")},
            "score": doubt.score[order],
            "suspicious": doubt.suspicious[order],
            "reason": [line["reason"] for line in lines],
            "neighbours": [rows[near[i][near[i] >= 0]].tolist() for i in order],
        },
        schema_overrides={
            "given": pl.List(pl.String),
            "suggested": pl.List(pl.String),
            "neighbours": pl.List(pl.Int64),
        },
    )
    return p, table


def _of_labels(target: npt.NDArray[Any], p: Floats) -> Floats:
    """The label's probability, [n]; with several labels, that of the least probable decision."""
    if target.ndim == 1:
        return np.asarray(p[np.arange(len(target)), target])
    return np.asarray(np.where(target == 1, p, 1 - p).min(axis=1))


def _line(labels: Any, p: Floats, suggested: Any, names: list[str], near: npt.NDArray[Any]) -> dict[str, Any]:
    """One picture's line of the table."""
    if np.ndim(labels):
        return _line_multilabel(labels, p, suggested, names, near)
    a, b = int(labels), int(suggested)
    counts = np.bincount(near, minlength=len(names)) if len(near) else np.zeros(len(names), np.int64)
    sentences = [f"The model says {names[b]}, {certainty(p[b])}"]
    if a != b:
        sentences[0] += f"; {names[a]}, {certainty(p[a])}"
    around = [f"{counts[k]} {names[k]}" for k in np.argsort(-counts, kind="stable") if counts[k]]
    sentences += [f"Of the {len(near)} nearest pictures: {', '.join(around)}"] if len(near) else []
    return {
        "given": [names[a]],
        "suggested": [names[b]],
        "p_given": float(p[a]),
        "p_suggested": float(p[b]),
        "reason": ". ".join(sentences) + ".",
    }


def _line_multilabel(
    labels: npt.NDArray[Any], p: Floats, suggested: npt.NDArray[Any], names: list[str], near: npt.NDArray[Any]
) -> dict[str, Any]:
    changed: Iterable[int] = np.flatnonzero(labels != suggested)
    right = np.where(labels == 1, p, 1 - p)
    worst = list(changed) or [int(right.argmin())]
    reasons = []
    for k in sorted(worst, key=lambda k: right[k]):
        around = f"{int(near[:, k].sum())} of the {len(near)} nearest pictures have it" if len(near) else ""
        text = f"{names[k]} is {'given' if labels[k] else 'not given'}: the model says {certainty(p[k])}"
        reasons.append(", ".join(filter(None, (text, around))))
    return {
        "given": [names[k] for k in np.flatnonzero(labels)],
        "suggested": [names[k] for k in np.flatnonzero(suggested)],
        "p_given": float(right[worst].min()),
        "p_suggested": float(1 - right[worst].min()),
        "reason": ". ".join(reasons) + ".",
    }


def _backbone_of(run: Run, progress: ProgressSink) -> tuple[Network, str]:
    """The network whose features judge the labels of a run, and a description of them.

    A pretrained one as it was before the training: one that was trained on wrong labels has learned some by heart.
    """
    model = run.recipe.model
    if model.pretrained or model.weights is not None:
        return trained(run, "initial"), f"By the features of {model.name} as it was before the training"
    try:
        return _pretrained(None, run.catalog, progress)
    except WeightsError:
        return trained(run, "best"), (
            f"By the features of {model.name} as trained here, for want of pretrained weights: "
            "it may have learned wrong labels of its training pictures by heart, which then stay unseen"
        )


def trained(run: Run, when: str) -> Network:
    """A run's network as it was "initial"ly or at its "best".

    The run directory may come from anybody: its description is checked before anything is built.
    """
    from tellapart.models.architecture import Architecture
    from tellapart.training.checkpoint import load_network

    run.need(run.bundle / DESCRIPTION)
    architecture = Architecture.from_dict(read_description(run.bundle).architecture)
    return load_network(run.checkpoint(when), architecture)


def _pretrained(model: str | None, catalog: Catalog, progress: ProgressSink) -> tuple[Network, str]:
    from tellapart.workflows.pretrained import pretrained_network

    network = pretrained_network(model, len(catalog.classes), progress)
    return network, f"By the features of {network.architecture.name}, pretrained"
