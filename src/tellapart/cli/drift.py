"""The command `drift`: parse, call, print."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tellapart.core.output import print_json, print_out


def drift(
    run: Annotated[Path, typer.Argument(help="A run directory.")],
    file: Annotated[Path, typer.Argument(help="The file that `predict --monitor` counts answers in.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say whether new pictures differ from validation."""
    from tellapart.workflows.drift import drift as compare_with_validation

    result = compare_with_validation(run, file)
    if as_json:
        print_json(result.as_dict())
    else:
        print_out(result.text())
