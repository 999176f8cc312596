"""What the minutes buy: the stages of a training, then further ones as long as they help. Pure functions, no clock."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tellapart.recipe.schema import Recipe, Stage
from tellapart.recipe.transforms import HorizontalFlip, RandomResizedCrop, Uniform
from tellapart.training.planning.budget import Timing, Workload, end_seconds, epoch_seconds, stage_seconds

#: Training pictures a class below which layers of the backbone are left alone.
FEW = 10
#: Validation pictures below which a probe's strength is chosen by cross-validation instead.
_FEW_VALIDATED = 200
_FOLDS = 5
#: Epochs of the last layers, in a recipe whose last stage sees new pictures in every epoch.
_MAX_EPOCHS = 8
#: Further stages: at least so many epochs, at most so many views, and this mean of the weights.
_LEAST_EPOCHS, _MOST_EPOCHS, _MOST_VIEWS, _AVERAGE = 3, 20, 18, 0.99
MORE_VIEWS, MORE_LAYERS = "more views", "more layers"
#: Pictures are learnt by heart where their loss is below this share of that on validation, and that rises.
_BY_HEART = 0.5
#: Of the minutes: with less than this left, nothing further is begun.
_WORTH = 0.1


@dataclass(frozen=True)
class Outcome:
    """How a stage of steps went.

    Attributes:
        name: of the stage.
        start: validation loss of what it began from.
        losses: (training, validation) loss of each of its epochs.
        seconds: that an epoch took.
    """

    name: str
    start: float
    losses: tuple[tuple[float, float], ...]
    seconds: float

    @property
    def improved(self) -> bool:
        """Whether an epoch was better on validation than what the stage began from."""
        return min(loss for _, loss in self.losses) < self.start

    @property
    def by_heart(self) -> bool:
        """Whether its pictures were learnt by heart: validation loss rises while there is hardly any on training."""
        best = min(loss for _, loss in self.losses)
        train, last = self.losses[-1]
        return last > best and train < _BY_HEART * last


def skeleton(recipe: Recipe, work: Workload) -> Recipe:
    """The recipe's stages as these pictures allow them, before anything is known of the time.

    With few pictures a class the last layers would learn them by heart: a linear probe on all of them is all. Where few
    validate, cross-validation on the training pictures chooses the probe's strength: a small part would by its luck.
    """
    stages = list(recipe.stages)
    probes = [number for number, stage in enumerate(stages) if stage.solver]
    if not probes:
        return recipe
    if work.rarest < FEW or work.n_validation < _FEW_VALIDATED:
        stages[probes[-1]] = stages[probes[-1]].model_copy(update={"folds": _FOLDS})
    if work.rarest < FEW:
        stages = [stages[probes[-1]]]
    return recipe.model_copy(update={"stages": stages})


def with_epochs(recipe: Recipe, timing: Timing, work: Workload, left: float) -> tuple[Recipe, list[str]]:
    """As many epochs of the last stage as there is time for, at most those of the recipe; without any, it is left out.

    Where there is no time for all views of each picture, one has to do.

    Args:
        left: seconds from here to the end of all.

    Returns:
        The recipe, and why, in sentences.
    """
    if _least(recipe, timing, work, left) > left:
        stages = [stage.model_copy(update={"views": stage.views[:1]}) for stage in recipe.stages]
        recipe = recipe.model_copy(update={"stages": stages})
    last = recipe.stages[-1]
    if last.solver:
        return recipe, []
    most = last.epochs if last.views else _MAX_EPOCHS
    a_epoch = epoch_seconds(timing, work) * work.n_trainings
    epochs = max(0, min(most, int((left - _least(recipe, timing, work, left)) / max(a_epoch, 1e-9))))
    if not epochs and len(recipe.stages) > 1:
        return recipe.model_copy(update={"stages": recipe.stages[:-1]}), [
            "There is no time to train more than the head."
        ]
    return _with_last(recipe, epochs=max(1, epochs)), []


def _least(recipe: Recipe, timing: Timing, work: Workload, left: float) -> float:
    """Seconds of a training without any epoch of its last stage, and of the end of one that takes all that is left."""
    config = recipe.stages[-1]
    least = sum(stage_seconds(recipe.stages, timing, work)) + end_seconds(timing, work, left)
    return least - (0 if config.solver else config.epochs * epoch_seconds(timing, work) * work.n_trainings)


def may_go_on(recipe: Recipe) -> bool:
    """Whether further stages may follow: where the last one trains layers on fixed views, once."""
    last = recipe.stages[-1]
    return not last.solver and bool(last.views) and not recipe.retrain


def further(
    recipe: Recipe, outcomes: Sequence[Outcome], timing: Timing, work: Workload, left: float, minutes: float
) -> tuple[Stage | None, str]:
    """A further stage that is worth its time, or None; and why, in a sentence.

    First more views of each picture with averaged weights, twice as many whenever that helped. Where it did not, more
    layers at small rates. Where that did not either, more would not help.

    Args:
        outcomes: of the stages that took steps, in their order.
        left: seconds that it may take.
        minutes: of the whole plan.
    """
    if not outcomes or not may_go_on(recipe):
        return None, ""
    last = outcomes[-1]
    if left < _WORTH * 60 * minutes:
        return None, ""
    tried = [outcome.name for outcome in outcomes if not outcome.improved and outcome.name in (MORE_VIEWS, MORE_LAYERS)]
    reason = _reason(last)
    if MORE_VIEWS not in tried and (stage := _more_views(recipe, timing, work, last.seconds, left)):
        n = len(stage.views)
        return stage, f"{reason}: {n} views of each picture, with averaged weights, for {stage.epochs} epochs."
    if MORE_LAYERS not in tried and (stage := _more_layers(recipe, timing, work, last.seconds, left)):
        return stage, f"{reason}: more layers are trained, at small learning rates, for {stage.epochs} epochs."
    if tried:
        return None, f"{_listed(tried)} made nothing better on validation: more time would not help, so it ends here."
    return None, "All that a plan goes on with has been tried."


def _reason(outcome: Outcome) -> str:
    """What the stage before showed."""
    name = f"The stage “{outcome.name}”"
    if outcome.by_heart:
        return f"{name} learnt its views by heart (training loss {outcome.losses[-1][0]:.3f}, validation loss rising)"
    if outcome.improved:
        return f"{name} made validation better and time is left"
    return f"{name} made nothing better"


def _listed(names: Sequence[str]) -> str:
    return " and ".join(name.capitalize() if i == 0 else name for i, name in enumerate(dict.fromkeys(names)))


def _more_views(recipe: Recipe, timing: Timing, work: Workload, epoch: float, left: float) -> Stage | None:
    """As many views and epochs of them as fit: about two epochs of what is stored for each three views."""
    base = recipe.stages[-1]
    shown = max(len(stage.views) for stage in recipe.stages)
    view = work.n_train * (timing.reading + timing.frozen)
    for n in _numbers_of_views(shown):
        epochs = int((left - (n - shown) * view) / max(epoch, 1e-9))
        if epochs >= max(_LEAST_EPOCHS, n // 2):
            views = [*base.views[:2], *_crops(n, base)][:n]
            values = {"name": MORE_VIEWS, "epochs": min(epochs, _MOST_EPOCHS), "views": views, "average": _AVERAGE}
            return base.model_copy(update=values)
    return None


def _numbers_of_views(shown: int) -> Iterator[int]:
    """Numbers of views worth trying after so many, the largest first."""
    most = min(_MOST_VIEWS, max(6, 2 * shown + 2))
    yield from range(most, shown + 1, -2)


def _crops(n: int, base: Stage) -> list[list[Any]]:
    """Fixed random crops; every other one of the mirror image, where the stage shows mirror images."""
    crop, flip = RandomResizedCrop(scale=Uniform(uniform=[0.5, 1.0])), HorizontalFlip()
    mirrors = any(change.transform == flip.transform for view in base.views for change in view)
    return [[crop, flip] if mirrors and number % 2 else [crop] for number in range(n)]


def _more_layers(recipe: Recipe, timing: Timing, work: Workload, epoch: float, left: float) -> Stage | None:
    """More layers than before, of the views that are there: what is frozen before them is computed anew."""
    base = recipe.stages[-1]
    if not isinstance(base.train, float):
        return None
    share = min(0.95, base.train + 0.2)
    if share <= base.train:
        return None
    # A stage that trains more of the layers takes the more for it, forward and back.
    slower = epoch * share / base.train * 1.3
    shown = max(2, min(len(base.views), 6))
    features = (work.n_train * shown + work.n_validation) * (timing.reading + timing.frozen)
    epochs = int((left - features) / max(slower, 1e-9))
    if epochs < _LEAST_EPOCHS:
        return None
    lr = base.lr / 3 if isinstance(base.lr, float) else base.lr
    values = {"name": MORE_LAYERS, "train": share, "lr": lr, "epochs": min(epochs, _MOST_EPOCHS), "average": _AVERAGE}
    return base.model_copy(update={**values, "views": base.views[:shown]})


def _with_last(recipe: Recipe, **values: Any) -> Recipe:
    """The recipe with other values in its last stage."""
    last = recipe.stages[-1].model_copy(update=values)
    return recipe.model_copy(update={"stages": [*recipe.stages[:-1], last]})


def slowed(timing: Timing, factor: float) -> Timing:
    """A timing on a machine that turns out to be so many times slower, as others work on it too."""
    names = ("reading", "frozen", "answering", "step", "solving")
    return replace(timing, **{name: getattr(timing, name) * factor for name in names})
