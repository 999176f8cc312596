"""Evaluation of a finished training: on its test or validation pictures, or on others."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tellapart.core.predictions import Mean, Predictions, Rows
from tellapart.core.remote import at_hand
from tellapart.core.scores import Evaluation, difference_text, with_interval, with_notes
from tellapart.core.text import counted, first_few
from tellapart.errors import DataError, RunError, UsageError
from tellapart.runs.run import Run
from tellapart.workflows.finalize import unbroken
from tellapart.workflows.progress import ProgressSink, progress_sink
from tellapart.workflows.scan import scan

if TYPE_CHECKING:
    from tellapart.data.catalog import Catalog
    from tellapart.deploy.bundle.read import Bundle

#: So many pictures are answered so many times with and without copies, in turn, to compare the times.
_TIMED, _TURNS = 64, 3
#: Parts whose predictions a run holds.
_STORED = ("test", "validation")


@dataclass(frozen=True)
class Others:
    """How other pictures are read.

    Attributes:
        skip_unknown_classes: whether those of classes that the model does not know are left out.
        label_options: as for `ta.scan`.
    """

    skip_unknown_classes: bool = False
    label_options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Copies:
    """Gain and cost of test-time augmentation.

    Attributes:
        plain, averaged: scores without and with it.
        n: changed copies of each picture.
        mean: what was averaged.
        times: how many times longer an answer takes, reading the picture included.
    """

    plain: Evaluation
    averaged: Evaluation
    n: int
    mean: Mean
    times: float

    def __str__(self) -> str:
        """One sentence."""
        from tellapart.evaluation.calibration_summary import tta_sentence

        return tta_sentence(self.plain, self.averaged, self.n, self.mean, self.times, "the time")


def evaluate(
    trained: Run | str | Path,
    on: str | Path = "test",
    tta: int | None = None,
    tta_mean: str | None = None,
    *,
    skip_unknown_classes: bool = False,
    progress: bool = False,
    **label_options: Any,
) -> Evaluation:
    """Evaluate a finished training.

    Args:
        trained: the run, or its directory.
        on: "test" or "validation" (as evaluated at the end of the training); "train", the pictures that it was
            trained on, see `training_note`; or a folder or table of other pictures with labels. The bundle answers
            the latter two, without torch. Other pictures that the run was trained or validated on, by their content,
            are left out: `Evaluation.with_trained` has the score with them.
        tta: average over so many changed copies of each picture too; None: as at the end of the training.
        tta_mean: what is averaged, "logits" or "probabilities"; None: as at the end of the training.
        skip_unknown_classes: leave out other pictures of classes that the model does not know, instead of refusing.
        progress: show progress on standard error.
        label_options: of a folder or table: as for `tellapart.scan`.

    Raises:
        UsageError: there is no such mean, or nothing to be averaged.
        RunError: the training has not finished, or has no such part.
        DataError: other pictures have no labels, or labels that the model does not know.
    """
    finished = trained if isinstance(trained, Run) else Run(at_hand(trained))
    if tta is None and tta_mean is None and str(on) in _STORED:
        return _stored(finished, str(on))
    bundle = _bundle(finished)
    averaging = bundle.averaging(tta, tta_mean)
    others = Others(skip_unknown_classes, label_options)
    catalog, rows = _pictures(finished, bundle, on, progress_sink(progress), others)
    return _judged(finished, bundle, catalog, _answered(bundle, catalog, rows, *averaging), on)


def try_copies(
    trained: Run | str | Path,
    on: str | Path,
    n: int,
    mean: str | None = None,
    *,
    skip_unknown_classes: bool = False,
    progress: bool = False,
    **label_options: Any,
) -> Copies:
    """Evaluate without and with n changed copies of each picture, and take the time. Options as for `evaluate`.

    Raises:
        UsageError, RunError, DataError: as `evaluate`.
    """
    finished = trained if isinstance(trained, Run) else Run(at_hand(trained))
    bundle = _bundle(finished)
    _, averaged = bundle.averaging(n, mean)
    others = Others(skip_unknown_classes, label_options)
    catalog, rows = _pictures(finished, bundle, on, progress_sink(progress), others)
    plain, together = (
        _judged(finished, bundle, catalog, _answered(bundle, catalog, rows, n_copies, averaged), on)
        for n_copies in (0, n)
    )
    return Copies(plain, together, n, averaged, _times_longer(bundle, catalog, rows, n, averaged))


def _times_longer(bundle: Bundle, catalog: Catalog, rows: Rows, n: int, mean: Mean) -> float:
    """How many times longer answers with n copies take: the quickest of a few each, in turn, on the same pictures."""
    sample = rows[np.linspace(0, len(rows) - 1, min(len(rows), _TIMED)).astype(int)]
    _answered(bundle, catalog, sample, n, mean)  # starts onnxruntime, and brings the files into memory
    quickest = {0: math.inf, n: math.inf}
    for _ in range(_TURNS):
        for n_copies in quickest:
            started = time.perf_counter()
            _answered(bundle, catalog, sample, n_copies, mean)
            quickest[n_copies] = min(quickest[n_copies], time.perf_counter() - started)
    return quickest[n] / quickest[0]


def training_note(trained: Run | str | Path, evaluation: Evaluation) -> str:
    """What a score on the pictures that a network was trained on means, beside the score on others."""
    finished = trained if isinstance(trained, Run) else Run(at_hand(trained))
    parts = "training and validation" if finished.recipe.retrain else "training"
    sentence = (
        f"These are the {parts} pictures themselves: the score says how well the network has learned them, by heart "
        "or by what they have in common, and not how well it answers others."
    )
    on, other = next(iter(finished.evaluations.items()))
    if on != "test" and finished.recipe.retrain:  # it was trained on these too
        return sentence
    (name, here), there = evaluation.headline, other.headline[1]
    distance, side = abs(here.value - there.value), "lower" if here.value > there.value else "higher"
    difference = f"{difference_text(name, distance).lstrip('+')} {side}" if distance else "the same"
    return f"{sentence} On the {other.n:,} {on} pictures, {name} is {with_interval(name, there)}, {difference}."


def _stored(finished: Run, on: str) -> Evaluation:
    known = finished.evaluations
    if on not in known:
        raise RunError(f"{finished.directory} has no {on} part.", f"It has: {', '.join(known)}.")
    return known[on]


def _bundle(finished: Run) -> Bundle:
    from tellapart.deploy.bundle.read import Bundle

    return Bundle.load(finished.directory)


def _judged(finished: Run, bundle: Bundle, catalog: Catalog, predictions: Predictions, on: str | Path) -> Evaluation:
    """The evaluation, of other pictures without those that the run was trained or validated on."""
    from tellapart.evaluation.evaluate import evaluate_predictions
    from tellapart.evaluation.metrics import take
    from tellapart.runs.trained_on import known_pictures

    def scored(answers: Predictions) -> Evaluation:
        limits = bundle.thresholds or None
        return evaluate_predictions(answers, on=str(on), temperature=bundle.temperature, thresholds=limits)

    if str(on) in ("train", *_STORED):
        return scored(predictions)
    if not finished.catalog_file.is_file():
        note = "Whether it was trained on some of these pictures is not known: a bundle alone does not list its own."
        return with_notes(scored(predictions), note)
    known = known_pictures(finished, catalog.table["sha256"].gather(predictions.row).to_list())
    if not known.n:
        return scored(predictions)
    if known.n == len(predictions):
        return with_notes(scored(predictions), f"{known}: the score says nothing about new pictures.")
    unseen = scored(take(predictions, ~known.either))
    unseen = replace(unseen, with_trained=scored(predictions))
    return with_notes(unseen, f"{known}: they are left out of the score above.")


def _pictures(
    finished: Run, bundle: Bundle, on: str | Path, progress: ProgressSink, others: Others
) -> tuple[Catalog, Rows]:
    """The catalog, and the rows of the pictures that are meant."""
    if str(on) == "train":
        if Path(on).exists():
            progress.note("--on train: the pictures that it was trained on. For the folder of this name: --on ./train")
        return finished.catalog, _trained_on(finished)
    if str(on) in _STORED:
        _stored(finished, str(on))
        if str(on) == "validation" and finished.recipe.retrain:
            raise RunError(
                f"The network of {finished.directory} was trained on the validation pictures too, at last.",
                "Only the test part, or other pictures, can say how good it is.",
            )
        return finished.catalog, finished.predictions(str(on)).row
    return _other_pictures(bundle, Path(on), progress, others)


def _trained_on(finished: Run) -> Rows:
    """The labelled pictures that the network was trained on."""
    catalog, split = finished.catalog, finished.split
    rows = np.concatenate([split.train, split.validation]) if finished.recipe.retrain else split.train
    return np.intersect1d(unbroken(finished, catalog, rows), catalog.labelled)


def _other_pictures(bundle: Bundle, folder: Path, progress: ProgressSink, others: Others) -> tuple[Catalog, Rows]:
    """Labelled pictures of another folder or table."""
    if not folder.exists():
        raise UsageError(
            f"--on {folder}: there is no such folder or table.", "Or use --on test, --on validation, --on train."
        )
    catalog = scan(folder, progress, **others.label_options)
    if others.skip_unknown_classes:
        fewer, unknown_classes = catalog.without_unknown(bundle.classes)
        if unknown_classes:
            progress.note(
                f"Left out: {counted(len(catalog) - len(fewer), 'picture')} of "
                f"{counted(len(unknown_classes), 'class', 'classes')} that the model does not know: "
                f"{first_few(unknown_classes, 5)}."
            )
        catalog = fewer
    catalog = catalog.with_classes(bundle.classes)
    if catalog.multilabel and not bundle.multilabel:
        raise DataError(
            f"{folder} has any number of labels a picture; this model was trained to give one.",
            "Give pictures with one label each.",
        )
    catalog = replace(catalog, multilabel=bundle.multilabel)  # one label each is a case of several
    rows = np.intersect1d(catalog.readable, catalog.labelled)
    if not len(rows):
        raise DataError(
            f"{folder} holds no picture that can be read and has a label. {catalog.layout}",
            "Put each class into a folder of its own, or add a table with the columns file_name and label.",
        )
    if left_out := len(catalog) - len(rows):
        progress.note(f"Left out: {left_out:,} of them, which are unreadable or have no label.")
    unknown = catalog.unknown(rows)
    if unknown is not None:
        progress.note(
            f"Left out: {int(unknown.sum()):,} labels of {int(unknown.any(axis=1).sum()):,} pictures, not known."
        )
    return catalog, rows


def _answered(bundle: Bundle, catalog: Catalog, rows: Rows, n_copies: int, mean: Mean) -> Predictions:
    """The bundle's predictions for pictures."""
    from concurrent.futures import ThreadPoolExecutor

    from tellapart.core.preprocess import Pixels
    from tellapart.data.decoding.decode import read_picture

    def load(row: int) -> Pixels:
        return read_picture(catalog.path(row), bundle.preprocessing)

    size = 64
    with ThreadPoolExecutor() as pool:
        parts = [
            bundle.predict_distance(np.stack(list(pool.map(load, part))), n_copies=n_copies, mean=mean)[0]
            for part in (rows[start : start + size] for start in range(0, len(rows), size))
        ]
    logits = np.concatenate([np.empty((0, len(bundle.classes)), np.float32), *parts])
    return Predictions.of(rows, logits, catalog.target(rows), bundle.classes, catalog.unknown(rows))
