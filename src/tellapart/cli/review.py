"""The commands `errors` and `review`: parse, call, print."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tellapart.cli.options import LabelOptions, Offline, Quiet, out_option, stay_offline, with_label_options
from tellapart.core.output import print_out

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
    from tellapart.workflows.errors import list_errors

    stay_offline(offline)
    files = list_errors(where, out=out, on=on, only=only, model=model, progress=not quiet, **label_options)
    print_out(files.text)
    print_out(f"Page: {files.page}")
    for table in files.tables:
        print_out(f"Table: {table}")


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
    from tellapart.workflows.review import review as review_labels

    stay_offline(offline)
    review_labels(
        where,
        run=run,
        out=out,
        limit=limit,
        reviewer=reviewer,
        model=model,
        port=port,
        browser=browser,
        progress=not quiet,
        **label_options,
    )
