"""The exact head of a linear probe, against scikit-learn."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from tellapart.core.events import StageDone, StageStarted, Validated
from tellapart.errors import RecipeError
from tellapart.training.linear_probe import end_to_extend, out_of_fold, solutions, strength
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


def test_a_list_goes_on_by_the_ratio_at_its_end() -> None:
    l2 = [1e-3, 1e-2, 3e-2]
    assert [strength(l2, n) for n in (1, 3, 4, 5)] == pytest.approx([1e-3, 3e-2, 9e-2, 27e-2])
    assert [strength(l2, n) for n in (-1, -2)] == pytest.approx([1e-4, 1e-5])
    assert strength([1e-9, 1e8], 100) == 1e9
    assert [end_to_extend(l2, best) for best in (1, 2, 3)] == [-1, 0, 1]
    assert end_to_extend([1e-2], 1) == end_to_extend([1e-2, 1e-3], 1) == 0


@pytest.mark.parametrize(("l2", "end"), [([1e-8, 1e-7], 1), ([1e5, 1e6], -1)])
def test_a_list_is_extended_while_its_best_lies_at_an_end(build: Build, l2: list[float], end: int) -> None:
    plan = recipe([{"train": "head", "solver": "lbfgs", "augment": False, "l2": l2}])
    network, dataset = build(plan)
    events = train(network, plan, dataset)
    losses = [event.validation_loss for event in events if isinstance(event, Validated)]
    done = events[-1]
    assert isinstance(done, StageDone)
    beyond = losses[2:]
    if (losses[1] < losses[0]) != (end > 0):
        assert not beyond  # the best lies at the other end for these pictures
        return
    assert 0 < len(beyond) <= 6
    # As long as it gets better: all but the last tried are better than the one before.
    in_turn = [min(losses[:2]), *beyond]
    assert all(b < a for a, b in pairwise(in_turn[:-1]))
    assert "beyond the end of the list" in done.reason
    assert losses[done.best_epoch - 1] == min(losses)


def test_cross_validation_chooses_the_strength_without_the_validation_pictures(build: Build) -> None:
    stage = {"train": "head", "solver": "lbfgs", "augment": False, "l2": [1e-4, 1e-2, 1.0], "folds": 3}
    plan = recipe([stage])
    network, dataset = build(plan)
    chosen = train(network, plan, dataset)[-1]
    weights = network.head[-1].weight.detach().clone()
    # Other validation pictures, the same choice and the same head.
    again, dataset = build(plan)
    fewer = replace(dataset, validation=dataset.validation[:2])
    assert train(again, plan, fewer)[-1] == chosen
    assert torch.equal(again.head[-1].weight, weights)
    assert torch.is_grad_enabled()


def test_the_loss_of_cross_validation_is_that_of_each_fold_fitted_alone() -> None:
    random = np.random.default_rng(0)
    y = random.integers(0, 3, 60)
    x = (random.normal(size=(60, 5)) + np.eye(3, 5)[y]).astype(np.float32)
    fold = np.arange(60) % 3
    loss = torch.nn.functional.cross_entropy
    features, target = torch.from_numpy(x), torch.from_numpy(y)
    (value,) = out_of_fold(features, target, fold, loss, lambda: [0.1], 1, int(y.max()) + 1)
    total = 0.0
    for number in range(3):
        inside, head = torch.from_numpy(fold == number), torch.nn.Linear(5, 3)
        list(solutions(features[~inside], target[~inside], head, loss, int((~inside).sum()), [0.1]))
        with torch.no_grad():
            total += float(loss(head(features[inside]), target[inside], reduction="sum"))
    assert value == pytest.approx(total / 60, rel=1e-4)
