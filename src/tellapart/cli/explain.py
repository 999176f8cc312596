"""The command `explain`: parse, call, print."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tellapart.cli.options import out_option
from tellapart.core.output import print_out


def explain(
    run: Annotated[Path, typer.Argument(help="A run directory.")],
    pictures: Annotated[
        list[str] | None,
        typer.Argument(help="Pictures, folders, or patterns; by default the run's most wrong and least certain ones."),
    ] = None,
    row: Annotated[list[int] | None, typer.Option(min=0, help="A picture of the run, by its number.")] = None,
    only: Annotated[
        str | None, typer.Option("--class", help="The class to explain; by default the answer, and the label given.")
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(help="grad-cam, or integrated-gradients (slower, finer); by default the first that works here."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many pictures, where none are named.")] = 12,
    alike: Annotated[int, typer.Option(min=0, help="Training pictures shown beside each.")] = 6,
    out: Annotated[
        Path | None,
        out_option("A page (.html) or a picture (.png); explain.html in the run by default."),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
) -> None:
    """Show which parts of a picture speak for the answer. And which training pictures it looks like."""
    from tellapart.workflows.explain import explain as explain_run

    shown = explain_run(
        run,
        pictures or (),
        rows=row or (),
        method=method,
        only=only,
        limit=limit,
        n_alike=alike,
        out=out,
        progress=not quiet,
    )
    print_out(*shown.why.notes, *map(str, shown.why.checks))
    print_out(f"{'Page' if shown.path.suffix.lower() == '.html' else 'Picture'}: {shown.path}")
