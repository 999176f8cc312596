"""The exact head of a linear probe, against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tellapart.core.events import StageDone, StageStarted
from tellapart.errors import RecipeError
from tellapart.training.pixels import plain
from tellapart.training.stage import epoch_items
from tests.training.fitting import Build, recipe, train


def test_the_exact_head_is_the_one_of_scikit_learn(build: Build) -> None:
    from sklearn.linear_model import LogisticRegression

    plan = recipe([{"train": "head", "solver": "lbfgs", "augment": False}])
    network, dataset = build(plan)
    events = train(network, plan, dataset)
    done = events[-1]
    assert isinstance(done, StageDone)

    with torch.no_grad():
        x = torch.cat(
            [network.backbone(network.normalise(torch.from_numpy(plain(dataset)(int(r)))[None])) for r in dataset.train]
        )
    mean, std = x.mean(0), x.std(0, correction=0) + 1e-6
    z = ((x - mean) / std).numpy()
    model = LogisticRegression(C=plan.stages[0].l2[done.best_epoch - 1], max_iter=5000, tol=1e-8)
    model.fit(z, dataset.catalog.target(dataset.train))
    with torch.no_grad():
        ours = network.head(x).softmax(1).numpy()
    np.testing.assert_allclose(ours, model.predict_proba(z), atol=2e-3)


def test_the_exact_head_needs_a_linear_head(build: Build) -> None:
    plan = recipe([{"train": "all", "solver": "lbfgs"}])
    network, dataset = build(plan)
    with pytest.raises(RecipeError, match="linear head"):
        train(network, plan, dataset)


def test_the_exact_head_is_solved_on_what_the_sampler_shows(build: Build) -> None:
    stage = {"train": "head", "solver": "lbfgs", "augment": False, "l2": [1e-2]}
    weights = []
    for sampler in ("none", "weighted"):
        plan = recipe([stage], balance={"sampler": sampler})
        network, dataset = build(plan)
        begun = train(network, plan, dataset)[0]
        order = epoch_items(plan, dataset, torch.tensor(dataset.catalog.target()), 0, 0)
        assert isinstance(begun, StageStarted)
        shown = dataset.catalog.target(dataset.rows(order))
        assert list(begun.shown.values()) == np.bincount(shown).tolist()
        weights.append(network.head[-1].weight.detach().clone())
    assert not torch.equal(*weights)
