"""The commands `errors` and `review`: parse, call, print."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tellapart.cli.options import LabelOptions, Offline, Quiet, out_option, stay_offline, with_label_options
from tellapart.core.output import print_out
from tellapart.core.several_runs import describe_several
from tellapart.errors import RunError, UsageError

Where = Annotated[Path, typer.Argument(help="A run directory, or a folder or table of labelled pictures.")]
ModelName = Annotated[
    str | None,
    typer.Option("--model", help="For pictures without a run: the pretrained network that checks the labels."),
]


@with_label_options
def errors(
    where: Where,
    *,
    out: Annotated[Path | None, out_option("Folder for page and tables; by default beside the run.")] = None,
    only: Annotated[str | None, typer.Option("--class", help="Show only pictures given this class.")] = None,
    on: Annotated[str, typer.Option(help="Pictures in the galleries: test or validation.")] = "",
    model: ModelName = None,
    offline: Offline = False,
    label_options: LabelOptions,
    quiet: Quiet = False,
) -> None:
    """Show wrong answers, and labels that may be wrong."""
    from tellapart.runs.run import Run
    from tellapart.workflows.errors import errors_of_pictures, errors_of_run
    from tellapart.workflows.progress import progress_sink
    from tellapart.workflows.scan import scan

    stay_offline(offline)
    progress = progress_sink(not quiet)
    run = Run(where)
    if run.started or run.is_average:
        if model is not None:
            raise UsageError("--model goes with pictures; a run has its own network.", "Leave --model out.")
        _none_of(label_options)
        files = errors_of_run(run, out, on, only, progress)
    else:
        _refuse_several(where)
        if on:
            raise UsageError(f"--on goes with a run, and {where} is none.", "Leave --on out.")
        catalog = scan(where, progress, **label_options)
        files = errors_of_pictures(catalog, out or beside(where), model, only, progress)
    print_out(files.text)
    print_out(f"Page: {files.page}")
    for table in files.tables:
        print_out(f"Table: {table}")


def _refuse_several(where: Path) -> None:
    """Refuse to take the results of several runs for pictures."""
    if several := describe_several(where):
        raise RunError(*several)


def _none_of(label_options: LabelOptions) -> None:
    name = next((name for name, value in label_options.items() if value), None)
    if name:
        option = name.replace("_", "-")
        raise UsageError(f"--{option} goes with pictures; a run has its own labels.", f"Leave --{option} out.")


def beside(pictures: Path) -> Path:
    """Default folder for results on pictures without a run."""
    return Path("runs") / f"{pictures.resolve().name}-errors"


@with_label_options
def review(
    where: Where,
    *,
    run: Annotated[
        Path | None, typer.Option(help="Label pictures that have no label, in the order that teaches this run most.")
    ] = None,
    out: Annotated[Path | None, out_option("Folder for corrections.csv; by default beside the run.")] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="How many pictures; by default the suspected ones, at least 30.")
    ] = None,
    reviewer: Annotated[str | None, typer.Option(help="Who decides; by default this machine's user.")] = None,
    model: ModelName = None,
    offline: Offline = False,
    label_options: LabelOptions,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on this machine; 0 takes a free one.")] = 0,
    browser: Annotated[bool, typer.Option(help="Open the page.")] = True,
    quiet: Quiet = False,
) -> None:
    """Look through suspicious labels in the browser. Decisions go to corrections.csv; nothing of yours is changed."""
    from tellapart.data.corrections import CORRECTIONS
    from tellapart.runs.run import Run
    from tellapart.workflows.progress import progress_sink
    from tellapart.workflows.review import (
        ReviewOptions,
        serve,
        session_of_pictures,
        session_of_run,
        session_of_unlabelled,
    )

    stay_offline(offline)
    for directory in filter(None, (where, run)):
        _refuse_several(directory)
    progress, options, reviewed = progress_sink(not quiet), ReviewOptions(limit, reviewer, model), Run(where)
    if reviewed.started:
        if run is not None or model is not None or out is not None:
            raise UsageError("--run, --model and --out go with pictures, not with a run.", "Leave them out.")
        _none_of(label_options)
        session = session_of_run(reviewed, options, progress)
    elif run is not None:
        # A server that keeps pictures writes beside them what people said.
        folder = out or (where if (where / CORRECTIONS).is_file() else beside(where))
        session = session_of_unlabelled(where, Run(run), folder, options, progress, **label_options)
    else:
        session = session_of_pictures(where, out or beside(where), options, progress, **label_options)
    serve(session, port, browser)
