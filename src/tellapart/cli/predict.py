"""The command `predict`: parse, call, print."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tellapart.cli.options import TtaMean
from tellapart.core.files import check_suffix
from tellapart.core.output import print_err, print_out
from tellapart.errors import UsageError

UNREADABLE = 3


def predict(
    run: Annotated[Path, typer.Argument(help="A run directory or a bundle.")],
    pictures: Annotated[list[str], typer.Argument(help="Pictures, folders, or patterns such as 'new/**/*.jpg'.")],
    top: Annotated[int, typer.Option(min=1, help="Number of labels in an answer.")] = 1,
    coverage: Annotated[
        float | None, typer.Option(help="Answer with sets of classes that hold the right one this often, such as 0.95.")
    ] = None,
    unknown: Annotated[
        bool | None,
        typer.Option("--unknown/--no-unknown", help="Whether to answer “unknown” to pictures unlike all classes."),
    ] = None,
    tta: Annotated[
        int | None, typer.Option(min=0, max=32, help="Test-time augmentation with so many copies of each picture.")
    ] = None,
    tta_mean: TtaMean = None,
    engine: Annotated[
        str, typer.Option(help="onnxruntime, openvino or openvino-bf16; auto takes the fastest for many pictures.")
    ] = "auto",
    format: Annotated[
        str | None, typer.Option(help="table, csv, jsonl or json; of a file, its suffix decides.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Write to this file instead of the terminal: .txt, .csv, .jsonl, .json or .parquet."),
    ] = None,
    submission: Annotated[
        Path | None,
        typer.Option(help="Write a competition's answer to this .csv file: name without suffix, and label."),
    ] = None,
) -> None:
    """Answer with label and certainty. Exit code 3 if some pictures could not be read."""
    from tellapart.deploy.find_pictures import find_pictures
    from tellapart.deploy.output_formats import format_of, write_answers
    from tellapart.deploy.predictor import answers, load
    from tellapart.deploy.submission import COLUMNS, SUBMISSIONS, write_submission

    if submission is not None:
        check_suffix(submission, SUBMISSIONS, "--submission")
        if out is not None or format is not None:
            raise UsageError("--submission writes one file, as CSV.", "Leave --out and --format out.")
    form = format_of(out, format)
    classifier = load(run, engine, print_err)
    asked = find_pictures(pictures)
    optional = (("candidates",) if coverage is not None else ()) + (
        ("ood_score", "unknown") if unknown or (form in ("jsonl", "json") and classifier.bundle.ood_score) else ()
    )
    if submission is not None and unknown is None:
        unknown = False  # a competition knows its classes alone
    answered = answers(
        classifier.bundle,
        asked,
        network=classifier.network,
        top=top,
        coverage=coverage,
        unknown=unknown,
        tta=tta,
        tta_mean=tta_mean,
    )
    if submission is not None:
        first, second = classifier.bundle.about.get("columns") or COLUMNS
        summary = write_submission(answered, submission, (first, second))
    else:
        summary = write_answers(answered, form, top, out, optional)
    if form != "table" or submission is not None:  # the table lists them itself
        for path, reason in summary.unreadable:
            print_err(f"Cannot read {path}: {reason}")
    if summary.n_unreadable:
        raise typer.Exit(UNREADABLE)


def verify(run: Annotated[Path, typer.Argument(help="A run directory or a bundle.")]) -> None:
    """Check that a bundle answers as when it was written."""
    from tellapart.deploy.bundle.verify import verify as verify_bundle

    difference = verify_bundle(run)
    print_out(f"{run} answers its golden pictures as when it was written (largest difference: {difference:.1g}).")
