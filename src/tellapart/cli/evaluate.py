"""The command `evaluate`: parse, call, print."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tellapart.cli.options import LabelOptions, Quiet, TtaMean, with_label_options
from tellapart.core.output import print_json, print_out


@with_label_options
def evaluate(
    run: Annotated[Path, typer.Argument(help="A run directory.")],
    *,
    on: Annotated[
        str, typer.Option(help="test, validation, train, or a folder or table of other labelled pictures.")
    ] = "test",
    tta: Annotated[
        int | None,
        typer.Option(min=1, max=32, help="Test-time augmentation with so many copies of each picture: gain and cost."),
    ] = None,
    tta_mean: TtaMean = None,
    skip_unknown_classes: Annotated[
        bool, typer.Option("--skip-unknown-classes", help="Leave out pictures of classes that the model does not know.")
    ] = False,
    label_options: LabelOptions,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    quiet: Quiet = False,
) -> None:
    """Say how good a finished training is, with 95 % intervals."""
    from tellapart.workflows.evaluate import evaluate as evaluate_run
    from tellapart.workflows.evaluate import training_note, try_copies

    options: dict[str, Any] = {"skip_unknown_classes": skip_unknown_classes, "progress": not quiet, **label_options}
    tried = try_copies(run, on, tta, tta_mean, **options) if tta else None
    result = tried.averaged if tried else evaluate_run(run, on, tta_mean=tta_mean, **options)
    note = training_note(run, result) if on == "train" else ""
    if as_json:
        more = {"tta": str(tried), "times": tried.times} if tried else {}
        print_json(result.as_dict() | more | ({"note": note} if note else {}))
    else:
        print_out(*filter(None, (result.table(), str(tried or ""), note)))
