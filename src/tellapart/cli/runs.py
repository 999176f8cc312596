"""The commands `curves`, `average`, `compare` and `slices`: parse, call, print."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from tellapart.cli.options import out_option
from tellapart.core.output import print_json, print_out
from tellapart.errors import UsageError

Runs = Annotated[list[Path], typer.Argument(help="Run directories.")]


def curves(
    runs: Runs,
    out: Annotated[Path, out_option("A page (.html), or the figure alone (.png, .svg, .pdf).")] = Path("curves.html"),
) -> None:
    """Draw training and validation curves of several runs. In one figure, with what differs between them."""
    from tellapart.report.sections.curves_page import verdict
    from tellapart.workflows.curves import curves as draw

    together = draw(runs, out)
    print_out(*verdict(together, [run.name for run in together]), f"Curves: {out}")


def average(
    runs: Runs,
    out: Annotated[Path, out_option("A new folder for predictions, scores and report.")],
    shares: Annotated[str | None, typer.Option(help="Weight of each run in the mean, such as 2,1,1.")] = None,
) -> None:
    """Average the answers of finished runs. The mean is scored beside each run; it answers no new pictures."""
    from tellapart.runs.run import Run
    from tellapart.workflows.average import average as average_runs
    from tellapart.workflows.average import beside_text

    averaged = average_runs(runs, out, _numbers(shares) if shares else None)
    on, mean = next(iter(averaged.evaluations.items()))
    print_out(beside_text(list(map(str, runs)), [Run(run).evaluations[on] for run in runs], mean))
    print_out(f"Report: {averaged.report}", "This is an evaluation only: no bundle was written.")


def compare(
    runs: Runs,
    metric: Annotated[str, typer.Option(help="The metric to compare; by default accuracy, or f1_micro.")] = "",
    on: Annotated[str, typer.Option(help="test or validation; by default test, if all have such pictures.")] = "",
    out: Annotated[Path, out_option("A page (.html), or the plot alone (.png, .svg, .pdf).")] = Path("compare.html"),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say whether one run is better than another. With intervals, and the number of pictures needed to tell."""
    from tellapart.experiments.across_studies import compare_studies, is_study, ranks_text

    if all(map(is_study, runs)):
        if metric or on:
            raise UsageError("--metric and --on are for runs: a study has its own.", "Leave them out.")
        ranks = compare_studies(runs, out)
        if as_json:
            print_json(asdict(ranks))
        else:
            print_out(ranks_text(ranks), f"Page: {out}")
        return
    from tellapart.report.sections.comparison_page import text
    from tellapart.workflows.compare import compare_runs

    comparison, on = compare_runs(runs, metric, on, out)
    if as_json:
        print_json(comparison.as_dict())
        return
    print_out(text(comparison, on))
    print_out(f"{'Page' if out.suffix.lower() == '.html' else 'Plot'}: {out}")


def slices(
    run: Annotated[Path, typer.Argument(help="A run directory.")],
    by: Annotated[
        list[str] | None,
        typer.Option(help="Property that makes the parts; may be repeated. By default all usual ones."),
    ] = None,
    on: Annotated[str, typer.Option(help="test or validation; by default test, if there is one.")] = "",
    table: Annotated[
        Path | None, typer.Option(help="Your own table: file_name, and columns to look at, such as the camera.")
    ] = None,
    smallest: Annotated[int, typer.Option(min=1, help="Pictures that a part must have.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
) -> None:
    """Score parts of the pictures, by size, brightness, group. The hardest parts come first."""
    from tellapart.auditing.traits import USUAL
    from tellapart.workflows.slices import slices as slices_of
    from tellapart.workflows.slices import text

    result = slices_of(run, on=on, by=by or USUAL, table=table, smallest=smallest, progress=not quiet)
    if as_json:
        print_json(asdict(result))
    else:
        print_out(text(result))


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"--shares {text}: expected numbers with commas between them.", "For example 2,1,1.") from None
