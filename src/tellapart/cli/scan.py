"""The command `scan`: parse, call, print."""

from __future__ import annotations

from typing import Annotated

import typer

from tellapart.cli.options import Cluster, LabelOptions, Pictures, Quiet, opened_on, with_label_options
from tellapart.core.output import print_json, print_out


@with_label_options
def scan(
    pictures: Pictures,
    *,
    label_options: LabelOptions,
    workers: Annotated[int | None, typer.Option(min=1, help="Threads; by default one a processor.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")] = False,
    quiet: Quiet = False,
    cluster: Cluster = None,
) -> None:
    """List classes, counts, sizes and unreadable files. Nothing is changed."""
    from tellapart.workflows.progress import progress_sink
    from tellapart.workflows.scan import scan as scan_pictures
    from tellapart.workflows.scan import summary, summary_text

    progress = progress_sink(not (quiet or as_json))
    with opened_on(cluster, progress) as options:
        catalog = scan_pictures(pictures, progress, **label_options, **options, workers=workers)
    if as_json:
        print_json(summary(catalog))
    else:
        print_out(summary_text(catalog))
