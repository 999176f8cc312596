"""The plain values that pass between the rooms: predictions, evaluations and the events of a training."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from tellapart.errors import RunError
from tellapart.files import replacing

Rows = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
#: What logits are divided by before they become probabilities: one number, or one a class (several labels only).
Temperature: TypeAlias = float | tuple[float, ...]
#: What is averaged where several answers to one picture become one.
Mean: TypeAlias = Literal["logits", "probabilities"]
MEANS: tuple[Mean, ...] = get_args(Mean)


@dataclass(frozen=True)
class Predictions:
    """What a model said of some pictures: the waist of the house.

    Make it with `Predictions.of`, which sorts by row and drops repeated rows, so that padding on several
    processes cannot distort a score.

    Attributes:
        row: int64 [n], ascending, unique: row numbers of the catalog.
        logits: float32 [n, n_classes], before any temperature.
        target: one label a picture: int64 [n], a class number, or -1 where there is no label.
            Several labels: uint8 [n, n_classes] of 0 and 1.
        classes: names, in the order of the columns of `logits`.
    """

    row: Rows
    logits: npt.NDArray[np.float32]
    target: npt.NDArray[Any]
    classes: tuple[str, ...]

    @classmethod
    def of(
        cls,
        row: npt.ArrayLike,
        logits: npt.ArrayLike,
        target: npt.ArrayLike,
        classes: tuple[str, ...],
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
        if not np.isfinite(scores).all():
            raise ValueError("logits that are not finite")
        unique, first = np.unique(rows, return_index=True)
        return cls(unique, scores[first], targets[first], tuple(classes))

    def __len__(self) -> int:
        return len(self.row)

    @property
    def several(self) -> bool:
        """True where a picture may have several labels, or none."""
        return self.target.ndim == 2

    def probabilities(self, temperature: Temperature = 1.0) -> Floats:
        """float64 [n, n_classes]: softmax (one label) or sigmoid (several) of logits / temperature."""
        return probabilities(self.logits, self.several, temperature)

    def save(self, path: Path) -> None:
        """Write as Parquet: columns `row`, `target`, `logits`; class names in the file's metadata."""
        import polars as pl

        n = len(self.classes)
        target: Any = self.target if not self.several else pl.Series(self.target, dtype=pl.Array(pl.UInt8, n))
        frame = pl.DataFrame(
            {
                "row": self.row,
                "target": target,
                "logits": pl.Series(self.logits, dtype=pl.Array(pl.Float32, n)),
            }
        )
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
            frame = pl.read_parquet(path)
            classes = tuple(json.loads(pl.read_parquet_metadata(path)["classes"]))
            return cls.of(frame["row"].to_numpy(), frame["logits"].to_numpy(), frame["target"].to_numpy(), classes)
        except (OSError, KeyError, ValueError, pl.exceptions.PolarsError) as error:
            raise RunError(f"{path} cannot be read as predictions: {error}", "Run the evaluation again.") from error


def probabilities(logits: npt.ArrayLike, several: bool, temperature: Temperature = 1.0) -> Floats:
    """Softmax (one label) or sigmoid (several) of logits / temperature, in float64, without overflow.

    Args:
        logits: [..., n_classes].
        several: sigmoid instead of softmax.
        temperature: above 0, one number or one a class; 1 leaves the logits as they are.
    """
    z = np.asarray(logits, np.float64) / np.asarray(temperature)
    if several:
        return np.asarray(np.exp(-np.logaddexp(0.0, -z)))
    z = z - z.max(axis=-1, keepdims=True)
    e = np.exp(z)
    return np.asarray(e / e.sum(axis=-1, keepdims=True))


def average_logits(
    versions: Sequence[npt.ArrayLike], several: bool, mean: Mean, shares: Sequence[float] | None = None
) -> Floats:
    """Several answers to the same pictures as one.

    Args:
        versions: at least one, each [n, n_classes]: logits before any temperature.
        several: probabilities are sigmoids instead of softmax.
        mean: of what.
        shares: how much each version counts, with the sum 1; equal by default.

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
        if several:
            yes = np.logaddexp(yes, np.log(part) - np.logaddexp(0, -z))
            no = np.logaddexp(no, np.log(part) - np.logaddexp(0, z))
        else:
            yes = np.logaddexp(yes, np.log(part) + z - np.logaddexp.reduce(z, axis=1, keepdims=True))
    return yes - no if several else yes


@dataclass(frozen=True)
class Metric:
    """A score with its 95 % interval. `n` is the number of pictures it rests on."""

    value: float
    low: float
    high: float
    n: int


#: `Evaluation.on` of the network that was validated, where the one that answers was trained on these pictures too.
BEFORE_RETRAINING = "validation, before retraining"


@dataclass(frozen=True)
class Evaluation:
    """How good a model is on one set of pictures.

    Attributes:
        on: which pictures: "test", "validation", `BEFORE_RETRAINING` or a folder.
        several: True where pictures may have several labels.
        n: number of pictures with a known answer.
        classes: names, in the order used below.
        metrics: by scikit-learn's names, e.g. "accuracy", "f1_macro", "log_loss"; the first is the headline.
        per_class: one dictionary a class: "precision", "recall", "f1" (each a Metric), "n" and "n_predicted".
        confusion: counts [n_classes][n_classes], row = given, column = answered; empty for several labels.
    """

    on: str
    several: bool
    n: int
    classes: tuple[str, ...]
    metrics: dict[str, Metric]
    per_class: tuple[dict[str, Any], ...] = field(default=())
    confusion: tuple[tuple[int, ...], ...] = field(default=())

    @property
    def headline(self) -> tuple[str, Metric]:
        """Name and value of the score that is shown first."""
        name = next(iter(self.metrics))
        return name, self.metrics[name]

    def table(self) -> str:
        """The metrics as lines of text: name, value, interval."""
        width = max(map(len, self.metrics))
        lines = [f"{self.on}: {self.n} pictures, {len(self.classes)} classes"]
        lines += [
            f"  {name:<{width}}  {m.value:.4f}  (95 %: {m.low:.4f} to {m.high:.4f})" for name, m in self.metrics.items()
        ]
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Evaluation:
        """The inverse of `as_dict`."""

        def revive(entry: dict[str, Any]) -> dict[str, Any]:
            return {k: Metric(**v) if isinstance(v, dict) else v for k, v in entry.items()}

        return cls(
            on=values["on"],
            several=values["several"],
            n=values["n"],
            classes=tuple(values["classes"]),
            metrics=revive(values["metrics"]),
            per_class=tuple(revive(entry) for entry in values["per_class"]),
            confusion=tuple(tuple(line) for line in values["confusion"]),
        )


#: Stands for pictures without a label where labels are counted.
NO_LABEL = "(no label)"


@dataclass(frozen=True)
class StageStarted:
    """Sent before a stage's first step.

    `plan` says what is trained and from what; `runtime` how, and why so; `shown` how often the stage's first epoch
    shows each label, pictures without any under `NO_LABEL`.
    `retraining`, here and below: the event belongs to the retraining on training and validation pictures together.
    `several`: pictures may have several labels, and so accuracies are shares of labels, not of pictures.
    """

    stage: int
    name: str
    plan: str
    epochs: int
    runtime: dict[str, Any]
    shown: dict[str, int] = field(default_factory=dict)
    retraining: bool = False
    several: bool = False


@dataclass(frozen=True)
class RateFound:
    """Sent when the learning-rate test at a stage's beginning is over.

    Attributes:
        stage: which.
        rate: the peak rate that the stage takes for its head.
        taken: name of the suggestion that it is; "otherwise" where none could be read and the recipe's own was taken.
        suggestions: rates by name: "valley", "steepest", "tenth_of_minimum", "highest_falling"; empty where the loss
            did not fall.
        rates, losses, smoothed: the curve, one value a step of the test.
        rose: whether the loss rose clearly after its lowest point; if not, the test ended too early.
    """

    stage: int
    rate: float
    taken: str
    suggestions: dict[str, float]
    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    rose: bool


@dataclass(frozen=True)
class Computing:
    """Sent while something is computed once, ahead of the steps that need it."""

    stage: int
    what: str
    done: int
    total: int


@dataclass(frozen=True)
class Progress:
    """Sent after every training step. `loss` is the epoch's mean so far; `step` counts from 1 within the epoch."""

    stage: int
    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    rate: float
    n_pictures: int
    retraining: bool = False


@dataclass(frozen=True)
class Validated:
    """Sent after each epoch's validation; losses are means a picture.

    Accuracy is the share of pictures named right; with several labels, the share of labels that are right.
    `train_accuracy` is None where it was not measured. `rates` are the learning rates of the epoch's steps (of the
    group with the highest rate), empty where the stage has none.
    """

    stage: int
    epoch: int
    epochs: int
    train_loss: float
    train_accuracy: float | None
    validation_loss: float
    validation_accuracy: float
    rates: tuple[float, ...]
    best: bool


@dataclass(frozen=True)
class Retrained:
    """Sent after each epoch of the retraining on everything: as `Validated`, but there is nothing to validate on."""

    stage: int
    epoch: int
    epochs: int
    train_loss: float
    train_accuracy: float | None
    rates: tuple[float, ...]


@dataclass(frozen=True)
class StageDone:
    """Sent when a stage ends. `reason` is a plain sentence: all epochs done, or stopped early and why."""

    stage: int
    epochs: int
    best_epoch: int
    reason: str
    retraining: bool = False


@dataclass(frozen=True)
class Note:
    """Sent where something happened that must not pass in silence, such as a damaged file that was made up for."""

    text: str


Logged = StageStarted | RateFound | Validated | Retrained | StageDone  # those that are kept in events.jsonl
Event = Logged | Note | Computing | Progress
