"""Commands about several runs, or about what a recipe will do."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Runs = Annotated[list[Path], typer.Argument(help="Run directories.")]


def curves(
    runs: Runs,
    out: Annotated[Path, typer.Option(help="A page (.html), or the figure alone (.png, .svg).")] = Path("curves.html"),
) -> None:
    """Draw training and validation curves of several runs in one figure, and tell what differs between them."""
    from tellapart.report.compared import best, closest
    from tellapart.side_by_side import curves as draw

    together = draw(runs, out)
    top, near = together[best(together)], closest(together)
    print(f"Best validation accuracy: {top.accuracy:.2%}  {top.name}")
    if near is not None:
        print(f"Smallest gap between training and validation loss: {together[near].gap:+.3f}  {together[near].name}")
    print(f"Curves: {out}")
