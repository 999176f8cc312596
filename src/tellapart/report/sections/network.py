"""Table of the network's layers: shapes, parameters, memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tellapart.core.text import counted
from tellapart.report import formatting
from tellapart.report.blocks import Cell, Fold, Section, Table
from tellapart.runs.json_files import NetworkFile, read_checked
from tellapart.runs.run import Run


def network(run: Run) -> Section | None:
    """A folded table in the section on the training; None where the run directory has none (older runs)."""
    if not run.network_file.is_file():
        return None
    about = read_checked(run.network_file, NetworkFile)
    layers = about["layers"]
    rows = [
        [
            Cell(layer["name"], quiet=layer["kind"], indent=layer["depth"]),
            Cell(_shape(layer["input"])),
            Cell(_shape(layer["output"])),
            Cell(formatting.count(layer["parameters"]) if layer["parameters"] > 0 else "–", layer["parameters"]),
        ]
        for layer in layers
    ]
    table = Table(["layer", "input", "output", "parameters"], rows, _totals(about))
    summary = f"The network: {formatting.count(about['parameters'])} parameters, layer by layer"
    return Section("training", "", [Fold(summary, [table])])


def _totals(about: dict[str, Any]) -> str:
    weights, activations, pixels = (about["bytes"][name] for name in ("weights", "activations", "input"))
    return (
        f"Shapes are of one picture. {formatting.count(about['parameters'])} parameters; "
        f"{about['multiply_adds'] / 1e6:,.0f} million multiplications for one picture. "
        f"Memory when all of it is trained with {counted(about['batch_size'], 'picture')} a batch, in float32: "
        f"about {_megabytes(weights + activations + pixels)} MB ({_megabytes(weights)} weights, "
        f"{_megabytes(activations)} activations and their gradients, {_megabytes(pixels)} pictures)."
    )


def _megabytes(n: int) -> str:
    return f"{n / 1e6:,.0f}" if n >= 1e7 else f"{n / 1e6:,.1f}"


def _shape(sides: Sequence[int] | None) -> str:
    return " × ".join(map(str, sides)) if sides else "–"
