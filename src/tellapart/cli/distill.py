"""The command `distill`: parse, call, print."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from tellapart.cli.options import Changes, Offline, Quiet, out_option, stay_offline
from tellapart.core.output import print_out


def distill(
    run: Annotated[Path, typer.Argument(help="The teacher: a run directory, also of an ensemble, or an average.")],
    model: Annotated[str, typer.Option(help="The student's network (see `tellapart models`).")],
    pictures: Annotated[
        list[str] | None, typer.Option(help="Further pictures without labels: a folder, a file or a pattern.")
    ] = None,
    out: Annotated[Path | None, out_option("The student's run directory; RUN-distilled by default.")] = None,
    recipe: Annotated[
        str | None, typer.Option(help="How the student is trained; by default as its teacher was.")
    ] = None,
    set_: Changes = None,
    temperature: Annotated[
        float | None, typer.Option(help="Divisor of both networks' logits, 2 by default: higher shows more of them.")
    ] = None,
    no_alone: Annotated[
        bool, typer.Option("--no-alone", help="Train no student on the labels alone, and do not compare.")
    ] = False,
    runtime: Annotated[str, typer.Option(help="As for train.")] = "auto",
    offline: Offline = False,
    quiet: Quiet = False,
) -> None:
    """Train a small network on a big one's answers. The same command again goes on."""
    from tellapart.core.signals import stopped_soon
    from tellapart.report.verdict import verdict
    from tellapart.workflows.distill import distill as distill_run

    stay_offline(offline)
    with stopped_soon():
        student = distill_run(
            run,
            model,
            pictures or [],
            recipe,
            out,
            changes=set_ or [],
            temperature=temperature,
            alone=not no_alone,
            runtime=runtime,
            progress=not quiet,
        )
    if quiet:
        return
    conclusion = verdict(student)
    print_out(conclusion.table(next(iter(student.evaluations.values()))))
    about = student.distillation
    if about and about["verdict"]:
        print_out(about["verdict"]["sentence"])
    print_out(*conclusion.lines())
    print_out(f"Report: {student.report}", f"Ask it: tellapart predict {shlex.quote(str(student.directory))} PICTURE")
