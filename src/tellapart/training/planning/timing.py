"""Measures what one network takes on this machine and these pictures; measured once, then remembered."""

from __future__ import annotations

import copy
import math
import time
from dataclasses import asdict, replace
from typing import Any

import torch
from torch import nn

from tellapart.data.loading.loader import batches
from tellapart.models.network import Network
from tellapart.recipe.schema import Recipe
from tellapart.training.dataset import Dataset
from tellapart.training.fast.autotune import repeated_step, time_candidates
from tellapart.training.fast.engines import inference_layers
from tellapart.training.pixels import augmented, plain
from tellapart.training.planning.budget import Timing
from tellapart.training.planning.memory import note_file, recall, remember
from tellapart.training.prepare import stage_from_pictures
from tellapart.training.runtime import Runtime, plain_runtime
from tellapart.training.stage import repeats

#: Pictures that are read to time that, and pictures of a timed step.
_READ, _STEP = 48, 32
#: Rows of a made matrix, on which a probe's loss is timed.
_ROWS = 2048


def measure(
    network: Network, recipe: Recipe, dataset: Dataset, target: torch.Tensor, runtime: Runtime, setup: float
) -> Timing:
    """What this network takes, from the cache or measured now.

    Args:
        network: left as it is, but for device and memory format.
        recipe: with this network's name; its last stage is timed.
        dataset: the pictures; its first ones are used.
        target: of all rows of the catalog.
        runtime: how frozen layers run.
        setup: seconds that it took to build the network.
    """
    about = {
        "network": network.architecture.as_dict(),
        "weights": network.weights_source,
        "stages": [stage.model_dump() for stage in recipe.stages],
        "runtime": {name: value for name, value in runtime.as_dict().items() if name != "why"},
        "pictures": dataset.catalog.digest,
        "n": len(dataset.train),
    }
    file = note_file("timing", about)
    timing = _timing(recall(file))
    if timing is None:
        start = time.perf_counter()
        values = _measured(network, recipe, dataset, target, runtime)
        timing = Timing(**values, setup=setup + time.perf_counter() - start)
        remember(file, asdict(timing))
    return timing


def _timing(note: dict[str, Any] | None) -> Timing | None:
    """A timing from a note; None where that is none."""
    if note is None or note.keys() != Timing.__dataclass_fields__.keys():
        return None
    sound = all(isinstance(value, float | int) and 0 <= value < 1e6 for value in note.values())
    return Timing(**note) if sound else None


def _measured(
    network: Network, recipe: Recipe, dataset: Dataset, target: torch.Tensor, runtime: Runtime
) -> dict[str, float]:
    rows = dataset.train[:_READ]
    start = time.perf_counter()
    read = list(batches(rows, len(rows), plain(dataset), runtime.workers))
    reading = (time.perf_counter() - start) / len(rows)
    pixels = network.normalise(read[0].image.to(network.scale.device)).detach()
    answers = plain_runtime()
    answering = _forward_seconds(network.backbone, pixels, answers)
    same = (runtime.frozen, runtime.device) == (answers.frozen, answers.device)
    frozen = answering if same else _forward_seconds(network.backbone, pixels, runtime)
    part = replace(dataset, train=dataset.train[:_STEP])
    return {
        "reading": reading,
        "frozen": frozen,
        "answering": answering,
        "step": step_seconds(network, recipe, len(recipe.stages) - 1, part, target, runtime),
        "solving": _solving_seconds(network, len(dataset.catalog.classes)),
    }


def _forward_seconds(layers: nn.Module, pixels: torch.Tensor, runtime: Runtime) -> float:
    """Seconds a picture of layers that only answer."""
    run, batch = inference_layers(layers, runtime), pixels[: runtime.inference_batch]
    ((fastest, _),) = time_candidates([{}], lambda _: run(batch), runtime)
    return fastest / len(batch)


def step_seconds(
    network: Network, recipe: Recipe, number: int, dataset: Dataset, target: torch.Tensor, runtime: Runtime
) -> float:
    """Seconds a picture of a training step of a stage: from stored features where it can be, else reading them too.

    Args:
        network: left as it is; a copy is trained, by no length.
        dataset: a batch of pictures.
    """
    config = recipe.stages[number]
    if config.solver:  # a linear head is solved and takes no steps; how long one would take is the best guess there is
        config = config.model_copy(update={"solver": None})
    recipe = recipe.model_copy(update={"stages": [config]})
    stage = stage_from_pictures(copy.deepcopy(network), recipe, 0, dataset, target, runtime)
    part = stage.part
    stage = replace(stage, from_features=repeats(part, recipe, config))
    load = plain(stage.dataset) if stage.from_features else augmented(stage.dataset, 0)
    start = time.perf_counter()
    (read,) = batches(stage.dataset.train, len(stage.dataset.train), load, runtime.workers)
    reading = (time.perf_counter() - start) / len(read.row)
    with torch.no_grad():
        pixels = stage.network.normalise(read.image.to(stage.network.scale.device))
        inputs = part.prefix.eval()(pixels) if stage.from_features and part.prefix else pixels
    part.train_mode()
    ((fastest, _),) = time_candidates([{}], repeated_step(stage, read.row, inputs), runtime)
    # Pictures are read while others are trained on, by the same processors.
    return fastest / len(read.row) + (0.0 if stage.from_features else reading)


def _solving_seconds(network: Network, n_classes: int) -> float:
    """Seconds a row of one evaluation of a linear probe's loss and its gradient."""
    device = network.scale.device
    x = torch.randn(_ROWS, network.n_features, device=device)
    weight = torch.zeros(n_classes, network.n_features, device=device, requires_grad=True)
    best = math.inf
    for _ in range(3):
        start = time.perf_counter()
        (x @ weight.T).logsumexp(1).mean().backward()  # type: ignore[no-untyped-call]
        best = min(best, time.perf_counter() - start)
    return best / _ROWS
