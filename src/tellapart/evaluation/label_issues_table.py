"""The table of label issues in a folder: labels, those that are probably wrong first."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from tellapart.core.files import guarded, replacing
from tellapart.core.predictions import Predictions
from tellapart.errors import RunError

_FILE = "label_issues.parquet"


@dataclass(frozen=True)
class LabelIssues:
    """Labels, those that are probably wrong first.

    Attributes:
        table: a row a picture, the most suspicious first: `row` in the catalog, `file`, `sha256` (hex), `given` and
            `suggested` (lists of class names), `p_given`, `p_suggested`, `score` (0..1, low is suspicious),
            `suspicious` (whether confident learning takes a label for wrong), `reason`, `neighbours` (rows).
        predictions: the out-of-sample answers that it rests on; logits are the logarithms of their odds.
        method: how it was made, in a sentence or two.
    """

    table: pl.DataFrame
    predictions: Predictions
    method: str

    @property
    def n_suspicious(self) -> int:
        """Number of pictures with a suspicious label."""
        return int(self.table["suspicious"].sum())

    def save(self, folder: Path) -> tuple[Path, Path]:
        """Write `label_issues.parquet` and `label_issues.csv` into a folder; their paths."""
        wide, flat = folder / _FILE, folder / "label_issues.csv"
        multilabel = self.predictions.multilabel
        with replacing(wide) as beside:
            self.table.write_parquet(beside, metadata={"method": self.method, "multilabel": json.dumps(multilabel)})
        cells = {
            name: [json.dumps(v, ensure_ascii=False) if multilabel else "".join(v) for v in self.table[name].to_list()]
            for name in ("given", "suggested")
        }
        table = self.table.drop("neighbours").with_columns(**{k: pl.Series(k, v) for k, v in cells.items()})
        with replacing(flat) as beside:
            table.with_columns(pl.col(pl.String).map_elements(guarded, pl.String)).write_csv(beside)
        return wide, flat


def load_table(folder: Path) -> tuple[pl.DataFrame, str] | None:
    """The table and the sentence that `LabelIssues.save` wrote into a folder; None where there is none."""
    path = folder / _FILE
    if not path.is_file():
        return None
    try:
        about = pl.read_parquet_metadata(path)
        return pl.read_parquet(path, glob=False), about.get("method") or about["how"]  # its name in version 0.1
    except (OSError, KeyError, pl.exceptions.PolarsError) as error:
        raise RunError(f"{path} cannot be read: {error}", "Delete it; it is made again when needed.") from error
