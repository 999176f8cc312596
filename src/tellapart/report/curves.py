"""Learning curves over epochs, from the events of a training, the stages one after the other."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

#: A loss so many times the others is of an epoch that diverged: on one axis with it, the others would be one flat line.
_FAR_ABOVE = 5.0
#: More learning rates than this are thinned out: no screen shows them.
_MOST = 800

_Line = Mapping[str, Any]
_Key = tuple[int, int]  # stage, epoch


@dataclass(frozen=True)
class StageSpan:
    """A stage on the axis of epochs.

    Attributes:
        name: its name in the recipe, or "stage 1".
        start, end: epochs since the beginning of the training.
        best: its best epoch, counted on over all stages; None where none was marked.
        seconds: time its epochs took, without what belongs to the preparation.
        epoch_seconds: an epoch, the median of those after the first. NaN where it is not known.
        preparation: time of what is done once: measuring how it runs, features, the test for a rate, and what the first
            epoch, which decodes the pictures, takes longer than the later ones. NaN where it is not known.
        description: layers trained, and their inputs. runtime: precision, device and engine, with the measurements.
        reason: why it ended. Each may be empty.
        solved: its points are strengths of regularisation, for each of which the last layer was solved; no epochs.
    """

    name: str
    start: int
    end: int
    best: int | None
    seconds: float
    epoch_seconds: float
    preparation: float
    description: str
    runtime: str
    reason: str
    solved: bool = False


@dataclass(frozen=True)
class Curves:
    """Values after each epoch, counted on over all stages; NaN where there is none.

    Attributes:
        epoch: 1, 2, … [n].
        train_loss, validation_loss, train_accuracy, validation_accuracy, seconds: [n].
        best: the epoch whose weights were kept; None where no epoch was best.
        stages: in order.
        lr_at, lr: learning rate of each step, at fractions of epochs.
        multilabel: accuracies are shares of labels, not of pictures.
    """

    epoch: tuple[int, ...]
    train_loss: tuple[float, ...]
    validation_loss: tuple[float, ...]
    train_accuracy: tuple[float, ...]
    validation_accuracy: tuple[float, ...]
    seconds: tuple[float, ...]
    best: int | None
    stages: tuple[StageSpan, ...]
    lr_at: tuple[float, ...]
    lr: tuple[float, ...]
    multilabel: bool = False

    @property
    def accuracy_name(self) -> str:
        """Name of the accuracy: "label accuracy" where pictures may have several labels."""
        return "Label accuracy" if self.multilabel else "Accuracy"

    @property
    def total_seconds(self) -> float:
        """Time spent in epochs, as far as it is known, without what belongs to the preparation."""
        return sum(span.seconds for span in self.stages)

    @property
    def preparation(self) -> float:
        """Time spent on what is done once, as far as it is known."""
        return sum(span.preparation for span in self.stages if math.isfinite(span.preparation))

    @property
    def epoch_seconds(self) -> float:
        """Seconds of an epoch: the median over those after the first of their stage. NaN where none is known."""
        first = {span.start for span in self.stages}
        return _median([s for i, s in enumerate(self.seconds) if i not in first] or self.seconds)


def curves(events: Sequence[_Line]) -> Curves:
    """Learning curves from the lines of events.jsonl.

    An epoch that is there twice, because a training was broken off and resumed, counts once: the last time.

    Args:
        events: dictionaries with "event" and the fields of the class of that name in `core.events`; those of
            `Validated`, `StageStarted` and `StageDone` are used, and "seconds" beside the first. Those of a
            retraining, which nothing validates, are left out.
    """
    events = [e for e in events if not e.get("retraining")]
    epochs = {(e["stage"], e["epoch"]): e for e in events if e["event"] == "Validated"}
    order = sorted(epochs)
    number_of = {key: i for i, key in enumerate(order, start=1)}

    def column(field: str) -> tuple[float, ...]:
        return tuple(_number(epochs[key].get(field)) for key in order)

    lr_at, lr = _lrs(epochs, number_of)
    return Curves(
        epoch=tuple(number_of.values()),
        train_loss=column("train_loss"),
        validation_loss=column("validation_loss"),
        train_accuracy=column("train_accuracy"),
        validation_accuracy=column("validation_accuracy"),
        seconds=column("seconds"),
        best=_best(epochs, number_of),
        stages=_stages(events, epochs, number_of),
        lr_at=lr_at,
        lr=lr,
        multilabel=any(e.get("multilabel") for e in events),
    )


def loss_top(*courses: Curves) -> float:
    """The loss at which a chart ends: the highest but for epochs that diverged; infinite where none did."""
    return common_top([list(zip(course.train_loss, course.validation_loss, strict=True)) for course in courses])


def common_top(trainings: Sequence[Sequence[Sequence[float]]]) -> float:
    """Where the axis of losses ends that several trainings share: above all but epochs that diverged.

    Args:
        trainings: of each epoch of each, its losses; NaN where there is none.
    """
    highest = [
        [max((loss for loss in losses if math.isfinite(loss)), default=-math.inf) for losses in epochs]
        for epochs in trainings
    ]
    tops = [cut_off(epochs) for epochs in highest]
    if all(map(math.isinf, tops)):
        return math.inf
    # A training in which nothing diverged is shown whole.
    return max(max(epochs) if math.isinf(top) else top for top, epochs in zip(tops, highest, strict=True) if epochs)


def cut_off(highest: Sequence[float]) -> float:
    """The highest loss of a training but for epochs that diverged; infinite where none did.

    Epochs diverged where each is more than five times the highest of all others; ten times where the training's first
    is among them, since a loss falls fastest there. At most a quarter of a training's epochs did.

    Args:
        highest: loss of each epoch.
    """
    falling = sorted(range(len(highest)), key=lambda i: -highest[i])
    for n in range(min(max(1, len(falling) // 4), len(falling) - 1), 0, -1):
        factor = 2 * _FAR_ABOVE if 0 in falling[:n] else _FAR_ABOVE
        if highest[falling[n - 1]] > factor * highest[falling[n]] > 0:
            return highest[falling[n]]
    return math.inf


def above_sentence(course: Curves, top: float) -> str:
    """The epochs whose losses a chart cuts off, in words; "" where it shows all."""
    lines = {"training": course.train_loss, "validation": course.validation_loss}
    cut = {
        epoch: [f"{name} {line[i]:.4g}" for name, line in lines.items() if line[i] > top]
        for i, epoch in enumerate(course.epoch)
    }
    cut = {epoch: losses for epoch, losses in cut.items() if losses}
    if not cut:
        return ""
    named = "; ".join(f"epoch {epoch}: {', '.join(losses)}" for epoch, losses in [*cut.items()][:5])
    more = f"; and {len(cut) - 5} more" if len(cut) > 5 else ""
    return f"Cut off at its upper edge, where arrow heads stand: {named}{more}."


def _best(epochs: Mapping[_Key, _Line], number_of: Mapping[_Key, int]) -> int | None:
    """The last epoch that was better than all before it."""
    return max((number_of[key] for key, e in epochs.items() if e.get("best")), default=None)


def _stages(
    events: Sequence[_Line], epochs: Mapping[_Key, _Line], number_of: Mapping[_Key, int]
) -> tuple[StageSpan, ...]:
    started = {e["stage"]: e for e in events if e["event"] == "StageStarted"}
    done = {e["stage"]: e for e in events if e["event"] == "StageDone"}
    spans = []
    for number, stage in enumerate(sorted({stage for stage, _ in epochs}), start=1):
        of_stage = [e for e in events if e.get("stage") == stage]
        own = {key: e for key, e in epochs.items() if key[0] == stage}
        numbers = [number_of[key] for key in own]
        times = [_number(e.get("seconds")) for _, e in sorted(own.items())]
        usual = _median(times[1:] or times)
        decoding = max(0.0, times[0] - usual) if math.isfinite(times[0] - usual) else 0.0
        spans.append(
            StageSpan(
                name=str(started.get(stage, {}).get("name") or f"stage {number}"),
                start=min(numbers) - 1,
                end=max(numbers),
                best=_best(own, number_of),
                seconds=sum(s for s in times if math.isfinite(s)) - decoding,
                epoch_seconds=usual,
                preparation=_preparation(of_stage, decoding),
                runtime=_runtime(started.get(stage, {}).get("runtime") or {}),
                description=str(started.get(stage, {}).get("description", "")),
                reason=str(done.get(stage, {}).get("reason", "")),
                solved="strengths done" in str(done.get(stage, {}).get("reason", "")),
            )
        )
    return tuple(spans)


def _preparation(events: Sequence[_Line], decoding: float) -> float:
    """Seconds of what a stage does once; NaN where nothing is known of them."""
    before = [e.get("seconds") for e in events if e["event"] in ("StageStarted", "BeginsFrom", "LrFound")]
    computed = [e.get("preparation") for e in events]
    known = [s for value in [*before, *computed] if math.isfinite(s := _number(value))]
    return sum(known) + decoding if known or decoding else math.nan


def _median(seconds: Sequence[float]) -> float:
    return statistics.median(known) if (known := [s for s in seconds if math.isfinite(s)]) else math.nan


def _runtime(choice: _Line) -> str:
    """The runtime that was chosen by measurement, with the measurements."""
    chosen = " on ".join(str(choice[field]) for field in ("precision", "device") if choice.get(field))
    why = choice.get("why") or ""
    return f"{chosen} ({why})" if chosen and why else chosen or str(why)


def _lrs(epochs: Mapping[_Key, _Line], number_of: Mapping[_Key, int]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Learning rate of each step, thinned out evenly, the last one kept."""
    points = [
        (number_of[key] - 1 + step / len(epochs[key]["lrs"]), _number(lr))
        for key in sorted(epochs)
        for step, lr in enumerate(epochs[key].get("lrs") or (), start=1)
    ]
    every = max(1, math.ceil(len(points) / _MOST))
    thinned = points[:-1:every] + points[-1:]
    return tuple(at for at, _ in thinned), tuple(lr for _, lr in thinned)


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
