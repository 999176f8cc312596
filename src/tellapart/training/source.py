"""Where a stage's inputs come from: pictures, or what frozen layers made of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

import tellapart
from tellapart.data.loader import batches
from tellapart.models.network import Network
from tellapart.preprocess import Pixels
from tellapart.recipe import Stage
from tellapart.records import Computing
from tellapart.runtime import Runtime
from tellapart.training.activations import BATCH, Activations, answering, compute, weights_hash
from tellapart.training.layers import Part
from tellapart.training.material import Material, Views

Rows = npt.NDArray[np.int64]
Inputs = Iterator[tuple[Tensor, Rows]]


@dataclass(frozen=True)
class Source:
    """Inputs of a stage's layers, with the rows they belong to.

    Attributes:
        train: (order of items, epoch, first batch) → batches of training inputs.
        validation: → batches of the validation pictures' inputs.
        everything: → all views of all training items at once; only for stored features.
    """

    train: Callable[[Rows, int, int], Inputs]
    validation: Callable[[], Inputs]
    everything: Callable[[], tuple[Tensor, Rows]] | None = None


def live(network: Network, stage: Stage, material: Material, runtime: Runtime) -> Source:
    """Inputs made from pictures, anew in every epoch."""

    def inputs(order: Rows, size: int, load: Callable[[int], Pixels]) -> Inputs:
        for batch in batches(order, size, load, runtime.workers):
            yield prepare(network, batch.image, runtime), batch.row

    def train(order: Rows, epoch: int, first: int) -> Inputs:
        augmented = stage.augment and bool(material.transforms)
        load = (lambda item: material.augmented(item, epoch)) if augmented else material.view
        for pictures, items in inputs(order[first * stage.batch_size :], stage.batch_size, load):
            yield pictures, material.rows(items)

    return Source(train, lambda: inputs(material.validation, BATCH, material.plain))


def stored(
    network: Network,
    part: Part,
    stage: Stage,
    material: Material,
    runtime: Runtime,
    number: int,
    base: Part | None,
) -> Generator[Computing, None, Source]:
    """Inputs computed once by the frozen layers: for training in each of the stage's views, for validation plain.

    Args:
        base: the next stage's part, if that stage will need what fewer layers give of the same views: then that is
            stored first, and the rest of the body runs from there, so that no layer runs twice.
    """
    views: Views = stage.views or [[]]

    def of(what: str, shown: Material, views: Views) -> Generator[Computing, None, Activations]:
        items = shown.items
        key = {
            "architecture": network.architecture.as_dict(),
            "pictures": contents(shown, shown.train),
            "preprocessing": shown.how.as_dict(),
            "ahead": _described(shown.versions),
            "views": _described(views),
            # Only what is random depends on the seed and on which row a picture has.
            "seed": [shown.seed, shown.train.tolist()] if any(views) or any(shown.versions) else 0,
            "versions": [tellapart.__version__, torch.__version__],
        }

        def pictures() -> Iterator[Tensor]:
            def load(place: int) -> Pixels:
                return shown.view(int(items[place // len(views)]), place % len(views), views)

            for batch in batches(np.arange(len(items) * len(views)), BATCH, load, runtime.workers):
                yield prepare(network, batch.image, runtime)

        def run(
            until: Part, layers: nn.Module | None, inputs: Callable[[], Iterator[Tensor]], name: str
        ) -> Generator[Computing, None, Activations]:
            assert layers is not None
            assert until.prefix is not None
            # Of the frozen layers alone: those behind them change while the stage trains, and it may be resumed.
            keyed = {**key, "until": until.cut, "weights": weights_hash(until.prefix)}
            fast = answering(layers, runtime)
            n_items = len(shown.catalog) * len(shown.versions)
            return (yield from compute(number, name, fast, inputs, items, len(views), runtime, keyed, n_items))

        if base is None:
            return (yield from run(part, part.prefix, pictures, f"frozen layers, {what}"))
        first = yield from run(base, base.prefix, pictures, f"first layers, {what}")
        return (yield from run(part, base.rest, lambda: first.in_order(runtime.device), f"features, {what}"))

    training = yield from of("training pictures", material, views)
    plain = replace(material, train=material.validation, ahead=())
    validation = yield from of("validation pictures", plain, [[]])

    def train(order: Rows, epoch: int, first: int) -> Inputs:
        drawn = np.random.default_rng((material.seed, number, epoch)).integers(len(views), size=len(order))
        for start in range(first * stage.batch_size, len(order), stage.batch_size):
            items = order[start : start + stage.batch_size]
            views_of = drawn[start : start + stage.batch_size]
            yield training.gather(items, views_of, runtime.device), material.rows(items)

    def validate() -> Inputs:
        for start in range(0, len(material.validation), BATCH):
            rows = material.validation[start : start + BATCH]
            yield validation.gather(rows, np.zeros(len(rows), np.int64), runtime.device), rows

    def everything() -> tuple[Tensor, Rows]:
        items = np.repeat(material.items, len(views))
        views_of = np.tile(np.arange(len(views)), len(material.items))
        return training.gather(items, views_of, runtime.device), material.rows(items)

    return Source(train, validate, everything)


def prepare(network: Network, pictures: Tensor, runtime: Runtime) -> Tensor:
    """uint8 [n, h, w, 3] → the body's input, on the device and in the memory format of the runtime."""
    return network.normalise(pictures.to(runtime.device)).contiguous(memory_format=runtime.memory_format)


def contents(material: Material, rows: Rows) -> str:
    """A text that changes when any of the pictures does."""
    digest = hashlib.sha256()
    for content in material.catalog.table["sha256"].gather(rows):
        digest.update(content)
    return digest.hexdigest()


def _described(views: Views) -> list[list[dict[str, Any]]]:
    """Views as plain values."""
    return [[transform.model_dump() for transform in view] for view in views]
