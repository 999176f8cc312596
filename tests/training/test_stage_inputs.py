"""What the batches of a stage hold: changed alike where the recipe says so, in the order and number that it says."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch

from tellapart.core.events import Progress, StageStarted
from tellapart.recipe.schema import Recipe
from tellapart.training import inputs as inputs_module
from tellapart.training.inputs import evenly
from tellapart.training.pixels import Reader, from_cache, plain
from tellapart.training.prepare import stage_from_pictures
from tellapart.training.stage import epoch_items
from tests.training.fitting import CPU, Build, recipe, train


def batches_of(build: Build, plan: Recipe, epoch: int, first: int = 0) -> list[tuple[torch.Tensor, np.ndarray]]:
    """The inputs of an epoch's batches and their rows."""
    network, dataset = build(plan)
    stage = stage_from_pictures(network, plan, 0, dataset, torch.tensor(dataset.catalog.target()), CPU)
    order = stage.order(epoch)
    return list(stage.inputs.train(order, epoch, evenly(len(order), stage.config.batch_size, first)))


def test_transforms_drawn_once_a_batch_change_its_pictures_alike(build: Build) -> None:
    parts = {"augment": [{"transform": "brightness", "factor": {"uniform": [0.1, 0.9]}}], "augment_per": "batch"}
    plan = recipe([{"epochs": 2, "batch_size": 4}], **parts, data={"size": 32, "normalisation": "rescale"})
    plain_one = recipe([{"epochs": 2, "batch_size": 4, "augment": False}, {"epochs": 1}], **parts)
    load = plain(build(plain_one)[1])
    factors = []
    for epoch in (0, 1):
        for inputs, rows in batches_of(build, plan, epoch):
            means = [np.float64(load(int(row))).mean() / 255 for row in rows]
            factors.append([float(image.mean()) / mean for image, mean in zip(inputs, means, strict=True)])
    spreads = [max(batch) - min(batch) for batch in factors]
    assert max(spreads) < 0.02  # rounding to bytes
    firsts = [batch[0] for batch in factors]
    assert len({round(factor, 2) for factor in firsts}) > len(firsts) / 2  # each batch its own
    whole, rest = batches_of(build, plan, 1), batches_of(build, plan, 1, first=2)
    for (one, rows), (other, same_rows) in zip(whole[2:], rest, strict=True):  # as after a stop
        assert torch.equal(one, other)
        assert np.array_equal(rows, same_rows)


def test_threads_of_batches_that_are_changed_alike_share_one_reader(build: Build, monkeypatch) -> None:
    opened = []

    def slowly(*args: Any) -> Reader:
        opened.append(args)
        time.sleep(0.05)  # so that every thread comes to ask
        return from_cache(*args)

    monkeypatch.setattr(inputs_module, "from_cache", slowly)
    parts = {"augment": [{"transform": "brightness"}], "augment_per": "batch"}
    batches_of(build, recipe([{"epochs": 2, "batch_size": 4}], **parts), 0)
    assert len(opened) == 1


def test_an_oversampled_unshuffled_stage_shows_what_it_says(build: Build) -> None:
    plan = recipe(
        [{"epochs": 1, "batch_size": 4, "shuffle": False}], balance={"sampler": "oversample", "multiple": 1.5}
    )
    network, dataset = build(plan)
    events = train(network, plan, dataset)
    started = next(event for event in events if isinstance(event, StageStarted))
    n = len(dataset.train)
    assert sum(started.shown.values()) == round(1.5 * n)
    assert "in the order of their paths" in started.description
    steps = [event for event in events if isinstance(event, Progress)]
    assert (len(steps), sum(event.n_pictures for event in steps)) == (steps[0].steps, round(1.5 * n))
    assert np.array_equal(epoch_items(plan, dataset, torch.tensor(dataset.catalog.target()), 0, 0)[:n], dataset.train)
