"""Arguments and options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Pictures = Annotated[Path, typer.Argument(help="A folder of pictures, or a table of files and labels.")]
Layout = Annotated[str | None, typer.Option(help="How labels are found, instead of finding out.")]
Labels = Annotated[Path | None, typer.Option(help="A table or list of labels.")]
ClassFile = Annotated[Path | None, typer.Option(help="Names of classes given as numbers.")]
LabelDepth = Annotated[int | None, typer.Option(help="Levels of nested folders that make a label.")]
Delimiter = Annotated[str | None, typer.Option(help="What stands between labels in one cell.")]
FollowLinks = Annotated[bool, typer.Option(help="Follow links out of the folder too.")]
RecipeName = Annotated[str, typer.Option(help="A shipped recipe (see `tellapart recipes`) or a TOML file.")]
Changes = Annotated[list[str] | None, typer.Option("--set", help="Change the recipe: key=value.")]
Seed = Annotated[int | None, typer.Option(min=0, help="Seed of all random choices.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Show no progress.")]
