"""The training loop: linear functions that yield events.

Whatever is to happen at an event (writing a log or a checkpoint, stopping) happens in the caller's `for` body.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Generator, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from tellapart.data.balance import class_weights, contents, epoch_order, positive_weights
from tellapart.data.loader import Rows
from tellapart.data.mix import mix
from tellapart.errors import RecipeError, TrainingError
from tellapart.models.network import Network
from tellapart.recipe import Recipe, Stage
from tellapart.records import NO_LABEL, Event, Progress, StageDone, StageStarted, Validated
from tellapart.runtime import Runtime, choose
from tellapart.training.activations import answering
from tellapart.training.checkpoint import State, copy_of
from tellapart.training.ema import Average
from tellapart.training.layers import Part, select
from tellapart.training.losses import build_loss
from tellapart.training.material import Material
from tellapart.training.optim import build_optimizer, parameter_groups, set_rates
from tellapart.training.schedule import group_rates, schedule
from tellapart.training.solve_head import solutions, strengths
from tellapart.training.source import Source, live, stored

Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Setting:
    """Everything that stays the same during one stage.

    `forward` gives logits for what `source` gives: the whole network for pictures, its last layers for activations.
    """

    network: Network
    recipe: Recipe
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
        n_items = len(self.material.train) * len(self.material.versions)
        return math.ceil(n_items / (self.stage.batch_size * self.stage.accumulate))

    @property
    def mixes(self) -> bool:
        """Whether pictures are mixed: only where the stage sees pictures, and new ones in every epoch."""
        return self.stage.augment and not self.stage.views and _mixing(self.recipe)


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
        RecipeError: it asks for something that cannot be done.
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
    material = _sized(network, stage, material, number)
    base = _next_part(network, recipe, number)
    part = select(network, stage.train, keep_statistics=stage.batch_norm == "keep")
    from_store = _from_store(part, recipe, stage)
    if stage.optimizer == "lbfgs" and not (from_store and part.linear_head):
        raise RecipeError(
            f"Stage {number + 1}: optimizer 'lbfgs' solves a linear head on stored features.",
            "It needs train = 'head', a head without hidden layers or dropout, and augment = false or fixed views.",
        )
    loss = _loss(recipe, stage, material, target)
    network.to(device=runtime.device, memory_format=runtime.memory_format)  # type: ignore[call-overload]
    stored_says = "what the frozen layers before them give is computed once and stored"
    plan = f"trains {part.what}; {stored_says if from_store else 'from pictures'}"
    shown = _shown(recipe, material, target, number)
    yield StageStarted(number, stage.name, plan, _n_epochs(stage), runtime.as_dict(), shown)
    if from_store:
        source = yield from stored(network, part, stage, material, runtime, number, base)
    else:
        source = live(network, stage, material, runtime)
    forward = part.tail if from_store else part.whole
    there = target.to(runtime.device)
    return Setting(network, recipe, stage, part, material, there, loss, runtime, source, forward)


def _loss(recipe: Recipe, stage: Stage, material: Material, target: Tensor) -> Loss:
    """The stage's loss, with the weights that the recipe's balance asks for."""
    several, weights = material.catalog.several, {}
    if recipe.balance.class_weights:
        known = target[material.train].numpy()
        if several:
            weights = {"positive_weights": positive_weights(known).tolist()}
        else:
            weights = {"class_weights": class_weights(known, len(material.catalog.classes)).tolist()}
    return build_loss(stage.loss, several, label_smoothing=stage.label_smoothing, **weights)


def _sized(network: Network, stage: Stage, material: Material, number: int) -> Material:
    """The pictures at the stage's own size, if it has one that the network can take."""
    if stage.size is None:
        return material
    how = replace(material.how, height=stage.size, width=stage.size)
    try:
        with torch.no_grad():
            network.eval()(torch.zeros(1, how.height, how.width, 3, dtype=torch.uint8, device=network.scale.device))
    except (RuntimeError, AssertionError, ValueError) as error:
        raise RecipeError(
            f"Stage {number + 1}: {network.architecture.name} cannot take pictures of {stage.size} pixels: {error}",
            f"Leave out stages.{number}.size, or choose a larger one.",
        ) from None
    return replace(material, how=how)


def _from_store(part: Part, recipe: Recipe, stage: Stage) -> bool:
    """Whether a stage's inputs repeat exactly: then what the frozen layers make of them is worth storing."""
    changing = stage.augment and (bool(recipe.augment) or _mixing(recipe))
    return bool(part.cut) and (bool(stage.views) or not changing)


def _mixing(recipe: Recipe) -> bool:
    return recipe.mix.mixup + recipe.mix.cutmix > 0


def _next_part(network: Network, recipe: Recipe, number: int) -> Part | None:
    """The next stage's part, if what it will store serves this stage too: a head's features can be made from it."""
    if number + 1 >= len(recipe.stages):
        return None
    stage, following = recipe.stages[number], recipe.stages[number + 1]
    same = stage.views == following.views and stage.size == following.size
    if stage.train != "head" or following.train == "head" or not same:
        return None
    part = select(network, following.train, keep_statistics=True)
    return part if _from_store(part, recipe, following) else None


def _run(setting: Setting, state: State) -> Iterator[Event]:
    """The epochs of one stage; afterwards the network is the best of them, and the state is at the next stage."""
    stage, epochs = setting.stage, setting.epochs
    solver = _solver(setting, state) if stage.optimizer == "lbfgs" else None
    optimizer = None if solver else _optimizer(setting, state)
    average = _average(setting, state)
    while state.epoch < epochs and not _exhausted(stage, state):
        rates: tuple[float, ...] = ()
        train_accuracy = None
        if optimizer:
            yield from _epoch(setting, state, optimizer, average)
            train_loss, train_accuracy = state.loss_sum / state.seen, state.right / state.seen
            rates = _rates(setting, state.epoch)
        elif solver:
            train_loss = next(solver)
        with average.swapped() if average else nullcontext():
            loss, accuracy = _validate(setting)
            _check_finite(loss, setting, state, "validation loss")
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
    return len(strengths(stage.epochs)) if stage.optimizer == "lbfgs" else stage.epochs


def _exhausted(stage: Stage, state: State) -> bool:
    return stage.patience is not None and state.epoch - state.best_epoch >= stage.patience


def _epoch(
    setting: Setting, state: State, optimizer: torch.optim.Optimizer, average: Average | None
) -> Iterator[Progress]:
    """The rest of an epoch, from `state.step` on."""
    stage, material = setting.stage, setting.material
    order = _order(setting.recipe, material, setting.target, state.stage, state.epoch)
    factor = _schedule(setting)
    setting.part.train_mode()
    batches = setting.source.train(order, state.epoch, state.step * stage.accumulate)
    while parts := list(islice(batches, stage.accumulate)):
        # Dropout draws from torch's own generator: seeded by position, it has no state that could be lost.
        torch.manual_seed(position_seed(material.seed, state.stage, state.epoch, state.step))
        set_rates(optimizer, factor(state.epoch * setting.steps + state.step))
        n = sum(len(rows) for _, rows in parts)
        optimizer.zero_grad(set_to_none=True)
        for number, (inputs, rows) in enumerate(parts):
            loss, right = _forward(setting, state, inputs, rows, number)
            (loss * (len(rows) / n)).backward()  # type: ignore[no-untyped-call]
            state.loss_sum += loss.item() * len(rows)
            state.right += right
        _check_finite(state.loss_sum, setting, state, "loss")
        if stage.clip:
            torch.nn.utils.clip_grad_norm_(setting.network.parameters(), stage.clip)
        optimizer.step()
        if average:
            average.update()
            state.average, state.n_averaged = average.state_dict()["average"], average.n_updates
        state.step += 1
        state.seen += n
        state.optimizer = optimizer.state_dict()
        rate, mean = max(group["lr"] for group in optimizer.param_groups), state.loss_sum / state.seen
        yield Progress(state.stage, state.epoch + 1, stage.epochs, state.step, setting.steps, mean, rate, n)


def _order(recipe: Recipe, material: Material, target: Tensor, stage: int, epoch: int) -> Rows:
    """The items that an epoch shows, in order."""
    items = material.items
    known = target[material.rows(items)].cpu().numpy()
    seed = position_seed(material.seed, stage)
    return epoch_order(items, known, len(material.catalog.classes), recipe.balance.sampler, seed, epoch)


def _shown(recipe: Recipe, material: Material, target: Tensor, number: int) -> dict[str, int]:
    """How often the first epoch of a stage shows each label."""
    classes, exact = material.catalog.classes, recipe.stages[number].optimizer == "lbfgs"
    order = material.items if exact else _order(recipe, material, target, number, 0)
    found = contents(material.rows(order), target.cpu().numpy(), len(classes))
    shown = dict(zip(classes, found.per_class.tolist(), strict=True))
    return {**shown, NO_LABEL: found.without_label} if found.without_label else shown


def _forward(setting: Setting, state: State, inputs: Tensor, rows: Rows, number: int) -> tuple[Tensor, float]:
    """The loss of one batch, and how many of its pictures are named right."""
    target = wanted = setting.target[rows]
    if setting.mixes:
        rng = np.random.default_rng((setting.material.seed, state.stage, state.epoch, state.step, number))
        soft = target.float() if target.ndim == 2 else one_hot(target, len(setting.material.catalog.classes)).float()
        mixed, wanted = mix(inputs.permute(0, 2, 3, 1), soft, setting.recipe.mix, rng)
        inputs = mixed.permute(0, 3, 1, 2)
    with setting.runtime.autocast():
        logits = setting.forward(inputs)
    return setting.loss(logits.float(), wanted), _n_right(logits, target)


def _check_finite(value: float, setting: Setting, state: State, what: str) -> None:
    if math.isfinite(value):
        return
    smaller = f"{_peak(setting.stage) / 10:g}"
    raise TrainingError(
        f"The {what} is {value} at stage {state.stage + 1}, epoch {state.epoch + 1}, step {state.step + 1}.",
        f"Try a smaller rate: --set stages.{state.stage}.rate={smaller}",
    )


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
    return schedule(
        stage.schedule,
        stage.epochs * setting.steps,
        setting.steps,
        warmup=stage.warmup,
        step_epochs=stage.step_epochs,
        step_factor=stage.step_factor,
        cycle_length=stage.cycle_length,
        cycle_multiplier=stage.cycle_multiplier,
    )


def _peak(stage: Stage) -> float:
    """The highest of the stage's rates."""
    return max(group_rates(stage.rate, 2))


def _rates(setting: Setting, epoch: int) -> tuple[float, ...]:
    """The rates of an epoch's steps, thinned to at most 100."""
    factor, first = _schedule(setting), epoch * setting.steps
    every = math.ceil(setting.steps / 100)
    peak = _peak(setting.stage)
    return tuple(peak * factor(first + step) for step in range(0, setting.steps, every))


def _optimizer(setting: Setting, state: State) -> torch.optim.Optimizer:
    """The stage's optimizer, in the state in which it was left."""
    stage, groups = setting.stage, setting.part.groups
    # Rates belong to all groups, frozen ones too, so that they stay the same when more layers are trained.
    rates = group_rates(stage.rate, setting.part.n_all)[-len(groups) :]
    described = parameter_groups(groups, rates, stage.weight_decay)
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
    head, everything = setting.part.linear_head, setting.source.everything
    assert head, "_prepare has made sure"
    assert everything
    features, rows = everything()
    tried = strengths(setting.stage.epochs)
    solver = solutions(features, setting.target[rows], head, setting.loss, len(setting.material.train), tried)
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
