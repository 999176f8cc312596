"""What can be looked at before a training: its layers, its augmented pictures, its learning rates."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from tellapart.console import Console
from tellapart.data.ahead import write_views
from tellapart.data.catalog import Catalog
from tellapart.data.sheet import contact_sheet
from tellapart.data.split import split
from tellapart.errors import UsageError
from tellapart.files import replacing
from tellapart.looks import layers_of
from tellapart.models.create import create_network
from tellapart.recipe import Recipe
from tellapart.report.figures import write_rate_figure
from tellapart.runtime import Runtime, default_device, default_workers
from tellapart.training.find_rate import raise_rate, suggestions
from tellapart.training.material import Material
from tellapart.training.rate_suggestions import RateSuggestions, suggest
from tellapart.training.setting import live_setting

if TYPE_CHECKING:
    from tellapart.models.network import Network

_PICTURES, _VIEWS = 6, 5


def layers(recipe: Recipe, n_classes: int) -> str:
    """A table of a recipe's network: layers, shapes, parameters, memory for one batch."""
    return str(layers_of(_network(recipe, n_classes), recipe.stages[0].batch_size))


def augmented(catalog: Catalog, recipe: Recipe, out: Path) -> Path:
    """Write a contact sheet: some training pictures as the network sees them, and as the first epochs would.

    Returns:
        The file's path.
    """
    network = _network(recipe, max(1, len(catalog.classes)))
    rows = catalog.readable
    chosen = [int(rows[i * len(rows) // _PICTURES]) for i in range(min(_PICTURES, len(rows)))]
    sheet = contact_sheet(catalog, chosen, recipe.augment, network.preprocessing, recipe.seed, _VIEWS)
    with replacing(out) as beside:
        sheet.save(beside, "PNG")
    return out


def multiplied(catalog: Catalog, recipe: Recipe, out: Path | None, console: Console) -> str:
    """What the recipe's versions ahead of training make of the pictures, in a sentence; written to `out`, if given.

    Raises:
        UsageError: the recipe has none, or the folder holds something already.
    """
    views = recipe.data.ahead
    if not views:
        raise UsageError(
            "The recipe says nothing of versions made ahead of training (data.ahead).",
            "For example: --set data.ahead=eightfold",
        )
    parts = split(catalog, validation=recipe.data.validation, test=recipe.data.test, seed=recipe.split_seed)
    n, held, tested = len(parts.train), len(parts.validation), len(parts.test)
    if out is not None:
        how = _network(recipe, len(catalog.classes)).preprocessing
        console.watch(write_views(catalog, parts, views, how, out, seed=recipe.seed))
    return (
        f"{n:,} training pictures in {len(views)} versions each: {n * len(views):,}. "
        f"As they are: {held:,} for validation, {tested:,} for the test."
    )


def rates(catalog: Catalog, recipe: Recipe, stage: int, out: Path, console: Console) -> RateSuggestions:
    """The learning-rate test of one stage, from the network's initial weights; its plot is written to `out`."""
    network = _network(recipe, len(catalog.classes))
    parts = split(catalog, validation=recipe.data.validation, test=recipe.data.test, seed=recipe.split_seed)
    how = network.preprocessing
    ahead = recipe.data.ahead
    material = Material(catalog, parts.train, parts.validation, how, recipe.augment, recipe.seed, ahead)
    runtime = Runtime(default_device(), workers=default_workers())
    setting = live_setting(network, recipe, stage, material, torch.tensor(catalog.target()), runtime)
    found = suggest(*console.watch(raise_rate(setting)))
    write_rate_figure(found.rates, found.losses, found.smoothed, suggested(found), out)
    return found


def suggested(found: RateSuggestions) -> dict[str, float]:
    """The suggestions by name, for people; the first is the one to take if in doubt."""
    return {name.replace("_", " "): rate for name, rate in suggestions(found).items()}


def _network(recipe: Recipe, n_classes: int) -> Network:
    torch.manual_seed(recipe.seed)
    return create_network(recipe.model, n_classes, recipe.data)
