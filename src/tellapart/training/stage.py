"""What stays the same during one stage: what is trained, from what, with which loss, how long, at which rates."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from tellapart.core.events import NO_LABEL, Event, StageStarted
from tellapart.data.augmentation import gpu_batch
from tellapart.data.augmentation.mixup import mix
from tellapart.data.loading.loader import Rows
from tellapart.data.loading.sampling import at_most, class_weights, contents, epoch_order, positive_weights
from tellapart.errors import RecipeError, TrainingError
from tellapart.models.layer_groups import layer_groups
from tellapart.models.network import Network
from tellapart.recipe.schema import FoundLr, Recipe, Stage
from tellapart.training.checkpoint import State
from tellapart.training.dataset import Dataset
from tellapart.training.inputs import StageInputs, inputs_from_features, inputs_from_pictures
from tellapart.training.losses import Loss, build_loss
from tellapart.training.runtime import Runtime
from tellapart.training.schedule import Schedule, group_lrs, schedule
from tellapart.training.trainable import Forward, Part, n_trained, select


@dataclass(frozen=True)
class Setting:
    """Everything that stays the same during one stage.

    Attributes:
        network, recipe, number, part, material, loss, runtime: as their names say; `number` is the stage's, from 0.
        target: of all rows of the catalog, on the device.
        inputs: of the layers that it runs. from_store: whether they are what frozen layers gave, computed once.
        peaks: peak rate of each trained group of layers; where it has yet to be found, relative to the head's. Empty
            for a linear head that is solved.
        until: None: the whole stage. In the retraining: when it was best (see `State.chosen`), and where it ends.
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
    from_store: bool
    peaks: tuple[float, ...]
    until: int | None

    @property
    def stage(self) -> Stage:
        return self.recipe.stages[self.number]

    @property
    def solves(self) -> bool:
        return solves(self.stage)

    @property
    def retraining(self) -> bool:
        return self.until is not None

    @property
    def steps(self) -> int:
        """Steps of a whole epoch."""
        n_items = len(self.dataset.train) * len(self.dataset.versions)
        return math.ceil(n_items / (self.stage.batch_size * self.stage.accumulate))

    @property
    def scheduled_steps(self) -> int:
        """Steps of the whole stage, as the schedule counts them."""
        return self.stage.steps or self.stage.epochs * self.steps

    @property
    def total(self) -> int:
        """Steps that are done: fewer than scheduled in the retraining of a stage that was best before its end."""
        if self.until is None:
            return self.scheduled_steps
        return self.until if self.stage.steps else self.until * self.steps

    @property
    def epochs(self) -> int:
        """Epochs of the stage, of which the last may be a part of one; strengths, where a linear head is solved."""
        return len(self.strengths) if self.solves else math.ceil(self.total / self.steps)

    def steps_in(self, epoch: int) -> int:
        """Steps of an epoch, counted from 0: fewer than `steps` in the last one of a stage counted in steps."""
        return min(self.steps, self.total - epoch * self.steps)

    @property
    def strengths(self) -> tuple[float, ...]:
        """Strengths of regularisation that a linear head is solved for: all of them, or the one chosen."""
        tried = tuple(self.stage.l2)
        return tried if self.until is None else tried[self.until - 1 : self.until]

    @property
    def schedule(self) -> Schedule:
        """From a step of the stage to a factor of the peak rates."""
        stage = self.stage
        return schedule(
            stage.schedule,
            self.scheduled_steps,
            self.steps,
            warmup=stage.warmup,
            step_epochs=stage.step_epochs,
            step_factor=stage.step_factor,
            cycle_length=stage.cycle_length,
            cycle_multiplier=stage.cycle_multiplier,
        )

    def order(self, epoch: int) -> Rows:
        """The items that an epoch shows, in order."""
        return epoch_items(self.recipe, self.dataset, self.target, self.number, epoch)

    @property
    def mixes(self) -> bool:
        """Whether pictures are mixed: only where the stage sees pictures, and new ones in every epoch."""
        return self.stage.augment and not self.stage.views and mixing(self.recipe)


def prepare(
    network: Network, recipe: Recipe, dataset: Dataset, target: Tensor, state: State, runtime: Runtime
) -> Generator[Event, None, Setting]:
    """Freeze, say what will be done, and compute once what need not be computed again."""
    number = state.stage
    base = _next_part(network, recipe, number)
    setting = live_setting(network, recipe, number, dataset, target, runtime)
    stage, part = setting.stage, setting.part
    from_store = repeats(part, recipe, stage)
    until = state.chosen[number] if state.retraining else None
    setting = replace(setting, from_store=from_store, until=until)
    description = f"trains {part.what}; {inputs_in_words(part, recipe, stage)}"
    if runtime.device == "cuda" and stage.augment and not stage.views and not from_store:
        on_cpu = gpu_batch.describe_partition(recipe.augment, setting.dataset.preprocessing)
        description += on_cpu and f"; {on_cpu}"
    yield StageStarted(
        number,
        stage.name,
        description,
        setting.epochs,
        runtime.as_dict(),
        epoch_counts(recipe, setting.dataset, target, number),
        state.retraining,
        dataset.catalog.multilabel,
    )
    if not from_store:
        return setting
    inputs = yield from inputs_from_features(network, part, stage, setting.dataset, runtime, number, base)
    return replace(setting, inputs=inputs)


def check_stages(network: Network, recipe: Recipe, dataset: Dataset) -> None:
    """Refuse what a stage cannot do, before an earlier one has taken its time.

    Raises:
        RecipeError: with the number of the stage.
    """
    n_all = len(layer_groups(network))
    linear = len(list(network.head.children())) == 1
    for number, stage in enumerate(recipe.stages):
        try:
            n = n_trained(stage.train, n_all)
            group_lrs(stage.lr if not isinstance(stage.lr, FoundLr) else 1.0, n_all)
            build_loss(stage.loss, dataset.catalog.multilabel, label_smoothing=stage.label_smoothing)
        except RecipeError as error:
            raise RecipeError(f"Stage {number + 1}: {error.message}", error.hint) from None
        shown(network, stage, dataset, number)
        stored = not changing(recipe, stage) and stage.batch_norm != "free"
        if solves(stage) and not (n == 1 and linear and stored):
            raise RecipeError(
                f"Stage {number + 1}: solver 'lbfgs' solves a linear head on stored features.",
                "It needs train = 'head', a head without hidden layers or dropout, augment = false or fixed views, and "
                "batch_norm = 'update' or 'keep'.",
            )


def live_setting(
    network: Network, recipe: Recipe, number: int, dataset: Dataset, target: Tensor, runtime: Runtime
) -> Setting:
    """The setting of a stage that trains from pictures. The network is frozen as the stage wants it, and on the device.

    Args:
        target: of all rows of the catalog.
    """
    stage = recipe.stages[number]
    dataset = shown(network, stage, dataset, number)
    part = select(network, stage.train, stage.batch_norm)
    network.to(device=runtime.device, memory_format=runtime.memory_format)  # type: ignore[call-overload]
    return Setting(
        network,
        recipe,
        number,
        part,
        dataset,
        target.to(runtime.device),
        _loss(recipe, stage, dataset, target),
        runtime,
        inputs_from_pictures(network, stage, dataset, runtime),
        from_store=False,
        peaks=_peaks(part, stage),
        until=None,
    )


def epoch_items(recipe: Recipe, dataset: Dataset, target: Tensor, stage: int, epoch: int) -> Rows:
    """The items that an epoch of a stage shows, in order: a function of seed, stage and epoch."""
    items = dataset.items
    known = target[dataset.rows(items)].cpu().numpy()
    seed = position_seed(dataset.seed, stage)
    return epoch_order(items, known, len(dataset.catalog.classes), recipe.balance.sampler, seed, epoch)


def epoch_counts(recipe: Recipe, dataset: Dataset, target: Tensor, stage: int) -> dict[str, int]:
    """How often the first epoch of a stage shows each label."""
    classes = dataset.catalog.classes
    order = epoch_items(recipe, dataset, target, stage, 0)
    found = contents(dataset.rows(order), target.cpu().numpy(), len(classes))
    shown = dict(zip(classes, found.per_class.tolist(), strict=True))
    return {**shown, NO_LABEL: found.without_label} if found.without_label else shown


def losses(
    setting: Setting,
    forward: Forward,
    apart: bool,
    inputs: Tensor,
    rows: Rows,
    place: tuple[int, ...],
) -> Iterator[tuple[Tensor, int, Tensor]]:
    """The loss of one batch of training inputs, slice by slice as the runtime wants it.

    Args:
        forward: `Part.learning` of the setting's part, or of a copy of it.
        apart: `Part.apart` of it, in training mode.
        inputs, rows: a batch of the setting's inputs.
        place: where in the training this is: the random numbers of mixing are a function of it.

    Yields:
        A slice's mean loss, how many pictures it has, and how many of them are named right.

    Raises:
        TrainingError: a batch of one picture, of which batch norm would have to take statistics from single numbers.
    """
    target = wanted = setting.target[rows]
    if setting.mixes:
        soft = target.float() if target.ndim == 2 else one_hot(target, len(setting.dataset.catalog.classes)).float()
        rng = np.random.default_rng(place)
        mixed, wanted = mix(inputs.permute(0, 2, 3, 1), soft, setting.recipe.mix, rng)
        inputs = mixed.permute(0, 3, 1, 2)
    size = setting.runtime.micro_batch if setting.runtime.micro_batch and apart else len(rows)
    for start in range(0, len(rows), size):
        some = slice(start, start + size)
        try:
            with setting.runtime.autocast():
                logits = forward(inputs[some])
        except ValueError as error:
            if len(rows) > 1 or "more than 1 value per channel" not in str(error):
                raise
            raise TrainingError(
                "The last batch of an epoch is a single picture, of which batch norm cannot take statistics.",
                f"Try another size of batch: --set stages.{setting.number}.batch_size={setting.stage.batch_size + 1}",
            ) from error
        yield setting.loss(logits.float(), wanted[some]), len(logits), n_right(logits, target[some])


def n_right(logits: Tensor, target: Tensor) -> Tensor:
    """Number of pictures named right, a scalar; with several labels, each counts by its share of right labels."""
    if target.ndim == 1:
        return (logits.argmax(1) == target).sum()
    return ((logits > 0) == (target > 0)).float().mean(1).sum()


def position_seed(*numbers: int) -> int:
    """One seed for a place in the training, from the recipe's seed, stage, epoch and step."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)


def _peaks(part: Part, stage: Stage) -> tuple[float, ...]:
    """Peak rates of the trained groups."""
    if solves(stage):
        return ()
    lr = stage.lr if not isinstance(stage.lr, FoundLr) else f"{1 / stage.lr.spread}..1.0"
    # Rates belong to all groups, frozen ones too, so that they stay the same when more layers are trained.
    return tuple(group_lrs(lr, part.n_all)[-len(part.groups) :])


def _loss(recipe: Recipe, stage: Stage, dataset: Dataset, target: Tensor) -> Loss:
    """The stage's loss, with the weights that the recipe's balance asks for."""
    multilabel, weights = dataset.catalog.multilabel, {}
    if recipe.balance.class_weights:
        known = target[dataset.train].numpy()
        if multilabel:
            weights = {"positive_weights": positive_weights(known).tolist()}
        else:
            weights = {"class_weights": class_weights(known, len(dataset.catalog.classes)).tolist()}
    return build_loss(stage.loss, multilabel, label_smoothing=stage.label_smoothing, **weights)


def _next_part(network: Network, recipe: Recipe, number: int) -> Part | None:
    """The part of a later stage, if what it will store serves this stage too: a head's features can be made from it."""
    stage = recipe.stages[number]
    following = next((later for later in recipe.stages[number + 1 :] if later.train != "head"), None)
    if stage.train != "head" or following is None or stage.size != following.size:
        return None
    if any(view not in (following.views or [[]]) for view in stage.views or [[]]):
        return None
    part = select(network, following.train, following.batch_norm)
    return part if part.rest is not None and repeats(part, recipe, following) else None


def shown(network: Network, stage: Stage, dataset: Dataset, number: int) -> Dataset:
    """The pictures of a stage, by its number: at its own size, if it has one, and no more of a class than it wants.

    Raises:
        RecipeError: the network cannot take pictures of that size.
    """
    if stage.per_class is not None:
        target, classes = dataset.catalog.target(dataset.train), dataset.catalog.classes
        train = at_most(dataset.train, target, len(classes), stage.per_class, dataset.seed)
        dataset = replace(dataset, train=train)
    if stage.size is None:
        return dataset
    preprocessing = replace(dataset.preprocessing, height=stage.size, width=stage.size)
    try:
        with torch.no_grad():
            network.eval()(
                torch.zeros(
                    1, preprocessing.height, preprocessing.width, 3, dtype=torch.uint8, device=network.scale.device
                )
            )
    except (RuntimeError, AssertionError, ValueError) as error:
        raise RecipeError(
            f"Stage {number + 1}: {network.architecture.name} cannot take pictures of {stage.size} pixels: {error}",
            f"Leave out stages.{number}.size, or choose a larger one.",
        ) from None
    return replace(dataset, preprocessing=preprocessing)


def repeats(part: Part, recipe: Recipe, stage: Stage) -> bool:
    """Whether a stage's inputs repeat exactly: then what the frozen layers make of them is worth storing."""
    return bool(part.cut) and not changing(recipe, stage) and part.statistics != "free"


def changing(recipe: Recipe, stage: Stage) -> bool:
    """Whether the stage sees each picture otherwise in every epoch."""
    return stage.augment and not stage.views and (bool(recipe.augment) or mixing(recipe))


def inputs_in_words(part: Part, recipe: Recipe, stage: Stage) -> str:
    """From what the stage trains, in words."""
    some = f"at most {stage.per_class} of each class" if stage.per_class else ""
    if repeats(part, recipe, stage):
        return f"what the frozen layers give{some and f' of {some}'} is computed once and stored"
    freed = part.cut and part.statistics == "free"
    why = ", as the statistics of the frozen layers are free to change" if freed else ""
    return f"from pictures{some and f', {some}'}{why}"


def mixing(recipe: Recipe) -> bool:
    """Whether a recipe mixes pictures at all."""
    return recipe.mix.mixup + recipe.mix.cutmix > 0


def solves(stage: Stage) -> bool:
    """Whether a stage solves a linear head, instead of training step by step."""
    return stage.solver is not None
