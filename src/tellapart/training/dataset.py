"""Pictures as a training reads them: plain for validation; for training in their versions, augmented or in fixed views.

What training asks for is an item: a row and one of the versions made ahead of it. Only training rows have items, so no
version of a validation picture can be among them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from tellapart.core.array_store import KEY, Keys
from tellapart.core.preprocess import Pixels, Preprocessing
from tellapart.data.augmentation import offline
from tellapart.data.augmentation.transforms import augment, augment_frame, crops, generator, left_to_chance
from tellapart.data.catalog import Catalog
from tellapart.data.decoding.decode import decode, read_picture
from tellapart.data.loading.content_keys import content_keys, marked
from tellapart.data.loading.picture_cache import PictureCache, source, source_side

Rows = npt.NDArray[np.int64]
Views = Sequence[Sequence[Any]]


@dataclass(frozen=True)
class Dataset:
    """The pictures of one training.

    Attributes:
        catalog: all pictures.
        train, validation: row numbers.
        preprocessing: the network's preprocessing.
        transforms: the recipe's augmentation.
        seed: of the training; with epoch, row and view it fixes every random choice.
        ahead: the versions of each training picture, all of which an epoch shows; none: the picture itself.
        frames, sources, made: pictures that are kept: as validation sees them, for random crops, and items' versions;
            see `kept`.
    """

    catalog: Catalog
    train: Rows
    validation: Rows
    preprocessing: Preprocessing
    transforms: Sequence[Any]
    seed: int
    ahead: Views = ()
    frames: Callable[[int], Pixels] | None = None
    sources: Callable[[int], Pixels] | None = None
    made: Callable[[int], Pixels] | None = None

    def kept(self, augmented: bool = True) -> Dataset:
        """The same pictures, kept on disk as they are read, so that the next epoch need not decode them.

        Where the cache cannot be written to they are not: that is slower, and the same.

        Args:
            augmented: whether training will ask for `augmented`, or for `view` alone.
        """
        cropped = augmented and crops(self.transforms)
        # Versions made ahead are kept as such. The version that is the picture itself is cut from, or shown.
        sources = cropped and not all(self.versions)
        try:
            rows = self.validation if cropped else np.union1d(self.train, self.validation)
            about = {key: value for key, value in self.preprocessing.as_dict().items() if key not in ("mean", "std")}
            keys = content_keys(self.catalog, rows)
            kept = replace(self, frames=PictureCache(rows, keys, {"as": "the network sees it", **about}, self.plain))
            if self.ahead:
                # The colour of erased parts is the network's mean; some transforms are torch's.
                whole = {"as": "version made ahead", **self.preprocessing.as_dict(), "torch": torch.__version__}
                kept = replace(kept, made=PictureCache(self.items, self.keys(((),)), whole, self._version))
            if not sources:
                return kept
            side = source_side(self.transforms, self.preprocessing)
            about = {"as": "source of crops", "side": side, "background": self.preprocessing.background}
            about |= {"interpolation": self.preprocessing.interpolation, "torch": torch.__version__}
            path, preprocessing, keys = self.catalog.path, self.preprocessing, content_keys(self.catalog, self.train)
            return replace(
                kept, sources=PictureCache(self.train, keys, about, lambda row: source(path(row), side, preprocessing))
            )
        except OSError:
            return self

    def flush(self) -> None:
        """Write what is kept."""
        for each in (self.frames, self.sources, self.made):
            if isinstance(each, PictureCache):
                each.flush()

    @property
    def versions(self) -> Views:
        """At least one: that of the picture itself, where nothing is done ahead."""
        return self.ahead or [[]]

    @property
    def items(self) -> Rows:
        """What an epoch of training shows: every version of every training picture, int64 [n_train × n_versions]."""
        return offline.multiply(self.train, len(self.versions))

    def rows(self, items: Rows) -> Rows:
        """The catalog's rows that items are made of."""
        return offline.origin(items, len(self.versions))[0]

    def plain(self, row: int) -> Pixels:
        """The picture as validation, test and the finished model see it."""
        return self.frames(row) if self.frames else read_picture(self.catalog.path(row), self.preprocessing)

    def augmented(self, item: int, epoch: int) -> Pixels:
        """The item as one epoch of training sees it."""
        row, version = divmod(item, len(self.versions))
        return self._changed(item, self.transforms, generator(self.seed, epoch, row, version), self.unchanged)

    def before_batch(self, item: int, epoch: int, on_cpu: Sequence[Any], on_gpu: Sequence[Any]) -> Pixels:
        """The item as a whole batch's changes on a GPU begin with it.

        Args:
            item, epoch: see `augmented`.
            on_cpu, on_gpu: see `gpu_batch.partition`. If the GPU cuts crops: the picture that they are cut from.
        """
        row, version = divmod(item, len(self.versions))
        if not crops(on_gpu):
            return self._changed(item, on_cpu, generator(self.seed, epoch, row, version), self.unchanged)
        if self.versions[version]:
            return self.made(item) if self.made else self._version(item)
        return self.unchanged(row)

    def unchanged(self, row: int) -> Pixels:
        """What random changes begin with: the picture to cut crops from, or the frame."""
        if not crops(self.transforms):
            return self.plain(row)
        return self.sources(row) if self.sources else self._source(row, self.transforms)

    def unchanged_together(self, rows: Rows) -> Sequence[Pixels] | None:
        """The same of many at once; None where some of them have to be read first."""
        kept = self.sources if crops(self.transforms) else self.frames
        return kept.together(rows) if isinstance(kept, PictureCache) else None

    def view(self, item: int, view: int = 0, views: Views = ((),)) -> Pixels:
        """One of the item's fixed views, by default without any change; its random choices are made once."""
        row, version = divmod(item, len(self.versions))
        rng = generator(self.seed, 0, row, version * len(views) + view)
        return self._changed(item, views[view], rng, lambda row: self._source(row, views[view]))

    def keys(self, views: Views) -> Keys:
        """A key for every view of every item, in their order: by content, what tells these pixels from all others.

        Only what is left to chance depends on the seed too, on which row a picture has, and on the number of the view.
        """
        contents = content_keys(self.catalog, self.train)
        keys = np.empty((len(contents), len(self.versions), len(views)), KEY)
        for number, version in enumerate(self.versions):
            made = [_plain(version), offline.enough(self.versions, self.preprocessing)] if version else []
            made += [self.seed, number] if left_to_chance(version) else []
            for n, view in enumerate(views):
                mark = [made, _plain(view)]
                mark += [self.seed, number * len(views) + n] if left_to_chance(view) else []
                by_row = left_to_chance([*version, *view])
                marks = [[mark, row] for row in self.train.tolist()] if by_row else [mark]
                keys[:, number, n] = marked(contents, *marks)
        return keys.reshape(-1)

    def _changed(
        self, item: int, transforms: Sequence[Any], rng: np.random.Generator, to_crop: Callable[[int], Pixels]
    ) -> Pixels:
        """An item changed and brought to size. `to_crop`: row → the picture that the transforms' crops are cut from."""
        row, version = divmod(item, len(self.versions))
        if self.versions[version]:
            pixels = self.made(item) if self.made else self._version(item)
            return augment(pixels, transforms, self.preprocessing, rng)
        if not crops(transforms):
            return augment_frame(self.plain(row), transforms, self.preprocessing, rng)
        return augment(to_crop(row), transforms, self.preprocessing, rng)

    def _source(self, row: int, transforms: Sequence[Any]) -> Pixels:
        """The picture that these transforms' crops are cut from, read from its file."""
        return source(self.catalog.path(row), source_side(transforms, self.preprocessing), self.preprocessing)

    def _version(self, item: int) -> Pixels:
        """The version made ahead that an item is."""
        row, version = divmod(item, len(self.versions))
        pixels = decode(
            self.catalog.path(row), offline.enough(self.versions, self.preprocessing), self.preprocessing.background
        )
        return offline.view(pixels, self.versions, self.preprocessing, self.seed, row, version)


def _plain(transforms: Sequence[Any]) -> list[dict[str, Any]]:
    return [transform.model_dump() for transform in transforms]
