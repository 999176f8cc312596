"""Training speed: all layers beside the plainest loop, and the last third with and without stored activations."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Generator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from benchmarks.turns import Contestant, Figure, apart, in_turn
from tellapart.core.events import Computing, Progress
from tellapart.core.hardware import keep_freed
from tellapart.data.catalog import Catalog
from tellapart.models.create import create_network
from tellapart.models.network import Network
from tellapart.recipe.schema import Recipe
from tellapart.training.checkpoint import State
from tellapart.training.dataset import Dataset
from tellapart.training.fast.autotune import choose_runtime, in_words
from tellapart.training.fit import fit
from tellapart.training.losses import build_loss
from tellapart.training.pixels import plain as plain_pixels
from tellapart.training.runtime import Runtime, default_device
from tellapart.workflows.progress import ProgressSink

Rows = npt.NDArray[np.int64]
NETWORKS = ("mobilenetv2_100", "resnet34", "efficientnet_b2")
SIDE, BATCH = 224, 32
_FLIP = {"transform": "horizontal_flip"}


def finetune(catalog: Catalog, rows: Rows, name: str, seconds: float) -> Generator[Computing, None, Figure]:
    """All layers of one network: a real stage under the measured runtime, and the plainest float32 loop, in turn.

    Weights are random: they make no difference to the speed. The others have their pictures ready in memory, and run in
    processes of their own. fastai is among them where it is installed. Tellapart keeps the batch-norm statistics, as
    its recipes for pretrained networks do, and is timed once more updating them, as the others do.

    Args:
        catalog, rows: the pictures; a batch of them is enough.
        name: of a network.
        seconds: see `in_turn`.
    """
    keeping, updating = (
        recipe_of(name, {"train": "all", "augment": False, "batch_norm": how}) for how in ("keep", "update")
    )
    dataset = _dataset(catalog, rows, keeping)

    def ours(recipe: Recipe) -> tuple[Contestant, str]:
        runtime = measure(network_of(recipe, catalog), recipe, dataset)
        return stage(network_of(recipe, catalog), recipe, dataset, runtime), in_words(runtime)

    (kept, how_kept), (updated, how_updated) = ours(keeping), ours(updating)
    contestants = {
        "Tellapart": kept,
        "plain loop, float32, contiguous": apart(rival, "plain", updating, catalog, rows),
        "Tellapart, statistics updated": updated,
    }
    if importlib.util.find_spec("fastai"):
        contestants["fastai"] = apart(rival, "fastai", updating, catalog, rows)
    found = yield from in_turn(name, contestants, seconds)
    note = f"measured: {how_kept}; with statistics updated: {how_updated}"
    return Figure(f"fine-tuning all layers of {name}, {SIDE} pixels", "pictures/s", found, note)


def stored(catalog: Catalog, rows: Rows, name: str, seconds: float) -> Generator[Computing, None, Figure]:
    """The last third of a network's layers, from what the others gave once, and with these run in every epoch.

    Both are real stages: one with two fixed views of each picture, one with a random flip.
    """
    common = {"train": 0.33, "batch_norm": "keep"}
    fixed = recipe_of(name, {**common, "views": [[], [_FLIP]]})
    chance = recipe_of(name, common, augment=[_FLIP])
    dataset, again = _dataset(catalog, rows, fixed), _dataset(catalog, rows, chance)
    ours, same = network_of(fixed, catalog), network_of(chance, catalog)
    runtime = measure(ours, fixed, dataset)
    contestants = {
        "from stored activations": stage(ours, fixed, dataset, runtime),
        "without": stage(same, chance, again, measure(same, chance, again)),
    }
    start = time.perf_counter()
    while not next(contestants["from stored activations"]):
        yield Computing(-1, "what frozen layers give", 0, 1)
    first = time.perf_counter() - start
    found = yield from in_turn("last third", contestants, seconds)
    note = f"{len(rows)} pictures; storing two views of each, and the first epoch: {first:.1f} s"
    return Figure(f"fine-tuning the last third of {name}, {SIDE} pixels", "pictures/s", found, note)


def recipe_of(name: str, stage: dict[str, Any], augment: list[dict[str, Any]] | None = None) -> Recipe:
    """One long stage, with small steps."""
    usual = {"epochs": 10_000, "batch_size": BATCH, "optimizer": "adamw", "lr": 1e-4, "schedule": "constant"}
    return Recipe.model_validate(
        {
            "model": {"name": name, "pretrained": False},
            "data": {"size": SIDE},
            "augment": augment or [],
            "stages": [{**usual, **stage}],
        }
    )


def network_of(recipe: Recipe, catalog: Catalog) -> Network:
    """The recipe's network, with the same random weights every time."""
    torch.manual_seed(0)
    return create_network(recipe.model, len(catalog.classes), recipe.data)


def measure(network: Network, recipe: Recipe, dataset: Dataset) -> Runtime:
    """How a training of one stage is run, as `fit` would find out. Memory is kept from here on, as in trainings."""
    keep_freed()
    target = torch.tensor(dataset.catalog.target())
    return ProgressSink().watch(choose_runtime(network, recipe, 0, dataset, target, None))


def _dataset(catalog: Catalog, rows: Rows, recipe: Recipe) -> Dataset:
    how = network_of(recipe, catalog).preprocessing
    return Dataset(catalog, rows, rows[:1], how, recipe.augment, recipe.seed)


def stage(network: Network, recipe: Recipe, dataset: Dataset, runtime: Runtime) -> Contestant:
    """A real training; an epoch's steps count, what lies between epochs does not."""
    n = 0
    for event in fit(network, recipe, dataset, State(), runtime):
        if isinstance(event, Progress):
            n += event.n_pictures
            if event.step < event.steps:
                continue
        yield n
        n = 0


def rival(name: str, recipe: Recipe, catalog: Catalog, rows: Rows) -> Contestant:
    """The plainest loop, or fastai's, on the first of these pictures."""
    of = {"plain": plain, "fastai": fastai}[name]
    return of(network_of(recipe, catalog), _dataset(catalog, rows, recipe))


def plain(network: Network, dataset: Dataset) -> Contestant:
    """The plainest loop: float32, contiguous memory, every picture ready in memory; a step after the other."""
    model, inputs, target = _plainly(network, dataset)
    loss = build_loss("auto", dataset.catalog.multilabel)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4)
    model.train()
    yield 0
    while True:
        optimizer.zero_grad()
        found = loss(model(inputs), target)
        found.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        found.item()  # waits for the device
        yield len(inputs)


def fastai(network: Network, dataset: Dataset) -> Contestant:
    """An epoch of fastai's loop without validation, every picture ready in memory."""
    import fastai.callback.progress  # noqa: F401 (so that learners have no_bar)
    from fastai.callback.core import Callback, CancelValidException
    from fastai.data.core import DataLoaders
    from fastai.learner import Learner

    class NoValidation(Callback):  # type: ignore[misc]
        def before_validate(self) -> None:
            raise CancelValidException

    model, inputs, target = _plainly(network, dataset)
    pairs = list(zip(inputs, target, strict=True))
    loaders = DataLoaders.from_dsets(pairs, pairs, bs=len(pairs), num_workers=0, device=default_device())
    loss = build_loss("auto", dataset.catalog.multilabel)
    learner = Learner(loaders, model, loss_func=loss, lr=1e-4, cbs=NoValidation())
    with learner.no_bar(), learner.no_logging():
        while True:
            learner.fit(1)
            yield len(pairs)


def _plainly(network: Network, dataset: Dataset) -> tuple[torch.nn.Module, Tensor, Tensor]:
    """A network in float32 and contiguous memory, with a batch of its inputs and their targets, all on the device."""
    device = default_device()
    rows = dataset.train[:BATCH]
    load = plain_pixels(dataset)
    pictures = torch.from_numpy(np.stack([load(int(row)) for row in rows]))
    with torch.no_grad():
        inputs = network.normalise(pictures.to(network.scale.device)).to(device).contiguous()
    model = torch.nn.Sequential(network.backbone, network.head).to(device).to(memory_format=torch.contiguous_format)
    return model, inputs, torch.tensor(dataset.catalog.target(rows)).to(device)


def plain_speed(catalog: Catalog, rows: Rows, name: str) -> float:
    """Pictures a second of the plainest loop, from one step after one that warms up."""
    recipe = recipe_of(name, {})
    steps = (n for n in plain(network_of(recipe, catalog), _dataset(catalog, rows, recipe)) if n)
    next(steps)
    start = time.perf_counter()
    return next(steps) / (time.perf_counter() - start)
