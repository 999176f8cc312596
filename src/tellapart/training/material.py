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

from tellapart.data import ahead
from tellapart.data.augment import augment, augment_frame, crops, generator
from tellapart.data.catalog import Catalog
from tellapart.data.decode import decode, read_picture
from tellapart.data.kept import Kept, source, source_side
from tellapart.preprocess import Pixels, Preprocessing

Rows = npt.NDArray[np.int64]
Views = Sequence[Sequence[Any]]


@dataclass(frozen=True)
class Material:
    """The pictures of one training.

    Attributes:
        catalog: all pictures.
        train, validation: row numbers.
        how: the network's preprocessing.
        transforms: the recipe's augmentation.
        seed: of the training; with epoch, row and view it fixes every random choice.
        ahead: the versions of each training picture, all of which an epoch shows; none: the picture itself.
        frames, sources: pictures that are kept: as validation sees them, and for random crops; see `kept`.
    """

    catalog: Catalog
    train: Rows
    validation: Rows
    how: Preprocessing
    transforms: Sequence[Any]
    seed: int
    ahead: Views = ()
    frames: Callable[[int], Pixels] | None = None
    sources: Callable[[int], Pixels] | None = None

    def kept(self, augmented: bool = True) -> Material:
        """The same pictures, kept on disk as they are read, so that the next epoch need not decode them.

        Where the cache cannot be written to they are not: that is slower, and the same.

        Args:
            augmented: whether training will ask for `augmented`, or for `view` alone.
        """
        cropped = augmented and crops(self.transforms) and not self.ahead
        try:
            rows = self.validation if cropped else np.union1d(self.train, self.validation)
            about = {key: value for key, value in self.how.as_dict().items() if key not in ("mean", "std")}
            frames = Kept(self.catalog, rows, {"as": "the network sees it", **about}, self.plain)
            if not cropped:
                return replace(self, frames=frames)
            side = source_side(self.transforms, self.how)
            about = {"as": "source of crops", "side": side, "background": self.how.background}
            about["interpolation"] = self.how.interpolation
            path, how = self.catalog.path, self.how
            sources = Kept(self.catalog, self.train, about, lambda row: source(path(row), side, how))
            return replace(self, frames=frames, sources=sources)
        except OSError:
            return self

    def flush(self) -> None:
        """Write what is kept."""
        for each in (self.frames, self.sources):
            if isinstance(each, Kept):
                each.flush()

    @property
    def versions(self) -> Views:
        """At least one: that of the picture itself, where nothing is done ahead."""
        return self.ahead or [[]]

    @property
    def items(self) -> Rows:
        """What an epoch of training shows: every version of every training picture, int64 [n_train × n_versions]."""
        return ahead.multiply(self.train, len(self.versions))

    def rows(self, items: Rows) -> Rows:
        """The catalog's rows that items are made of."""
        return ahead.origin(items, len(self.versions))[0]

    def plain(self, row: int) -> Pixels:
        """The picture as validation, test and the finished model see it."""
        return self.frames(row) if self.frames else read_picture(self.catalog.path(row), self.how)

    def augmented(self, item: int, epoch: int) -> Pixels:
        """The item as one epoch of training sees it."""
        row, version = divmod(item, len(self.versions))
        return self._changed(row, version, self.transforms, generator(self.seed, epoch, row, version))

    def view(self, item: int, view: int = 0, views: Views = ((),)) -> Pixels:
        """One of the item's fixed views, by default without any change; its random choices are made once."""
        row, version = divmod(item, len(self.versions))
        return self._changed(row, version, views[view], generator(self.seed, 0, row, version * len(views) + view))

    def _changed(self, row: int, version: int, transforms: Sequence[Any], rng: np.random.Generator) -> Pixels:
        """One version of a picture, changed and brought to size."""
        if self.versions[version]:
            at_least = ahead.enough(self.versions, self.how)
            pixels = decode(self.catalog.path(row), at_least, self.how.background)
            pixels = ahead.view(pixels, self.versions, self.how, self.seed, row, version)
            return augment(pixels, transforms, self.how, rng)
        if not crops(transforms):
            return augment_frame(self.plain(row), transforms, self.how, rng)
        kept = self.sources if transforms is self.transforms else None
        pixels = kept(row) if kept else source(self.catalog.path(row), source_side(transforms, self.how), self.how)
        return augment(pixels, transforms, self.how, rng)
