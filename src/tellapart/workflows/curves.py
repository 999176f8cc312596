"""Learning curves of several runs in one figure, and the settings that differ between them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tellapart.errors import RunError, UsageError
from tellapart.report.curves import curves as curves_of
from tellapart.report.page import write_page
from tellapart.report.sections.curves_page import MOST, Compared, compared_page, differing, write_compared_figure
from tellapart.runs.run import Run

if TYPE_CHECKING:
    from tellapart.recipe.schema import Recipe

_FORMS = (".html", ".png", ".svg")


def curves(runs: Sequence[Run | str | Path], out: str | Path = "curves.html") -> list[Compared]:
    """Write training and validation curves of several runs as one figure.

    Args:
        runs: run directories, finished or not; each must have got through one epoch.
        out: a page (.html), which also tells the best score and the smallest gap and lists the settings that differ; or
            the figure alone (.png, .svg).

    Returns:
        The runs with their curves, in the order of `runs`.

    Raises:
        UsageError: no runs or too many, or a file of another kind.
        RunError: one of them is no run directory, or has no epoch to show.
    """
    path = Path(out)
    if path.suffix.lower() not in _FORMS:
        raise UsageError(f"--out {path}: expected a file that ends in {', '.join(_FORMS)}.")
    if not 1 <= len(runs) <= MOST:
        raise UsageError(f"{len(runs)} runs cannot be shown in one figure.", f"Name 1 to {MOST} run directories.")
    opened = [run if isinstance(run, Run) else Run(Path(run)) for run in runs]
    together = [_compared(run) for run in opened]
    if path.suffix.lower() == ".html":
        page = compared_page(together, notes(opened, together))
        write_page(page, path, _no_picture)
    else:
        write_compared_figure(together, path)
    return together


def notes(runs: Sequence[Run], together: Sequence[Compared]) -> list[str]:
    """Sentences that warn of comparing: other pictures, another split, losses of another kind."""
    warnings = []
    for i, run in enumerate(runs[1:], start=1):
        if run.catalog.digest != runs[0].catalog.digest:
            warnings.append(f"{together[i].name} was trained on other pictures than {together[0].name}.")
        elif not np.array_equal(run.split.validation, runs[0].split.validation):
            warnings.append(f"{together[i].name} was validated on other pictures than {together[0].name}.")
    kinds = [name for name in differing(together) if name.endswith((".loss", ".label_smoothing"))]
    if kinds:
        warnings.append(f"Their losses are not of one kind ({', '.join(kinds)} differ): compare the accuracies.")
    return warnings


def _compared(run: Run) -> Compared:
    recipe = run.recipe
    course = curves_of(run.events())
    if not course.epoch:
        raise RunError(
            f"{run.directory} has no epoch to show yet: its first one has not been finished.",
            "Run the same `tellapart train` command again to go on.",
        )
    return Compared(str(run.directory), course, settings(recipe))


def settings(recipe: Recipe) -> dict[str, str]:
    """A recipe flat and as text: "stages.0.epochs" → "7"."""
    return dict(_flat(recipe.model_dump(exclude_none=True)))


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Nested values as dotted names and text; lists of transforms and of plain values stay together."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list) and value and isinstance(value[0], Mapping) and "transform" not in value[0]:
        for number, inner in enumerate(value):
            yield from _flat(inner, f"{name}.{number}")
    else:
        yield name, _text(value)


def _text(value: Any) -> str:
    """A setting as a person would write it: 0.002, "none" for an empty list, transforms with their strengths."""
    if isinstance(value, Mapping):
        about = dict(value)
        first = [str(about.pop("transform"))] if "transform" in about else []
        return " ".join([*first, *(f"{key}={_text(inner)}" for key, inner in about.items())])
    if isinstance(value, list):
        between = "; " if value and isinstance(value[0], Mapping | list) else "–" if len(value) == 2 else ", "
        return between.join(map(_text, value)) or "none"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _no_picture(row: int) -> bytes:
    raise OSError(f"this page has no pictures, but asks for number {row}")
