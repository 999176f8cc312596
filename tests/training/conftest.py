"""A small material on real files, and a small network, for the tests of the training room."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tellapart.data.scan import scan
from tellapart.data.splitting.split import split
from tellapart.models.create import create_network
from tellapart.models.network import Network
from tellapart.recipe.schema import Recipe
from tellapart.training.dataset import Dataset

Build = Callable[[Recipe], tuple[Network, Dataset]]


@pytest.fixture
def build(picture_folder: Callable[..., Path]) -> Build:
    """From a recipe to a network with its initial weights, and the pictures it shall learn."""
    catalog = scan(picture_folder(n=12))
    parts = split(catalog, validation=0.25, test=0.25)

    def made(recipe: Recipe) -> tuple[Network, Dataset]:
        torch.manual_seed(recipe.seed)
        network = create_network(recipe.model, len(catalog.classes), recipe.data)
        preprocessing = network.preprocessing
        per_batch = recipe.augment_per == "batch"
        rows, seed = (parts.train, parts.validation), recipe.seed
        return network, Dataset(catalog, *rows, preprocessing, recipe.augment, seed, recipe.data.ahead, per_batch)

    return made
