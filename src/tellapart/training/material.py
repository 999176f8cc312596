"""Pictures as a training reads them: plain for validation, augmented or in fixed views for training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tellapart.data.augment import augment, generator
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

    def decoded(self, row: int) -> Pixels:
        """The upright picture, at least as large as the network needs it."""
        return decode(self.catalog.path(row), self.how.decode_at_least, self.how.background)

    def plain(self, row: int) -> Pixels:
        """The picture as validation, test and the finished model see it."""
        return preprocess(self.decoded(row), self.how)

    def augmented(self, row: int, epoch: int) -> Pixels:
        """The picture as one epoch of training sees it."""
        return augment(self.decoded(row), self.transforms, self.how, generator(self.seed, epoch, row))

    def view(self, row: int, view: int, views: Sequence[Sequence[Any]]) -> Pixels:
        """One of a picture's fixed views; its random choices are made once."""
        return augment(self.decoded(row), views[view], self.how, generator(self.seed, 0, row, view))
