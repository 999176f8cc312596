"""The command `export`: parse, call, print."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tellapart.core.output import print_out
from tellapart.errors import UsageError


def export(
    run: Annotated[Path, typer.Argument(help="A run directory or a bundle.")],
    to: Annotated[str, typer.Option(help="html, onnx, openvino, torch, int8, timm; or push, to a hub repository.")],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="The file or folder to write; by default in the folder exports beside the bundle."
        ),
    ] = None,
    browser_engine: Annotated[
        Path | None, typer.Option(help="For html: a folder with the two files of onnxruntime-web.")
    ] = None,
    with_preprocessing: Annotated[
        bool, typer.Option("--with-preprocessing", help="For onnx: the network takes a decoded picture of any size.")
    ] = False,
    repo: Annotated[str, typer.Option(help="For push: the repository, as OWNER/NAME.")] = "",
    public: Annotated[
        bool, typer.Option("--public", help="For push: a new repository that everybody can see; else it is private.")
    ] = False,
    max_loss: Annotated[
        float, typer.Option(min=0, max=1, help="For int8: share of the validation pictures that may be lost.")
    ] = 0.01,
) -> None:
    """Write the classifier in another format. Its answers to a few known pictures are checked."""
    from tellapart.workflows.export import export as export_to
    from tellapart.workflows.export import push
    from tellapart.workflows.progress import Console

    if to == "push":
        print_out(f"Sent: {push(run, repo, public, Console())}")
        return
    if repo or public:
        raise UsageError("--repo and --public are for --to push.", "Leave them out.")
    exported = export_to(
        run,
        to,
        out,
        browser_engine=browser_engine,
        with_preprocessing=with_preprocessing,
        max_loss=max_loss,
        progress=True,
    )
    size = f", {exported.path.stat().st_size / 1e6:.1f} MB" if exported.path.is_file() else ""
    print_out(f"Written: {exported.path}{size}")
    print_out(f"Its answers to the known pictures differ by at most {exported.difference:.2g} (logits).")
    print_out(*filter(None, [exported.note]), *exported.left_out)
