"""What a study will take, before anything of it is trained: its cells, what they share, minutes from timed steps."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch

from tellapart.core.text import Lines, as_lines, counted
from tellapart.experiments.execute import shares
from tellapart.experiments.splits import StudySplits
from tellapart.experiments.tasks import Task
from tellapart.experiments.train_cell import dataset_of, initial_network
from tellapart.training.inputs import StageInputs
from tellapart.training.linear_probe import solutions
from tellapart.training.prepare import stage_from_pictures
from tellapart.training.runtime import Runtime
from tellapart.training.stage import TrainingStage, repeats
from tellapart.training.step import Batch, train_step
from tellapart.workflows.progress import ProgressSink, clock_text

_TIMED_STEPS = 3
_SOLVED = 512  # rows that a linear probe is timed on


@dataclass(frozen=True)
class Estimate:
    """The size of a study.

    Attributes:
        cells, trainings: their numbers. done: trainings that have ended already.
        groups: sizes of the groups of cells that begin from the same stored features, the largest first.
        seconds: of what is left, from timed steps; None where nothing is left.
        levels: one line a cell.
        more: what may come in addition, in words.
    """

    cells: int
    trainings: int
    done: int
    groups: tuple[int, ...]
    seconds: float | None
    levels: tuple[str, ...]
    more: str = ""

    def text(self) -> Lines:
        """The cells, then the estimate in a sentence."""
        size = f"{counted(self.cells, 'cell')}, {counted(self.trainings, 'training')}"
        left = f", {self.done:,} done already" if self.done else ""
        pace = f", about {_minutes(self.seconds)}" if self.seconds is not None else ""
        shared = "".join(f", {n:,} share one feature extraction" for n in self.groups if n > 1)
        return as_lines([*self.levels, f"{size}{left}{pace}{shared}.{self.more}"])


def estimate(
    tasks: list[Task], left: list[Task], splits: StudySplits, runtime: Runtime, parallel: int, sink: ProgressSink
) -> Estimate:
    """Time a few steps of each kind of training, and add up.

    Args:
        tasks: all trainings of the study. left: those that have not ended.
        parallel: trainings at a time.
    """
    levels: dict[str, str] = {}
    for task in tasks:
        text = ", ".join(f"{name} = {label}" for name, label in task.cell.levels.items())
        levels.setdefault(task.cell.id, text or "the recipe as it is")
    groups = Counter(group for group in {t.cell.id: shares(t) for t in tasks if t.seed.number == 0}.values() if group)
    seconds = 0.0
    timed: dict[str, tuple[float, float]] = {}
    extracted: set[str] = set()
    kinds = {_kind(task) for task in left}
    with sink.steps() as show:
        for task in left:
            if (kind := _kind(task)) not in timed:
                show("timing a few steps of each kind of training", len(timed), len(kinds))
                timed[kind] = time_training(task, splits, runtime)
            training, extraction = timed[kind]
            group = shares(task)
            seconds += training + (extraction if group not in extracted else 0.0)
            extracted |= {group} - {""}
    return Estimate(
        len(levels),
        len(tasks),
        len(tasks) - len(left),
        tuple(sorted(groups.values(), reverse=True)),
        seconds / parallel if left else None,
        tuple(levels.values()),
    )


def _kind(task: Task) -> str:
    """What tells the time of a training: everything but rates and chance."""
    values = task.cell.recipe.model_dump(mode="json", exclude={"about", "seed", "evaluation"})
    for stage in values["stages"]:
        for key in ("lr", "weight_decay", "momentum", "clip", "l2", "name", "label_smoothing", "warmup"):
            if key == "l2" and stage.get("l2"):
                stage[key] = len(stage["l2"])
            else:
                stage.pop(key, None)
    return json.dumps([values, task.fold is not None], sort_keys=True)


def time_training(task: Task, splits: StudySplits, runtime: Runtime) -> tuple[float, float]:
    """Seconds of a training, and those of making the features that it shares with others."""
    recipe, catalog = task.cell.recipe, splits.catalog
    split = splits.of(recipe, task.seed.split, task.fold)
    network = initial_network(recipe, len(catalog.classes), task.seed.init)
    dataset = dataset_of(recipe, network, catalog, split, task.seed)
    target = torch.tensor(catalog.target())
    training = extraction = 0.0
    for number in range(len(recipe.stages)):
        stage = stage_from_pictures(network, recipe, number, dataset, target, runtime)
        stage = replace(stage, from_features=repeats(stage.part, recipe, stage.config))
        step, extract, validate = _time_stage(stage)
        views = max(1, len(stage.config.views)) * len(dataset.versions)
        extraction += extract * (len(stage.dataset.train) * views + len(split.validation))
        if stage.solves:
            training += step * len(stage.dataset.train) * views * len(stage.strengths)
        else:
            training += step * stage.total
        training += validate * len(split.validation) * stage.epochs
    return training, extraction


def _time_stage(stage: TrainingStage) -> tuple[float, float, float]:
    """Seconds of a step (of a probe: a picture and strength), of a picture's features, of validating a picture."""
    stage.part.train_mode()
    start = time.perf_counter()
    inputs, rows = next(iter(stage.inputs.train(stage.order(0), 0, [slice(0, stage.config.batch_size)])))
    loading = (time.perf_counter() - start) / len(rows)
    extract = 0.0
    if stage.from_features:
        assert stage.part.prefix is not None
        with torch.no_grad():
            features, seconds = _timed(lambda: stage.part.prefix(inputs))  # type: ignore[misc]
        extract = loading + seconds / len(rows)
        inputs, loading = features, 0.0
        stage = replace(stage, inputs=StageInputs(lambda *_: iter(()), lambda *_: iter(())))
    forward = stage.part.tail if stage.from_features else stage.part.whole
    with torch.no_grad():
        _, validating = _timed(lambda: forward(inputs))
    validate = loading + validating / len(rows)
    if stage.solves:
        return _time_probe(stage, inputs), extract, validate
    times = []
    for number in range(_TIMED_STEPS):
        begin = time.perf_counter()
        train_step(stage, Batch([(inputs, rows)] * stage.config.accumulate, (0, stage.number, 0, number)))
        times.append(time.perf_counter() - begin)
    return min(times) + loading * len(rows), extract, validate


def _time_probe(stage: TrainingStage, features: torch.Tensor) -> float:
    """Seconds of a linear probe for a picture and strength."""
    head = stage.part.linear_head
    assert head is not None
    rows = stage.dataset.train[:_SOLVED]
    values = torch.randn(len(rows), features.flatten(1).shape[1])
    begin = time.perf_counter()
    next(solutions(values, stage.wanted(rows), head, stage.loss, len(rows), (0.01,)))
    return (time.perf_counter() - begin) / len(rows)


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    work()
    start = time.perf_counter()
    result = work()
    return result, time.perf_counter() - start


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min" if seconds < 5400 else clock_text(seconds)
