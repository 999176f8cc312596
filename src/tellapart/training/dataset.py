"""The pictures of one training: which rows train, which validate, and in which versions.

What training asks for is an item: a row and one of the versions made ahead of it. Only training rows have items, so no
version of a validation picture can be among them. `pixels` has the way from an item to its pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tellapart.core.array_store import KEY, Keys
from tellapart.core.preprocess import Preprocessing
from tellapart.data.augmentation import offline
from tellapart.data.augmentation.transforms import left_to_chance
from tellapart.data.catalog import Catalog
from tellapart.data.loading.content_keys import content_keys, marked
from tellapart.training.distillation import Teacher

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
        per_batch: whether the transforms are drawn once for all pictures of a batch.
        teacher: the answers that are learnt beside the labels; None: the labels alone.
    """

    catalog: Catalog
    train: Rows
    validation: Rows
    preprocessing: Preprocessing
    transforms: Sequence[Any]
    seed: int
    ahead: Views = ()
    per_batch: bool = False
    teacher: Teacher | None = None

    @property
    def versions(self) -> Views:
        """At least one: that of the picture itself, where nothing is done ahead."""
        return self.ahead or [[]]

    @property
    def items(self) -> Rows:
        """What an epoch of training shows: every version of every training picture, int64 [n_train × n_versions]."""
        return offline.multiply(self.train, len(self.versions))

    @property
    def n_items(self) -> int:
        """How many items an epoch has; every step asks."""
        return len(self.train) * len(self.versions)

    def rows(self, items: Rows) -> Rows:
        """The catalog's rows that items are made of."""
        return offline.origin(items, len(self.versions))[0]

    def keys(self, views: Views) -> Keys:
        """A key for every view of every item, in their order: by content, what tells these pixels from all others.

        Only what is left to chance depends on the seed too, on which row a picture has, and on the number of the view.
        """
        contents = content_keys(self.catalog, self.train)
        keys = np.empty((len(contents), len(self.versions), len(views)), KEY)
        for number, version in enumerate(self.versions):
            made = [_plain(version), offline.side_to_decode(self.versions, self.preprocessing)] if version else []
            made += [self.seed, number] if left_to_chance(version) else []
            for n, view in enumerate(views):
                mark = [made, _plain(view)]
                mark += [self.seed, number * len(views) + n] if left_to_chance(view) else []
                by_row = left_to_chance([*version, *view])
                marks = [[mark, row] for row in self.train.tolist()] if by_row else [mark]
                keys[:, number, n] = marked(contents, *marks)
        return keys.reshape(-1)


def _plain(transforms: Sequence[Any]) -> list[dict[str, Any]]:
    return [transform.model_dump() for transform in transforms]
