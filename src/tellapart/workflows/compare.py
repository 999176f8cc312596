"""Comparison of finished runs on the same pictures and labels; seeds of one recipe are put together."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, product, takewhile
from pathlib import Path

import numpy as np

from tellapart.core.files import check_suffix
from tellapart.core.predictions import Floats, Predictions, average_logits
from tellapart.core.several_runs import AVERAGE
from tellapart.core.text import counted, first_few
from tellapart.data.catalog import Catalog
from tellapart.errors import DataError, RunError, UsageError
from tellapart.evaluation.compare import compare as compared
from tellapart.evaluation.comparison import Answered, Comparison, Contender
from tellapart.evaluation.metrics import known, take
from tellapart.report import formatting
from tellapart.report.answers import Answers
from tellapart.report.curve_bands import Banded, bands_of
from tellapart.report.curves import curves
from tellapart.report.figures import FIGURES
from tellapart.report.page import write_page
from tellapart.report.run_answers import answered as answers_of
from tellapart.report.sections.comparison_page import MOST, ComparisonDetails, comparison_page, write_differences_figure
from tellapart.report.sections.settings import UNUSED, differing
from tellapart.report.thumbnail import thumbnails_of
from tellapart.runs.json_files import AverageFile, read_checked
from tellapart.runs.run import Run
from tellapart.runs.settings import settings
from tellapart.runs.trained_on import known_pictures

_SAME = (
    "Compare runs that were judged on the same pictures. The parts are drawn with the seed: keep them the same with "
    "--set data.split_seed=0 in every training, or give the data a test part (a folder test/, or a column split)."
)


@dataclass(frozen=True)
class Opened:
    """A run with its answers.

    Attributes:
        path: as the user called it.
        catalog: its pictures. answered: its answers to those with a label.
        recipe: what it was trained with but for seeds, and on what; None where there is no recipe (an average).
        seed: of the training; None where there is no recipe.
        settings: its recipe, flat.
    """

    path: str
    catalog: Catalog
    answered: Answered
    recipe: str | None
    seed: int | None
    settings: Mapping[str, str]


def compare(
    runs: Sequence[Run | str | Path], *, metric: str = "", on: str = "", out: str | Path | None = None
) -> Comparison:
    """Compare finished runs: which is better, how sure that is, and how many pictures would tell.

    Runs whose recipes differ in their seed only, trained on the same data, are put together as one recipe: their scores
    are averaged, and the chance of the seed is taken into account. Every two recipes are compared.

    Args:
        runs: finished run directories, averages of such, or cross-validations, two recipes at least. All must have
            been evaluated on the same pictures (by content) with the same labels and classes (by name).
        metric: what is compared, by default the headline: accuracy, or f1_micro for several labels.
        on: "test" or "validation"; by default the test pictures, if all have such.
        out: a page (.html) to write, with galleries of the pictures that make the difference; or the plot
            (.png, .svg, .pdf).

    Raises:
        UsageError: too few or too many runs, no such score, or a file of another kind.
        RunError: one of them is no finished run.
        DataError: other pictures, labels or classes; the message says what differs.
    """
    return compare_runs(runs, metric, on, out)[0]


def compare_runs(
    runs: Sequence[Run | str | Path], metric: str, on: str, out: str | Path | None
) -> tuple[Comparison, str]:
    """The comparison, and the part that it is on: "test", "validation" or "all folds"."""
    path = None if out is None else Path(out)
    if path is not None:
        check_suffix(path, (".html", *FIGURES))
    paths = [run.directory if isinstance(run, Run) else Path(run) for run in runs]
    if len({p.resolve() for p in paths}) < len(paths):
        raise UsageError("The same run is named twice.", "Name each run directory once.")
    on = on or _common_part(paths)
    opened = [_open(p, on) for p in paths]
    opened = [opened[0], *(_aligned(opened[0], other) for other in opened[1:])]
    opened, notes = _without_trained(opened, on)
    groups = _groups(opened)
    if len(groups) > MOST:
        raise UsageError(f"{len(groups)} recipes are too many to compare.", f"Name {MOST} at most.")
    if len(groups) == 1 and len(opened) > 1:
        raise UsageError(
            "These runs are seeds of one recipe: there is nothing to compare them with.",
            "Name runs of another recipe too.",
        )
    contenders = [Contender(_name(group), tuple(one.answered for one in group)) for group in groups]
    comparison = replace(compared(contenders, metric), notes=(*notes, *_identical(groups)))
    if path is not None and path.suffix.lower() == ".html":
        catalog = opened[0].catalog
        page = comparison_page(comparison, _details(groups, on))
        write_page(page, path, thumbnails_of(catalog))
    elif path is not None:
        write_differences_figure(comparison, path)
    return comparison, on


def _is_folds(path: Path) -> bool:
    return (path / "cross_validation.json").is_file()


def _common_part(paths: Sequence[Path]) -> str:
    """The part that all were evaluated on: the test, if all have one."""
    folds = [_is_folds(path) for path in paths]
    if all(folds):
        return "all folds"
    if any(folds):
        raise UsageError(
            "A cross-validation is about all pictures, a run about its test pictures: they cannot be compared.",
            "Compare cross-validations with each other, and runs with each other.",
        )
    every = [Run(path).evaluation_values["evaluations"] for path in paths]
    return "test" if all("test" in each for each in every) else "validation"


def _open(path: Path, on: str) -> Opened:
    """Read a run's predictions; pictures without a label are left out."""
    if _is_folds(path):
        first = Run(path / "fold-1")
        answered = Answered(known(Predictions.load(path / "predictions.parquet")))
    else:
        first = Run(path)
        parts = first.evaluation_values["evaluations"]
        if on not in parts:
            raise RunError(f"{path} has no {on} part.", f"It has: {', '.join(parts)}.")
        answered = answers_of(first, first.predictions(on))
    if not first.recipe_file.is_file():
        members = ", ".join(read_checked(path / AVERAGE, AverageFile)["runs"]) if first.is_average else "runs"
        return Opened(str(path), first.catalog, answered, None, None, {"average of": members})
    recipe = first.recipe
    plain = recipe.model_dump(
        exclude_none=True, exclude={"seed": True, "about": True, "plan": True, "data": {"split_seed"}}
    )
    key = json.dumps([plain, first.catalog.digest, on], sort_keys=True, default=str)
    return Opened(str(path), first.catalog, answered, key, recipe.seed, settings(first))


def _aligned(first: Opened, other: Opened) -> Opened:
    """The other's answers in the first one's order of pictures and classes.

    Raises:
        DataError: they are not about the same pictures, labels and classes.
    """
    here, there = first.answered.predictions, other.answered.predictions
    who = f"{first.path} and {other.path} cannot be compared"
    if here.multilabel != there.multilabel:
        raise DataError(f"{who}: one has one label a picture, the other several.", "Compare runs of one kind.")
    if set(here.classes) != set(there.classes):
        only = [
            f"only {run.path} knows {_listed(names)}"
            for run, names in (
                (first, set(here.classes) - set(there.classes)),
                (other, set(there.classes) - set(here.classes)),
            )
            if names
        ]
        raise DataError(f"{who}: their classes differ; {', and '.join(only)}.", "Compare runs on the same classes.")
    mine, theirs = _contents(first), _contents(other)
    _check_pictures(who, first, other, mine, theirs)
    labels, other_labels = _labels(here), _labels(there)
    # Copies of one picture are told apart by their labels, where these differ.
    order = sorted(range(len(mine)), key=lambda i: (mine[i], labels[i]))
    other_order = sorted(range(len(theirs)), key=lambda i: (theirs[i], other_labels[i]))
    wrong = [(i, j) for i, j in zip(order, other_order, strict=True) if labels[i] != other_labels[j]]
    if wrong:
        i, j = wrong[0]
        raise DataError(
            f"{who}: {len(wrong):,} of {counted(len(mine), 'picture')} have other labels in the second; for "
            "example "
            f"{_path(first, i)} ({_listed(labels[i]) or 'none'} and {_listed(other_labels[j]) or 'none'}).",
            "Judge both on the same labels: train one of them again.",
        )
    back = np.empty(len(order), np.int64)
    back[np.array(order)] = other_order
    ordered = other.answered.in_order(here.classes)
    return replace(other, answered=replace(ordered, predictions=replace(here, logits=ordered.predictions.logits[back])))


def _without_trained(opened: Sequence[Opened], on: str) -> tuple[list[Opened], list[str]]:
    """The runs without the pictures that any of them was trained on, as long as others are left; and what is said.

    All are aligned with the first. A fold of a cross-validation was not trained on what it answers.
    """
    contents = _contents(opened[0])
    notes, trained = [], np.zeros(len(contents), bool)
    parts = ("train", "validation") if on == "test" else ("train",)
    for one in opened if on in ("test", "validation") else ():
        pictures = known_pictures(Run(Path(one.path)), contents, parts).trained
        if pictures.any():
            n = counted(len(contents), "picture")
            notes.append(f"{one.path} was trained on {int(pictures.sum()):,} of the {n}.")
            trained |= pictures
    if not trained.any():
        return list(opened), []
    if trained.all():
        return list(opened), [*notes, "The comparison says nothing about new pictures."]
    left = [
        replace(one, answered=replace(one.answered, predictions=take(one.answered.predictions, ~trained)))
        for one in opened
    ]
    return left, [
        *notes,
        f"All are compared on the {counted(int((~trained).sum()), 'picture')} that none was trained on.",
    ]


def _contents(opened: Opened) -> list[bytes]:
    """SHA-256 of each picture's file."""
    rows = opened.answered.predictions.row
    return [content or b"" for content in opened.catalog.table["sha256"].gather(rows).to_list()]


def _labels(predictions: Predictions) -> list[tuple[str, ...]]:
    """Names of each picture's labels, in the order of the alphabet."""
    names = predictions.classes
    if predictions.multilabel:
        return [tuple(sorted(names[k] for k in np.flatnonzero(line))) for line in predictions.target]
    return [(names[k],) for k in predictions.target.tolist()]


def _check_pictures(who: str, first: Opened, other: Opened, mine: Sequence[bytes], theirs: Sequence[bytes]) -> None:
    if sorted(mine) == sorted(theirs):
        return
    here, there = set(mine), set(theirs)
    differences = [f"{counted(len(mine), 'picture')} and {len(theirs):,}, {len(here & there):,} of them in both"]
    for run, contents, others in ((first, mine, there), (other, theirs, here)):
        only = [i for i, content in enumerate(contents) if content not in others]
        if only:
            differences.append(f"only in {run.path}: {len(only):,}, such as {_path(run, only[0])}")
    raise DataError(f"{who}: they were judged on other pictures ({'; '.join(differences)}).", _SAME)


def _path(opened: Opened, i: int) -> str:
    return formatting.visible(opened.catalog.name(int(opened.answered.predictions.row[i])))


def _listed(names: Sequence[str] | set[str], most: int = 5) -> str:
    return first_few(map(formatting.visible, sorted(names)), most)


def _groups(opened: Sequence[Opened]) -> list[list[Opened]]:
    """Groups of runs whose recipes differ in the seed only, in the order of the runs."""
    groups: list[list[Opened]] = []
    for one in opened:
        for group in groups:
            same = one.recipe is not None and group[0].recipe == one.recipe
            if same and one.seed not in [other.seed for other in group]:
                group.append(one)
                break
        else:
            groups.append([one])
    return groups


def _identical(groups: Sequence[Sequence[Opened]]) -> Iterator[str]:
    """A sentence for every two runs of different recipes whose weights are the same, bit for bit."""
    for group, others in combinations(groups, 2):
        for one, other in product(group, others):
            # Files are read only where the answers are the same.
            if not np.array_equal(one.answered.predictions.logits, other.answered.predictions.logits):
                continue
            weights = _weights(Path(one.path))
            if weights and weights == _weights(Path(other.path)):
                different = differing([one.settings, other.settings])
                # `stop_on` beside `patience`: a key that one of them has no use for follows from another that differs.
                options = ", ".join([name for name in different if UNUSED not in different[name]] or different)
                cause = f": what differs between their recipes ({options}) changed nothing" if options else ""
                who = f"{formatting.visible(one.path)} and {formatting.visible(other.path)}"
                yield f"{who} have identical weights{cause}."


def _weights(path: Path) -> list[str]:
    """A digest of a run's weights, or of those of every fold; none where they are not all there."""
    folders = sorted(path.glob("fold-*")) if _is_folds(path) else [path]
    digests = []
    for folder in folders:
        try:
            with (folder / "bundle" / "model.safetensors").open("rb") as file:
                digests.append(hashlib.file_digest(file, "sha256").hexdigest())
        except OSError:
            return []
    return digests


def _name(group: Sequence[Opened]) -> str:
    """The name of a recipe: the common beginning of its runs' names."""
    if len(group) == 1:
        return group[0].path
    paths = [one.path for one in group]
    alike = takewhile(lambda letters: len(set(letters)) == 1, zip(*paths, strict=False))
    common = "".join(letters[0] for letters in alike)
    start = f"{common}…" if len(Path(common).name) > 1 else group[0].path
    return f"{start} ({len(group)} seeds)"


def _details(groups: Sequence[Sequence[Opened]], on: str) -> ComparisonDetails:
    catalog = groups[0][0].catalog
    notes = []
    if on == "validation":
        notes.append("The best epochs were chosen on these very pictures: the scores flatter, and so may differences.")
    unlike = [g for g in groups if g[0].recipe is not None and g[0].catalog.digest != groups[0][0].catalog.digest]
    notes += [f"{_name(group)} was made from other data than {_name(groups[0])}." for group in unlike]
    seeds = [one.seed for group in groups for one in group]
    if len(groups) == 2 and len(seeds) == 2 and groups[0][0].recipe == groups[1][0].recipe is not None:
        notes.append("Both have the same recipe and seed.")
    answers = [
        Answers(together, catalog.name, 1.0, limits, catalog.link) for together, limits in map(_together, groups)
    ]
    return ComparisonDetails(
        on, answers, differing([_settings(group) for group in groups]), notes, [_curves(group) for group in groups]
    )


def _curves(group: Sequence[Opened]) -> Banded | None:
    """Learning curves of a recipe's runs; an average and a cross-validation have none."""
    if any(one.recipe is None or _is_folds(Path(one.path)) for one in group):
        return None
    return bands_of([curves(Run(Path(one.path)).events()) for one in group])


def _together(group: Sequence[Opened]) -> tuple[Predictions, Floats | None]:
    """The mean of the calibrated probabilities over seeds, as logits at temperature 1; and the mean thresholds."""
    first = group[0].answered
    calibrated = [one.answered.predictions.logits / np.asarray(one.answered.temperature) for one in group]
    logits = average_logits(calibrated, first.predictions.multilabel, "probabilities")
    limits = None
    if first.thresholds is not None:
        limits = np.mean([np.asarray(one.answered.thresholds) for one in group], axis=0)
    return replace(first.predictions, logits=logits.astype(np.float32)), limits


def _settings(group: Sequence[Opened]) -> dict[str, str]:
    """The settings of a recipe; where its runs differ, as in the seed, every value."""
    names = dict.fromkeys(name for run in group for name in run.settings)
    return {name: ", ".join(dict.fromkeys(run.settings[name] for run in group)) for name in names}
