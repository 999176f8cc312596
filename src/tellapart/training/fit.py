"""The training loop: linear functions that yield events.

Whatever is to happen at an event (writing a log or a checkpoint, stopping) happens in the caller's `for` body. `step`
has what one step does, `prepare` what comes before a stage's first one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from itertools import count
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor

from tellapart.core.events import BeginsFrom, Event, Note, Progress, Retrained, StageDone, Validated
from tellapart.data.loading.loader import Rows
from tellapart.data.splitting.kfold import deal
from tellapart.data.splitting.split import ties_of
from tellapart.errors import TrainingError
from tellapart.models.network import Network
from tellapart.recipe.schema import Recipe
from tellapart.training.checkpoint import State, copy_of
from tellapart.training.dataset import Dataset
from tellapart.training.ema import Average
from tellapart.training.fast.autotune import choose_runtime
from tellapart.training.fast.engines import NAMES, missing
from tellapart.training.inputs import EVERYTHING
from tellapart.training.linear_probe import (
    MOST_BEYOND,
    end_to_extend,
    out_of_fold,
    solutions,
    strength,
    whole_gradient,
)
from tellapart.training.optim import set_lrs
from tellapart.training.parallel.answers import shared_answers
from tellapart.training.parallel.division import Division, as_the_leader
from tellapart.training.parallel.probe import shared_gradient
from tellapart.training.parallel.workers import Workers
from tellapart.training.prepare import check_stages, prepare_stage
from tellapart.training.runtime import Runtime
from tellapart.training.stage import TrainingStage
from tellapart.training.step import n_right, steps, train_step


def fit(
    network: Network,
    recipe: Recipe,
    dataset: Dataset,
    state: State,
    runtime: Runtime | None = None,
    begun: Mapping[int, Runtime] = MappingProxyType({}),
    workers: Workers | None = None,
) -> Generator[Event, None, TrainingStage | None]:
    """Train a network, stage by stage, from where `state` stands.

    At every event, network and state belong together and may be saved; a training that begins from what was saved
    goes on to the same result, bit for bit on a CPU.

    Args:
        network: changed in place; after the last event it is the best of all stages, as the last one measures.
        recipe: its stages are trained.
        dataset: the pictures. For the retraining: all of them to train on, none to validate on.
        state: changed in place. Where `state.retraining`, each stage ends when `state.chosen` says, and its last
            epoch is kept.
        runtime: how to run every stage; None: as it was begun, or as was asked for before, or measured.
        begun: how stages were run that this training has begun before, by number.
        workers: the processes that train together, each of which calls this and sees the same events; None: this one
            alone. A recipe with `[distributed]` gives the same network in either case.

    Returns:
        The last stage, for whoever asks for its `answers`; None where it was over before.

    Raises:
        RecipeError: it asks for something that cannot be done; said before the first stage begins.
        TrainingError: a loss that is not finite; the message names the step.
        UnreadableError: a picture that could be read when scanned, and no longer can.
    """
    target = torch.tensor(dataset.catalog.target())
    check_stages(network, recipe, dataset)
    division = Division(workers or Workers(), recipe.distributed) if recipe.distributed else None
    before = begun[max(begun)] if begun else None
    while (number := state.stage) < len(recipe.stages):
        if state.retraining and not state.chosen[number]:
            yield _skip_stage(state)
            continue
        # Another precision has other bits: a stage that was begun goes on as it was begun.
        chosen = runtime or begun.get(number)
        if chosen is None:
            choosing = choose_runtime(network, recipe, number, dataset, target, before)
            chosen = yield from as_the_leader(division.workers, choosing) if division else choosing
        elif reason := missing(chosen.engine, chosen.frozen):
            engine, what = (
                NAMES.get(chosen.engine, chosen.engine),
                "What frozen layers give is computed anew, by torch in float32",
            )
            yield Note(f"{what}, and not by {engine} as before: {reason}.")
            chosen = chosen.with_plain_frozen
        before = chosen
        stage = yield from prepare_stage(network, recipe, dataset, target, state, chosen, division)
        # What cross-validation has chosen is not asked whether a few validation pictures like it better.
        if number and not state.retraining and not stage.in_folds and _at_its_beginning(state):
            yield _measure_start(stage, state)
        yield from (solve_stage if stage.solves else train_stage)(stage, state)
        if state.stage == len(recipe.stages):
            return stage
        del stage  # with its optimizer, whose state would take memory while the next stage is prepared
    return None


def train_stage(stage: TrainingStage, state: State) -> Iterator[Event]:
    """The epochs of a stage; afterwards the network is the best of them, and the state is at the next stage."""
    if state.optimizer:
        _restore_optimizer(stage, state)
    average = _average(stage, state)
    while state.epoch < stage.epochs and not _out_of_patience(stage, state):
        yield from _train_epoch(stage, state, average)
        train_loss, train_accuracy = state.loss_sum / state.n_pictures, state.right / state.n_pictures
        # Where there is an average of the weights, it is what is judged, and kept if it is the best.
        with average.swapped() if average else nullcontext():
            event = _end_epoch(stage, state, train_loss, train_accuracy, stage.lrs(state.epoch))
        state.next_epoch()
        yield event
    yield _end_stage(stage, state)


def _train_epoch(stage: TrainingStage, state: State, average: Average | None) -> Iterator[Progress]:
    """The rest of an epoch, from `state.step` on."""
    optimizer = stage.optimizer
    stage.part.train_mode()  # validation has left all layers in evaluation mode
    batches = steps(stage, state.epoch, state.step)
    while state.step < stage.steps_in(state.epoch):
        batch = next(batches)
        set_lrs(optimizer, stage.schedule(state.epoch * stage.steps + state.step))
        losses = train_step(stage, batch)
        state.pending_losses += losses
        # To ask an accelerator for a number waits for all that it has to do. So it is asked for the last step's, while
        # this one runs; a processor has done its step by now.
        lag = 1 if _is_asynchronous(stage.runtime) and state.step > 0 else 0
        state.flush_losses(keep=len(losses) * lag)
        _check_finite(state.loss_sum, stage, state, state.step + 1 - lag, "loss")
        if average:
            average.update()
            state.average, state.n_averaged = average.state_dict()["average"], average.n_updates
        state.step += 1
        state.optimizer = optimizer.state_dict()
        yield _progress(stage, state, batch.n_pictures)
    state.flush_losses()
    _check_finite(state.loss_sum, stage, state, state.step, "loss")


def solve_stage(stage: TrainingStage, state: State) -> Iterator[Event]:
    """A stage that solves a linear head: each strength of regularisation takes the place of an epoch."""
    head, all_views = stage.part.linear_head, stage.inputs.all_views
    assert head, "prepare has made sure"
    assert all_views
    # One epoch, balanced if so wished; in the order of the rows, since sums depend on the order.
    features, rows = all_views(np.sort(stage.order(0)))
    n, tried = len(stage.dataset.train), partial(_strengths, stage, state)
    gradient = partial(shared_gradient, stage.division) if stage.division else whole_gradient
    losses = solutions(features, stage.lesson(rows), head, stage.training_loss, n, tried(), gradient=gradient)
    judged = _judged_by_folds(stage, features, rows, tried) if stage.in_folds else None
    for _ in range(state.epoch):  # each solution starts from the one before, also when resumed
        next(losses)
        _ = judged and next(judged)
    while _is_tried(stage, state) and not _out_of_patience(stage, state):
        train_loss = next(losses)
        event = _end_epoch(stage, state, train_loss, value=-next(judged) if judged else None)
        state.next_epoch()
        if state.epoch == stage.epochs and not stage.retraining:
            state.extends = end_to_extend(stage.strengths, state.best_epoch)
        yield event
    yield _end_stage(stage, state)


def _strengths(stage: TrainingStage, state: State) -> Iterator[float]:
    """The strengths of a stage, then those beyond an end of its list; which end, the state says by then."""
    yield from stage.strengths
    for n in count(1):
        yield strength(stage.strengths, _number(stage, state, stage.epochs + n))


def _number(stage: TrainingStage, state: State, epoch: int) -> int:
    """The number of the strength that an epoch of a linear probe tries, see `linear_probe.strength`."""
    return stage.epochs - epoch if epoch > stage.epochs and state.extends < 0 else epoch


def _is_tried(stage: TrainingStage, state: State) -> bool:
    """Whether one more strength is tried: one of the list, or beyond its end as long as that is better."""
    beyond = state.epoch - stage.epochs
    if beyond <= 0 or not state.extends:
        return beyond < 0 or bool(state.extends)
    return beyond < MOST_BEYOND and state.best_epoch == state.epoch


def _judged_by_folds(
    stage: TrainingStage, features: Tensor, rows: Rows, tried: Callable[[], Iterator[float]]
) -> Iterator[float]:
    """The loss of cross-validation on the training pictures, strength by strength; copies and groups in one fold."""
    train = np.unique(rows)
    ties = ties_of(stage.dataset.catalog, train)
    fold = deal(ties, min(stage.config.folds or 2, ties.n), stage.dataset.seed)[ties.tie]
    n_views = max(1, len(rows) // len(train))
    head, numbers = stage.part.linear_head, fold[np.searchsorted(train, rows)]
    assert head
    lessons, loss = stage.lesson(rows), stage.training_loss
    gradient = partial(shared_gradient, stage.division) if stage.division else whole_gradient
    return out_of_fold(features, lessons, numbers, loss, tried, n_views, head.out_features, gradient)


def _at_its_beginning(state: State) -> bool:
    return state.start_value is None and state.epoch == state.step == 0


def _measure_start(stage: TrainingStage, state: State) -> BeginsFrom:
    """What the stage begins from is what its epochs have to be better than.

    Measured anew, since the stage before may have had another loss, size or precision.
    """
    loss, accuracy = validate(stage)
    state.start_value, state.best = _monitored(stage, loss, accuracy), copy_of(stage.network)
    return BeginsFrom(state.stage, loss, accuracy)


def _skip_stage(state: State) -> StageDone:
    """In the retraining: a stage that made nothing better is left out, as its weights were."""
    done = StageDone(state.stage, 0, 0, "left out, as it made nothing better on validation", retraining=True)
    state.next_stage(0)
    return done


def _end_epoch(
    stage: TrainingStage,
    state: State,
    train_loss: float,
    train_accuracy: float | None = None,
    lrs: tuple[float, ...] = (),
    value: float | None = None,
) -> Validated | Retrained:
    """Keep the network if this epoch is the best so far; in the retraining, which nothing judges, if it is the last.

    Args:
        value: what judges it, higher is better; None: what the stage monitors on validation.
    """
    epoch, epochs = state.epoch + 1, stage.epochs
    if stage.retraining:
        if epoch == epochs:
            state.best_epoch, state.best = epoch, copy_of(stage.network)
        return Retrained(state.stage, epoch, epochs, train_loss, train_accuracy, lrs)
    loss, accuracy = validate(stage)
    _check_finite(loss, stage, state, max(1, state.step), "validation loss")
    value = _monitored(stage, loss, accuracy) if value is None else value
    best = False
    if state.best_value is None or value > state.best_value:
        state.best_value, state.best_epoch, best = value, epoch, state.start_value is None or value > state.start_value
    if best:
        state.best = copy_of(stage.network)
    gap = loss - train_loss
    state.gap_grew = state.gap_grew + 1 if state.gap is not None and gap > state.gap else 0
    state.gap = gap
    return Validated(state.stage, epoch, max(epoch, epochs), train_loss, train_accuracy, loss, accuracy, lrs, best)


def _end_stage(stage: TrainingStage, state: State) -> StageDone:
    """The best network goes on: that of the stage's best epoch, or the one it began from where none was better."""
    epoch = state.best_epoch if state.improved or stage.retraining else 0
    done = StageDone(state.stage, state.epoch, epoch, _reason(stage, state), stage.retraining)
    stage.network.load_state_dict(state.best)
    chosen = _number(stage, state, epoch) if stage.solves else epoch
    state.next_stage(min(epoch * stage.steps, stage.total) if stage.config.steps else chosen)
    return done


def _monitored(stage: TrainingStage, loss: float, accuracy: float) -> float:
    """The measure of the best epoch: higher is better."""
    return accuracy if stage.config.monitor == "score" else -loss


@torch.no_grad()
def validate(stage: TrainingStage) -> tuple[float, float]:
    """Mean loss and accuracy on the validation pictures; all layers are left in evaluation mode."""
    loss_sum, right, n_pictures = 0.0, 0.0, 0
    for logits, rows in answers(stage):
        target = stage.wanted(rows)
        loss_sum += stage.loss(logits.float(), target).item() * len(rows)
        right += n_right(logits, target).item()
        n_pictures += len(rows)
    return loss_sum / n_pictures, right / n_pictures


def answers(stage: TrainingStage) -> Iterator[tuple[Tensor, Rows]]:
    """Logits of the validation pictures, batch by batch, with their rows; all layers are left in evaluation mode."""
    if stage.division is None:
        return _answers(stage, EVERYTHING)
    rows, size = stage.dataset.validation, stage.runtime.inference_batch
    return shared_answers(stage.division.workers, partial(_answers, stage), rows, size)


@torch.no_grad()
def _answers(stage: TrainingStage, part: slice) -> Iterator[tuple[Tensor, Rows]]:
    """As `answers`, of a part of the pictures."""
    stage.network.eval()
    forward = stage.part.tail if stage.from_features else stage.part.whole
    for inputs, rows in stage.inputs.validation(part):
        with stage.runtime.autocast():
            logits = forward(inputs)
        yield logits, rows


def _average(stage: TrainingStage, state: State) -> Average | None:
    """The running mean of the weights, if the stage wants one, as it was left."""
    if stage.config.average is None:
        return None
    average = Average(stage.network, stage.config.average)
    if state.average:
        average.load_state_dict({"n_updates": state.n_averaged, "average": state.average})
    return average


def _restore_optimizer(stage: TrainingStage, state: State) -> None:
    try:
        stage.optimizer.load_state_dict(state.optimizer)
    except ValueError as error:  # 0.1 counted an ensemble's layers otherwise
        raise TrainingError(
            f"Stage {state.stage + 1} was begun with other groups of layers than this version makes: {error}.",
            "Finish it with the version that began it, or begin again with another --out.",
        ) from error


def _is_asynchronous(runtime: Runtime) -> bool:
    """Whether the device goes on working when a step has returned."""
    return runtime.device != "cpu"


def _out_of_patience(stage: TrainingStage, state: State) -> bool:
    config = stage.config
    if config.patience is None or stage.retraining:
        return False
    waited = state.gap_grew if config.stop_on == "gap" else state.epoch - state.best_epoch
    return waited >= config.patience


def _reason(stage: TrainingStage, state: State) -> str:
    """Why a stage is over, in words, and whether it was of any use."""
    useless = "" if state.improved or stage.retraining else "; none was better than what the stage began from"
    return f"{_end(stage, state)}{useless}"


def _end(stage: TrainingStage, state: State) -> str:
    config = stage.config
    if state.epoch < stage.epochs:
        on_gap = f"the gap between validation and training loss grew for {config.patience} epochs"
        return on_gap if config.stop_on == "gap" else f"no better for {config.patience} epochs"
    if stage.solves:
        n, unit = max(stage.epochs, state.epoch), "strength" if stage.epochs == 1 else "strengths"
        if n > stage.epochs:
            return f"{n} strengths done, {n - stage.epochs} beyond the end of the list, where its best lay"
    elif config.steps:
        n, unit = stage.total, "step" if stage.total == 1 else "steps"
    else:
        n, unit = stage.epochs, "epoch" if stage.epochs == 1 else "epochs"
    if stage.retraining:
        return f"{n} {unit} done, as chosen on validation"
    return f"all {n} {unit} done" if n > 1 else f"1 {unit} done"


def _progress(stage: TrainingStage, state: State, n_pictures: int) -> Progress:
    lr = max(group["lr"] for group in stage.optimizer.param_groups)
    steps, mean = stage.steps_in(state.epoch), state.loss_sum / state.n_pictures
    event = Progress(
        state.stage, state.epoch + 1, stage.epochs, state.step, steps, mean, lr, n_pictures, stage.retraining
    )
    if stage.division is None:
        return event
    workers = stage.division.workers
    return replace(event, workers=workers.n, speed=n_pictures / workers.between, slowest=workers.slowest)


def _check_finite(value: float, stage: TrainingStage, state: State, step: int, name: str) -> None:
    if math.isfinite(value):
        return
    smaller = f"{max(stage.peak_lrs, default=1e-3) / 10:g}"
    raise TrainingError(
        f"The {name} is {value} at stage {state.stage + 1}, epoch {state.epoch + 1}, step {step}.",
        f"Try a smaller rate: --set stages.{state.stage}.lr={smaller}",
    )
