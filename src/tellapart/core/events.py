"""The events that a training yields."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

#: Stands for pictures without a label where labels are counted.
NO_LABEL = "(no label)"


#: What the runtime of a stage says of itself where the user asked for it, instead of measurements.
ASKED_FOR = "asked for"


@dataclass(frozen=True)
class SplitReady:
    """Sent before anything is trained.

    Attributes:
        train, validation, test: numbers of pictures.
        description: how the split was made, in sentences.
        warnings: sentences that must not stay unread: leaks, classes without pictures, pictures left out.
    """

    train: int
    validation: int
    test: int
    description: str
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class StageStarted:
    """Sent before a stage's first step.

    Attributes:
        stage: its number, from 0. name: as the recipe has it.
        description: which layers the stage trains, and from which inputs.
        epochs: the largest number of epochs.
        runtime: `Runtime.as_dict`; its "why" says how it was chosen.
        shown: how often the first epoch shows each label; pictures without a label count under `NO_LABEL`.
        retraining: here and below, the event belongs to the retraining on training and validation pictures together.
        multilabel: pictures may have several labels, so accuracies are shares of labels, not of pictures.
    """

    stage: int
    name: str
    description: str
    epochs: int
    runtime: dict[str, Any]
    shown: dict[str, int] = field(default_factory=dict)
    retraining: bool = False
    multilabel: bool = False


@dataclass(frozen=True)
class BeginsFrom:
    """Sent before the first step of a stage after the first: what the weights that it begins from score.

    Measured as the stage's epochs are: by its loss, at its size. An epoch is best only if it is better than these.
    """

    stage: int
    validation_loss: float
    validation_accuracy: float


@dataclass(frozen=True)
class LrFound:
    """Sent when the learning-rate test at a stage's beginning is over.

    Attributes:
        stage: its number, from 0.
        lr: the peak learning rate that the stage takes for its head.
        taken: name of the suggestion that it is; "otherwise" where none could be read and the recipe's own was taken.
        suggestions: learning rates by name: "valley", "steepest", "tenth_of_minimum", "highest_falling"; empty where
            the loss did not fall.
        lrs, losses, smoothed: the curve, one value a step of the test.
        rose: whether the loss rose clearly after its fall; if not, the test ended too early.
        diverges: the learning rate at which it did; None where it did not. Events of 0.1 have none.
        setting: what gives a recipe this learning rate without a test, for `--set`: "stages.0.lr=0.0028".
    """

    stage: int
    lr: float
    taken: str
    suggestions: dict[str, float]
    lrs: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    rose: bool
    diverges: float | None = None
    setting: str = ""


@dataclass(frozen=True)
class Computing:
    """Sent while something is computed once, before the steps that need it. `task` names it, for a progress bar."""

    stage: int
    task: str
    done: int
    total: int


@dataclass(frozen=True)
class Progress:
    """Sent after every training step. `loss` is the epoch's mean so far; `step` counts from 1 within the epoch.

    Where several workers train: how many, what all of them train in a second (`speed`, in pictures), and which of them
    the others waited for in this step.
    """

    stage: int
    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    lr: float
    n_pictures: int
    retraining: bool = False
    workers: int = 1
    speed: float = 0.0
    slowest: str = ""


@dataclass(frozen=True)
class Validated:
    """Sent after each epoch's validation; losses are means a picture.

    Accuracy is the share of pictures named right; with several labels, the share of labels that are right.
    `train_accuracy` is None where it was not measured. `lrs` are the learning rates of the epoch's steps (of the
    group with the highest rate), empty where the stage has none. `best`: better than all before it, by what the stage
    monitors; earlier stages count with the weights that they handed on (see `BeginsFrom`).
    """

    stage: int
    epoch: int
    epochs: int
    train_loss: float
    train_accuracy: float | None
    validation_loss: float
    validation_accuracy: float
    lrs: tuple[float, ...]
    best: bool


@dataclass(frozen=True)
class Retrained:
    """Sent after each epoch of the retraining on everything: as `Validated`, but there is nothing to validate on."""

    stage: int
    epoch: int
    epochs: int
    train_loss: float
    train_accuracy: float | None
    lrs: tuple[float, ...]


@dataclass(frozen=True)
class StageDone:
    """Sent when a stage ends.

    Attributes:
        stage: its number, from 0.
        epochs: how many it had.
        best_epoch: whose weights go on; 0: those that the stage began from, as no epoch was better.
        reason: a plain sentence: all epochs done, or stopped early and why.
    """

    stage: int
    epochs: int
    best_epoch: int
    reason: str
    retraining: bool = False


@dataclass(frozen=True)
class Note:
    """Sent where something happened that must not pass in silence, such as a damaged file that was replaced."""

    text: str


Logged = StageStarted | BeginsFrom | LrFound | Validated | Retrained | StageDone  # those that are kept in events.jsonl


Event = Logged | SplitReady | Note | Computing | Progress
