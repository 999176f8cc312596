"""The command `audit`: parse, call, print."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from tellapart.cli.options import (
    Cluster,
    LabelOptions,
    Offline,
    Pictures,
    Quiet,
    joined_on,
    opened_on,
    out_option,
    stay_offline,
    with_label_options,
)
from tellapart.core.files import check_suffix
from tellapart.core.output import print_out
from tellapart.core.text import as_lines
from tellapart.errors import UsageError

FOUND = 4


@with_label_options
def audit(
    pictures: Pictures,
    *,
    out: Annotated[Path | None, out_option("Folder for audit.html and findings; by default runs/NAME-audit.")] = None,
    exclude: Annotated[
        str | None, typer.Option(help="Kinds of findings, with commas: write a table without these pictures.")
    ] = None,
    group_duplicates: Annotated[
        bool, typer.Option("--group-duplicates", help="Write a table with copies and near duplicates in groups.")
    ] = False,
    write_table: Annotated[
        Path | None, typer.Option(help="Where that table goes, .csv or .parquet; OUT/pictures.csv by default.")
    ] = None,
    fail_on: Annotated[
        str | None, typer.Option(help=f"Kinds or error, warning, note, with commas: exit code {FOUND} if there is one.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="A pretrained network whose features find more near duplicates.")
    ] = None,
    shortcuts: Annotated[bool, typer.Option(help="Look for facts that tell the class without the picture.")] = True,
    offline: Offline = False,
    label_options: LabelOptions,
    quiet: Quiet = False,
    cluster: Cluster = None,
) -> None:
    """Say what is odd about pictures and labels before training. Duplicates, leaks, shortcuts; nothing is changed."""
    from tellapart.auditing.export_table import TABLES
    from tellapart.auditing.findings import SEVERITIES, check_kinds
    from tellapart.workflows.audit import scan_and_audit, summary_text, write
    from tellapart.workflows.progress import progress_sink

    stay_offline(offline)
    excluded = check_kinds(_listed(exclude))
    failing = check_kinds(_listed(fail_on), SEVERITIES)
    if write_table is not None:
        check_suffix(write_table, TABLES, "--write-table")
    if write_table is not None and not (excluded or group_duplicates):
        raise UsageError(
            "--write-table names the table that --exclude or --group-duplicates writes; neither is asked for."
        )
    progress = progress_sink(not quiet)
    with opened_on(cluster, progress, out) as options, joined_on(cluster, out) as joining:
        audited = scan_and_audit(pictures, progress, model, shortcuts, **joining, **label_options, **options)
    print_out(summary_text(audited))
    folder = out or Path("runs") / f"{audited.catalog.root.name}-audit"
    written = write(audited, folder, excluded, group_duplicates, write_table)
    print_out(f"Page: {written.page}")
    if written.table is not None:
        train = ["tellapart", "train", *map(str, written.train)]
        print_out(f"Table: {written.table} ({written.n_pictures:,} of {len(audited.catalog):,} pictures)")
        if written.classes:
            print_out(as_lines(written.class_lines()))
        print_out(f"Train on it: {shlex.join(train)}")
    if failing and (bad := audited.failing(failing)):
        kinds = ", ".join(dict.fromkeys(finding.kind for finding in bad))
        print_out(f"{len(bad):,} findings of what was not to be there: {kinds}")
        raise typer.Exit(FOUND)


def _listed(text: str | None) -> list[str]:
    return [name.strip() for name in (text or "").split(",") if name.strip()]
