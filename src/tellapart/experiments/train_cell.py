"""One training of a study: a cell's recipe with one seed. No bundle, no checkpoint, nothing of the test part."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Generator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from tellapart.core.events import BeginsFrom, Computing, Event, StageDone, Validated
from tellapart.core.predictions import Predictions
from tellapart.data.catalog import Catalog
from tellapart.data.splitting.split import Split
from tellapart.evaluation.metrics import scores
from tellapart.experiments.results import DONE
from tellapart.experiments.seeds import Seed
from tellapart.models.create import create_network
from tellapart.models.network import Network
from tellapart.recipe.schema import Data, Model, Recipe
from tellapart.training.checkpoint import State
from tellapart.training.dataset import Dataset
from tellapart.training.fit import answers, fit
from tellapart.training.predict import predict
from tellapart.training.prepare import check_stages
from tellapart.training.runtime import Runtime
from tellapart.training.stage import TrainingStage


@dataclass(frozen=True)
class Trained:
    """What a training leaves: see `results.write_training`."""

    result: dict[str, Any]
    curve: list[dict[str, Any]]
    predictions: Predictions


def use_threads(n: int) -> None:
    """Compute with so many threads from now on: sums depend on it."""
    torch.set_num_threads(n)


@lru_cache(maxsize=2)
def _initial(model: str, data: str, n_classes: int, seed: int) -> Network:
    torch.manual_seed(seed)
    return create_network(Model.model_validate_json(model), n_classes, Data.model_validate_json(data))


def initial_network(recipe: Recipe, n_classes: int, seed: int) -> Network:
    """A recipe's network with its initial weights: the same for the same network and seed, read and drawn once."""
    return copy.deepcopy(_shared(recipe, n_classes, seed))


def _shared(recipe: Recipe, n_classes: int, seed: int) -> Network:
    """The network that all trainings of a seed are copied from: to be looked at, and left as it is."""
    data = recipe.data.model_copy(update={"validation": 0.15, "test": 0.15, "split_seed": None, "ahead": []})
    model = recipe.model.model_dump_json(exclude_none=True)
    return _initial(model, data.model_dump_json(exclude_none=True), n_classes, seed)


def dataset_of(recipe: Recipe, network: Network, catalog: Catalog, split: Split, seed: Seed) -> Dataset:
    """The pictures of a training, in the order of its seed."""
    per_batch = recipe.augment_per == "batch"
    preprocessing, ahead = network.preprocessing, recipe.data.ahead
    return Dataset(catalog, split.train, split.validation, preprocessing, recipe.augment, seed.order, ahead, per_batch)


def check_cell(recipe: Recipe, catalog: Catalog, split: Split, seed: Seed) -> None:
    """Refuse a cell that cannot be trained, before the first one is.

    Raises:
        TellapartError: no such network or weights, or stages that do not fit it.
    """
    from tellapart.workflows.finalize import check_evaluation

    check_evaluation(recipe, catalog)
    network = _shared(recipe, len(catalog.classes), seed.init)
    modes = [module.training for module in network.modules()]
    check_stages(network, recipe, dataset_of(recipe, network, catalog, split, seed))
    for module, mode in zip(network.modules(), modes, strict=True):
        module.training = mode  # a stage of another size had it answer a picture


def train_cell(
    recipe: Recipe, catalog: Catalog, split: Split, seed: Seed, fold: int | None, runtime: Runtime
) -> Generator[Event, None, Trained]:
    """Train a cell once, and answer its validation pictures.

    Args:
        recipe: of the cell; its own seed and `retrain` do not count.
        split: without a test part.
        runtime: the same for all trainings of the study.

    Yields:
        Every event of the training.

    Raises:
        TellapartError: it cannot be trained, or a loss is not finite.
    """
    assert not len(split.test), "the test part of a study is locked"
    clock = _Clock()
    recipe = recipe.model_copy(update={"seed": seed.order, "retrain": False})
    network = initial_network(recipe, len(catalog.classes), seed.init)
    dataset = dataset_of(recipe, network, catalog, split, seed)
    curve, course = list[dict[str, Any]](), _Course()
    training = fit(network, recipe, dataset, State(), runtime)
    while True:
        try:
            event = next(training)
        except StopIteration as end:
            stage: TrainingStage = end.value
            break
        clock.note(event)
        course.note(event)
        if isinstance(event, Validated):
            curve.append(_epoch(event))
        yield event
    predictions = yield from _answered(network, stage, catalog, split, runtime)
    measured = {f"validation_{name}": value for name, value in scores(predictions).items()}
    result = {
        "status": DONE,
        "reason": "",
        "seed": seed.number,
        "split_seed": seed.split,
        "init_seed": seed.init,
        "order_seed": seed.order,
        "fold": fold,
        "seconds": round(clock.training, 3),
        "preparation": round(clock.preparing, 3),
        "n_parameters": sum(parameter.numel() for parameter in network.parameters()),
        "epochs": course.epochs,
        "best_epoch": course.best_epoch,
        "still_rising": course.still_rising,
        "scores": {**course.training, **measured},
    }
    return Trained(result, curve, predictions)


class _Clock:
    """Seconds of a training, and apart from them those of work that it shares with others, such as features."""

    def __init__(self) -> None:
        self.last, self.training, self.preparing = time.monotonic(), 0.0, 0.0

    def note(self, event: Event) -> None:
        """Take the time since the event before as one of this event's kind."""
        now = time.monotonic()
        if isinstance(event, Computing):
            self.preparing += now - self.last
        else:
            self.training += now - self.last
        self.last = now


class _Course:
    """The course of a training: its epochs over all stages, and the one that is kept."""

    def __init__(self) -> None:
        self.epochs, self.best_epoch, self.still_rising = 0, 0, False
        self.training: dict[str, float] = {}
        self._best: Validated | None = None
        self._limit = 0

    def note(self, event: Event) -> None:
        """Follow one event."""
        if isinstance(event, BeginsFrom):
            self._best = None
        elif isinstance(event, Validated):
            self._limit = event.epochs if event.lrs else 0  # a linear probe has strengths, which do not rise
            self._best = event if event.best else self._best
        elif isinstance(event, StageDone):
            if event.best_epoch and self._best:
                self.best_epoch = self.epochs + event.best_epoch
                accuracy = self._best.train_accuracy
                self.training = {"training_loss": self._best.train_loss}
                self.training |= {} if accuracy is None else {"training_accuracy": accuracy}
            self.still_rising = event.best_epoch == event.epochs == self._limit and event.epochs > 1
            self.epochs, self._best = self.epochs + event.epochs, None


def _epoch(event: Validated) -> dict[str, Any]:
    values = {
        "training_loss": event.train_loss,
        "training_accuracy": event.train_accuracy,
        "validation_loss": event.validation_loss,
        "validation_accuracy": event.validation_accuracy,
    }
    finite = {name: value if value is not None and math.isfinite(value) else None for name, value in values.items()}
    return {"stage": event.stage, "epoch": event.epoch, **finite, "best": event.best}


def _answered(
    network: Network, stage: TrainingStage, catalog: Catalog, split: Split, runtime: Runtime
) -> Generator[Event, None, Predictions]:
    """Predictions on validation: from the last stage's inputs, unless it saw pictures of another size than answers do.

    What the stage has at hand, decoded pictures or stored features, is not computed again.
    """
    if stage.dataset.preprocessing != network.preprocessing:
        return (yield from predict(network, catalog, split.validation, runtime, "answers on validation"))
    pairs = [(logits.float().cpu().numpy(), rows) for logits, rows in answers(stage)]
    rows = np.concatenate([rows for _, rows in pairs])
    logits = np.concatenate([logits for logits, _ in pairs])
    return Predictions.of(rows, logits, catalog.target(rows), catalog.classes, catalog.unknown(rows))
