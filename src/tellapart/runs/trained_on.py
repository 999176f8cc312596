"""Which pictures took part in a run's training: told by their content, so a copy under another name counts too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tellapart.core.text import counted
from tellapart.runs.run import Run


@dataclass(frozen=True)
class KnownPictures:
    """Which of some pictures a run was trained, and which it was validated on.

    Attributes:
        trained, validated: bool [n]; a picture of both parts counts as trained on.
    """

    trained: npt.NDArray[np.bool_]
    validated: npt.NDArray[np.bool_]

    @property
    def either(self) -> npt.NDArray[np.bool_]:
        """bool [n]."""
        return self.trained | self.validated

    @property
    def n(self) -> int:
        """Number of such pictures."""
        return int(self.either.sum())

    def __str__(self) -> str:
        """How many of how many, in words: "32 of 66 pictures are ones it was trained on (25) or validated on (7)"."""
        n_trained, n_validated = int(self.trained.sum()), int(self.validated.sum())
        uses = [(n_trained, "trained on"), (n_validated, "validated on")]
        both = bool(n_trained and n_validated)
        words = " or ".join(f"{use} ({n:,})" if both else use for n, use in uses if n)
        return f"{self.n:,} of {counted(len(self.trained), 'picture')} are ones it was {words}"


def known_pictures(
    run: Run, contents: Sequence[bytes | None], parts: Sequence[str] = ("train", "validation")
) -> KnownPictures:
    """Look pictures up in a run's catalog.

    Args:
        run: with catalog and split; an average of runs too.
        contents: SHA-256 of each picture's file, None where it is not known.
        parts: of the run's split, "train", "validation" or both. After a retraining on all pictures, the validation
            part counts as trained on.
    """
    trained = _contents(run, "train") if "train" in parts else set()
    validated = _contents(run, "validation") if "validation" in parts else set()
    if "validation" in parts and run.recipe_file.is_file() and run.recipe.retrain:
        trained, validated = trained | validated, set()
    validated -= trained
    return KnownPictures(
        np.array([content in trained for content in contents], bool),
        np.array([content in validated for content in contents], bool),
    )


def _contents(run: Run, part: str) -> set[bytes]:
    if not run.split_file.is_file():  # answers alone, as an average of old ones
        return set()
    return set(run.catalog.table["sha256"].gather(getattr(run.split, part)).drop_nulls().to_list())
