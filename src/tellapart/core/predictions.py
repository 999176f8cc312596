"""Predictions, the logits of a model for some pictures, and the average of several answers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from tellapart.core.files import replacing
from tellapart.core.plain_json import parse_json
from tellapart.errors import RunError

Rows = npt.NDArray[np.int64]


Floats = npt.NDArray[np.float64]


#: Divisor of logits before they become probabilities: one number, or one a class (multilabel only).
Temperature: TypeAlias = float | tuple[float, ...]


#: Quantity that is averaged where several answers to one picture become one.
Mean: TypeAlias = Literal["logits", "probabilities"]


MEANS: tuple[Mean, ...] = get_args(Mean)


@dataclass(frozen=True)
class Predictions:
    """Logits of a model for some pictures, with their targets. Everything about quality needs this alone.

    Make it with `Predictions.of`, which sorts by row and drops repeated rows, so that padding on several
    processes cannot distort a score.

    Attributes:
        row: int64 [n], ascending, unique: row numbers of the catalog.
        logits: float32 [n, n_classes], before any temperature.
        target: one label a picture: int64 [n], a class number, or -1 where there is no label.
            Multilabel: uint8 [n, n_classes] of 0 and 1.
        classes: names, in the order of the columns of `logits`.
        unknown: bool [n, n_classes], multilabel only: the cells of the target, which are 0 there, of which the data do
            not say whether the label applies. No score counts them. None: all are known.
    """

    row: Rows
    logits: npt.NDArray[np.float32]
    target: npt.NDArray[Any]
    classes: tuple[str, ...]
    unknown: npt.NDArray[np.bool_] | None = None

    @classmethod
    def of(
        cls,
        row: npt.ArrayLike,
        logits: npt.ArrayLike,
        target: npt.ArrayLike,
        classes: tuple[str, ...],
        unknown: npt.NDArray[np.bool_] | None = None,
    ) -> Predictions:
        """Check shapes, sort by row, keep the first of repeated rows.

        Raises:
            ValueError: shapes that do not belong together, or logits that are not finite.
        """
        rows = np.asarray(row, np.int64)
        scores = np.asarray(logits, np.float32)
        targets = np.asarray(target)
        targets = targets.astype(np.int64 if targets.ndim == 1 else np.uint8)
        if scores.shape != (len(rows), len(classes)) or targets.shape[:1] != rows.shape:
            raise ValueError(
                f"{len(rows)} rows, logits {scores.shape}, target {targets.shape} and {len(classes)} classes "
                "do not belong together"
            )
        if targets.ndim > 1 and targets.shape != scores.shape:
            raise ValueError(f"target {targets.shape} has not the shape of logits {scores.shape}")
        if unknown is not None and unknown.shape != targets.shape:
            raise ValueError(f"unknown {unknown.shape} has not the shape of target {targets.shape}")
        if not np.isfinite(scores).all():
            raise ValueError("logits that are not finite")
        unique, first = np.unique(rows, return_index=True)
        masked = unknown[first] if unknown is not None and unknown.any() else None
        return cls(unique, scores[first], targets[first], tuple(classes), masked)

    def __len__(self) -> int:
        return len(self.row)

    @property
    def multilabel(self) -> bool:
        """True where a picture may have several labels, or none."""
        return self.target.ndim == 2

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON: "classes", and "row", "target" and "logits", a list each; "unknown" where it is."""
        values = {"row": self.row, "target": self.target, "logits": self.logits, "unknown": self.unknown}
        return {"classes": list(self.classes)} | {k: v.tolist() for k, v in values.items() if v is not None}

    def probabilities(self, temperature: Temperature = 1.0) -> Floats:
        """float64 [n, n_classes]: softmax (one label) or sigmoid (multilabel) of logits / temperature."""
        return probabilities(self.logits, self.multilabel, temperature)

    def save(self, path: Path) -> None:
        """Write as Parquet: columns `row`, `target`, `logits`; class names in the file's metadata."""
        import polars as pl

        n = len(self.classes)
        target: Any = self.target if not self.multilabel else pl.Series(self.target, dtype=pl.Array(pl.UInt8, n))
        frame = pl.DataFrame(
            {
                "row": self.row,
                "target": target,
                "logits": pl.Series(self.logits, dtype=pl.Array(pl.Float32, n)),
            }
        )
        if self.unknown is not None:
            frame = frame.with_columns(pl.Series("unknown", self.unknown.astype(np.uint8), dtype=pl.Array(pl.UInt8, n)))
        with replacing(path) as beside:
            frame.write_parquet(beside, metadata={"classes": json.dumps(self.classes)})

    @classmethod
    def load(cls, path: Path) -> Predictions:
        """Read what `save` wrote.

        Raises:
            RunError: the file is missing or is not one of ours.
        """
        import polars as pl

        try:
            frame = pl.read_parquet(path, glob=False)
            classes = tuple(parse_json(pl.read_parquet_metadata(path)["classes"]))
            unknown = frame["unknown"].to_numpy().astype(np.bool_) if "unknown" in frame.columns else None
            row, logits, target = (frame[name].to_numpy() for name in ("row", "logits", "target"))
            return cls.of(row, logits, target, classes, unknown)
        except (OSError, KeyError, ValueError, pl.exceptions.PolarsError) as error:
            raise RunError(f"{path} cannot be read as predictions: {error}", "Run the evaluation again.") from error


def probabilities(logits: npt.ArrayLike, multilabel: bool, temperature: Temperature = 1.0) -> Floats:
    """Softmax (one label) or sigmoid (multilabel) of logits / temperature, in float64, without overflow.

    Args:
        logits: [..., n_classes].
        multilabel: sigmoid instead of softmax.
        temperature: above 0, one number or one a class; 1 leaves the logits as they are.
    """
    z = np.asarray(logits, np.float64) / np.asarray(temperature)
    if multilabel:
        return np.asarray(np.exp(-np.logaddexp(0.0, -z)))
    z = z - z.max(axis=-1, keepdims=True)
    e = np.exp(z)
    return np.asarray(e / e.sum(axis=-1, keepdims=True))


def average_logits(
    versions: Sequence[npt.ArrayLike], multilabel: bool, mean: Mean, shares: Sequence[float] | None = None
) -> Floats:
    """Average several answers to the same pictures.

    Args:
        versions: at least one, each [n, n_classes]: logits before any temperature.
        multilabel: probabilities are sigmoids instead of softmax.
        mean: the quantity to average, "logits" or "probabilities".
        shares: weight of each version, with the sum 1; equal by default.

    Returns:
        Logits [n, n_classes]. Where probabilities are averaged, those that give exactly their mean: logarithms of the
        mean softmax, or log(p / (1 - p)) of the mean sigmoid p, computed in logarithms and float64, so that nothing
        is lost where an answer is very certain.
    """
    parts = [1 / len(versions)] * len(versions) if shares is None else shares
    shape = np.shape(versions[0])
    if mean == "logits":
        return sum((part * np.asarray(z, np.float64) for part, z in zip(parts, versions, strict=True)), np.zeros(shape))
    yes, no = np.full(shape, -np.inf), np.full(shape, -np.inf)
    for part, version in zip(parts, versions, strict=True):
        z = np.asarray(version, np.float64)
        if multilabel:
            yes = np.logaddexp(yes, np.log(part) - np.logaddexp(0, -z))
            no = np.logaddexp(no, np.log(part) - np.logaddexp(0, z))
        else:
            yes = np.logaddexp(yes, np.log(part) + z - np.logaddexp.reduce(z, axis=1, keepdims=True))
    return yes - no if multilabel else yes
