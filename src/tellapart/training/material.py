"""Pictures as a training reads them: plain for validation, augmented or in fixed views for training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tellapart.data.augment import augment, decode_at_least, generator
from tellapart.data.catalog import Catalog
from tellapart.data.decode import decode
from tellapart.preprocess import Pixels, Preprocessing, preprocess

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Material:
    """The pictures of one training.

    Attributes:
        catalog: all pictures.
        train, validation: row numbers.
        how: the network's preprocessing.
        transforms: the recipe's augmentation.
        seed: of the training; with epoch, row and view it fixes every random choice.
    """

    catalog: Catalog
    train: Rows
    validation: Rows
    how: Preprocessing
    transforms: Sequence[Any]
    seed: int

    def plain(self, row: int) -> Pixels:
        """The picture as validation, test and the finished model see it."""
        return preprocess(self._decoded(row, self.how.decode_at_least), self.how)

    def augmented(self, row: int, epoch: int) -> Pixels:
        """The picture as one epoch of training sees it."""
        return self._changed(row, self.transforms, generator(self.seed, epoch, row))

    def view(self, row: int, view: int, views: Sequence[Sequence[Any]]) -> Pixels:
        """One of a picture's fixed views; its random choices are made once."""
        return self._changed(row, views[view], generator(self.seed, 0, row, view))

    def _changed(self, row: int, transforms: Sequence[Any], rng: np.random.Generator) -> Pixels:
        pixels = self._decoded(row, decode_at_least(transforms, self.how))
        return augment(pixels, transforms, self.how, rng)

    def _decoded(self, row: int, at_least: int) -> Pixels:
        return decode(self.catalog.path(row), at_least, self.how.background)
