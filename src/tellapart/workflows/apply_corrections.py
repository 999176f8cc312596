"""Training with corrected labels: corrections are applied and recorded, and the first run's split is kept."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from tellapart.core.text import counted
from tellapart.data.catalog import Catalog
from tellapart.data.corrections import corrected
from tellapart.data.splitting.split import Split
from tellapart.errors import DataError
from tellapart.runs.run import Run


@dataclass(frozen=True)
class Corrected:
    """Pictures with corrections applied.

    Attributes:
        catalog: with the corrected labels, without the excluded pictures.
        split: the division of the run that the corrections came from; None where they came from none.
        record: file, digest and number of the corrections, for the new run's environment; empty without any.
    """

    catalog: Catalog
    split: Split | None
    record: dict[str, Any]


def correct(catalog: Catalog, path: str | Path | None, say: Callable[[str], None]) -> Corrected:
    """Apply a table of corrections to pictures as scanned.

    Args:
        catalog: the pictures.
        path: the table; None: everything stays as it is.
        say: takes a sentence on what was done.

    Raises:
        DataError: they are not of these pictures, see `data.corrections.corrected`; or earlier ones are gone.
    """
    if path is None:
        return Corrected(catalog, None, {})
    path = Path(path)
    first = reviewed_run(path)
    # The run that was reviewed may have been trained with corrections itself: what was reviewed are these labels.
    if earlier := first.environment.get("corrections", {}).get("file") if first is not None else None:
        if not Path(earlier).is_file():
            raise DataError(
                f"{path} corrects pictures that were corrected before, by {earlier}, and that file is gone.",
                "Put it back.",
            )
        catalog = correct(catalog, earlier, say).catalog
    catalog, applied = corrected(catalog, path)
    split = split_of(first, catalog) if first is not None else None
    record = {
        "file": str(path.absolute()),
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "applied": applied.sentence,
        "first": str(first.directory.absolute()) if first is not None else None,
    }
    say(" ".join(filter(None, (applied.sentence, split.description if split else ""))))
    return Corrected(catalog, split, record)


def reviewed_run(corrections: Path) -> Run | None:
    """The finished run whose directory holds a table of corrections, if there is one."""
    run = Run(corrections.absolute().parent)
    return run if run.started and run.finished else None


def split_of(first: Run, catalog: Catalog) -> Split:
    """The division of a run for the same pictures with corrections, so that the scores can be compared.

    Pictures that the run did not have, and those that it left out and now have a label, are for training.
    """
    old = first.catalog
    part = np.full(len(old), "", object)
    for name in ("train", "validation", "test"):
        part[getattr(first.split, name)] = name
    known = pl.DataFrame({"path": old.table["path"], "part": pl.Series(part.tolist(), dtype=pl.String)})
    parts = catalog.table.select("path").join(known, on="path", how="left", maintain_order="left")["part"]
    usable = np.zeros(len(catalog), bool)
    usable[np.intersect1d(catalog.readable, catalog.labelled)] = True
    new = usable & (parts.fill_null("") == "").to_numpy()
    rows = {
        name: np.flatnonzero(usable & (parts == name).fill_null(False).to_numpy()) for name in ("validation", "test")
    }
    train = np.flatnonzero((usable & (parts == "train").fill_null(False).to_numpy()) | new)
    sentence = f"Divided as in {first.directory.name}, so that scores can be compared."
    sentence += f" {counted(int(new.sum()), 'picture')} more for training." if new.any() else ""
    return Split(train, rows["validation"], rows["test"], catalog.digest, first.split.seed, sentence)
