"""The report of a run, made from its directory alone. Needs no training and no torch."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

from tellapart.core.bundle_description import read_description
from tellapart.core.own_paths import without_folders
from tellapart.data.catalog import PARTS
from tellapart.data.splitting.split_warnings import split_warnings
from tellapart.report.blocks import Section
from tellapart.report.figures import write_figures
from tellapart.report.page import write_report
from tellapart.report.run_data import Part, Pictures, ReportData
from tellapart.report.sections.audit import audit_section
from tellapart.report.sections.calibration import certainty
from tellapart.report.sections.corrections import corrections_section
from tellapart.report.sections.distillation import distillation
from tellapart.report.sections.epochs import epochs
from tellapart.report.sections.explanations import explained
from tellapart.report.sections.image_sizes import sizes
from tellapart.report.sections.lr_finder import lr_finder
from tellapart.report.sections.network import network
from tellapart.report.sections.slices import slices_section
from tellapart.report.sections.workers import workers
from tellapart.report.thumbnail import thumbnails_of
from tellapart.report.verdict import pictures_word, verdict
from tellapart.runs.commands import training_command
from tellapart.runs.run import Run

#: Functions that make further sections from a run directory; None where it holds nothing for the section. A section
#: with the anchor of one that is there adds its blocks to that one. See `ReportData.more`.
SECTIONS: tuple[Callable[[Run], Section | None], ...] = (
    distillation,
    sizes,
    audit_section,
    epochs,
    lr_finder,
    network,
    corrections_section,
    certainty,
    slices_section,
    explained,
    workers,
)

#: Keys of the environment file that the report shows elsewhere, or not at all.
_ELSEWHERE = ("command", "begun", "weights", "resumed", "corrections")


def report(run: Run) -> Path:
    """Write figures and report of a run from its directory.

    Returns:
        The report's path.

    Raises:
        RunError: something that a finished training leaves is missing.
    """
    data = report_data(run)
    write_figures(data, run.figures)
    return write_report(data, run.directory)


def report_data(run: Run) -> ReportData:
    """The data of a run's report."""
    about = run.environment
    values = run.evaluation_values
    evaluations = run.evaluations
    return ReportData(
        title=run.catalog.root.name,
        when=about["begun"].replace("T", " ")[:16],
        model=_model(run),
        pictures=pictures_of(run),
        events=run.events(),
        recipe=run.recipe.to_toml(),
        command=training_command(run),
        started_by=about["command"],
        environment=without_folders({k: v for k, v in about.items() if k not in _ELSEWHERE}),
        evaluations=list(evaluations.values()),
        predictions=run.predictions(next(iter(evaluations))),
        temperature=values["temperature"],
        thresholds=values["thresholds"],
        reliability=values.get("certainty", {}).get(next(iter(evaluations)), {}),
        notes=[*_notes(run), *values.get("notes", [])],
        remarks=_remarks(run),
        next_step=_here(run, verdict(run).next_step),
        then=_commands(run),
        more=[section for make in SECTIONS if (section := make(run)) is not None],
    )


def pictures_of(run: Run) -> Pictures:
    """The pictures of a run, by part, with the unreadable files."""
    catalog, split = run.catalog, run.split
    rows = {part: getattr(split, part) for part in PARTS}
    unreadable = catalog.table.filter(catalog.table["problem"].is_not_null())
    left_out = [(entry["path"], entry["reason"]) for entry in run.skipped]
    return Pictures(
        classes=catalog.classes,
        multilabel=catalog.multilabel,
        parts={part: Part(numbers, catalog.target(numbers)) for part, numbers in rows.items() if len(numbers)},
        name=catalog.name,
        jpeg=thumbnails_of(catalog),
        link=catalog.link,
        layout=catalog.layout,
        divided=split.description,
        unreadable=[*unreadable.select("path", "problem").iter_rows(), *left_out],
    )


def _model(run: Run) -> str:
    model = run.recipe.model
    preprocessing = read_description(run.bundle).preprocessing
    origin = "pretrained" if model.pretrained or model.weights else "from scratch"
    weights = without_folders(run.environment.get("weights", ""))
    return f"{model.name}, {origin}, {preprocessing.width} × {preprocessing.height} pixels" + (
        f"; {weights}" if weights else ""
    )


def _remarks(run: Run) -> list[str]:
    """Lines on what was chosen for the training, and on where it went on."""
    chosen = run.recipe.plan.why if run.recipe.plan else []
    came = (run.plan or {}).get("outcome", [])
    return [*chosen, *came, *run.environment.get("resumed", [])]


def _here(run: Run, text: str) -> str:
    """A sentence with commands, as they are typed beside the run: a report that is passed on names no folder above."""
    for verb in ("audit", "train"):
        text = text.replace(f"tellapart {verb} {pictures_word(run.catalog.root)}", f"tellapart {verb} PICTURES")
    return text.replace(shlex.quote(str(run.directory)), shlex.quote(run.directory.name))


def _commands(run: Run) -> list[tuple[str, str]]:
    """Commands that go on from a finished run, each with what it is for."""
    name = shlex.quote(run.directory.name)
    return [
        ("look at everything that it got wrong", f"tellapart errors {name}"),
        ("put wrong labels right", f"tellapart review {name}"),
        ("ask it about new pictures", f"tellapart predict {name} NEW_PICTURES"),
    ]


def _notes(run: Run) -> list[str]:
    notes = list(split_warnings(run.catalog, run.split))
    if skipped := run.skipped:
        notes.append(f"{len(skipped):,} pictures broke after the scan and were left out, as asked for.")
    if run.recipe.retrain:
        ends = [e for e in run.events() if e["event"] == "StageDone" and e.get("retraining")]
        reasons = ", ".join(f"stage {e['stage'] + 1}: {e['reason'].partition(' done')[0]}" for e in ends)
        notes.append(
            "The network that answers was trained again, from the same initial weights, on training and validation "
            f"pictures together, for as long as was best on validation ({reasons}). So it has no validation score; "
            "curves and validation figures are those of the first training, and so is what its certainty and "
            "thresholds were fitted on."
        )
    return notes
