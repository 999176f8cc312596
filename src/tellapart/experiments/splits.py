"""The splits of a study: the test part is locked, and the rest is divided into training and validation."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from tellapart.data.catalog import Catalog
from tellapart.data.splitting.kfold import deal
from tellapart.data.splitting.split import Split, draw, split, ties_of
from tellapart.errors import SplitError
from tellapart.recipe.schema import Recipe

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class StudySplits:
    """Training and validation pictures of every cell, seed and fold. The test pictures are in none of them.

    Attributes:
        catalog: all pictures.
        recipe: the study's own, whose shares divide the pictures.
        folds: of a cross-validation; 0: one validation part.
    """

    catalog: Catalog
    recipe: Recipe
    folds: int = 0

    @cached_property
    def whole(self) -> Split:
        """The division that a training of the recipe would have, with its test part."""
        data = self.recipe.data
        return split(self.catalog, validation=data.validation, test=data.test, seed=self.recipe.split_seed)

    @cached_property
    def _rest(self) -> Rows:
        return np.sort(np.concatenate([self.whole.train, self.whole.validation]))

    @cached_property
    def _fold_of(self) -> npt.NDArray[np.int64]:
        ties = ties_of(self.catalog, self._rest)
        fold_of: npt.NDArray[np.int64] = deal(ties, self.folds, self.recipe.split_seed)[ties.tie]
        if len(np.unique(fold_of)) < self.folds:
            raise SplitError(
                f"{len(self._rest):,} pictures are too few for {self.folds} folds.", "Use fewer folds: folds = 2"
            )
        return fold_of

    @cached_property
    def digest(self) -> str:
        """Of the catalog's locked test rows and of the rest."""
        digest = hashlib.sha256(self.catalog.digest.encode())
        for rows in (self.whole.test, self.whole.validation, np.array([self.folds])):
            digest.update(np.ascontiguousarray(rows, np.int64).tobytes())
        return digest.hexdigest()

    def of(self, cell: Recipe, split_seed: int, fold: int | None = None) -> Split:
        """The pictures of one training, without the test part.

        Args:
            cell: its recipe; where it asks for another validation part than the study's, that is drawn anew.
            split_seed: 0 for the recipe's own division.
            fold: of a cross-validation, which is the validation part.
        """
        nothing = self.whole.test[:0]
        if fold is not None:
            held = self._fold_of == fold
            return replace(self.whole, train=self._rest[~held], validation=self._rest[held], test=nothing)
        amount = cell.data.validation
        if split_seed == 0 and amount == self.recipe.data.validation:
            return replace(self.whole, test=nothing)
        # A share is one of all divided pictures, the test included; of the rest it is a number.
        n = len(self._rest) + (len(self.whole.test) if self.recipe.data.test else 0)
        number = amount if amount >= 1 else max(2, round(amount * n))
        if amount == self.recipe.data.validation:
            number = len(self.whole.validation)
        parts, _ = draw(self.catalog, self._rest, {"validation": number}, self.recipe.split_seed + split_seed)
        return replace(self.whole, train=np.sort(parts["train"]), validation=np.sort(parts["validation"]), test=nothing)
