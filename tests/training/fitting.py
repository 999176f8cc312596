"""Short trainings of a small network, for several test files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from tellapart.core.events import Event
from tellapart.models.network import Network
from tellapart.recipe.schema import Recipe
from tellapart.training.checkpoint import State
from tellapart.training.dataset import Dataset
from tellapart.training.fit import fit
from tellapart.training.runtime import Runtime

Build = Callable[[Recipe], tuple[Network, Dataset]]


CPU = Runtime("cpu", workers=2)


CROP = {"transform": "random_resized_crop", "scale": {"uniform": [0.5, 1.0]}}


FLIPPED = [[], [{"transform": "horizontal_flip"}]]


def recipe(stages: list[dict[str, Any]], **parts: Any) -> Recipe:
    whole = {"data": {"size": 16}, "model": {"name": "cnn8", "pretrained": False, "dropout": 0.2}, "stages": stages}
    return Recipe.model_validate(whole | parts)


def train(network: Network, plan: Recipe, dataset: Dataset, state: State | None = None, **how: Any) -> list[Event]:
    runtime = replace(CPU, **how)
    return list(fit(network, plan, dataset, state or State(), runtime))


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)
