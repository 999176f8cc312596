"""Tries networks on training pictures: linear probes on features that the training itself will use again."""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch

from tellapart.core.events import Computing, Note
from tellapart.data.catalog import Catalog
from tellapart.data.splitting.kfold import deal
from tellapart.data.splitting.split import Split, ties_of
from tellapart.models.create import create_network
from tellapart.models.network import Network
from tellapart.recipe.schema import Recipe
from tellapart.training.dataset import Dataset
from tellapart.training.fast.autotune import choose_runtime
from tellapart.training.inputs import inputs_from_features
from tellapart.training.planning.budget import Timing
from tellapart.training.planning.compare import Trial
from tellapart.training.planning.ridge import right_out_of_fold
from tellapart.training.planning.timing import measure
from tellapart.training.prepare import later_part, stage_from_pictures
from tellapart.training.runtime import Runtime

Rows = npt.NDArray[np.int64]
T = TypeVar("T")
_FOLDS = 5


@dataclass(frozen=True)
class Candidate:
    """A network that may be chosen, built and timed.

    Attributes:
        name, size: the network and the side of its pictures in pixels.
        recipe: with this network and size.
        network: built as the training will build it.
        runtime: how its frozen layers run, in the training too.
        timing: what it takes.
    """

    name: str
    size: int
    recipe: Recipe
    network: Network
    runtime: Runtime
    timing: Timing


def prepare(
    recipe: Recipe, name: str, size: int | None, catalog: Catalog, split: Split, runtime: Runtime | None
) -> Generator[Computing, None, Candidate]:
    """Build a network at a size, choose how it runs, and time it.

    Args:
        recipe: its stages are what the training will have.
        size: side of its pictures in pixels; None: that of its weights.
        split: the pictures; those of the test are not looked at.
        runtime: as the user asked for; None: the fastest.
    """
    start = time.perf_counter()
    torch.manual_seed(recipe.seed)
    model, data = recipe.model.model_copy(update={"name": name}), recipe.data.model_copy(update={"size": size})
    recipe = recipe.model_copy(update={"model": model, "data": data})
    network = create_network(model, len(catalog.classes), data)
    # All of the pictures, as in the training: which engine pays depends on their number.
    dataset = Dataset(catalog, split.train, split.validation, network.preprocessing, (), recipe.seed)
    target = torch.tensor(catalog.target())
    runtime = runtime or (yield from choose_runtime(network, recipe, 0, dataset, target, None))
    runtime = runtime.inference
    network.to(device=runtime.device, memory_format=runtime.memory_format)  # type: ignore[call-overload]
    timing = measure(network, recipe, dataset, target, runtime, time.perf_counter() - start)
    return Candidate(name, network.preprocessing.height, recipe, network, runtime, timing)


def answer(candidate: Candidate, catalog: Catalog, rows: Rows) -> Generator[Computing | Note, None, Trial]:
    """How a linear probe on the frozen layers answers pictures that it was fitted without.

    The features go the way that the training's go, into the same stores: those of the network that is chosen are there
    when it begins.

    Args:
        rows: the sample, in an order that all candidates share.
    """
    recipe, network = candidate.recipe, candidate.network
    first = recipe.stages[0].model_copy(update={"per_class": None, "train": "head", "views": [[]], "augment": False})
    recipe = recipe.model_copy(update={"stages": [first, *recipe.stages[1:]]})
    base = later_part(network, recipe, 0)
    dataset = Dataset(catalog, rows, rows[:0], network.preprocessing, (), recipe.seed)
    target = torch.tensor(catalog.target())
    stage = stage_from_pictures(network, recipe, 0, dataset, target, candidate.runtime)
    inputs = inputs_from_features(network, stage.part, first, dataset, candidate.runtime, -1, base)
    stored = yield from _renamed(inputs, f"trying {candidate.name} at {candidate.size} pixels")
    assert stored.all_views
    features, answered = stored.all_views(dataset.items)
    assert np.array_equal(answered, rows)
    ties = ties_of(catalog, rows)
    fold = deal(ties, min(_FOLDS, ties.n), recipe.seed)[ties.tie]
    right = right_out_of_fold(features.cpu().numpy(), catalog.target(rows), fold, catalog.unknown(rows))
    return Trial(candidate.name, candidate.size, candidate.timing, right)


def _renamed(work: Generator[Computing | Note, None, T], task: str) -> Generator[Computing | Note, None, T]:
    """Some work, whose progress is shown under another name."""
    while True:
        try:
            event = next(work)
        except StopIteration as end:
            result: T = end.value
            return result
        yield replace(event, task=task) if isinstance(event, Computing) else event
