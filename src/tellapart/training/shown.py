"""What a stage is shown: which pictures, how large, and whether they repeat exactly."""

from __future__ import annotations

from dataclasses import replace

import torch

from tellapart.data.loading.sampling import at_most
from tellapart.errors import RecipeError
from tellapart.models.network import Network
from tellapart.recipe.schema import Recipe, Stage
from tellapart.training.layers import Part
from tellapart.training.material import Material


def shown(network: Network, stage: Stage, material: Material, number: int) -> Material:
    """The pictures of a stage, by its number: at its own size, if it has one, and no more of a class than it wants.

    Raises:
        RecipeError: the network cannot take pictures of that size.
    """
    if stage.per_class is not None:
        target, classes = material.catalog.target(material.train), material.catalog.classes
        train = at_most(material.train, target, len(classes), stage.per_class, material.seed)
        material = replace(material, train=train)
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
    return stage.optimizer == "lbfgs"
