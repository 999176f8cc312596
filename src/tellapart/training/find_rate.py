"""The learning-rate test: train for a few steps while the rate rises, and see what the loss does.

Smith 2017, arXiv 1506.01186. Network and random states are left exactly as they were: it runs on a copy.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Generator

import numpy as np
import torch

from tellapart.data.loader import Rows
from tellapart.models.network import Network
from tellapart.recipe import Recipe
from tellapart.records import Computing
from tellapart.runtime import Runtime
from tellapart.training.fit import position_seed
from tellapart.training.layers import select
from tellapart.training.losses import build_loss
from tellapart.training.material import Material
from tellapart.training.optim import build_optimizer, parameter_groups
from tellapart.training.rate_suggestions import RateSuggestions, blew_up, suggest, sweep
from tellapart.training.source import Inputs, live

FIRST, LAST, STEPS = 1e-7, 10.0, 100


def find_rate(
    network: Network, recipe: Recipe, stage_number: int, material: Material, runtime: Runtime
) -> Generator[Computing, None, RateSuggestions]:
    """Raise the rate from 1e-7 to 10 over 100 steps of a stage, or until the loss blows up.

    Args:
        network: in the state in which the stage would begin; left as it is.
        recipe, stage_number: the stage whose trained layers, optimizer, loss and batches are used.
        material: the pictures.
        runtime: how to run it.

    Yields:
        Computing, after every step.
    """
    stage = recipe.stages[stage_number]
    trial = copy.deepcopy(network)
    trial.to(device=runtime.device, memory_format=runtime.memory_format)  # type: ignore[call-overload]
    part = select(trial, stage.train, keep_statistics=stage.batch_norm == "keep")
    groups = parameter_groups(part.groups, [1.0] * len(part.groups), stage.weight_decay)
    kind = "adamw" if stage.optimizer == "lbfgs" else stage.optimizer
    optimizer = build_optimizer(kind, groups, weight_decay=stage.weight_decay, momentum=stage.momentum)
    loss_of = build_loss(stage.loss, material.catalog.several, label_smoothing=stage.label_smoothing)
    source = live(trial, stage, material, runtime)
    rates, losses = sweep(FIRST, LAST, STEPS), list[float]()
    with torch.random.fork_rng():
        part.train_mode()
        for rate, (inputs, rows) in zip(rates, _endless(source.train, material), strict=False):
            torch.manual_seed(position_seed(material.seed, len(losses)))
            for group in optimizer.param_groups:
                group["lr"] = float(rate)
            with runtime.autocast():
                logits = part.whole(inputs)
            loss = loss_of(logits.float(), torch.tensor(material.catalog.target(rows)).to(runtime.device))
            losses.append(loss.item())
            yield Computing(stage_number, "raising the rate", len(losses), STEPS)
            if blew_up(losses):
                break
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return suggest(rates[: len(losses)], losses)


def _endless(train: Callable[[Rows, int, int], Inputs], material: Material) -> Inputs:
    """Batches of one shuffled epoch after the other."""
    for epoch in itertools.count():
        yield from train(np.random.default_rng((material.seed, epoch)).permutation(material.items), epoch, 0)
