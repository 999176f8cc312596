"""The command `bench`: parse, call, print."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from tellapart.cli_options import Quiet
from tellapart.core.extras import require


def bench(
    pictures: Annotated[
        Path | None, typer.Argument(help="A folder or table of your pictures; without it, made ones.")
    ] = None,
    rows: Annotated[str, typer.Option(help="Which rows, with commas.")] = "data,stages,finetune,accuracy",
    minutes: Annotated[float, typer.Option(min=0.1, help="About what it all may take.")] = 10.0,
    out: Annotated[Path | None, typer.Option(help="Write the figures to this file, as JSON.")] = None,
    quiet: Quiet = False,
) -> None:
    """Measure how fast Tellapart is on this machine. Beside what one would use instead; best when nothing else runs."""
    for module in ("torch", "torchvision", "timm"):
        require(module, "Measuring speed", "train")
    from tellapart.benching import bench as measure
    from tellapart.console import Console
    from tellapart.core.files import write_text

    found = measure(pictures, [row.strip() for row in rows.split(",")], minutes, Console(quiet))
    print(found.table())
    if out:
        write_text(out, json.dumps(found.as_dict(), indent=1) + "\n")
