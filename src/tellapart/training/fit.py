"""The training loop: linear functions that yield events.

Whatever is to happen at an event (writing a log or a checkpoint, stopping) happens in the caller's `for` body.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import replace
from itertools import islice
from types import MappingProxyType

import numpy as np
import torch

from tellapart.core.events import Event, LrFound, Progress, Retrained, StageDone, Validated
from tellapart.errors import TrainingError
from tellapart.models.network import Network
from tellapart.recipe.schema import FoundLr, Recipe
from tellapart.training.checkpoint import State, copy_of
from tellapart.training.dataset import Dataset
from tellapart.training.ema import Average
from tellapart.training.fast.autotune import choose_runtime
from tellapart.training.linear_probe import solutions
from tellapart.training.lr_finder import choose_lr
from tellapart.training.optim import build_optimizer, parameter_groups, set_lrs
from tellapart.training.runtime import Runtime
from tellapart.training.stage import Setting, check_stages, losses, n_right, position_seed, prepare
from tellapart.training.trainable import Forward


def fit(
    network: Network,
    recipe: Recipe,
    dataset: Dataset,
    state: State,
    runtime: Runtime | None = None,
    begun: Mapping[int, Runtime] = MappingProxyType({}),
) -> Iterator[Event]:
    """Train a network, stage by stage, from where `state` stands.

    At every event, network and state belong together and may be saved; a training that begins from what was saved
    goes on to the same result, bit for bit on a CPU.

    Args:
        network: changed in place; after the last event it is the best of the last stage.
        recipe: its stages are trained.
        material: the pictures. For the retraining: all of them to train on, none to validate on.
        state: changed in place. Where `state.retraining`, each stage ends when `state.chosen` says, and its last
            epoch is kept.
        runtime: how to run every stage; None: as it was begun, or as was asked for before, or measured.
        begun: how stages were run that this training has begun before, by number.

    Raises:
        RecipeError: it asks for something that cannot be done; said before the first stage begins.
        TrainingError: a loss that is not finite; the message names the step.
        UnreadableError: a picture that could be read when scanned, and no longer can.
    """
    target = torch.tensor(dataset.catalog.target())
    check_stages(network, recipe, dataset)
    before = begun[max(begun)] if begun else None
    while state.stage < len(recipe.stages):
        chosen = runtime or begun.get(state.stage)
        before = chosen or choose_runtime(network, recipe, state.stage, dataset, target, before)
        setting = yield from prepare(network, recipe, dataset, target, state, before)
        if isinstance(setting.stage.lr, FoundLr):
            setting = yield from _find_lr(setting, setting.stage.lr, state)
        yield from _run(setting, state)


def _find_lr(setting: Setting, wanted: FoundLr, state: State) -> Generator[Event, None, Setting]:
    """The setting with the rate that a test finds; it is part of the state, so the test is done once."""
    key = str(setting.number)
    if key not in state.found:
        event: LrFound = yield from choose_lr(setting, wanted)
        state.found = {**state.found, key: event.lr}
        yield event
    return replace(setting, peaks=tuple(state.found[key] * share for share in setting.peaks))


def _run(setting: Setting, state: State) -> Iterator[Event]:
    """The epochs of one stage; afterwards the network is the best of them, and the state is at the next stage."""
    solver = _solver(setting, state) if setting.solves else None
    optimizer = None if solver else _optimizer(setting, state)
    average = _average(setting, state)
    forward = setting.part.learning(setting.from_store)
    while state.epoch < setting.epochs and not _exhausted(setting, state):
        lrs: tuple[float, ...] = ()
        train_accuracy = None
        if optimizer:
            yield from _epoch(setting, state, optimizer, average, forward)
            state.flush_losses()
            _check_finite(state.loss_sum, setting, state, state.step, "loss")
            train_loss, train_accuracy = state.loss_sum / state.seen, state.right / state.seen
            lrs = _lrs(setting, state.epoch)
        elif solver:
            train_loss = next(solver)
        with average.swapped() if average else nullcontext():
            event = _judge(setting, state, train_loss, train_accuracy, lrs)
        state.next_epoch()
        yield event
    done = StageDone(state.stage, state.epoch, state.best_epoch, _reason(setting, state), setting.retraining)
    setting.network.load_state_dict(state.best)
    state.next_stage(state.best_epoch if not setting.stage.steps else _steps_done(setting, state.best_epoch))
    yield done


def _judge(
    setting: Setting, state: State, train_loss: float, train_accuracy: float | None, lrs: tuple[float, ...]
) -> Validated | Retrained:
    """Keep the network if this epoch is the best so far; in the retraining, which nothing judges, if it is the last."""
    stage, epoch, epochs = setting.stage, state.epoch + 1, setting.epochs
    if setting.retraining:
        if epoch == epochs:
            state.best_epoch, state.best = epoch, copy_of(setting.network)
        return Retrained(state.stage, epoch, epochs, train_loss, train_accuracy, lrs)
    loss, accuracy = _validate(setting)
    _check_finite(loss, setting, state, max(1, state.step), "validation loss")
    value = accuracy if stage.monitor == "score" else -loss
    best = state.best_value is None or value > state.best_value
    if best:
        state.best_value, state.best_epoch, state.best = value, epoch, copy_of(setting.network)
    gap = loss - train_loss
    state.gap_grew = state.gap_grew + 1 if state.gap is not None and gap > state.gap else 0
    state.gap = gap
    return Validated(state.stage, epoch, epochs, train_loss, train_accuracy, loss, accuracy, lrs, best)


def _exhausted(setting: Setting, state: State) -> bool:
    stage = setting.stage
    if stage.patience is None or setting.retraining:
        return False
    waited = state.gap_grew if stage.stop_on == "gap" else state.epoch - state.best_epoch
    return waited >= stage.patience


def _reason(setting: Setting, state: State) -> str:
    stage = setting.stage
    if state.epoch < setting.epochs:
        on_gap = f"the gap between validation and training loss grew for {stage.patience} epochs"
        return on_gap if stage.stop_on == "gap" else f"no better for {stage.patience} epochs"
    if setting.solves:
        n, unit = setting.epochs, "strength" if setting.epochs == 1 else "strengths"
    elif stage.steps:
        n, unit = setting.total, "step" if setting.total == 1 else "steps"
    else:
        n, unit = setting.epochs, "epoch" if setting.epochs == 1 else "epochs"
    if setting.retraining:
        return f"{n} {unit} done, as chosen on validation"
    return f"all {n} {unit} done" if n > 1 else f"1 {unit} done"


def _steps_done(setting: Setting, epoch: int) -> int:
    """Steps of a stage after an epoch, counted from 1."""
    return min(epoch * setting.steps, setting.total)


def _epoch(
    setting: Setting, state: State, optimizer: torch.optim.Optimizer, average: Average | None, forward: Forward
) -> Iterator[Progress]:
    """The rest of an epoch, from `state.step` on."""
    stage, dataset, factor = setting.stage, setting.dataset, setting.schedule
    setting.part.train_mode()
    apart = setting.part.apart
    batches = setting.inputs.train(setting.order(state.epoch), state.epoch, state.step * stage.accumulate)
    while state.step < setting.steps_in(state.epoch):
        parts = list(islice(batches, stage.accumulate))
        place = (dataset.seed, state.stage, state.epoch, state.step)
        # Dropout draws from torch's own generator: seeded by position, it has no state that could be lost.
        torch.manual_seed(position_seed(*place))
        set_lrs(optimizer, factor(state.epoch * setting.steps + state.step))
        n = sum(len(rows) for _, rows in parts)
        optimizer.zero_grad(set_to_none=True)
        for number, (inputs, rows) in enumerate(parts):
            for loss, size, right in losses(setting, forward, apart, inputs, rows, (*place, number)):
                (loss * (size / n)).backward()  # type: ignore[no-untyped-call]
                state.pending_losses.append((loss.detach(), size, right))
        if stage.clip:
            torch.nn.utils.clip_grad_norm_(setting.network.parameters(), stage.clip)
        optimizer.step()
        behind = _late(setting.runtime) and state.step > 0
        state.flush_losses(len(parts) if behind else 0)
        _check_finite(state.loss_sum, setting, state, state.step if behind else state.step + 1, "loss")
        if average:
            average.update()
            state.average, state.n_averaged = average.state_dict()["average"], average.n_updates
        state.step += 1
        state.optimizer = optimizer.state_dict()
        yield _progress(setting, state, max(group["lr"] for group in optimizer.param_groups), n)


def _late(runtime: Runtime) -> bool:
    """Whether a step's loss is asked for after the next one: an answer waits for all that an accelerator has to do."""
    return runtime.device != "cpu"


def _progress(setting: Setting, state: State, lr: float, n: int) -> Progress:
    steps, mean = setting.steps_in(state.epoch), state.loss_sum / state.seen
    epochs, again = setting.epochs, setting.retraining
    return Progress(state.stage, state.epoch + 1, epochs, state.step, steps, mean, lr, n, again)


def _check_finite(value: float, setting: Setting, state: State, step: int, what: str) -> None:
    if math.isfinite(value):
        return
    smaller = f"{max(setting.peaks, default=1e-3) / 10:g}"
    raise TrainingError(
        f"The {what} is {value} at stage {state.stage + 1}, epoch {state.epoch + 1}, step {step}.",
        f"Try a smaller rate: --set stages.{state.stage}.lr={smaller}",
    )


@torch.no_grad()
def _validate(setting: Setting) -> tuple[float, float]:
    """Mean loss and accuracy on the validation pictures."""
    setting.network.eval()
    forward = setting.part.tail if setting.from_store else setting.part.whole
    loss_sum, right, seen = 0.0, 0.0, 0
    for inputs, rows in setting.inputs.validation():
        target = setting.target[rows]
        with setting.runtime.autocast():
            logits = forward(inputs)
        loss_sum += setting.loss(logits.float(), target).item() * len(rows)
        right += n_right(logits, target).item()
        seen += len(rows)
    return loss_sum / seen, right / seen


def _lrs(setting: Setting, epoch: int) -> tuple[float, ...]:
    """The rates of an epoch's steps, thinned to at most 100."""
    factor, first, n = setting.schedule, epoch * setting.steps, setting.steps_in(epoch)
    peak = max(setting.peaks)
    return tuple(peak * factor(first + step) for step in range(0, n, math.ceil(n / 100)))


def _optimizer(setting: Setting, state: State) -> torch.optim.Optimizer:
    """The stage's optimizer, in the state in which it was left."""
    stage = setting.stage
    described = parameter_groups(setting.part.groups, setting.peaks, stage.weight_decay)
    optimizer = build_optimizer(stage.optimizer, described, weight_decay=stage.weight_decay, momentum=stage.momentum)
    if state.optimizer:
        optimizer.load_state_dict(state.optimizer)
    return optimizer


def _average(setting: Setting, state: State) -> Average | None:
    """The running mean of the weights, if the stage wants one, as it was left."""
    if setting.stage.average is None:
        return None
    average = Average(setting.network, setting.stage.average)
    if state.average:
        average.load_state_dict({"n_updates": state.n_averaged, "average": state.average})
    return average


def _solver(setting: Setting, state: State) -> Iterator[float]:
    """Exact heads, strongest penalty first, from the first that has not been judged yet."""
    head, all_views = setting.part.linear_head, setting.inputs.all_views
    assert head, "prepare has made sure"
    assert all_views
    # One epoch, balanced if so wished; in the order of the rows, since sums depend on the order.
    features, rows = all_views(np.sort(setting.order(0)))
    n, tried = len(setting.dataset.train), setting.strengths
    solver = solutions(features, setting.target[rows], head, setting.loss, n, tried)
    for _ in range(state.epoch):
        next(solver)
    return solver
