"""Where a stage's inputs come from: pictures, or what frozen layers made of them."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from tellapart.core.events import Computing
from tellapart.core.preprocess import Pixels
from tellapart.data.augmentation import gpu_batch, offline
from tellapart.data.augmentation.transforms import generator
from tellapart.data.loading.loader import batches, gathered
from tellapart.models.network import Network
from tellapart.recipe.schema import Stage
from tellapart.training.dataset import Dataset, Views
from tellapart.training.feature_cache import Activations, about_layers, compute, inference_layers
from tellapart.training.runtime import Runtime
from tellapart.training.trainable import Part

Rows = npt.NDArray[np.int64]
Inputs = Iterator[tuple[Tensor, Rows]]
#: Rows, their pictures, and what changes these on the device.
_Made = tuple[Rows, Tensor, Callable[[Tensor], Tensor] | None]


@dataclass(frozen=True)
class Source:
    """Inputs of a stage's layers, with the rows they belong to.

    Attributes:
        train: (order of items, epoch, first batch) → batches of training inputs.
        validation: → batches of the validation pictures' inputs.
        everything: items → all views of these items at once; only for stored features.
    """

    train: Callable[[Rows, int, int], Inputs]
    validation: Callable[[], Inputs]
    everything: Callable[[Rows], tuple[Tensor, Rows]] | None = None


def live(network: Network, stage: Stage, dataset: Dataset, runtime: Runtime) -> Source:
    """Inputs made from pictures, anew in every epoch: augmented, or one of the stage's views, drawn at random."""
    dataset = dataset.kept(stage.augment and not stage.views) if stage.epochs > 1 else dataset

    gpu = runtime.device == "cuda"
    on_cpu, on_gpu = gpu_batch.partition(dataset.transforms, dataset.preprocessing)

    def inputs(order: Rows, size: int, load: Callable[[int], Pixels], in_turn: bool = False) -> Inputs:
        made = batches(order, size, load, runtime.workers, in_turn, pinned=gpu)
        yield from brought((batch.row, batch.image, None) for batch in made)

    def changed(order: Rows, epoch: int) -> Inputs:
        def load(item: int) -> Pixels:
            return dataset.before_batch(item, epoch, on_cpu, on_gpu)

        def ready(items: Rows) -> Sequence[Pixels] | None:
            return None if on_cpu or dataset.ahead else dataset.unchanged_together(items)

        def make(items: Rows, pictures: Sequence[Pixels]) -> _Made:
            rng = gpu_batch.batch_generator(dataset.seed, epoch, items)
            return items, *gpu_batch.begin_batch(pictures, on_gpu, dataset.preprocessing, rng, pinned=True)

        yield from brought(gathered(order, stage.batch_size, ready, load, make, runtime.workers))

    def brought(made: Iterator[_Made]) -> Inputs:
        for pictures, rows in _brought(made, runtime.device):
            yield prepare(network, pictures, runtime), rows

    def train(order: Rows, epoch: int, first: int) -> Inputs:
        def one_view(item: int) -> Pixels:
            drawn = int(generator(dataset.seed, epoch, item).integers(len(stage.views)))
            return dataset.view(item, drawn, stage.views)

        augmented = stage.augment and bool(dataset.transforms) and not stage.views
        order = order[first * stage.batch_size :]
        if augmented and gpu and on_gpu:
            found = changed(order, epoch)
        else:
            plan = (lambda item: dataset.augmented(item, epoch)) if augmented else dataset.view
            found = inputs(order, stage.batch_size, one_view if stage.views else plan)
        try:
            for pictures, items in found:
                yield pictures, dataset.rows(items)
        finally:  # whoever has an epoch's last batch asks for no more
            dataset.flush()

    def validate() -> Inputs:
        yield from inputs(dataset.validation, runtime.answers_at_once, dataset.plain, runtime.in_turn)
        dataset.flush()

    return Source(train, validate)


def stored(
    network: Network,
    part: Part,
    stage: Stage,
    dataset: Dataset,
    runtime: Runtime,
    number: int,
    base: Part | None,
) -> Generator[Computing, None, Source]:
    """Inputs computed once by the frozen layers: for training in each of the stage's views, for validation plain.

    Args:
        base: a later stage's part, if that stage will need what fewer layers give of the same views, among others: then
            that is stored first, and the rest of the backbone runs from there, so that no layer runs twice.
    """
    views: Views = stage.views or [[]]
    at_once = runtime.answers_at_once

    def of(what: str, shown: Dataset, views: Views) -> Generator[Computing, None, Activations]:
        items, keys = shown.items, shown.keys(views)
        if len(views) > 1:  # a picture's views follow each other: it is decoded for the first
            shown = replace(shown, frames=shown.frames or lru_cache(maxsize=64)(shown.plain))

        def pictures(places: Rows) -> Iterator[Tensor]:
            def load(place: int) -> Pixels:
                return shown.view(int(items[place // len(views)]), place % len(views), views)

            for batch in batches(places, at_once, load, runtime.workers, runtime.in_turn):
                yield prepare(network, batch.image, runtime)

        def run(
            until: Part, layers: nn.Module | None, inputs: Callable[[Rows], Iterator[Tensor]], name: str
        ) -> Generator[Computing, None, Activations]:
            assert layers is not None
            assert until.prefix is not None
            # Of the frozen layers alone: those behind them change while the stage trains, and it may be resumed.
            about = about_layers(network, until.prefix, until.cut, shown.preprocessing, runtime)
            return (yield from compute(number, name, inference_layers(layers, runtime), inputs, keys, about, at_once))

        if base is None:
            return (yield from run(part, part.prefix, pictures, f"frozen layers, {what}"))
        first = yield from run(base, base.prefix, pictures, f"first layers, {what}")
        from_first = partial(first.in_order, device=runtime.device, at_once=at_once)
        return (yield from run(part, base.rest, from_first, f"features, {what}"))

    training = yield from of("training pictures", dataset, views)
    validation: Activations | None = None
    if len(dataset.validation):  # there are none in the retraining
        plain = replace(dataset, train=dataset.validation, ahead=())
        validation = yield from of("validation pictures", plain, [[]])
    n_versions = len(dataset.versions)
    place = np.full(len(dataset.catalog), -1, np.int64)
    place[dataset.train] = np.arange(len(dataset.train))

    def first_view(items: Rows) -> Rows:
        rows, versions = offline.origin(items, n_versions)
        found: Rows = (place[rows] * n_versions + versions) * len(views)
        return found

    def train(order: Rows, epoch: int, first: int) -> Inputs:
        drawn = np.random.default_rng((dataset.seed, number, epoch)).integers(len(views), size=len(order))
        for start in range(first * stage.batch_size, len(order), stage.batch_size):
            items = order[start : start + stage.batch_size]
            shown = first_view(items) + drawn[start : start + stage.batch_size]
            yield training.gather(shown, runtime.device), dataset.rows(items)

    def validate() -> Inputs:
        for start in range(0, len(dataset.validation), at_once):
            rows = dataset.validation[start : start + at_once]
            assert validation
            yield validation.gather(np.arange(start, start + len(rows)), runtime.device), rows

    def everything(items: Rows) -> tuple[Tensor, Rows]:
        shown = (first_view(items)[:, None] + np.arange(len(views))).ravel()
        return training.gather(shown, runtime.device), np.repeat(dataset.rows(items), len(views))

    return Source(train, validate, everything)


def _brought(made: Iterator[_Made], device: str) -> Inputs:
    """Batches on the device, changed there. A GPU copies and changes the next one while it works on this one."""
    if device != "cuda":
        yield from ((image, rows) for rows, image, _ in made)
        return
    aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    before: tuple[Tensor, Rows] | None = None
    for rows, image, change in made:
        with torch.cuda.stream(aside):
            there = image.to(device, non_blocking=True)
            there = change(there) if change else there
        if before:
            yield before
        torch.cuda.current_stream().wait_stream(aside)
        there.record_stream(torch.cuda.current_stream())
        before = there, rows
    if before:
        yield before


def prepare(network: Network, pictures: Tensor, runtime: Runtime) -> Tensor:
    """uint8 [n, h, w, 3] → the backbone's input, on the device and in the memory format of the runtime."""
    return network.normalise(pictures.to(runtime.device)).contiguous(memory_format=runtime.memory_format)
