"""Previews of a training: its layers, its augmented pictures, its learning-rate test."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import torch

from tellapart.core.events import LrFound
from tellapart.core.files import replacing
from tellapart.core.output import print_err
from tellapart.core.text import as_lines, counted
from tellapart.data.augmentation.contact_sheet import contact_sheet
from tellapart.data.augmentation.offline import write_views
from tellapart.data.catalog import Catalog
from tellapart.data.splitting.split import split
from tellapart.errors import DataError, UsageError
from tellapart.models.create import create_network
from tellapart.models.layer_groups import layer_groups, train_last
from tellapart.models.pretrained import announcements
from tellapart.recipe.schema import FoundLr, Recipe
from tellapart.report.figures import write_lr_figure
from tellapart.training.dataset import Dataset
from tellapart.training.lr_finder import choose_lr
from tellapart.training.prepare import stage_from_pictures
from tellapart.training.runtime import plain_runtime
from tellapart.training.trainable import describe_trained, n_trained
from tellapart.workflows.preview_images import layers_of, network_table, views_sheet
from tellapart.workflows.progress import ProgressSink

if TYPE_CHECKING:
    from tellapart.models.network import Network

_PICTURES, _VIEWS = 6, 5


@dataclass(frozen=True)
class NetworkSummary:
    """A recipe's network, as one of its stages trains it.

    Attributes:
        layers: a row a layer: "name", "kind", "depth" (0 is the whole network), "input" and "output" (shapes of one
            picture; None where a layer has no single one), "parameters".
        parameters: of all layers. multiply_adds: for one picture.
        trained: parameters that each stage of the recipe trains.
        n_bytes: memory of one batch in float32: of "weights", "activations" (forward and backward) and "input".
        text: the same as a table for the terminal.
    """

    layers: pl.DataFrame
    parameters: int
    multiply_adds: int
    trained: tuple[int, ...]
    n_bytes: dict[str, int]
    text: str

    def __str__(self) -> str:
        """The table for the terminal."""
        return self.text


def network_summary(recipe: Recipe, n_classes: int, stage: int = 0) -> NetworkSummary:
    """The network as a stage trains it: layers, shapes, parameters, memory for one batch; and what each stage trains.

    Args:
        stage: its number, from 0.

    Raises:
        UsageError: there is no such stage.
    """
    _check_stage(recipe, stage)
    network = _network(recipe, n_classes)
    n_all, n_weights = len(layer_groups(network)), sum(p.numel() for p in network.parameters())
    lines, trained = [], []
    for number, config in enumerate(recipe.stages):
        n = n_trained(config.train, n_all)
        train_last(network, n)
        trained.append(sum(p.numel() for p in network.parameters() if p.requires_grad))
        name = f" ({config.name})" if config.name else ""
        lines.append(
            f"Stage {number}{name} trains {describe_trained(n, n_all)}: {trained[-1]:,} of {n_weights:,} parameters."
        )
    shown = recipe.stages[stage]
    train_last(network, n_trained(shown.train, n_all))
    text = str(layers_of(network, shown.batch_size, shown.size)).split("\n")
    values = network_table(network, shown.batch_size, shown.size)
    return NetworkSummary(
        pl.DataFrame(values["layers"], infer_schema_length=None),
        values["parameters"],
        values["multiply_adds"],
        tuple(trained),
        values["bytes"],
        as_lines([f"As stage {stage} trains it:", *text, *lines]),
    )


def augmented(catalog: Catalog, recipe: Recipe, out: Path) -> Path:
    """Write a contact sheet: some pictures as the network sees them, and as epochs or fixed views change them.

    Returns:
        The file's path.
    """
    views = max((stage.views for stage in recipe.stages), key=len)
    if not recipe.augment and not any(views):
        raise UsageError(
            "The recipe changes no picture: it has neither [[augment]] nor a stage with 'views'.",
            "For example: --recipe scratch",
        )
    rows = catalog.readable
    if not len(rows):
        raise DataError("None of the pictures can be read.", "`tellapart scan` lists them with the reasons.")
    preprocessing = _network(recipe, max(1, len(catalog.classes))).preprocessing
    chosen = [int(rows[i * len(rows) // _PICTURES]) for i in range(min(_PICTURES, len(rows)))]
    if recipe.augment:
        sheet = contact_sheet(catalog, chosen, recipe.augment, preprocessing, recipe.seed, _VIEWS)
    else:
        dataset = Dataset(catalog, rows, rows[:0], preprocessing, recipe.augment, recipe.seed)
        sheet = views_sheet(dataset, chosen, views)
    with replacing(out) as beside:
        sheet.save(beside, "PNG")
    return out


@dataclass(frozen=True)
class Multiplied:
    """The versions of pictures that a recipe makes ahead of training.

    Attributes:
        n_train: training pictures. n_versions: of each. n_validation, n_test: pictures that stay as they are.
        table: the pictures.csv to train on; None where nothing was written.
    """

    n_train: int
    n_versions: int
    n_validation: int
    n_test: int
    table: Path | None = None

    def __str__(self) -> str:
        """Two sentences."""
        return (
            f"{self.n_train:,} training pictures in {self.n_versions} versions each: "
            f"{self.n_train * self.n_versions:,}. "
            f"As they are: {self.n_validation:,} for validation, {self.n_test:,} for the test."
        )


def multiplied(catalog: Catalog, recipe: Recipe, out: Path | None, progress: ProgressSink) -> Multiplied:
    """Count the versions that a recipe makes ahead of training; write them to `out`, unless it is None.

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
    counts = len(parts.train), len(views), len(parts.validation), len(parts.test)
    if out is None:
        return Multiplied(*counts)
    preprocessing = _network(recipe, len(catalog.classes)).preprocessing
    progress.watch(write_views(catalog, parts, views, preprocessing, out, seed=recipe.seed))
    return Multiplied(*counts, out / "pictures.csv")


def stage_with_lr(recipe: Recipe, stage: int | None) -> int:
    """The number of a stage whose learning rate can be tested: the one that is named, or the first.

    Raises:
        UsageError: there is no such stage, or it takes no learning rate.
    """
    able = [number for number, each in enumerate(recipe.stages) if not each.solver]
    if stage is not None:
        _check_stage(recipe, stage)
    if not able:
        raise UsageError(
            "No stage of the recipe takes a learning rate: lbfgs solves the head exactly.", "Name another --recipe."
        )
    if stage is not None and stage not in able:
        raise UsageError(
            f"--stage {stage} takes no learning rate: lbfgs solves its head exactly.",
            f"Stages with a learning rate: {', '.join(map(str, able))}.",
        )
    return able[0] if stage is None else stage


def lr_range_test(catalog: Catalog, recipe: Recipe, stage: int, out: Path | None, progress: ProgressSink) -> LrFound:
    """The learning-rate test of one stage, from the network's initial weights; its plot is written to `out`, if given.

    The rule is the one by which the stage finds its learning rate, or else the valley.

    Raises:
        TrainingError: the loss did not fall, and the recipe does not say which rate to take then.
    """
    parts = split(catalog, validation=recipe.data.validation, test=recipe.data.test, seed=recipe.split_seed)
    network = _network(recipe, len(catalog.classes))
    preprocessing = network.preprocessing
    ahead, per_batch = recipe.data.ahead, recipe.augment_per == "batch"
    dataset = Dataset(
        catalog, parts.train, parts.validation, preprocessing, recipe.augment, recipe.seed, ahead, per_batch
    )
    runtime = plain_runtime()
    prepared = stage_from_pictures(network, recipe, stage, dataset, torch.tensor(catalog.target()), runtime)
    wanted = recipe.stages[stage].lr
    wanted = wanted if isinstance(wanted, FoundLr) else FoundLr(find="valley")
    test = progress.watch(choose_lr(prepared, wanted))
    if out is not None:
        rule = test.taken.replace("_", " ")
        write_lr_figure(test.lrs, test.losses, test.smoothed, {rule: test.lr}, out, test.diverges)
    return test


def _check_stage(recipe: Recipe, stage: int) -> None:
    if stage >= len(recipe.stages):
        raise UsageError(
            f"--stage {stage}: the recipe has {counted(len(recipe.stages), 'stage')}, counted from 0.",
            f"The last one: --stage {len(recipe.stages) - 1}",
        )


def _network(recipe: Recipe, n_classes: int) -> Network:
    print_err(*announcements(recipe.model))
    torch.manual_seed(recipe.seed)
    return create_network(recipe.model, n_classes, recipe.data)
