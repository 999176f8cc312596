"""How layers and steps are run fastest on this machine: timed on the network and the pictures themselves."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor

from tellapart.data.loading.loader import Rows, batches
from tellapart.models.network import Network
from tellapart.recipe.schema import Recipe, Stage
from tellapart.training.dataset import Dataset
from tellapart.training.feature_cache import inference_layers
from tellapart.training.losses import build_loss
from tellapart.training.pixels import fixed_view, plain
from tellapart.training.runtime import Runtime, default_device, for_inference, for_training, in_words
from tellapart.training.stage import repeats, shown
from tellapart.training.trainable import Forward, select

#: Pictures that are loaded to find out with how many threads that is fastest.
_LOADED = 64


def measure_answers(network: Network, recipe: Recipe, dataset: Dataset) -> Runtime:
    """Time the frozen layers of the stage that trains most of those that store what such layers give; and reading.

    On the first pictures, on a copy. It is the same for all stages, so that what one of them stores serves the others.
    """
    spare = copy.deepcopy(network).to(default_device())
    parts = [select(spare, s.train, s.batch_norm) for s in recipe.stages]
    pairs = zip(parts, recipe.stages, strict=True)
    part, stage = max(pairs, key=lambda pair: (repeats(pair[0], recipe, pair[1]), pair[0].n_groups))
    rows, pixels = _first_pictures(spare, stage, dataset)
    ready: dict[str, Forward] = {}

    def frozen(runtime: Runtime) -> None:
        assert part.prefix is not None
        run, size = ready.setdefault(runtime.frozen, inference_layers(part.prefix, runtime)), runtime.answers_at_once
        for some in torch.split(pixels, size)[:2]:  # everybody waits for this: two batches tell the two apart
            run(some.to(runtime.device))

    def load(runtime: Runtime) -> None:
        for _ in batches(dataset.items[:_LOADED], _LOADED, fixed_view(dataset), runtime.workers):
            pass

    key = {"network": network.architecture.as_dict(), "trains": part.what, "n": len(rows)}
    return for_inference(key, frozen if repeats(part, recipe, stage) else None, load)


def measure_steps(
    network: Network, recipe: Recipe, number: int, dataset: Dataset, target: Tensor, base: Runtime
) -> Runtime:
    """Time a training step of a stage, on the first pictures, under each way to run it, on a copy.

    Args:
        base: what `measure_answers` found.
    """
    spare, stage = copy.deepcopy(network).to(base.device), recipe.stages[number]
    dataset = shown(spare, stage, dataset, number)
    part = select(spare, stage.train, stage.batch_norm)
    from_store = repeats(part, recipe, stage)
    rows, pixels = _first_pictures(spare, stage, dataset)
    loss = build_loss("auto", dataset.catalog.multilabel)
    with torch.no_grad():
        given = part.prefix.eval()(pixels) if from_store and part.prefix else pixels
    part.train_mode()
    learning: dict[str, Forward] = {}

    def step(runtime: Runtime) -> None:
        spare.to(device=runtime.device, memory_format=runtime.memory_format)  # type: ignore[call-overload]
        inputs = given.to(runtime.device)
        inputs = inputs.contiguous(memory_format=runtime.memory_format) if inputs.ndim == 4 else inputs
        wanted = target[rows].to(runtime.device)
        size = runtime.at_once or len(rows)
        forward = learning.setdefault(in_words(runtime), part.learning(from_store))
        for start in range(0, len(rows), size):
            some = slice(start, start + size)
            with runtime.autocast():
                logits = forward(inputs[some])
            loss(logits.float(), wanted[some]).backward()  # type: ignore[no-untyped-call]
        spare.zero_grad(set_to_none=True)

    seen = {"size": [dataset.preprocessing.height, dataset.preprocessing.width], "n": len(rows), "stored": from_store}
    key = {"network": network.architecture.as_dict(), "trains": part.what, "norms": part.statistics, **seen}
    return for_training(key, base, step, part.apart)


def _first_pictures(network: Network, stage: Stage, dataset: Dataset) -> tuple[Rows, Tensor]:
    """Rows of the first training pictures, at most a batch, and the backbone's input of them."""
    # A GPU is not filled by so few pictures as are enough to time a processor.
    rows = dataset.train[: min(stage.batch_size, 32 if default_device() == "cpu" else 256)]
    load = plain(dataset)
    pictures = torch.from_numpy(np.stack([load(int(row)) for row in rows]))
    return rows, network.normalise(pictures.to(network.scale.device))
