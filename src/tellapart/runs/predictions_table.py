"""The answers of a run to its own pictures as one table, with the names of their files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

if TYPE_CHECKING:
    from tellapart.runs.run import Run


def predictions_table(run: Run, on: str) -> pl.DataFrame:
    """The answers to the "validation" or "test" pictures, one row a picture, with the names of their files.

    Returns:
        "row" of the catalog, "file", "labels" and "answers" (lists of names), "certainty" (that of the answer, of
        the least certain of several, of 1 - the highest where there is none), and a column a class: its
        probability.
    """
    predictions, values = run.predictions(on), run.evaluation_values
    temperature = values["temperature"]
    p = predictions.probabilities(tuple(temperature) if isinstance(temperature, list) else temperature)
    names, rows = predictions.classes, predictions.row
    if predictions.multilabel:
        chosen = p >= (values["thresholds"] or 0.5)
        labels = [[names[k] for k in np.flatnonzero(line)] for line in predictions.target]
    else:
        chosen = np.arange(len(names)) == p.argmax(axis=1)[:, None]
        labels = [[names[k]] if k >= 0 else [] for k in predictions.target]
    certainty = np.where(chosen.any(axis=1), np.where(chosen, p, 2).min(axis=1), 1 - p.max(axis=1))
    answers = [[names[k] for k in np.flatnonzero(line)] for line in chosen]
    text = pl.List(pl.String)
    columns = [pl.Series("row", rows), run.catalog.table["path"].gather(rows).alias("file")]
    columns += [pl.Series("labels", labels, dtype=text), pl.Series("answers", answers, dtype=text)]
    columns += [pl.Series("certainty", certainty)]
    taken = {column.name for column in columns}
    return pl.DataFrame(
        [*columns, *(pl.Series(f"p {name}" if name in taken else name, p[:, k]) for k, name in enumerate(names))]
    )
