"""What trainings take: seconds of each stage and of the end, from what single pictures take. No clock runs here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tellapart.data.catalog import Catalog
from tellapart.data.loading.sampling import epoch_length
from tellapart.data.splitting.split import Split
from tellapart.recipe.schema import Recipe, Stage

#: Evaluations of the loss that L-BFGS needs for one strength of a linear probe, about.
_EVALUATIONS = 60
#: Strengths that a list may be extended by, on average.
_BEYOND = 2
#: A step forward alone, as validation takes it, is a third of a training step.
_FORWARD = 1 / 3
#: Of certainty, bundle and report, in seconds; of the report's explanations, in answers of the network.
_END_SECONDS, _EXPLAIN_ANSWERS = 10.0, 700
#: The most that a report's explanations take: a share of the training's time, or these seconds where that is less.
EXPLAIN_SHARE, EXPLAIN_SECONDS = 0.2, 20.0
#: Scenes are looked for in all pictures: so many times what it takes to read one.
_MEASURED = 1.5


@dataclass(frozen=True)
class Timing:
    """What one network at one size takes here, in seconds a picture if not said otherwise.

    Attributes:
        reading: to read it from its file to the network's input, with all threads.
        frozen: in the frozen layers, as they run for stored features.
        answering: in the whole network in float32, as it answers.
        step: of a training step of the recipe's last stage.
        solving: of one evaluation of the loss of a linear probe.
        setup: seconds in all, to build the network and to measure this.
    """

    reading: float
    frozen: float
    answering: float
    step: float
    solving: float
    setup: float


@dataclass(frozen=True)
class Workload:
    """How much there is to compute.

    Attributes:
        n_train: items of an epoch. n_validation, n_test: pictures.
        n_classes: number of classes.
        rarest: training pictures of the class that has fewest.
        explains: whether the report explains answers.
        n_trainings: 2 where all is trained once more on everything, else 1.
    """

    n_train: int
    n_validation: int
    n_test: int
    n_classes: int
    rarest: int
    n_trainings: int = 1
    explains: bool = True


def workload(recipe: Recipe, catalog: Catalog, split: Split, explain: bool = True) -> Workload:
    """How much a recipe computes with these pictures.

    Args:
        explain: whether the report explains answers, where the recipe leaves it open.
    """
    target = catalog.target(split.train)
    counts = np.bincount(target, minlength=len(catalog.classes)) if target.ndim == 1 else target.sum(0)
    return Workload(
        n_train=epoch_length(len(split.train) * max(1, len(recipe.data.ahead)), recipe.balance.multiple),
        n_validation=len(split.validation),
        n_test=len(split.test),
        n_classes=len(catalog.classes),
        rarest=int(counts.min()),
        n_trainings=2 if recipe.retrain else 1,
        explains=explain if recipe.evaluation.explain is None else recipe.evaluation.explain,
    )


def stage_seconds(stages: Sequence[Stage], timing: Timing, work: Workload) -> list[float]:
    """What each stage takes: features that no earlier stage has stored, then epochs or strengths."""
    seconds, stored = [], 0
    for config in stages:
        n = min(work.n_train, (config.per_class or work.n_train) * work.n_classes)
        needed = n * max(1, len(config.views)) + work.n_validation
        new, stored = max(0, needed - stored), max(stored, needed)
        spent = new * (timing.reading + timing.frozen)
        if config.solver:
            fits = 1 + (config.folds - 1 if config.folds else 0)
            rows = n * max(1, len(config.views))
            spent += fits * (len(config.l2) + _BEYOND) * _EVALUATIONS * rows * timing.solving
        else:
            spent += config.epochs * epoch_seconds(timing, work) * work.n_trainings
        seconds.append(spent)
    return seconds


def epoch_seconds(timing: Timing, work: Workload) -> float:
    """What an epoch of the last stage takes, its validation too."""
    return (work.n_train + _FORWARD * work.n_validation) * timing.step


def end_seconds(timing: Timing, work: Workload, trained: float) -> float:
    """What comes after training: certainty, answers, bundle, explanations, report.

    Args:
        trained: seconds of the training, of which explanations take a share at most; where that is still open, the most
            that it can be.
    """
    known = min(work.n_train, max(1000, 10 * work.n_classes), 5000)
    answered = known + work.n_validation + work.n_test
    looked_at = work.n_train + work.n_validation + work.n_test
    reading = (answered + _MEASURED * looked_at) * timing.reading
    explaining = min(_EXPLAIN_ANSWERS * timing.answering, max(EXPLAIN_SHARE * trained, EXPLAIN_SECONDS))
    return _END_SECONDS + reading + answered * timing.answering + (explaining if work.explains else 0.0)


def total_seconds(recipe: Recipe, timing: Timing, work: Workload) -> float:
    """What a whole training takes from here on."""
    trained = sum(stage_seconds(recipe.stages, timing, work))
    return trained + end_seconds(timing, work, trained)
