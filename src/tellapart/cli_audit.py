"""The command `audit`: parse, call, print."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from tellapart.errors import UsageError

FOUND = 4


def audit(
    pictures: Annotated[Path, typer.Argument(help="A folder of pictures, or a table of files and labels.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder for audit.html and findings; by default runs/NAME-audit.")
    ] = None,
    exclude: Annotated[
        str | None, typer.Option(help="Kinds of findings, with commas: write a table without these pictures.")
    ] = None,
    group_duplicates: Annotated[
        bool, typer.Option("--group-duplicates", help="Write a table with copies and near duplicates in groups.")
    ] = False,
    table: Annotated[
        Path | None, typer.Option(help="Where that table goes, .csv or .parquet; OUT/pictures.csv by default.")
    ] = None,
    fail_on: Annotated[
        str | None, typer.Option(help=f"Kinds or error, warning, note, with commas: exit code {FOUND} if there is one.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="A pretrained network whose features find more near duplicates.")
    ] = None,
    shortcuts: Annotated[bool, typer.Option(help="Look for facts that tell the class without the picture.")] = True,
    layout: Annotated[str | None, typer.Option(help="How labels are found, instead of finding out.")] = None,
    labels: Annotated[Path | None, typer.Option(help="A table or list of labels.")] = None,
    class_file: Annotated[Path | None, typer.Option(help="Names of classes given as numbers.")] = None,
    label_depth: Annotated[int | None, typer.Option(help="Levels of nested folders that make a label.")] = None,
    delimiter: Annotated[str | None, typer.Option(help="What stands between labels in one cell.")] = None,
    follow_links: Annotated[bool, typer.Option(help="Follow links out of the folder too.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
) -> None:
    """Say what is odd before training: duplicates, leaks, odd pictures, odd labels, shortcuts. Nothing is changed."""
    from tellapart.auditing import look, summary_text, write
    from tellapart.console import Console
    from tellapart.data.audit.findings import SEVERITIES, check_kinds

    excluded = check_kinds(_listed(exclude))
    failing = check_kinds(_listed(fail_on), SEVERITIES)
    if table is not None and not (excluded or group_duplicates):
        raise UsageError("--table says where a table goes that --exclude or --group-duplicates asks for.")
    console = Console(quiet)
    found = look(
        pictures,
        console,
        model,
        shortcuts,
        layout=layout,
        labels=labels,
        class_file=class_file,
        label_depth=label_depth,
        delimiter=delimiter,
        follow_links=follow_links,
    )
    print(summary_text(found))
    folder = out or Path("runs") / f"{found.catalog.root.name}-audit"
    written = write(found, folder, excluded, group_duplicates, table)
    print(f"Page: {written.page}")
    if written.table is not None:
        train = ["tellapart", "train", *map(str, written.train)]
        print(f"Table: {written.table} ({written.n_kept:,} of {len(found.catalog):,} pictures)")
        print(f"Train on it: {shlex.join(train)}")
    if failing and (bad := found.failing(failing)):
        kinds = ", ".join(dict.fromkeys(finding.kind for finding in bad))
        print(f"{len(bad):,} findings of what was not to be there: {kinds}")
        raise typer.Exit(FOUND)


def _listed(text: str | None) -> list[str]:
    return [name.strip() for name in (text or "").split(",") if name.strip()]
