"""A stage that is ready to train: everything that stays the same while its steps are taken."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from torch import Tensor
from torch.optim import Optimizer

from tellapart.core.events import NO_LABEL
from tellapart.data.loading.loader import Rows
from tellapart.data.loading.sampling import contents, epoch_length, epoch_order
from tellapart.models.network import Network
from tellapart.recipe.schema import Recipe, Stage
from tellapart.training.dataset import Dataset
from tellapart.training.fast.forward import Forward
from tellapart.training.inputs import StageInputs
from tellapart.training.linear_probe import strength
from tellapart.training.losses import Loss
from tellapart.training.optim import build_optimizer, parameter_groups
from tellapart.training.parallel.division import Division
from tellapart.training.parallel.gradients import GradientSum
from tellapart.training.runtime import Runtime
from tellapart.training.schedule import Schedule, schedule
from tellapart.training.trainable import Part


@dataclass(frozen=True)
class TrainingStage:
    """Everything that stays the same during one stage; `prepare.prepare_stage` makes it.

    Attributes:
        network: frozen as the stage wants it, on the runtime's device.
        recipe, number: the stage is number `number` of the recipe, from 0; see `config`.
        part: the layers that it trains.
        dataset: the pictures that it shows, at its size.
        target: of all rows of the catalog, on the device: class numbers int64 [n], or 0 and 1 [n, n_classes].
        loss: of logits and targets.
        runtime: device, precision and memory format.
        inputs: of the layers that it runs. from_features: whether frozen layers gave them, computed once.
        peak_lrs: peak rate of each trained group of layers; where it has yet to be found, relative to the head's. Empty
            for a linear head that is solved.
        until: None: the whole stage. In the retraining: when it was best (see `State.chosen`), and where it ends.
        unknown: bool [n, n_classes], the cells of `target` that are not known; None: all are known.
        division: how its steps are divided among workers; None: this process takes them whole.
    """

    network: Network
    recipe: Recipe
    number: int
    part: Part
    dataset: Dataset
    target: Tensor
    loss: Loss
    runtime: Runtime
    inputs: StageInputs
    from_features: bool
    peak_lrs: tuple[float, ...]
    until: int | None
    unknown: Tensor | None = None
    division: Division | None = None

    def wanted(self, rows: Rows) -> Tensor:
        """The target of rows as the loss takes it: with several labels NaN where a label is not known."""
        target = self.target[rows]
        return target if self.unknown is None else target.float().masked_fill(self.unknown[rows], math.nan)

    def lesson(self, rows: Rows) -> Tensor:
        """What the training loss takes of rows: their target; with a teacher, its answers beside it."""
        wanted, teacher = self.wanted(rows), self.dataset.teacher
        return wanted if teacher is None else teacher.lesson(wanted, rows)

    @cached_property
    def training_loss(self) -> Loss:
        """Of logits and a lesson. Validation is judged by `loss`, of the labels alone."""
        teacher = self.dataset.teacher
        return self.loss if teacher is None else teacher.loss(self.loss)

    @property
    def config(self) -> Stage:
        """The recipe's section."""
        return self.recipe.stages[self.number]

    @cached_property
    def forward(self) -> Forward:
        """A training step's forward pass: inputs → logits. Made fast at the first call, for the modes of then."""
        return self.part.training_forward(self.from_features)

    @cached_property
    def optimizer(self) -> Optimizer:
        """The stage's own, built when it is first asked for; a copy of the stage builds another."""
        config = self.config
        groups = parameter_groups(self.part.groups, self.peak_lrs, config.weight_decay)
        return build_optimizer(config.optimizer, groups, weight_decay=config.weight_decay, momentum=config.momentum)

    @cached_property
    def gradients(self) -> GradientSum:
        """Where the gradients of a divided step are added; to be asked for in training mode first."""
        assert self.division
        return GradientSum(self.division, self.network, self.division.n_rows(self.config.accumulate))

    @cached_property
    def micro_batch(self) -> int:
        """Pictures that go through the layers at once, 0: the whole batch. To be asked for in training mode first.

        Only layers that see each picture as if alone may be given a few at a time: batch norm takes statistics of all.
        """
        return self.runtime.micro_batch if self.part.apart else 0

    @property
    def solves(self) -> bool:
        """Whether it solves a linear head, instead of training step by step."""
        return solves(self.config)

    @property
    def in_folds(self) -> bool:
        """Whether it is a linear probe whose strength is chosen by cross-validation."""
        return self.solves and self.config.folds is not None and not self.retraining

    @property
    def mixes(self) -> bool:
        """Whether pictures are mixed: only where the stage sees pictures, and new ones in every epoch."""
        return self.config.augment and not self.config.views and mixing(self.recipe)

    @property
    def retraining(self) -> bool:
        return self.until is not None

    @property
    def steps(self) -> int:
        """Steps of a whole epoch."""
        n_items = epoch_length(self.dataset.n_items, self.recipe.balance.multiple)
        return math.ceil(n_items / (self.config.batch_size * self.config.accumulate))

    @property
    def scheduled_steps(self) -> int:
        """Steps of the whole stage, as the schedule counts them."""
        return self.config.steps or self.config.epochs * self.steps

    @property
    def total(self) -> int:
        """Steps that are done: fewer than scheduled in the retraining of a stage that was best before its end."""
        if self.until is None:
            return self.scheduled_steps
        return self.until if self.config.steps else self.until * self.steps

    @property
    def epochs(self) -> int:
        """Epochs of the stage, of which the last may be a part of one; strengths, where a linear head is solved."""
        return len(self.strengths) if self.solves else math.ceil(self.total / self.steps)

    def steps_in(self, epoch: int) -> int:
        """Steps of an epoch, counted from 0: fewer than `steps` in the last one of a stage counted in steps."""
        return min(self.steps, self.total - epoch * self.steps)

    @property
    def strengths(self) -> tuple[float, ...]:
        """Strengths of regularisation that a linear head is solved for: those of the recipe, or the one chosen."""
        return tuple(self.config.l2) if self.until is None else (strength(self.config.l2, self.until),)

    @cached_property
    def schedule(self) -> Schedule:
        """From a step of the stage to a factor of the peak rates."""
        config = self.config
        return schedule(
            config.schedule,
            self.scheduled_steps,
            self.steps,
            warmup=config.warmup,
            step_epochs=config.step_epochs,
            step_factor=config.step_factor,
            cycle_length=config.cycle_length,
            cycle_multiplier=config.cycle_multiplier,
        )

    def lrs(self, epoch: int) -> tuple[float, ...]:
        """The largest learning rate of each step of an epoch, thinned to at most 100."""
        first, n, peak = epoch * self.steps, self.steps_in(epoch), max(self.peak_lrs)
        return tuple(peak * self.schedule(first + step) for step in range(0, n, math.ceil(n / 100)))

    def order(self, epoch: int) -> Rows:
        """The items that an epoch shows, in order."""
        return epoch_items(self.recipe, self.dataset, self.target, self.number, epoch)


def epoch_items(recipe: Recipe, dataset: Dataset, target: Tensor, number: int, epoch: int) -> Rows:
    """The items that an epoch of a stage shows, in order: a function of seed, stage and epoch."""
    items = dataset.items
    labels = target[dataset.rows(items)].cpu().numpy()
    seed, balance, shuffle = position_seed(dataset.seed, number), recipe.balance, recipe.stages[number].shuffle
    n_classes = len(dataset.catalog.classes)
    return epoch_order(items, labels, n_classes, balance.sampler, seed, epoch, balance.multiple, shuffle)


def epoch_counts(recipe: Recipe, dataset: Dataset, target: Tensor, number: int) -> dict[str, int]:
    """How often the first epoch of a stage shows each label."""
    classes = dataset.catalog.classes
    order = epoch_items(recipe, dataset, target, number, 0)
    counts = contents(dataset.rows(order), target.cpu().numpy(), len(classes))
    shown = dict(zip(classes, counts.per_class.tolist(), strict=True))
    return {**shown, NO_LABEL: counts.without_label} if counts.without_label else shown


def repeats(part: Part, recipe: Recipe, config: Stage) -> bool:
    """Whether a stage's inputs repeat exactly: then what the frozen layers make of them is worth storing."""
    return bool(part.cut) and not changing(recipe, config) and part.statistics != "free"


def changing(recipe: Recipe, config: Stage) -> bool:
    """Whether the stage sees each picture otherwise in every epoch."""
    return config.augment and not config.views and (bool(recipe.augment) or mixing(recipe))


def mixing(recipe: Recipe) -> bool:
    """Whether a recipe mixes pictures at all."""
    return recipe.mix.mixup + recipe.mix.cutmix > 0


def solves(config: Stage) -> bool:
    """Whether a stage solves a linear head, instead of training step by step."""
    return config.solver is not None


def position_seed(*numbers: int) -> int:
    """One seed for a position in the training, from the recipe's seed, stage, epoch and step."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)
