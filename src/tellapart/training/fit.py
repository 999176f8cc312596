"""The training loop: linear functions that yield events.

Whatever is to happen at an event (writing a log or a checkpoint, stopping) happens in the caller's `for` body.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tellapart.data.loader import epoch_order
from tellapart.errors import RecipeError, TrainingError
from tellapart.models.network import Network
from tellapart.recipe import Recipe, Stage
from tellapart.records import Event, Progress, StageDone, StageStarted, Validated
from tellapart.runtime import Runtime, choose
from tellapart.training.activations import answering
from tellapart.training.checkpoint import State, copy_of
from tellapart.training.layers import Part, select
from tellapart.training.losses import build_loss
from tellapart.training.material import Material
from tellapart.training.optim import build_optimizer, parameter_groups, set_rates
from tellapart.training.schedule import schedule
from tellapart.training.solve_head import STRENGTHS, solutions
from tellapart.training.source import Source, live, stored

Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Setting:
    """Everything that stays the same during one stage.

    `forward` gives logits for what `source` gives: the whole network for pictures, its last layers for activations.
    """

    network: Network
    stage: Stage
    part: Part
    material: Material
    target: Tensor
    loss: Loss
    runtime: Runtime
    source: Source
    forward: Callable[[Tensor], Tensor]

    @property
    def epochs(self) -> int:
        return _n_epochs(self.stage)

    @property
    def steps(self) -> int:
        """Steps an epoch."""
        return math.ceil(len(self.material.train) / self.stage.batch_size)


def fit(
    network: Network, recipe: Recipe, material: Material, state: State, runtime: Runtime | None = None
) -> Iterator[Event]:
    """Train a network, stage by stage, from where `state` stands.

    At every event, network and state belong together and may be saved; a training that begins from what was saved
    goes on to the same result, bit for bit on a CPU.

    Args:
        network: changed in place; after the last event it is the best of the last stage.
        recipe: the plan.
        material: the pictures.
        state: changed in place.
        runtime: how to run it; None: measured.

    Raises:
        TrainingError: a loss that is not finite; the message names the step.
        UnreadableError: a picture that could be read when scanned, and no longer can.
    """
    target = torch.tensor(material.catalog.target())
    runtime = runtime or _measure(network, recipe, material, target)
    while state.stage < len(recipe.stages):
        setting = yield from _prepare(network, recipe, material, target, state.stage, runtime)
        yield from _run(setting, state)


def _prepare(
    network: Network, recipe: Recipe, material: Material, target: Tensor, number: int, runtime: Runtime
) -> Generator[Event, None, Setting]:
    """Freeze, say what will be done, and compute once what need not be computed again."""
    stage = recipe.stages[number]
    base = _next_part(network, recipe, number)
    part = select(network, stage.train, keep_statistics=stage.batch_norm == "keep")
    from_store = _from_store(part, recipe, stage)
    if stage.optimizer == "lbfgs" and not (from_store and part.linear_head):
        raise RecipeError(
            f"Stage {number + 1}: optimizer 'lbfgs' solves a linear head on stored features.",
            "It needs train = 'head', a head without hidden layers or dropout, and augment = false or fixed views.",
        )
    loss = build_loss("auto", material.catalog.several, label_smoothing=stage.label_smoothing)
    network.to(device=runtime.device, memory_format=runtime.memory_format)  # type: ignore[call-overload]
    stored_says = "what the frozen layers before them give is computed once and stored"
    plan = f"trains {part.what}; {stored_says if from_store else 'from pictures'}"
    yield StageStarted(number, stage.name, plan, _n_epochs(stage), runtime.as_dict())
    if from_store:
        source = yield from stored(network, part, stage, material, runtime, number, base)
    else:
        source = live(network, stage, material, runtime)
    forward = part.tail if from_store else part.whole
    return Setting(network, stage, part, material, target.to(runtime.device), loss, runtime, source, forward)


def _from_store(part: Part, recipe: Recipe, stage: Stage) -> bool:
    """Whether a stage's inputs repeat exactly: then what the frozen layers make of them is worth storing."""
    return bool(part.cut) and (bool(stage.views) or not (stage.augment and recipe.augment))


def _next_part(network: Network, recipe: Recipe, number: int) -> Part | None:
    """The next stage's part, if what it will store serves this stage too: a head's features can be made from it."""
    if number + 1 >= len(recipe.stages):
        return None
    stage, following = recipe.stages[number], recipe.stages[number + 1]
    if stage.train != "head" or following.train == "head" or stage.views != following.views:
        return None
    part = select(network, following.train, keep_statistics=True)
    return part if _from_store(part, recipe, following) else None


def _run(setting: Setting, state: State) -> Iterator[Event]:
    """The epochs of one stage; afterwards the network is the best of them, and the state is at the next stage."""
    stage, epochs = setting.stage, setting.epochs
    solver = _solver(setting, state) if stage.optimizer == "lbfgs" else None
    optimizer = None if solver else _optimizer(setting, state)
    while state.epoch < epochs and not _exhausted(stage, state):
        rates: tuple[float, ...] = ()
        train_accuracy = None
        if optimizer:
            yield from _epoch(setting, state, optimizer)
            train_loss, train_accuracy = state.loss_sum / state.seen, state.right / state.seen
            rates = _rates(setting, state.epoch)
        elif solver:
            train_loss = next(solver)
        loss, accuracy = _validate(setting)
        value = accuracy if stage.monitor == "score" else -loss
        best = state.best_value is None or value > state.best_value
        if best:
            state.best_value, state.best_epoch, state.best = value, state.epoch + 1, copy_of(setting.network)
        state.next_epoch()
        yield Validated(state.stage, state.epoch, epochs, train_loss, train_accuracy, loss, accuracy, rates, best)
    reason = f"no better for {stage.patience} epochs" if state.epoch < epochs else f"all {epochs} epochs done"
    done = StageDone(state.stage, state.epoch, state.best_epoch, reason)
    setting.network.load_state_dict(state.best)
    state.next_stage()
    yield done


def _n_epochs(stage: Stage) -> int:
    return len(STRENGTHS) if stage.optimizer == "lbfgs" else stage.epochs


def _exhausted(stage: Stage, state: State) -> bool:
    return stage.patience is not None and state.epoch - state.best_epoch >= stage.patience


def _epoch(setting: Setting, state: State, optimizer: torch.optim.Optimizer) -> Iterator[Progress]:
    """The rest of an epoch, from `state.step` on."""
    stage, material = setting.stage, setting.material
    order = epoch_order(material.train, position_seed(material.seed, state.stage, state.epoch))
    factor = _schedule(setting)
    setting.part.train_mode()
    for inputs, rows in setting.source.train(order, state.epoch, state.step):
        step = state.epoch * setting.steps + state.step
        # Dropout draws from torch's own generator: seeded by position, it has no state that could be lost.
        torch.manual_seed(position_seed(material.seed, state.stage, state.epoch, state.step))
        set_rates(optimizer, factor(step))
        target = setting.target[rows]
        with setting.runtime.autocast():
            logits = setting.forward(inputs)
        loss = setting.loss(logits.float(), target)
        value = loss.item()
        if not math.isfinite(value):
            raise TrainingError(
                f"The loss is {value} at stage {state.stage + 1}, epoch {state.epoch + 1}, step {state.step + 1}.",
                f"Try a smaller rate: --set stages.{state.stage}.rate={stage.rate / 10:g}",
            )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        state.step += 1
        state.seen += len(rows)
        state.loss_sum += value * len(rows)
        state.right += _n_right(logits, target)
        state.optimizer = optimizer.state_dict()
        mean, rate = state.loss_sum / state.seen, stage.rate * factor(step)
        yield Progress(state.stage, state.epoch + 1, stage.epochs, state.step, setting.steps, mean, rate, len(rows))


@torch.no_grad()
def _validate(setting: Setting) -> tuple[float, float]:
    """Mean loss and accuracy on the validation pictures."""
    setting.network.eval()
    loss_sum, right, seen = 0.0, 0.0, 0
    for inputs, rows in setting.source.validation():
        target = setting.target[rows]
        with setting.runtime.autocast():
            logits = setting.forward(inputs)
        loss_sum += setting.loss(logits.float(), target).item() * len(rows)
        right += _n_right(logits, target)
        seen += len(rows)
    return loss_sum / seen, right / seen


def _n_right(logits: Tensor, target: Tensor) -> float:
    """Number of pictures named right; with several labels, each counts by its share of right labels."""
    if target.ndim == 1:
        return float((logits.argmax(1) == target).sum())
    return float(((logits > 0) == (target > 0)).float().mean(1).sum())


def _schedule(setting: Setting) -> Callable[[int], float]:
    stage = setting.stage
    return schedule(stage.schedule, stage.epochs * setting.steps, setting.steps, warmup=stage.warmup)


def _rates(setting: Setting, epoch: int) -> tuple[float, ...]:
    """The rates of an epoch's steps, thinned to at most 100."""
    factor, first = _schedule(setting), epoch * setting.steps
    every = math.ceil(setting.steps / 100)
    return tuple(setting.stage.rate * factor(first + step) for step in range(0, setting.steps, every))


def _optimizer(setting: Setting, state: State) -> torch.optim.Optimizer:
    """The stage's optimizer, in the state in which it was left."""
    stage, groups = setting.stage, setting.part.groups
    described = parameter_groups(groups, [stage.rate] * len(groups), stage.weight_decay)
    optimizer = build_optimizer(stage.optimizer, described, weight_decay=stage.weight_decay, momentum=stage.momentum)
    if state.optimizer:
        optimizer.load_state_dict(state.optimizer)
    return optimizer


def _solver(setting: Setting, state: State) -> Iterator[float]:
    """Exact heads, strongest penalty first, from the first that has not been judged yet."""
    head, everything = setting.part.linear_head, setting.source.everything
    assert head, "_prepare has made sure"
    assert everything
    features, rows = everything()
    solver = solutions(features, setting.target[rows], head, setting.loss, len(setting.material.train))
    for _ in range(state.epoch):
        next(solver)
    return solver


def _measure(network: Network, recipe: Recipe, material: Material, target: Tensor) -> Runtime:
    """Time a step of the stage that trains most, on the first pictures, under each way to run it, on a copy."""
    spare = copy.deepcopy(network)
    parts = [select(spare, s.train, keep_statistics=s.batch_norm == "keep") for s in recipe.stages]
    part, stage = max(zip(parts, recipe.stages, strict=True), key=lambda pair: pair[0].n_groups)
    part = select(spare, stage.train, keep_statistics=stage.batch_norm == "keep")
    from_store = _from_store(part, recipe, stage)
    rows = material.train[: min(stage.batch_size, 32)]
    pictures = torch.from_numpy(np.stack([material.plain(int(row)) for row in rows]))
    loss = build_loss("auto", material.catalog.several)
    key = {"network": network.architecture.as_dict(), "trains": part.what, "n": len(rows), "stored": from_store}

    with torch.no_grad():
        pixels = spare.normalise(pictures)
        given = part.prefix.eval()(pixels) if from_store and part.prefix else pixels

    def step(runtime: Runtime) -> None:
        spare.to(device=runtime.device, memory_format=runtime.memory_format)  # type: ignore[call-overload]
        part.train_mode()
        inputs = given.to(runtime.device)
        inputs = inputs.contiguous(memory_format=runtime.memory_format) if inputs.ndim == 4 else inputs
        with runtime.autocast():
            logits = (part.tail if from_store else part.whole)(inputs)
        loss(logits.float(), target[rows].to(runtime.device)).backward()  # type: ignore[no-untyped-call]
        spare.zero_grad(set_to_none=True)

    ready: dict[str, Callable[[Tensor], Tensor]] = {}

    def frozen(runtime: Runtime) -> None:
        assert part.prefix is not None
        run = ready.setdefault(runtime.frozen, answering(part.prefix, runtime))
        run(pixels.to(runtime.device))

    return choose(key, step, frozen if from_store else None)


def position_seed(*numbers: int) -> int:
    """One seed for a place in the training, from the recipe's seed, stage, epoch and step."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)
