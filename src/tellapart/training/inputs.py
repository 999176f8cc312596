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
from tellapart.data.loading.loader import batches, batches_of, gathered
from tellapart.data.loading.picture_cache import PictureCache
from tellapart.models.network import Network
from tellapart.recipe.schema import Stage
from tellapart.training.dataset import Dataset, Views
from tellapart.training.fast.engines import EngineError, InferenceLayers, inference_layers
from tellapart.training.feature_cache import Activations, about_layers, compute
from tellapart.training.parallel.features import fill_together
from tellapart.training.parallel.workers import Workers
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
#: Where an order of items is cut: a slice for each batch.
Cuts = Sequence[slice]
EVERYTHING = slice(None)


def evenly(n: int, size: int, first: int = 0) -> list[slice]:
    """The cuts of n items into batches of one size, the last of which may be smaller; from batch `first` on."""
    return [slice(start, min(start + size, n)) for start in range(first * size, n, size)]


#: Items, their pictures, and what changes these on the device.
_Raw = tuple[Rows, Tensor, Callable[[Tensor], Tensor] | None]


@dataclass(frozen=True)
class StageInputs:
    """Inputs of the layers that a stage runs, with the rows they belong to.

    Attributes:
        train: (order of items, epoch, cuts) → batches of training inputs, one for each cut of the order.
        validation: → batches of the validation pictures' inputs; of those that a slice takes, where one is given.
        all_views: items → all views of these items at once; only where features are stored.
    """

    train: Callable[[Rows, int, Cuts], Batches]
    validation: Callable[..., Batches]
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

    def raw(parts: Sequence[Rows], load: Load) -> Iterator[_Raw]:
        for batch in batches_of(parts, load, runtime.workers, has_gpu):
            yield batch.row, batch.image, None

    def changed_alike(order: Rows, epoch: int, cuts: Cuts) -> Iterator[_Raw]:
        """Batches whose pictures are all changed in the same way; loaded by their numbers, which tell the batch."""
        opened = reader()  # here, as the threads would each open one

        def load(number: int) -> Pixels:
            return augmented(dataset, epoch, opened, number // config.batch_size)(int(order[number]))

        for numbers, pictures, _ in raw([np.arange(each.start, each.stop) for each in cuts], load):
            yield order[numbers], pictures, None

    def prepared(made: Iterator[_Raw]) -> Batches:
        for pictures, rows in _on_device(made, runtime.device):
            yield network_input(network, pictures, runtime), rows

    def train(order: Rows, epoch: int, cuts: Cuts) -> Batches:
        parts = [order[each] for each in cuts]
        if augments and dataset.per_batch:
            made = changed_alike(order, epoch, cuts)
        elif changes_on_gpu:
            made = _changed_on_gpu(dataset, reader(), parts, epoch, runtime.workers)
        else:
            made = raw(parts, loader(epoch))
        try:
            for pictures, items in prepared(made):
                yield pictures, dataset.rows(items)
        finally:  # whoever has an epoch's last batch asks for no more
            reader().flush()

    def validation(part: slice = EVERYTHING) -> Batches:
        rows, size, frame = dataset.validation[part], runtime.inference_batch, reader().frame
        read = batches(rows, size, frame, runtime.workers, runtime.sequential, pinned=has_gpu)
        yield from prepared((batch.row, batch.image, None) for batch in read)
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
    workers: Workers | None = None,
) -> Generator[Computing | Note, None, StageInputs]:
    """Inputs computed once by the frozen layers: for training in each of the stage's views, for validation plain.

    Where the runtime's engine cannot run the layers, torch runs all of them, as engines are never mixed.

    Args:
        base: a later stage's part, if that stage will need what fewer layers give of the same views, among others: then
            that is stored first, and the rest of the backbone runs from there, so that no layer runs twice.
        workers: those that share the work, if several do.
    """
    args = (network, part, config, dataset)
    try:
        return (yield from _inputs_from_features(*args, runtime, number, base, workers))
    except EngineError as error:
        yield Note(f"{error}: torch runs them instead, in float32.")
        runtime = runtime.with_plain_frozen
        return (yield from _inputs_from_features(*args, runtime, number, base, workers))


def _inputs_from_features(
    network: Network,
    part: Part,
    config: Stage,
    dataset: Dataset,
    runtime: Runtime,
    number: int,
    base: Part | None,
    workers: Workers | None,
) -> Generator[Computing, None, StageInputs]:
    """As `inputs_from_features`.

    Raises:
        EngineError: the runtime's engine cannot run the layers.
    """
    views: Views = config.views or [[]]
    n_views, n_versions, batch_size = len(views), len(dataset.versions), runtime.inference_batch
    layers = _FrozenLayers(network, part, base, runtime, number, workers)
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

    def train(order: Rows, epoch: int, cuts: Cuts) -> Batches:
        drawn = np.random.default_rng((dataset.seed, number, epoch)).integers(n_views, size=len(order))
        for each in cuts:
            items = order[each]
            shown = first_view(items) + drawn[each]
            yield training.gather(shown, runtime.device), dataset.rows(items)

    def validation(part: slice = EVERYTHING) -> Batches:
        first, end, _ = part.indices(len(dataset.validation))
        for start in range(first, end, batch_size):
            shown = np.arange(start, min(start + batch_size, end))
            assert validated
            yield validated.gather(shown, runtime.device), dataset.validation[shown]

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
    workers: Workers | None

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
            filled = partial(fill_together, self.workers) if self.workers else compute
            return (yield from filled(self.stage, title, forward, inputs, keys, about, runtime.inference_batch))

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
    dataset: Dataset, reader: Reader, parts: Sequence[Rows], epoch: int, workers: int
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

    return gathered(parts, ready, load, make, workers)


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
