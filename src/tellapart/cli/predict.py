"""The commands `predict` and `verify`: parse, call, print."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tellapart.cli.ending import UNREADABLE
from tellapart.cli.options import Cluster, TtaMean
from tellapart.core.output import print_err, print_out

Inputs = Annotated[
    list[str],
    typer.Argument(
        help="Pictures, folders, patterns such as 'new/**/*.jpg', archives (.zip, .tar …), lists and tables of names "
        "(.txt, .csv, .jsonl, .parquet), or - for the standard input."
    ),
]
Column = Annotated[str | None, typer.Option(help="The column of a table that names the pictures.")]
Top = Annotated[int, typer.Option(min=1, help="Number of labels in an answer.")]
Coverage = Annotated[
    float | None, typer.Option(help="Answer with sets of classes that hold the right one this often, such as 0.95.")
]
Unknown = Annotated[
    bool | None,
    typer.Option("--unknown/--no-unknown", help="Whether to answer “unknown” to pictures unlike all classes."),
]
Tta = Annotated[
    int | None, typer.Option(min=0, max=32, help="Test-time augmentation with so many copies of each picture.")
]
Engine = Annotated[
    str, typer.Option(help="onnxruntime, openvino or openvino-bf16; auto takes the fastest for many pictures.")
]
Format = Annotated[str | None, typer.Option(help="table, csv, jsonl or json; of a file, its suffix decides.")]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out", "-o", help="Write to this file instead of the terminal: .txt, .csv, .jsonl, .json or .parquet."
    ),
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with an --out that a broken run left.")]
Submission = Annotated[
    Path | None, typer.Option(help="Write a competition's answer to this .csv file: name without suffix, and label.")
]
Sort = Annotated[
    Path | None, typer.Option(help="Link each picture into a folder of its class below this one; nothing is moved.")
]
Copies = Annotated[bool, typer.Option("--copy", help="With --sort-into: copy, instead of linking.")]
Dry = Annotated[bool, typer.Option("--dry-run", help="With --sort-into: only count what would go where.")]
MonitorFile = Annotated[Path | None, typer.Option(help="Add counts of the answers to this file, for `drift`.")]
Odd = Annotated[int, typer.Option(min=0, max=1000, help="With --monitor: keep the names of the oddest pictures.")]


def predict(
    run: Annotated[Path, typer.Argument(help="A run directory or a bundle.")],
    pictures: Inputs,
    column: Column = None,
    top: Top = 1,
    coverage: Coverage = None,
    unknown: Unknown = None,
    tta: Tta = None,
    tta_mean: TtaMean = None,
    engine: Engine = "auto",
    format: Format = None,
    out: Out = None,
    resume: Resume = False,
    submission: Submission = None,
    sort_into: Sort = None,
    copy: Copies = False,
    dry_run: Dry = False,
    monitor: MonitorFile = None,
    keep_odd: Odd = 0,
    cluster: Cluster = None,
) -> None:
    """Answer with label and certainty. Exit code 3 if some pictures could not be read."""
    from tellapart.deploy.predict_inputs import Request, predict_inputs

    request = Request(
        run=run,
        inputs=tuple(pictures),
        column=column,
        options={"top": top, "coverage": coverage, "unknown": unknown, "tta": tta, "tta_mean": tta_mean},
        engine=engine,
        format=format,
        out=out,
        resume=resume,
        submission=submission,
        sort_into=sort_into,
        copies=copy,
        dry_run=dry_run,
        monitor=monitor,
        n_odd=keep_odd,
    )
    if cluster is None:
        n_unreadable = predict_inputs(request, print_err)
    else:
        from tellapart.cluster.predicting import predict_on_cluster

        n_unreadable = predict_on_cluster(request, cluster, print_err)
    if n_unreadable:
        raise typer.Exit(UNREADABLE)


def verify(run: Annotated[Path, typer.Argument(help="A run directory or a bundle.")]) -> None:
    """Check that a bundle answers as when it was written."""
    from tellapart.deploy.bundle.verify import verify as verify_bundle

    difference = verify_bundle(run)
    print_out(f"{run} answers its golden pictures as when it was written (largest difference: {difference:.1g}).")
