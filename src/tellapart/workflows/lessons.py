"""What a student learns from: pictures with and without labels, and a teacher's answers to them."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import polars as pl

from tellapart.core.events import Computing
from tellapart.core.hardware import n_processors
from tellapart.core.predictions import Predictions, average_logits
from tellapart.core.several_runs import AVERAGE
from tellapart.data.catalog import UNKNOWN, Catalog
from tellapart.data.scan import catalog_of
from tellapart.deploy.bundle.read import Bundle
from tellapart.deploy.find_pictures import find_pictures
from tellapart.deploy.read_pictures import read_ahead
from tellapart.errors import RunError, UnreadableError
from tellapart.recipe.distill import Distill
from tellapart.runs.run import Run

if TYPE_CHECKING:
    from tellapart.training.distillation import Teacher

Floats = npt.NDArray[np.float32]
_BATCH = 16


@dataclass(frozen=True)
class Teachers:
    """Finished runs that teach together: a single one, or those of an average.

    Attributes:
        runs: trained on the same pictures and the same split.
        bundles: theirs, in the same order.
        weights: how much each counts; their sum is 1.
    """

    runs: tuple[Run, ...]
    bundles: tuple[Bundle, ...]
    weights: tuple[float, ...]


def teachers_of(run: Run) -> Teachers:
    """The networks behind a run directory; of an average, all its runs.

    Raises:
        RunError: it is no finished run.
        BundleError: a bundle is damaged.
    """
    names, weights = [str(run.directory)], [1.0]
    if run.is_average:
        from tellapart.runs.json_files import AverageFile, read_checked

        made_of = read_checked(run.directory / AVERAGE, AverageFile)
        names, weights = made_of["runs"], made_of["weights"] or [1.0] * len(made_of["runs"])
    runs = tuple(Run(Path(name)) for name in names)
    for each in runs:
        each.need(each.catalog_file)
        each.need(each.evaluation_file)
    return Teachers(
        runs, tuple(Bundle.load(each.directory) for each in runs), tuple(weight / sum(weights) for weight in weights)
    )


def unlabelled_pictures(paths: Sequence[str], labelled: Catalog) -> tuple[Catalog, list[str]]:
    """Further pictures without labels; copies of those that have one, of each other, and unreadable ones are left out.

    A copy of a test picture would show the student what it is tested on.

    Returns:
        The pictures, with whole paths; and what was left out, in words.
    """
    files = [str(path.absolute()) for path in find_pictures(paths)]
    scanned = catalog_of(files, [[] for _ in files], labelled.classes, labelled.multilabel, "pictures without labels")
    table = scanned.table.with_columns(path=pl.Series([Path(file).as_posix() for file in files], dtype=pl.String))
    readable = table.filter(pl.col("problem").is_null())
    fresh = readable.filter(~pl.col("sha256").is_in(labelled.table["sha256"].drop_nulls().implode()))
    single = fresh.unique("sha256", keep="first", maintain_order=True)
    left_out = []
    for n, reason in (
        (table.height - readable.height, "cannot be read"),
        (readable.height - fresh.height, "are copies of pictures with labels"),
        (fresh.height - single.height, "are copies of each other"),
    ):
        left_out += [f"{n:,} of the further pictures {reason}"] if n else []
    return replace(scanned, table=single), left_out


def together(labelled: Catalog, unlabelled: Catalog | None) -> Catalog:
    """Pictures with labels, then those without, in one catalog. Paths of the latter are whole: they lie elsewhere."""
    if unlabelled is None or not len(unlabelled):
        return labelled
    more = unlabelled.table
    if UNKNOWN in labelled.table.columns:
        more = more.with_columns(pl.lit([], labelled.table.schema[UNKNOWN]).alias(UNKNOWN))
    return replace(labelled, table=pl.concat([labelled.table, more.select(labelled.table.columns)]))


def answer(
    teachers: Teachers, catalog: Catalog, rows: npt.NDArray[np.int64]
) -> Generator[Computing, None, Predictions]:
    """The teachers' calibrated answers to rows of a catalog; of several, their mean probability.

    Raises:
        UnreadableError: a picture that can no longer be read.
    """
    each = []
    for number, bundle in enumerate(teachers.bundles, start=1):
        task = f"answers of the teacher{f' {number}' if len(teachers.bundles) > 1 else ''}"
        columns = [bundle.classes.index(name) for name in catalog.classes]
        each.append((yield from _calibrated(bundle, catalog, rows, task))[:, columns])
    logits = average_logits(each, catalog.multilabel, "probabilities", teachers.weights) if len(each) > 1 else each[0]
    return Predictions.of(rows, logits, catalog.target(rows), catalog.classes)


def _calibrated(
    bundle: Bundle, catalog: Catalog, rows: npt.NDArray[np.int64], task: str
) -> Generator[Computing, None, Floats]:
    n_copies, mean = bundle.averaging(None, None)
    logits = np.empty((len(rows), len(bundle.classes)), np.float32)
    pictures = read_ahead((catalog.path(row) for row in rows), bundle.preprocessing, n_processors(), ahead=4 * _BATCH)
    for start in range(0, len(rows), _BATCH):
        batch = list(islice(pictures, _BATCH))
        for picture in batch:
            if picture.pixels is None:
                raise UnreadableError(picture.path, picture.problem)
        pixels = np.stack([picture.pixels for picture in batch if picture.pixels is not None])
        logits[start : start + len(batch)] = bundle.predict_distance(pixels, n_copies=n_copies, mean=mean)[0]
        yield Computing(-1, task, start + len(batch), len(rows))
    temperature: Floats = np.asarray(bundle.temperature, np.float32)
    calibrated: Floats = np.divide(logits, temperature, dtype=np.float32)
    return calibrated


def read_lessons(run: Run, labelled: Catalog, config: Distill) -> tuple[Catalog, Teacher]:
    """All pictures that a student trains on, and the teacher's answers to them, from its run directory.

    Raises:
        RunError: the answers are missing, damaged, or of other pictures.
    """
    import torch

    from tellapart.training.distillation import Teacher

    if not run.teacher_file.is_file():
        raise RunError(
            f"{run.directory} has no answers of a teacher, and its recipe has [distill].",
            "`tellapart distill RUN --model NAME` teaches a student; to train without a teacher, leave [distill] out.",
        )
    unlabelled = Catalog.load(run.unlabelled_file) if run.unlabelled_file.is_file() else None
    catalog, answers = together(labelled, unlabelled), Predictions.load(run.teacher_file)
    if answers.classes != catalog.classes or (len(answers) and answers.row[-1] >= len(catalog)):
        raise RunError(f"{run.teacher_file} is of other pictures.", "Distil again with another --out.")
    logits = np.zeros((len(catalog), len(catalog.classes)), np.float32)
    logits[answers.row] = answers.logits
    catalog = replace(catalog, table=_with_answers(catalog, len(labelled), logits))
    teacher = Teacher(torch.from_numpy(logits), len(labelled), catalog.multilabel, config.temperature, config.share)
    return catalog, teacher


def _with_answers(catalog: Catalog, n_labelled: int, logits: Floats) -> pl.DataFrame:
    """The table with the teacher's answers as labels of the pictures that have none: for counts and balancing alone."""
    chosen = [np.flatnonzero(row > 0).tolist() if catalog.multilabel else [int(row.argmax())] for row in logits]
    labels = [*catalog.table["labels"].to_list()[:n_labelled], *chosen[n_labelled:]]
    return catalog.table.with_columns(labels=pl.Series(labels, dtype=pl.List(pl.UInt32)))
