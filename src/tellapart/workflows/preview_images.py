"""Previews before a training's first step: the table of layers, and contact sheets of the pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from tellapart.core.files import replacing
from tellapart.core.preprocess import Pixels
from tellapart.data.augmentation.contact_sheet import grid
from tellapart.data.augmentation.mixup import mix
from tellapart.models.network import Network
from tellapart.recipe.schema import Recipe
from tellapart.recipe.transforms import Transform
from tellapart.training.dataset import Dataset
from tellapart.training.pixels import augmented, fixed_view, plain

_PICTURES, _EPOCHS, _VIEWS, _DRAWS = 4, 5, 8, 20
#: How deeply nested layers are listed; what lies deeper is counted with what holds it.
_DEPTH = 4


def layers_of(network: Network, batch_size: int, side: int | None = None) -> Any:
    """Torchinfo's summary of a network for one batch; the network and the random states stay as they are.

    Args:
        side: of the pictures, in pixels; by default the network's own.
    """
    from torchinfo import summary

    preprocessing = network.preprocessing
    size = (batch_size, side or preprocessing.height, side or preprocessing.width, 3)
    columns = ("input_size", "output_size", "num_params", "trainable")
    device = network.scale.device
    with torch.random.fork_rng():
        return summary(network, size, dtypes=[torch.uint8], depth=_DEPTH, col_names=columns, verbose=0, device=device)


def network_table(network: Network, batch_size: int, side: int | None = None) -> dict[str, Any]:
    """Layers with shapes and numbers of parameters, and the memory of one batch, as plain values for JSON.

    Measured on one picture: the memory of the batch is that times the number of pictures.

    Args:
        side: of the pictures, in pixels; by default the network's own.

    Returns:
        "layers": one dictionary a layer: "name", "kind", "depth" (0 is the whole network), "input" and "output"
        (shapes without the batch; None where a layer has no single one), "parameters".
        "parameters": of all layers. "multiply_adds": for one picture. "batch_size".
        "bytes": "weights", "activations" (forward and backward) and "input" of one batch, in float32.
    """
    summary = layers_of(network, 1, side)
    return {
        "layers": [
            {
                "name": info.var_name,
                "kind": info.class_name,
                "depth": info.depth,
                "input": _shape(info.input_size),
                "output": _shape(info.output_size),
                "parameters": info.num_params,
            }
            for info in summary.summary_list
            if info.depth <= _DEPTH
        ],
        "parameters": summary.total_params,
        "multiply_adds": summary.total_mult_adds,
        "batch_size": batch_size,
        "bytes": {
            "weights": summary.total_param_bytes,
            "activations": summary.total_output_bytes * batch_size,
            "input": summary.total_input * batch_size,
        },
    }


def _shape(size: Any) -> list[int] | None:
    """A shape without the batch; None where there is no single one."""
    plain = isinstance(size, list | tuple | torch.Size) and all(isinstance(side, int) for side in size)
    return [int(side) for side in size[1:]] if plain and len(size) > 1 else None


def write_sheets(dataset: Dataset, recipe: Recipe, folder: Path) -> None:
    """Write `ahead.png`, `augmentation.png`, `views.png` and `mixing.png`: training pictures as this recipe shows them.

    Each only where the recipe does such a thing. They are the very pictures of the training, but for mixing: which
    pictures are mixed, and how, is drawn anew in every step; the sheet shows a draw that mixes much.

    Raises:
        UnreadableError: a picture that could be read when scanned, and no longer can.
    """
    spread = np.linspace(0, len(dataset.train) - 1, min(_PICTURES, len(dataset.train))).astype(int)
    rows = [int(row) for row in dataset.train[spread]]
    augments = bool(recipe.augment) and any(stage.augment and not stage.views for stage in recipe.stages)
    views = max((stage.views for stage in recipe.stages), key=len)
    mixes = recipe.mix.mixup + recipe.mix.cutmix > 0
    sheets: dict[str, Callable[[], Image.Image] | None] = {
        "ahead": (lambda: _ahead(dataset, rows)) if any(dataset.versions) else None,
        "augmentation": (lambda: _augmentation(dataset, rows)) if augments else None,
        "views": (lambda: views_sheet(dataset, rows, views)) if any(views) else None,
        "mixing": (lambda: _mixing(dataset, rows, recipe)) if mixes else None,
    }
    for name, make in sheets.items():
        path = folder / f"{name}.png"
        if make is None:
            path.unlink(missing_ok=True)  # of an earlier recipe in this directory
            continue
        with replacing(path) as beside:
            make().save(beside, "PNG")


def _augmentation(dataset: Dataset, rows: list[int]) -> Image.Image:
    return grid(
        [
            [(plain(dataset)(row), _name(dataset, row))]
            + [(augmented(dataset, epoch)(_item(dataset, row)), f"epoch {epoch + 1}") for epoch in range(_EPOCHS)]
            for row in rows
        ]
    )


def _ahead(dataset: Dataset, rows: list[int]) -> Image.Image:
    versions = list(enumerate(dataset.versions[:_VIEWS]))
    return grid(
        [
            [(plain(dataset)(row), _name(dataset, row))]
            + [
                (fixed_view(dataset)(_item(dataset, row, number)), _transforms_text(version))
                for number, version in versions
            ]
            for row in rows
        ]
    )


def views_sheet(dataset: Dataset, rows: list[int], views: Sequence[Sequence[Transform]]) -> Image.Image:
    """One line a picture: as it is, and each of its fixed views."""
    return grid(
        [
            [(plain(dataset)(row), _name(dataset, row))]
            + [
                (fixed_view(dataset, views, number)(_item(dataset, row)), _transforms_text(view))
                for number, view in enumerate(views[:_VIEWS])
            ]
            for row in rows
        ]
    )


def _item(dataset: Dataset, row: int, version: int = 0) -> int:
    """The number of one of a row's versions, as training counts them."""
    return row * len(dataset.versions) + version


def _transforms_text(view: Sequence[Transform]) -> str:
    return ", ".join(transform.transform.replace("_", " ") for transform in view) or "as it is"


def _mixing(dataset: Dataset, rows: list[int], recipe: Recipe) -> Image.Image:
    """Plain pictures, and below them each mixed with another of them."""
    pictures = np.stack([plain(dataset)(row) for row in rows])
    lines = [[(picture, _name(dataset, row)) for picture, row in zip(pictures, rows, strict=True)]]
    own = torch.eye(len(rows))  # a target of its own for each picture: what is left of it is its share
    for name in ("mixup", "CutMix"):
        if getattr(recipe.mix, name.lower()) > 0:
            every = recipe.mix.model_copy(update={"mixup": 0.0, "cutmix": 0.0, name.lower(): 1.0})
            draws = [mix(torch.from_numpy(pictures), own, every, np.random.default_rng(i)) for i in range(_DRAWS)]
            # Most draws leave nearly everything as it is, or swap it: one is shown in which much is mixed.
            mixed, shares = min(draws, key=lambda draw: float((draw[1].diagonal() - 0.6).abs().mean()))
            cells: list[tuple[Pixels, str]] = [
                (picture.numpy(), f"{name}: {100 * share:.0f} %")
                for picture, share in zip(mixed, shares.diagonal().tolist(), strict=True)
            ]
            lines.append(cells)
    return grid(lines)


def _name(dataset: Dataset, row: int) -> str:
    return dataset.catalog.name(row).rpartition("/")[2]
