"""A stage that trains from pictures shows one of its views of each, drawn anew in every epoch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from tellapart.data.scan import scan
from tellapart.models.create import create_network
from tellapart.recipe.schema import Data, Model, Stage
from tellapart.training.dataset import Dataset
from tellapart.training.inputs import evenly, inputs_from_pictures, network_input
from tellapart.training.pixels import fixed_view
from tellapart.training.runtime import Runtime

VIEWS = [[{"transform": "horizontal_flip"}], [{"transform": "vertical_flip"}]]


def test_each_picture_comes_in_one_of_the_views_and_both_occur(picture_folder: Any) -> None:
    catalog = scan(picture_folder())
    network = create_network(Model(name="small-cnn", pretrained=False), 3, Data(size=32))
    rows = np.arange(24, dtype=np.int64)
    dataset = Dataset(catalog, rows, rows[:3], network.preprocessing, (), 0)
    stage = Stage.model_validate({"views": VIEWS, "batch_size": 8})
    runtime = Runtime("cpu")
    inputs_of_stage = inputs_from_pictures(network, stage, dataset, runtime)

    def shown(epoch: int) -> list[int]:
        """Which view each picture came in."""
        found = []
        for inputs, its in inputs_of_stage.train(rows, epoch, evenly(len(rows), 8)):
            for picture, row in zip(inputs, its, strict=True):
                views = [torch.from_numpy(fixed_view(dataset, stage.views, n)(int(row)))[None] for n in range(2)]
                same = [torch.equal(network_input(network, view, runtime)[0], picture) for view in views]
                assert sum(same) == 1
                found.append(same.index(True))
        return found

    first = shown(0)
    assert set(first) == {0, 1}
    assert shown(0) == first
    assert shown(1) != first
