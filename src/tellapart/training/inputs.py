"""Where a stage's inputs come from: pictures, or what frozen layers made of them."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from tellapart.core.events import Computing, Note
from tellapart.core.preprocess import Pixels, Preprocessing
from tellapart.data.augmentation import gpu_batch, offline
from tellapart.data.augmentation.transforms import crops
from tellapart.data.loading.loader import batches, gathered
from tellapart.data.loading.picture_cache import PictureCache
from tellapart.models.network import Network
from tellapart.recipe.schema import Stage
from tellapart.training.dataset import Dataset, Views
from tellapart.training.fast.engines import EngineError, InferenceLayers, inference_layers
from tellapart.training.feature_cache import Activations, about_layers, compute
from tellapart.training.pixels import (
    Load,
    Reader,
    all_views,
    augmented,
    before_gpu,
    drawn_view,
    fixed_view,
    from_cache,
    from_files,
)
from tellapart.training.runtime import Runtime
from tellapart.training.trainable import Part

Rows = npt.NDArray[np.int64]
Batches = Iterator[tuple[Tensor, Rows]]
#: Items, their pictures, and what changes these on the device.
_Raw = tuple[Rows, Tensor, Callable[[Tensor], Tensor] | None]


@dataclass(frozen=True)
class StageInputs:
    """Inputs of the layers that a stage runs, with the rows they belong to.

    Attributes:
        train: (order of items, epoch, first batch) → batches of training inputs.
        validation: → batches of the validation pictures' inputs.
        all_views: items → all views of these items at once; only where features are stored.
    """

    train: Callable[[Rows, int, int], Batches]
    validation: Callable[[], Batches]
    all_views: Callable[[Rows], tuple[Tensor, Rows]] | None = None


def inputs_from_pictures(network: Network, config: Stage, dataset: Dataset, runtime: Runtime) -> StageInputs:
    """Inputs made from pictures, anew in every epoch: augmented, or one of the stage's views, drawn at random."""
    augments = config.augment and bool(dataset.transforms) and not config.views

    @cache  # opened by whoever asks for a batch first
    def reader() -> Reader:
        # One epoch reads each file once, so only more of them are worth a place in the cache.
        return from_cache(dataset, augments) if config.epochs > 1 else from_files(dataset)

    has_gpu = runtime.device == "cuda"
    changes_on_gpu = augments and has_gpu and not dataset.per_batch
    changes_on_gpu = changes_on_gpu and bool(gpu_batch.partition(dataset.transforms, dataset.preprocessing)[1])

    def loader(epoch: int) -> Load:
        if config.views:
            return drawn_view(dataset, config.views, epoch, reader())
        return augmented(dataset, epoch, reader()) if augments else fixed_view(dataset, reader=reader())

    def raw(order: Rows, size: int, load: Load, sequential: bool = False) -> Iterator[_Raw]:
        for batch in batches(order, size, load, runtime.workers, sequential, pinned=has_gpu):
            yield batch.row, batch.image, None

    def changed_alike(order: Rows, epoch: int, first: int) -> Iterator[_Raw]:
        """Batches whose pictures are all changed in the same way; loaded by their numbers, which tell the batch."""
        opened = reader()  # here, as the threads would each open one

        def load(number: int) -> Pixels:
            return augmented(dataset, epoch, opened, number // config.batch_size)(int(order[number]))

        numbers = np.arange(first * config.batch_size, len(order))
        for rows, pictures, _ in raw(numbers, config.batch_size, load):
            yield order[rows], pictures, None

    def prepared(made: Iterator[_Raw]) -> Batches:
        for pictures, rows in _on_device(made, runtime.device):
            yield network_input(network, pictures, runtime), rows

    def train(order: Rows, epoch: int, first: int) -> Batches:
        whole, order, size = order, order[first * config.batch_size :], config.batch_size
        if augments and dataset.per_batch:
            made = changed_alike(whole, epoch, first)
        elif changes_on_gpu:
            made = _changed_on_gpu(dataset, reader(), order, epoch, size, runtime.workers)
        else:
            made = raw(order, size, loader(epoch))
        try:
            for pictures, items in prepared(made):
                yield pictures, dataset.rows(items)
        finally:  # whoever has an epoch's last batch asks for no more
            reader().flush()

    def validation() -> Batches:
        yield from prepared(raw(dataset.validation, runtime.inference_batch, reader().frame, runtime.sequential))
        reader().flush()

    return StageInputs(train, validation)


def inputs_from_features(
    network: Network,
    part: Part,
    config: Stage,
    dataset: Dataset,
    runtime: Runtime,
    number: int,
    base: Part | None,
) -> Generator[Computing | Note, None, StageInputs]:
    """Inputs computed once by the frozen layers: for training in each of the stage's views, for validation plain.

    Where the runtime's engine cannot run the layers, torch runs all of them, as engines are never mixed.

    Args:
        base: a later stage's part, if that stage will need what fewer layers give of the same views, among others: then
            that is stored first, and the rest of the backbone runs from there, so that no layer runs twice.
    """
    try:
        return (yield from _inputs_from_features(network, part, config, dataset, runtime, number, base))
    except EngineError as error:
        yield Note(f"{error}: torch runs them instead, in float32.")
        runtime = runtime.with_plain_frozen
        return (yield from _inputs_from_features(network, part, config, dataset, runtime, number, base))


def _inputs_from_features(
    network: Network, part: Part, config: Stage, dataset: Dataset, runtime: Runtime, number: int, base: Part | None
) -> Generator[Computing, None, StageInputs]:
    """As `inputs_from_features`.

    Raises:
        EngineError: the runtime's engine cannot run the layers.
    """
    views: Views = config.views or [[]]
    n_views, n_versions, batch_size = len(views), len(dataset.versions), runtime.inference_batch
    layers = _FrozenLayers(network, part, base, runtime, number)
    training = yield from layers.run(dataset, views, "training pictures")
    validated: Activations | None = None
    if len(dataset.validation):  # there are none in the retraining
        plain = replace(dataset, train=dataset.validation, ahead=())
        validated = yield from layers.run(plain, [[]], "validation pictures")
    position = np.full(len(dataset.catalog), -1, np.int64)
    position[dataset.train] = np.arange(len(dataset.train))

    def first_view(items: Rows) -> Rows:
        """Where the first view of each item lies among the stored ones; its other views follow."""
        rows, versions = offline.origin(items, n_versions)
        first: Rows = (position[rows] * n_versions + versions) * n_views
        return first

    def train(order: Rows, epoch: int, first: int) -> Batches:
        drawn = np.random.default_rng((dataset.seed, number, epoch)).integers(n_views, size=len(order))
        for start in range(first * config.batch_size, len(order), config.batch_size):
            items = order[start : start + config.batch_size]
            shown = first_view(items) + drawn[start : start + config.batch_size]
            yield training.gather(shown, runtime.device), dataset.rows(items)

    def validation() -> Batches:
        for start in range(0, len(dataset.validation), batch_size):
            rows = dataset.validation[start : start + batch_size]
            assert validated
            yield validated.gather(np.arange(start, start + len(rows)), runtime.device), rows

    def every_view(items: Rows) -> tuple[Tensor, Rows]:
        shown = (first_view(items)[:, None] + np.arange(n_views)).ravel()
        return training.gather(shown, runtime.device), np.repeat(dataset.rows(items), n_views)

    return StageInputs(train, validation, every_view)


@dataclass(frozen=True)
class _FrozenLayers:
    """The layers before a stage's first trained one; see `inputs_from_features`."""

    network: Network
    part: Part
    base: Part | None
    runtime: Runtime
    stage: int

    def run(self, dataset: Dataset, views: Views, name: str) -> Generator[Computing, None, Activations]:
        """What the layers give of all views of the dataset's items, in the order of `Dataset.keys`; stored."""
        runtime, load, keys = self.runtime, all_views(dataset, views), dataset.keys(views)

        def stored(
            until: Part, layers: nn.Module | None, first: Activations | None, title: str
        ) -> Generator[Computing, None, Activations]:
            assert layers is not None
            assert until.prefix is not None
            # Of the frozen layers alone: those behind them change while the stage trains, and it may be resumed.
            about = about_layers(self.network, until.prefix, until.cut, dataset.preprocessing, runtime)
            forward = inference_layers(layers, runtime)
            if first is None:
                inputs = picture_inputs(self.network, dataset.preprocessing, load, forward, runtime)
            else:
                inputs = partial(first.in_order, device=runtime.device, batch_size=runtime.inference_batch)
                if self.base and runtime.engine != "torch":  # another engine makes one of layers that follow each other
                    about["in two pieces, before"] = self.base.cut
            return (yield from compute(self.stage, title, forward, inputs, keys, about, runtime.inference_batch))

        if self.base is None:
            return (yield from stored(self.part, self.part.prefix, None, f"frozen layers, {name}"))
        first = yield from stored(self.base, self.base.prefix, None, f"first layers, {name}")
        return (yield from stored(self.part, self.base.rest, first, f"features, {name}"))


def picture_inputs(
    network: Network, preprocessing: Preprocessing, load: Load, forward: InferenceLayers, runtime: Runtime
) -> Callable[[Rows], Iterator[Tensor]]:
    """Makes inputs of a network's first layers from pictures: items → batches, in that order.

    Args:
        preprocessing: the size of the pictures.
        load: item → its pixels.
        forward: the layers; where an engine converts them, it does so while the first pictures are read.
        runtime: device, batch size, number of threads that load.
    """

    def inputs(items: Rows) -> Iterator[Tensor]:
        blank = torch.zeros(1, preprocessing.height, preprocessing.width, 3, dtype=torch.uint8)
        forward.begin((runtime.inference_batch, *network_input(network, blank, runtime).shape[1:]))
        for batch in batches(items, runtime.inference_batch, load, runtime.workers, runtime.sequential):
            yield network_input(network, batch.image, runtime)

    return inputs


def _changed_on_gpu(
    dataset: Dataset, reader: Reader, order: Rows, epoch: int, batch_size: int, workers: int
) -> Iterator[_Raw]:
    """Batches that a GPU will change as a whole: threads that change picture by picture cannot keep it busy."""
    on_cpu, on_gpu = gpu_batch.partition(dataset.transforms, dataset.preprocessing)
    load = before_gpu(dataset, epoch, on_cpu, on_gpu, reader)
    unchanged = reader.source if crops(on_gpu) else reader.frame

    def ready(items: Rows) -> Sequence[Pixels] | None:
        # With nothing left for the CPU to do, items are rows, and what is in the cache needs no thread.
        if on_cpu or dataset.ahead or not isinstance(unchanged, PictureCache):
            return None
        kept = unchanged.together(items)
        return kept.pictures() if kept else None

    def make(items: Rows, pictures: Sequence[Pixels]) -> _Raw:
        rng = gpu_batch.batch_generator(dataset.seed, epoch, items)
        return items, *gpu_batch.begin_batch(pictures, on_gpu, dataset.preprocessing, rng)

    return gathered(order, batch_size, ready, load, make, workers)


def _on_device(made: Iterator[_Raw], device: str) -> Batches:
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


def network_input(network: Network, pictures: Tensor, runtime: Runtime) -> Tensor:
    """uint8 [n, h, w, 3] → the backbone's input, on the device and in the memory format of the runtime."""
    return network.normalise(pictures.to(runtime.device)).contiguous(memory_format=runtime.memory_format)
