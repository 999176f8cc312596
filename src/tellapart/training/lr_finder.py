"""The learning-rate test: train for a few steps while the rate rises, and see what the loss does.

Smith 2017, arXiv 1506.01186. Network and random states are left exactly as they were: it runs on a copy.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from tellapart.core.events import Computing, LrFound
from tellapart.data.loading.loader import Rows
from tellapart.errors import TrainingError
from tellapart.recipe.schema import FoundLr
from tellapart.training.lr_suggestions import LrSuggestions, blew_up, smooth, suggest, sweep
from tellapart.training.optim import build_optimizer, parameter_groups, set_lrs
from tellapart.training.runtime import Runtime
from tellapart.training.stage import Setting, losses, position_seed

FIRST, LAST, STEPS = 1e-7, 10.0, 100
Curve = tuple[list[float], list[float]]


def choose_lr(setting: Setting, wanted: FoundLr) -> Generator[Computing, None, LrFound]:
    """The rate that a stage shall take, by a test at its beginning.

    Yields:
        Computing, after every step.

    Raises:
        TrainingError: the loss did not fall, and the recipe does not say which rate to take then.
    """
    lrs, losses = yield from raise_lr(setting)
    try:
        found = suggest(lrs, losses)
    except TrainingError as error:
        if wanted.otherwise is None:
            at = f"stages.{setting.number}.lr"
            raise TrainingError(
                f"Stage {setting.number + 1} has found no rate: {error.message}",
                f"Give one for this case, --set {at}.otherwise=1e-3, or instead of the test, --set {at}=1e-3.",
            ) from None
        usable = [(lr, loss) for lr, loss in zip(lrs, losses, strict=True) if math.isfinite(loss)]
        tried, seen = tuple(lr for lr, _ in usable), tuple(loss for _, loss in usable)
        smoothed = tuple(smooth(seen).tolist())
        return LrFound(setting.number, wanted.otherwise, "otherwise", {}, tried, seen, smoothed, rose=blew_up(losses))
    named = suggestions(found)
    tried, seen, smoothed = (tuple(values.tolist()) for values in (found.lrs, found.losses, found.smoothed))
    return LrFound(setting.number, named[wanted.find], wanted.find, named, tried, seen, smoothed, found.rose)


def suggestions(found: LrSuggestions) -> dict[str, float]:
    """The suggestions by the names that a recipe takes; the first is the one to take if in doubt."""
    return {name: getattr(found, name) for name in ("valley", "steepest", "tenth_of_minimum", "highest_falling")}


def raise_lr(setting: Setting) -> Generator[Computing, None, Curve]:
    """Raise the rate from 1e-7 to 10 over 100 steps of a stage, or until the loss blows up.

    The steps are the stage's own: its inputs in the order of its epochs, its optimizer, loss and mixing. The rate is
    the head's; where the stage gives groups of layers different rates, they keep their ratios.

    Args:
        setting: in the state in which the stage would begin; left as it is.

    Yields:
        Computing, after every step.

    Returns:
        The rates of the steps, and the loss of each before its step; the last may be no number.
    """
    stage, seed = setting.stage, setting.dataset.seed
    part = copy.deepcopy(setting.part)  # with its network
    groups = parameter_groups(part.groups, [peak / max(setting.peaks) for peak in setting.peaks], stage.weight_decay)
    optimizer = build_optimizer(stage.optimizer, groups, weight_decay=stage.weight_decay, momentum=stage.momentum)
    lrs, found = sweep(FIRST, LAST, STEPS).tolist(), list[float]()
    part.train_mode()
    forward, apart = part.learning(setting.from_store), part.apart
    for step, (lr, batches) in enumerate(zip(lrs, _endless(setting), strict=False)):
        set_lrs(optimizer, lr)
        optimizer.zero_grad(set_to_none=True)
        n, mean = sum(len(rows) for _, rows in batches), 0.0
        place = (seed, setting.number, 0, step)
        with _own_random_numbers(setting.runtime):
            torch.manual_seed(position_seed(*place))
            for number, (inputs, rows) in enumerate(batches):
                for loss, size, _ in losses(setting, forward, apart, inputs, rows, (*place, number)):
                    (loss * (size / n)).backward()  # type: ignore[no-untyped-call]
                    mean += loss.item() * size / n
        found.append(mean)
        yield Computing(setting.number, "raising the rate", len(found), STEPS)
        if blew_up(found):
            break
        if stage.clip:
            torch.nn.utils.clip_grad_norm_(part.network.parameters(), stage.clip)
        optimizer.step()
    return lrs[: len(found)], found


def _endless(setting: Setting) -> Iterator[list[tuple[Tensor, Rows]]]:
    """The batches of one step after another, one epoch after the other."""
    for epoch in itertools.count():
        batches = setting.inputs.train(setting.order(epoch), epoch, 0)
        while step := list(itertools.islice(batches, setting.stage.accumulate)):
            yield step


def _own_random_numbers(runtime: Runtime) -> AbstractContextManager[Any]:
    """A context after which torch's generators stand as before."""
    devices = [torch.cuda.current_device()] if runtime.device == "cuda" else []
    return torch.random.fork_rng(devices=devices)
