"""The command `serve`: parse, call, print."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def serve(
    run: Annotated[Path, typer.Argument(help="A run directory or a bundle.")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8000,
    host: Annotated[str, typer.Option(help="Address to listen on; any but this machine's own needs --token.")] = (
        "127.0.0.1"
    ),
    token: Annotated[str, typer.Option(help="Secret that requests must bring; “new” makes one up.")] = "",
    engine: Annotated[str, typer.Option(help="auto, onnxruntime, openvino or openvino-bf16.")] = "auto",
    keep: Annotated[
        Path | None, typer.Option(help="Folder where answered pictures are kept, with what people say about them.")
    ] = None,
    keep_most: Annotated[float, typer.Option(min=0, help="Gigabytes that this folder may take.")] = 10.0,
) -> None:
    """Answer over HTTP, with a page for the browser. SIGHUP loads the bundle anew."""
    from tellapart.workflows.serve import serve as serve_run

    serve_run(run, host=host, port=port, token=token, engine=engine, keep=keep, keep_most=keep_most)
