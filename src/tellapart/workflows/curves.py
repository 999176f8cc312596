"""Learning curves of several runs in one figure, and the settings that differ between them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tellapart.core.files import check_suffix
from tellapart.errors import RunError, UsageError
from tellapart.evaluation.chance import constant_accuracy
from tellapart.report.curves import curves as curves_of
from tellapart.report.figures import FIGURES
from tellapart.report.page import write_page
from tellapart.report.sections.curves_page import MOST, Compared, compared_page, write_compared_figure
from tellapart.report.sections.settings import UNUSED, differing
from tellapart.runs.run import Run
from tellapart.runs.settings import settings


def curves(runs: Sequence[Run | str | Path], out: str | Path = "curves.html") -> list[Compared]:
    """Write training and validation curves of several runs as one figure.

    Args:
        runs: run directories, finished or not; each must have got through one epoch.
        out: a page (.html), with the best score, the smallest gap and the settings that differ; or
            the figure alone (.png, .svg, .pdf).

    Returns:
        The runs with their curves, in the order of `runs`.

    Raises:
        UsageError: no runs or too many, or a file of another kind.
        RunError: one of them is no run directory, or has no epoch to show.
    """
    path = Path(out)
    suffix = check_suffix(path, (".html", *FIGURES))
    if not 1 <= len(runs) <= MOST:
        raise UsageError(f"{len(runs)} runs cannot be shown in one figure.", f"Name 1 to {MOST} run directories.")
    opened = [run if isinstance(run, Run) else Run(Path(run)) for run in runs]
    together = [_compared(run) for run in opened]
    if suffix == ".html":
        page = compared_page(together, notes(opened, together))
        write_page(page, path, _no_picture)
    else:
        write_compared_figure(together, path)
    return together


def notes(runs: Sequence[Run], together: Sequence[Compared]) -> list[str]:
    """Sentences that warn of comparing: other pictures, another split, losses of another kind, a retraining."""
    warnings = [
        f"{one.name} was trained again on training and validation pictures: its scores are those before."
        for run, one in zip(runs, together, strict=True)
        if run.recipe.retrain
    ]
    for i, run in enumerate(runs[1:], start=1):
        if run.catalog.digest != runs[0].catalog.digest:
            warnings.append(f"{together[i].name} was trained on other pictures than {together[0].name}.")
        elif not np.array_equal(run.split.validation, runs[0].split.validation):
            warnings.append(f"{together[i].name} was validated on other pictures than {together[0].name}.")
    different = differing([run.settings for run in together])
    kinds = [  # a stage that a run does not have is no other loss
        name
        for name, values in different.items()
        if name.endswith((".loss", ".label_smoothing")) and len({*values} - {UNUSED}) > 1
    ]
    if kinds:
        warnings.append(f"Their losses are not of one kind ({', '.join(kinds)} differ): compare the accuracies.")
    return warnings


def _compared(run: Run) -> Compared:
    in_effect = settings(run)
    course = curves_of(run.events())
    if not course.epoch:
        raise RunError(
            f"{run.directory} has no epoch to show yet: its first one has not been finished.",
            "Run the same `tellapart train` command again to go on.",
        )
    validation = run.split.validation
    target, unknown = run.catalog.target(validation), run.catalog.unknown(validation)
    n_known = len(target) if target.ndim == 2 else int((target >= 0).sum())
    return Compared(str(run.directory), course, in_effect, constant_accuracy(target, unknown), n_known)


def _no_picture(row: int) -> bytes:
    raise OSError(f"this page has no pictures, but asks for number {row}")
