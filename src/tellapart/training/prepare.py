"""How a stage is made ready to train: layers frozen, features stored, its learning rate found."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace

import torch
from torch import Tensor

from tellapart.core.events import Event, LrFound, StageStarted
from tellapart.data.augmentation import gpu_batch
from tellapart.data.loading.sampling import at_most, class_weights, positive_weights
from tellapart.errors import RecipeError
from tellapart.models.layer_groups import layer_groups
from tellapart.models.network import Network
from tellapart.recipe.schema import FoundLr, Recipe, Stage
from tellapart.training.checkpoint import State
from tellapart.training.dataset import Dataset
from tellapart.training.inputs import inputs_from_features, inputs_from_pictures
from tellapart.training.losses import Loss, build_loss
from tellapart.training.lr_finder import choose_lr
from tellapart.training.parallel.division import Division
from tellapart.training.runtime import Runtime
from tellapart.training.schedule import group_lrs
from tellapart.training.stage import TrainingStage, changing, epoch_counts, repeats, solves
from tellapart.training.trainable import Part, n_trained, select


def check_stages(network: Network, recipe: Recipe, dataset: Dataset) -> None:
    """Refuse what a stage cannot do, before an earlier one has taken its time.

    Raises:
        RecipeError: with the number of the stage.
    """
    n_all = len(layer_groups(network))
    linear = len(list(network.head.children())) == 1
    for number, config in enumerate(recipe.stages):
        try:
            n = n_trained(config.train, n_all)
            group_lrs(config.lr if not isinstance(config.lr, FoundLr) else 1.0, n_all)
            build_loss(config.loss, dataset.catalog.multilabel, label_smoothing=config.label_smoothing)
        except RecipeError as error:
            raise RecipeError(f"Stage {number + 1}: {error.message}", error.hint) from None
        stage_dataset(network, config, dataset, number)
        stored = not changing(recipe, config) and config.batch_norm != "free"
        if solves(config) and not (n == 1 and linear and stored):
            raise RecipeError(
                f"Stage {number + 1}: solver 'lbfgs' solves a linear head on stored features.",
                "It needs train = 'head', a head without hidden layers or dropout, augment = false or fixed views, and "
                "batch_norm = 'update' or 'keep'.",
            )


def prepare_stage(
    network: Network,
    recipe: Recipe,
    dataset: Dataset,
    target: Tensor,
    state: State,
    runtime: Runtime,
    division: Division | None = None,
) -> Generator[Event, None, TrainingStage]:
    """Make the stage that `state` stands in ready to train.

    Freeze layers, say what will be done, compute once what would repeat in every epoch, then find the learning rate if
    the recipe leaves that to a test. A resumed stage goes the same way: its features are in the cache, and its learning
    rate is part of the state.

    Args:
        target: of all rows of the catalog.
        division: how the stage's work is divided among workers, if it is.
    """
    number = state.stage
    # Asked before layers are frozen for this stage: looking at a later one freezes them for that.
    base = later_part(network, recipe, number)
    stage = stage_from_pictures(network, recipe, number, dataset, target, runtime)
    config, part = stage.config, stage.part
    until = state.chosen[number] if state.retraining else None
    stage = replace(stage, from_features=repeats(part, recipe, config), until=until, division=division)
    yield StageStarted(
        number,
        config.name,
        f"trains {part.description}; {_describe_inputs(stage)}{_describe_division(stage)}",
        stage.epochs,
        runtime.as_dict(),
        epoch_counts(recipe, stage.dataset, target, number),
        state.retraining,
        dataset.catalog.multilabel,
    )
    if stage.from_features:
        workers = division.workers if division else None
        inputs = yield from inputs_from_features(network, part, config, stage.dataset, runtime, number, base, workers)
        stage = replace(stage, inputs=inputs)
    if isinstance(config.lr, FoundLr):
        stage = yield from _with_lr(stage, config.lr, state)
    return stage


def stage_from_pictures(
    network: Network, recipe: Recipe, number: int, dataset: Dataset, target: Tensor, runtime: Runtime
) -> TrainingStage:
    """A stage that trains from pictures. The network is frozen as the stage wants it, and on the device.

    Args:
        target: of all rows of the catalog.
    """
    config = recipe.stages[number]
    dataset = stage_dataset(network, config, dataset, number)
    part = select(network, config.train, config.batch_norm)
    unknown = dataset.catalog.unknown()
    network.to(device=runtime.device, memory_format=runtime.memory_format)  # type: ignore[call-overload]
    return TrainingStage(
        network,
        recipe,
        number,
        part,
        dataset,
        target.to(runtime.device),
        _loss(recipe, config, dataset, target),
        runtime,
        inputs_from_pictures(network, config, dataset, runtime),
        from_features=False,
        peak_lrs=_peak_lrs(part, config),
        until=None,
        unknown=None if unknown is None else torch.from_numpy(unknown).to(runtime.device),
    )


def stage_dataset(network: Network, config: Stage, dataset: Dataset, number: int) -> Dataset:
    """The pictures of a stage, by its number: at its own size, if it has one, and no more of a class than it wants.

    Raises:
        RecipeError: the network cannot take pictures of that size.
    """
    if config.per_class is not None:
        target, classes = dataset.catalog.target(dataset.train), dataset.catalog.classes
        train = at_most(dataset.train, target, len(classes), config.per_class, dataset.seed)
        dataset = replace(dataset, train=train)
    if config.size is None:
        return dataset
    preprocessing = replace(dataset.preprocessing, height=config.size, width=config.size)
    shape = (1, preprocessing.height, preprocessing.width, 3)
    try:  # whether the layers fit together at that size, nothing but a forward pass tells
        with torch.no_grad():
            network.eval()(torch.zeros(shape, dtype=torch.uint8, device=network.scale.device))
    except (RuntimeError, AssertionError, ValueError) as error:
        raise RecipeError(
            f"Stage {number + 1}: {network.architecture.name} cannot take pictures of {config.size} pixels: {error}",
            f"Leave out stages.{number}.size, or choose a larger one.",
        ) from None
    return replace(dataset, preprocessing=preprocessing)


def _with_lr(stage: TrainingStage, wanted: FoundLr, state: State) -> Generator[Event, None, TrainingStage]:
    """The stage with the learning rate that a test finds; it is part of the state, so the test is done once."""
    key = str(stage.number)
    if key not in state.found_lrs:
        event: LrFound = yield from choose_lr(stage, wanted)
        state.found_lrs = {**state.found_lrs, key: event.lr}
        yield event
    return replace(stage, peak_lrs=tuple(state.found_lrs[key] * share for share in stage.peak_lrs))


def later_part(network: Network, recipe: Recipe, number: int) -> Part | None:
    """The part of a later stage, if what it will store serves this stage too: a head's features can be made from it."""
    config = recipe.stages[number]
    later = next((later for later in recipe.stages[number + 1 :] if later.train != "head"), None)
    if config.train != "head" or later is None or config.size != later.size:
        return None
    if any(view not in (later.views or [[]]) for view in config.views or [[]]):
        return None
    part = select(network, later.train, later.batch_norm)
    return part if part.rest is not None and repeats(part, recipe, later) else None


def _describe_inputs(stage: TrainingStage) -> str:
    """From what the stage trains, in words."""
    config, part = stage.config, stage.part
    limit = f"at most {config.per_class} of each class" if config.per_class else ""
    if stage.from_features:
        return f"what the frozen layers give{limit and f' of {limit}'} is computed once and stored"
    freed = part.cut and part.statistics == "free"
    reason = ", as the statistics of the frozen layers are free to change" if freed else ""
    on_cpu = ""
    if stage.dataset.per_batch and config.augment and not config.views:
        on_cpu = "transforms are drawn once a batch"
    elif stage.runtime.device == "cuda" and config.augment and not config.views:
        on_cpu = gpu_batch.describe_partition(stage.recipe.augment, stage.dataset.preprocessing)
    order = "" if config.shuffle else ", in the order of their paths"
    return f"from pictures{limit and f', {limit}'}{order}{reason}{on_cpu and f'; {on_cpu}'}"


def _describe_division(stage: TrainingStage) -> str:
    """How its steps are divided, in words."""
    if stage.division is None or stage.solves:
        return ""
    config = stage.division.config
    norms = {"local": "", "kept": ", norms keep their statistics", "synchronised": ", norms are synchronised"}
    order = ", gradients added in their order" if stage.division.ordered else ""
    cut = f"each batch in {config.micro_batches} micro-batches for any number of workers"
    return f"; {cut}{order}{norms[config.batch_norm]}"


def _peak_lrs(part: Part, config: Stage) -> tuple[float, ...]:
    """Peak learning rates of the trained groups."""
    if solves(config):
        return ()
    lr = config.lr if not isinstance(config.lr, FoundLr) else f"{1 / config.lr.spread}..1.0"
    # Rates belong to all groups, frozen ones too, so that they stay the same when more layers are trained.
    return tuple(group_lrs(lr, part.n_all)[-len(part.groups) :])


def _loss(recipe: Recipe, config: Stage, dataset: Dataset, target: Tensor) -> Loss:
    """The stage's loss, with the weights that the recipe's balance asks for."""
    multilabel, weights = dataset.catalog.multilabel, {}
    unknown = dataset.catalog.unknown(dataset.train)
    masked = dataset.catalog.unknown() is not None
    if recipe.balance.class_weights:
        labels = target[dataset.train].numpy()
        if multilabel:
            weights = {"positive_weights": positive_weights(labels, unknown=unknown).tolist()}
        else:
            weights = {"class_weights": class_weights(labels, len(dataset.catalog.classes)).tolist()}
    return build_loss(config.loss, multilabel, label_smoothing=config.label_smoothing, masked=masked, **weights)
