"""Pictures as a training reads them: plain for validation; for training in their versions, augmented or in fixed views.

What training asks for is an item: a row and one of the versions made ahead of it. Only training rows have items, so no
version of a validation picture can be among them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tellapart.data import ahead
from tellapart.data.augment import augment, decode_at_least, generator
from tellapart.data.catalog import Catalog
from tellapart.data.decode import decode
from tellapart.preprocess import Pixels, Preprocessing, preprocess

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
    """

    catalog: Catalog
    train: Rows
    validation: Rows
    how: Preprocessing
    transforms: Sequence[Any]
    seed: int
    ahead: Views = ()

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
        return preprocess(self._decoded(row, self.how.decode_at_least), self.how)

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
        if not self.versions[version]:
            pixels = self._decoded(row, decode_at_least(transforms, self.how))
        else:
            pixels = self._decoded(row, ahead.enough(self.versions, self.how))
            pixels = ahead.view(pixels, self.versions, self.how, self.seed, row, version)
        return augment(pixels, transforms, self.how, rng)

    def _decoded(self, row: int, at_least: int) -> Pixels:
        return decode(self.catalog.path(row), at_least, self.how.background)
