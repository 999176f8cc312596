"""From a picture's file to the pixels that a stage shows.

When a stage begins, one function `load(item) -> pixels` is built for what it shows: `plain` pictures, `augmented` ones,
or fixed views (`fixed_view`, `drawn_view`, `all_views`). All of them change what a `Reader` reads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch

from tellapart.core.preprocess import Pixels
from tellapart.data.augmentation import offline
from tellapart.data.augmentation.transforms import (
    augment,
    augment_frame,
    augment_kept,
    batch_generator,
    crops,
    generator,
)
from tellapart.data.decoding.decode import decode, read_picture
from tellapart.data.loading import picture_cache
from tellapart.data.loading.content_keys import content_keys
from tellapart.data.loading.picture_cache import PictureCache, source_side
from tellapart.recipe.transforms import Transform
from tellapart.training.dataset import Dataset, Views

Load = Callable[[int], Pixels]
#: item → what is done to it, and the source of all that is left to chance.
_Change = Callable[[int], tuple[Sequence[Transform], np.random.Generator]]


@dataclass(frozen=True)
class Reader:
    """Reads what changes begin with; see `from_files` and `from_cache`.

    Attributes:
        frame: row → the picture as validation, test and the finished model see it, uint8 [height, width, 3].
        source: row → the picture that the dataset's random crops are cut from, larger and of its own shape.
        version: item → the version made ahead that it is, of its own shape.
    """

    frame: Load
    source: Load
    version: Load

    @property
    def caches(self) -> list[PictureCache]:
        return [each for each in (self.frame, self.source, self.version) if isinstance(each, PictureCache)]

    def flush(self) -> None:
        """Write to the cache what has been read and not been written yet."""
        for cache in self.caches:
            cache.flush()


def from_files(dataset: Dataset) -> Reader:
    """A reader that decodes a file whenever it is asked."""
    path, preprocessing = dataset.catalog.path, dataset.preprocessing

    def version(item: int) -> Pixels:
        row, number = divmod(item, len(dataset.versions))
        side = offline.side_to_decode(dataset.versions, preprocessing)
        pixels = decode(path(row), side, preprocessing.background)
        return offline.view(pixels, dataset.versions, preprocessing, dataset.seed, row, number)

    return Reader(
        frame=lambda row: read_picture(path(row), preprocessing),
        source=_source(dataset, dataset.transforms),
        version=version,
    )


def from_cache(dataset: Dataset, augments: bool = True) -> Reader:
    """A reader that decodes each file once, and finds it in the picture cache from the second epoch on.

    Where the cache cannot be written to, files are read: that is slower, and the same.

    Args:
        augments: whether the dataset's transforms will be asked for; without them, nothing is cut from sources.
    """
    reader, preprocessing = from_files(dataset), dataset.preprocessing
    cuts = augments and crops(dataset.transforms)
    try:
        # Where training cuts crops, frames are for validation alone.
        rows = dataset.validation if cuts else np.union1d(dataset.train, dataset.validation)
        about = {key: value for key, value in preprocessing.as_dict().items() if key not in ("mean", "std")}
        frames = PictureCache(
            rows, content_keys(dataset.catalog, rows), {"as": "the network sees it", **about}, reader.frame
        )
        cached = replace(reader, frame=frames)
        if dataset.ahead:
            # The colour of erased parts is the network's mean; some transforms are torch's.
            about = {"as": "version made ahead", **preprocessing.as_dict(), "torch": torch.__version__}
            versions = PictureCache(dataset.items, dataset.keys(((),)), about, reader.version)
            cached = replace(cached, version=versions)
        if cuts and not all(dataset.versions):  # the version that is the picture itself is cut from its source
            about = {"as": "source of crops", "side": source_side(dataset.transforms, preprocessing)}
            about |= {"background": preprocessing.background, "interpolation": preprocessing.interpolation}
            keys = content_keys(dataset.catalog, dataset.train)
            sources = PictureCache(dataset.train, keys, {**about, "torch": torch.__version__}, reader.source)
            cached = replace(cached, source=sources)
    except OSError:
        return reader
    return cached


def plain(dataset: Dataset, reader: Reader | None = None) -> Load:
    """Row → the picture as validation, test and the finished model see it."""
    return (reader or from_files(dataset)).frame


def augmented(dataset: Dataset, epoch: int, reader: Reader | None = None, batch: int = 0) -> Load:
    """Item → the item as one epoch of training shows it, changed at random; see `Crops` for many at once.

    Args:
        batch: its number in the epoch; it matters where all pictures of a batch are changed alike.
    """

    def change(item: int) -> tuple[Sequence[Transform], np.random.Generator]:
        if dataset.per_batch:
            return dataset.transforms, batch_generator(dataset.seed, epoch, batch)
        row, version = divmod(item, len(dataset.versions))
        return dataset.transforms, generator(dataset.seed, epoch, row, version)

    read = reader or from_files(dataset)
    load = _changed(dataset, read, read.source, change)
    if dataset.per_batch or dataset.ahead or not crops(dataset.transforms) or not isinstance(read.source, PictureCache):
        return load
    return Crops(load, read.source, dataset, epoch)


@dataclass(frozen=True)
class Crops:
    """Row → the picture as one epoch of training shows it; many at once where they are kept. See `loader.Together`.

    Attributes:
        load: makes one.
        source: what their crops are cut from.
        dataset: has no versions made ahead, so that its items are rows.
        epoch: of the training.
    """

    load: Load
    source: PictureCache
    dataset: Dataset
    epoch: int

    def __call__(self, row: int) -> Pixels:
        """One picture."""
        return self.load(row)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of a picture: height, width, 3."""
        return self.dataset.preprocessing.height, self.dataset.preprocessing.width, 3

    def fill(self, rows: npt.NDArray[np.int64], out: Pixels) -> bool:
        """Write the pictures of some rows to `out`; False if not all of their sources are kept."""
        if (kept := self.source.together(rows)) is None:
            return False
        dataset, numbers = self.dataset, rows.tolist()

        def rng(index: int) -> np.random.Generator:
            return generator(dataset.seed, self.epoch, numbers[index])

        augment_kept(kept, dataset.transforms, dataset.preprocessing, rng, out)
        return True


def before_gpu(
    dataset: Dataset, epoch: int, on_cpu: Sequence[Transform], on_gpu: Sequence[Transform], reader: Reader
) -> Load:
    """Item → the item as a GPU begins with it, which changes whole batches.

    Args:
        on_cpu, on_gpu: see `gpu_batch.partition`. If the GPU cuts crops: the picture that they are cut from.
    """

    def change(item: int) -> tuple[Sequence[Transform], np.random.Generator]:
        row, version = divmod(item, len(dataset.versions))
        return on_cpu, generator(dataset.seed, epoch, row, version)

    def unchanged(item: int) -> Pixels:
        row, version = divmod(item, len(dataset.versions))
        return reader.version(item) if dataset.versions[version] else reader.source(row)

    return unchanged if crops(on_gpu) else _changed(dataset, reader, reader.source, change)


def fixed_view(dataset: Dataset, views: Views = ((),), number: int = 0, reader: Reader | None = None) -> Load:
    """Item → one of its fixed views, by default the item as it is. Its random choices are the same in every epoch."""

    def change(item: int) -> tuple[Sequence[Transform], np.random.Generator]:
        row, version = divmod(item, len(dataset.versions))
        return views[number], generator(dataset.seed, 0, row, version * len(views) + number)

    return _changed(dataset, reader or from_files(dataset), _source(dataset, views[number]), change)


def drawn_view(dataset: Dataset, views: Views, epoch: int, reader: Reader | None = None) -> Load:
    """Item → the one of its fixed views that an epoch draws."""
    loads = [fixed_view(dataset, views, number, reader) for number in range(len(views))]
    return lambda item: loads[int(generator(dataset.seed, epoch, item).integers(len(views)))](item)


def all_views(dataset: Dataset, views: Views) -> Load:
    """Number → one view of one item, in the order of `Dataset.keys`: an item's views follow each other."""
    reader, items = from_files(dataset), dataset.items
    if len(views) > 1:  # so that a picture is decoded once for all its views
        reader = replace(reader, frame=lru_cache(maxsize=64)(reader.frame))
    loads = [fixed_view(dataset, views, number, reader) for number in range(len(views))]
    return lambda number: loads[number % len(views)](int(items[number // len(views)]))


def _changed(dataset: Dataset, reader: Reader, cut_from: Load, change: _Change) -> Load:
    """Item → the item changed, at the network's size; `cut_from`: row → the picture that crops are cut from."""
    preprocessing = dataset.preprocessing

    def load(item: int) -> Pixels:
        row, version = divmod(item, len(dataset.versions))
        transforms, rng = change(item)
        if dataset.versions[version]:
            return augment(reader.version(item), transforms, preprocessing, rng)
        if crops(transforms):
            return augment(cut_from(row), transforms, preprocessing, rng)
        return augment_frame(reader.frame(row), transforms, preprocessing, rng)

    return load


def _source(dataset: Dataset, transforms: Sequence[Transform]) -> Load:
    """Row → the picture that these transforms' crops are cut from, read from its file."""
    preprocessing = dataset.preprocessing
    side = source_side(transforms, preprocessing)
    return lambda row: picture_cache.source(dataset.catalog.path(row), side, preprocessing)
