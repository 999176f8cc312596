"""The runtime that is fastest on this machine: timed on the network and the pictures themselves, and remembered."""

from __future__ import annotations

import contextlib
import copy
import math
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tellapart.core.cache import read_note, write_note
from tellapart.core.events import Computing
from tellapart.core.hardware import n_processors
from tellapart.core.old_names import current_runtime
from tellapart.core.plain_json import read_json_file
from tellapart.data.loading.loader import Rows, batches
from tellapart.models.network import Network
from tellapart.recipe.schema import Recipe, Stage
from tellapart.training.dataset import Dataset
from tellapart.training.fast.choose_engine import FrozenWork, choose_engine
from tellapart.training.fast.remembered import note_file
from tellapart.training.optim import set_lrs
from tellapart.training.pixels import fixed_view, plain
from tellapart.training.prepare import stage_dataset, stage_from_pictures
from tellapart.training.runtime import (
    FITS_A_CACHE,
    Runtime,
    default_device,
    default_workers,
    multiplies_bfloat16,
    synchronise,
)
from tellapart.training.stage import TrainingStage, repeats, solves
from tellapart.training.step import Batch, train_step
from tellapart.training.trainable import select

Candidate = Mapping[str, Any]
_DEVICES = ("cpu", "cuda", "mps")

#: How training steps may run, the plainest first. Micro-batches are for processors alone, see `FITS_A_CACHE`.
STEP_CANDIDATES: tuple[Candidate, ...] = (
    {"precision": "float32", "channels_last": False, "micro_batch": 0},
    {"precision": "float32", "channels_last": True, "micro_batch": 0},
    {"precision": "bfloat16", "channels_last": True, "micro_batch": 0},
    {"precision": "float32", "channels_last": True, "micro_batch": FITS_A_CACHE},
    {"precision": "bfloat16", "channels_last": True, "micro_batch": FITS_A_CACHE},
)
_REPETITIONS = 2
#: A candidate that takes so many times the fastest one's time is not timed again.
_HOPELESS = 1.5
#: Pictures that are loaded to find out with how many threads that is fastest.
_LOADED = 64


@dataclass(frozen=True)
class Measurement:
    """Work that is timed under each of some candidates.

    Attributes:
        work: the beginning of the sentence that explains the choice: "a training step takes".
        candidates: fields of the runtime with their values, the plainest first: it is taken where two are as fast.
        run: does the work once under a runtime, without lasting effects.
    """

    work: str
    candidates: Sequence[Candidate]
    run: Callable[[Runtime], object]


def choose_runtime(
    network: Network, recipe: Recipe, number: int, dataset: Dataset, target: Tensor, before: Runtime | None
) -> Generator[Computing, None, Runtime]:
    """Choose how a stage runs: as the user asked, or as is fastest here.

    Args:
        network: its layers are timed on a copy.
        recipe: its stage `number` is about to begin.
        dataset: its first pictures are used.
        target: of all rows of the catalog.
        before: the runtime of the stage before. What all stages share is taken from it, so that the features that one
            stage stores serve the others.

    Yields:
        Computing, while engines are tried.
    """
    if before and before.asked_for:
        return before
    shared = before.inference if before else (yield from _tune_inference(network, recipe, dataset))
    # A linear head is solved without steps: nobody should wait for their timing before its first score.
    if solves(recipe.stages[number]):
        return shared
    chosen = _tune_steps(network, recipe, number, dataset, target, shared)
    return chosen if before or not shared.why else replace(chosen, why=f"{chosen.why}; {shared.why}")


def choose(key: dict[str, Any], base: Runtime, measurements: Sequence[Measurement]) -> Runtime:
    """Time the candidates of each measurement and keep the fastest, or take what was chosen before.

    A choice is remembered by `key`, machine and versions, so that the next run makes the same one.

    Args:
        key: all that the speed depends on, such as network and batch size.
        base: its fields are kept, but for those that candidates have.
        measurements: in this order; each begins with what the one before it chose.
    """
    file = note_file(key)
    chosen = _recall(file)
    if chosen is None:
        chosen, reasons = base, []
        for measurement in measurements:
            timed = time_candidates(measurement.candidates, measurement.run, chosen)
            chosen = replace(chosen, **timed[0][1])
            reasons.append(f"{measurement.work} {_ranking(timed)}")
        chosen = replace(chosen, why="; ".join(reasons))
        with contextlib.suppress(OSError):  # a memory that cannot be written costs time, not the training
            write_note(file, chosen.as_dict())
    decided = {name for measurement in measurements for candidate in measurement.candidates for name in candidate}
    return replace(base, why=chosen.why, **{name: getattr(chosen, name) for name in decided})


def step_candidates(independent: bool) -> list[Candidate]:
    """The ways to run training steps that are worth timing on this machine.

    Args:
        independent: whether the pictures of a batch do not depend on each other in the layers that are trained.
    """
    device = default_device()
    micro_batches, bfloat16 = independent and device == "cpu", multiplies_bfloat16(device)
    return [
        candidate
        for candidate in STEP_CANDIDATES
        if (micro_batches or not candidate["micro_batch"]) and (bfloat16 or candidate["precision"] == "float32")
    ]


def worker_candidates() -> list[Candidate]:
    """Numbers of threads that are worth timing: more do not always load more, since they wait for each other."""
    most = min(16, n_processors())
    return [{"workers": n} for n in (*(n for n in (2, 4, 8) if n < most), most)]


def in_words(runtime: Runtime) -> str:
    """How training steps are run, for people."""
    return _words({name: getattr(runtime, name) for name in STEP_CANDIDATES[0]})


def _words(candidate: Candidate) -> str:
    if "workers" in candidate:
        return f"{candidate['workers']} threads"
    few = f" with {candidate['micro_batch']} pictures at once" if candidate["micro_batch"] else ""
    return f"{candidate['precision']} {'channels-last' if candidate['channels_last'] else 'contiguous'}{few}"


def time_candidates(
    candidates: Sequence[Candidate], run: Callable[[Runtime], object], base: Runtime
) -> list[tuple[float, Candidate]]:
    """Seconds of some work under each candidate, the fastest first.

    Args:
        candidates: the plainest first, which then comes first of those that are as fast.
        run: does the work once under a runtime, without lasting effects.
        base: gives the fields that candidates do not have.
    """
    timed: list[tuple[float, Candidate]] = []
    for candidate in candidates:
        best = min((seconds for seconds, _ in timed), default=math.inf)
        timed.append((_seconds(run, replace(base, **candidate), best), candidate))
    return sorted(timed, key=lambda pair: pair[0])


def _ranking(timed: Sequence[tuple[float, Candidate]]) -> str:
    """The times in words: of the fastest, which is taken, then of the others."""
    first, *others = (f"{seconds * 1000:.0f} ms in {_words(candidate)}" for seconds, candidate in timed)
    return f"{first}, instead of {', '.join(others)}" if others else first


def _seconds(run: Callable[[Runtime], object], runtime: Runtime, best_so_far: float) -> float:
    """Seconds of the work: the minimum of a few times after one that warms up. Other programs can only add time."""
    run(runtime)
    best = math.inf
    for _ in range(_REPETITIONS):
        synchronise(runtime.device)
        start = time.perf_counter()
        run(runtime)
        synchronise(runtime.device)
        best = min(best, time.perf_counter() - start)
        if best > _HOPELESS * best_so_far:
            break
    return best


def _recall(file: Path) -> Runtime | None:
    """The choice that a file remembers; None where it is missing or damaged."""
    with contextlib.suppress(OSError, ValueError, TypeError, AttributeError):
        # Version 0.1 wrote no checksum. A damaged file of today has one too many for it.
        values = read_note(file) or current_runtime(read_json_file(file))
        runtime = Runtime(**values)
        if {runtime.precision, runtime.frozen} <= {"float32", "bfloat16"} and runtime.device in _DEVICES:
            return runtime
    return None


def _tune_inference(network: Network, recipe: Recipe, dataset: Dataset) -> Generator[Computing, None, Runtime]:
    """Choose engine and precision of frozen layers, and the number of threads that load pictures.

    Engines are tried on the stage that trains most of those that store what frozen layers give.
    """
    spare = copy.deepcopy(network).to(default_device())
    parts = [select(spare, s.train, s.batch_norm) for s in recipe.stages]
    number = max(range(len(parts)), key=lambda i: (repeats(parts[i], recipe, recipe.stages[i]), parts[i].n_groups))
    part, stage = parts[number], recipe.stages[number]
    base, reasons = Runtime(default_device(), workers=default_workers()), []
    if len(workers := worker_candidates()) > 1:

        def load(runtime: Runtime) -> None:
            for _ in batches(dataset.items[:_LOADED], _LOADED, fixed_view(dataset), runtime.workers):
                pass

        size = [dataset.preprocessing.height, dataset.preprocessing.width]
        base = choose({"times": "reading", "size": size}, base, [Measurement("reading pictures takes", workers, load)])
        reasons.append(base.why)
    if part.prefix is not None and repeats(part, recipe, stage):
        shown = stage_dataset(spare, stage, dataset, number)
        n = len(shown.items) * max(1, len(stage.views)) + len(shown.validation)
        choice = yield from choose_engine(FrozenWork(spare, part.prefix, part.cut, shown, n), base)
        base = choice.runtime
        reasons.insert(0, base.why)
    return replace(base, why="; ".join(filter(None, reasons)))


def _tune_steps(
    network: Network, recipe: Recipe, number: int, dataset: Dataset, target: Tensor, base: Runtime
) -> Runtime:
    """Choose how training steps of a stage run: precision, memory format and micro-batch."""
    spare = copy.deepcopy(network).to(base.device)
    stage = stage_from_pictures(spare, recipe, number, dataset, target, base)
    part, preprocessing = stage.part, stage.dataset.preprocessing
    stage = replace(stage, from_features=repeats(part, recipe, stage.config))
    rows, pixels = _first_pictures(spare, stage.config, stage.dataset)
    with torch.no_grad():
        inputs = part.prefix.eval()(pixels) if stage.from_features and part.prefix else pixels
    part.train_mode()
    size = [preprocessing.height, preprocessing.width]
    batch = {"size": size, "n": len(rows), "stored": stage.from_features}
    key = {"network": network.architecture.as_dict(), "trains": part.description, "norms": part.statistics, **batch}
    step = repeated_step(stage, rows, inputs)
    measurement = Measurement("a training step takes", step_candidates(part.apart), step)
    return choose({**key, "times": "steps", "apart": part.apart}, base, [measurement])


def repeated_step(stage: TrainingStage, rows: Rows, inputs: Tensor) -> Callable[[Runtime], None]:
    """A training step on the same batch, again and again, under one runtime or another.

    Args:
        stage: in training mode. Its weights stay as they are, though its network moves to each runtime's device and
            memory format.
        rows, inputs: a batch of its inputs.
    """
    trial = stage

    def step(runtime: Runtime) -> None:
        nonlocal trial
        if trial.runtime != runtime:  # what was built for the runtime before is not needed any more
            unknown = None if stage.unknown is None else stage.unknown.to(runtime.device)
            trial = replace(stage, runtime=runtime, target=stage.target.to(runtime.device), unknown=unknown)
        stage.network.to(device=runtime.device, memory_format=runtime.memory_format)  # type: ignore[call-overload]
        batch = inputs.to(runtime.device)
        batch = batch.contiguous(memory_format=runtime.memory_format) if batch.ndim == 4 else batch
        set_lrs(trial.optimizer, 0.0)
        train_step(trial, Batch([(batch, rows)], (0, stage.number, 0, 0)))

    return step


def _first_pictures(network: Network, stage: Stage, dataset: Dataset) -> tuple[Rows, Tensor]:
    """Rows of the first training pictures, at most a batch, and the backbone's input of them."""
    # A GPU is not filled by so few pictures as are enough to time a processor.
    rows = dataset.train[: min(stage.batch_size, 32 if default_device() == "cpu" else 256)]
    load = plain(dataset)
    pictures = torch.from_numpy(np.stack([load(int(row)) for row in rows]))
    return rows, network.normalise(pictures.to(network.scale.device))
