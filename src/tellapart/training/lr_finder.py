"""The learning-rate test: train for a few steps while the rate rises, and see what the loss does.

Smith 2017, arXiv 1506.01186. Network and random states are left exactly as they were: it runs on a copy.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import torch

from tellapart.core.events import Computing, LrFound
from tellapart.core.text import lr_text
from tellapart.errors import TrainingError
from tellapart.recipe.schema import FoundLr
from tellapart.training.lr_suggestions import blew_up, smooth, suggest, sweep
from tellapart.training.optim import set_lrs
from tellapart.training.runtime import Runtime
from tellapart.training.stage import TrainingStage
from tellapart.training.step import Batch, steps, train_step

FIRST, LAST, STEPS = 1e-7, 10.0, 100
Curve = tuple[list[float], list[float]]


def choose_lr(stage: TrainingStage, wanted: FoundLr) -> Generator[Computing, None, LrFound]:
    """The learning rate that a stage shall take, by a test at its beginning.

    Yields:
        Computing, after every step.

    Raises:
        TrainingError: the loss did not fall, and the recipe does not say which rate to take then.
    """
    lrs, losses = yield from raise_lr(stage)
    try:
        curve = suggest(lrs, losses)
    except TrainingError as error:
        if wanted.otherwise is None:
            key = f"stages.{stage.number}.lr"
            hint = f"instead of the test, --set {key}=0.001"
            if isinstance(stage.config.lr, FoundLr):
                hint = f"Give one for this case, --set {key}.otherwise=0.001, or {hint}."
            else:
                hint = f"{error.hint} Or give one {hint}."
            raise TrainingError(f"Stage {stage.number + 1} has found no rate: {error.message}", hint) from None
        usable = [(lr, loss) for lr, loss in zip(lrs, losses, strict=True) if math.isfinite(loss)]
        tried, finite = tuple(lr for lr, _ in usable), tuple(loss for _, loss in usable)
        smoothed = tuple(smooth(finite).tolist()) if finite else ()
        own = wanted.otherwise
        rose = blew_up(losses)
        return LrFound(stage.number, own, "otherwise", {}, tried, finite, smoothed, rose, setting=setting(stage, own))
    lr = curve.by_rule[wanted.find]
    tried, measured, smoothed = (tuple(values.tolist()) for values in (curve.lrs, curve.losses, curve.smoothed))
    return LrFound(
        stage.number,
        lr,
        wanted.find,
        curve.by_rule,
        tried,
        measured,
        smoothed,
        curve.diverges is not None,
        curve.diverges,
        setting(stage, lr),
    )


def setting(stage: TrainingStage, lr: float) -> str:
    """What gives a stage this learning rate without a test, for `--set`: its lr, scaled so that the highest is this."""
    wanted, scale = stage.config.lr, lr / max(stage.peak_lrs)

    def scaled(value: float) -> str:
        return lr_text(value * scale)

    match wanted:
        case FoundLr():
            value = f"{lr_text(lr / wanted.spread)}..{lr_text(lr)}" if wanted.spread > 1 else lr_text(lr)
        case list():
            value = f"[{', '.join(map(scaled, wanted))}]"
        case dict():
            value = f"{{ head = {scaled(wanted['head'])}, decay = {wanted['decay']!r} }}"
        case str():
            value = "..".join(scaled(float(end)) for end in wanted.split(".."))
        case _:
            value = lr_text(lr)
    return f"stages.{stage.number}.lr={value}"


def raise_lr(stage: TrainingStage) -> Generator[Computing, None, Curve]:
    """Raise the learning rate from 1e-7 to 10 over 100 steps of a stage, or until the loss blows up.

    The steps are the stage's own: its inputs in the order of its epochs, its optimizer, loss and mixing. The rate is
    the head's; where the stage gives groups of layers different rates, they keep their ratios.

    Args:
        stage: in the state in which it would begin; left as it is.

    Yields:
        Computing, after every step.

    Returns:
        The rates of the steps, and the loss of each before its step; the last may be no number.
    """
    part = copy.deepcopy(stage.part)  # with its network
    shares = tuple(peak / max(stage.peak_lrs) for peak in stage.peak_lrs)
    trial = replace(stage, network=part.network, part=part, peak_lrs=shares)
    lrs, losses = sweep(FIRST, LAST, STEPS).tolist(), list[float]()
    part.train_mode()
    for step, (lr, batch) in enumerate(zip(lrs, _endless(stage), strict=False)):
        set_lrs(trial.optimizer, lr)
        batch = replace(batch, position=(stage.dataset.seed, stage.number, 0, step))
        with _own_random_numbers(stage.runtime):
            micro_losses = train_step(trial, batch)
        losses.append(sum(loss.item() * n / batch.n_pictures for loss, n, _ in micro_losses))
        yield Computing(stage.number, "raising the rate", len(losses), STEPS)
        if blew_up(losses):
            break
    return lrs[: len(losses)], losses


def _endless(stage: TrainingStage) -> Iterator[Batch]:
    """The batches of one step after another, one epoch after the other."""
    for epoch in itertools.count():
        yield from steps(stage, epoch, 0)


def _own_random_numbers(runtime: Runtime) -> AbstractContextManager[Any]:
    """A context after which torch's generators stand as before."""
    devices = [torch.cuda.current_device()] if runtime.device == "cuda" else []
    return torch.random.fork_rng(devices=devices)
