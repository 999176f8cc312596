"""Balancing: what an epoch contains, and weights, against scikit-learn and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight

from tellapart.data.loading.sampling import (
    at_most,
    class_weights,
    contents,
    epoch_length,
    epoch_order,
    positive_weights,
)
from tellapart.errors import DataError

COUNTS = (6403, 1200, 300, 95)


def unbalanced() -> tuple[np.ndarray, np.ndarray]:
    """Rows, not starting at 0, and one label for each: four classes of the sizes above."""
    targets = np.repeat(np.arange(4), COUNTS)
    return np.arange(len(targets)) + 1000, np.random.default_rng(0).permutation(targets)


def multilabel(n: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """Five labels from common to rare, any number of them a picture, and many pictures with none."""
    rng = np.random.default_rng(1)
    return np.arange(n), (rng.random((n, 5)) < (0.3, 0.1, 0.05, 0.02, 0.01)).astype(np.uint8)


@pytest.mark.parametrize("method", ["none", "weighted", "rarest"])
@pytest.mark.parametrize("make", [unbalanced, multilabel])
def test_an_order_is_a_function_of_seed_and_epoch(method, make):
    rows, targets = make()
    first = epoch_order(rows, targets, 5, method, 3, 4)
    assert first.dtype == np.int64
    assert len(first) == len(rows)
    assert np.isin(first, rows).all()
    assert np.array_equal(first, epoch_order(rows, targets, 5, method, 3, 4))
    assert not np.array_equal(first, epoch_order(rows, targets, 5, method, 3, 5))
    assert not np.array_equal(first, epoch_order(rows, targets, 5, method, 4, 4))


@pytest.mark.parametrize("method", ["none", "weighted", "rarest"])
@pytest.mark.parametrize("shape", [(0,), (0, 3)])
def test_no_rows_no_order(method, shape):
    assert len(epoch_order(np.arange(0), np.zeros(shape, np.uint8), 3, method, 0, 0)) == 0


def test_none_shows_every_row_once():
    rows, targets = unbalanced()
    assert np.array_equal(np.sort(epoch_order(rows, targets, 4, "none", 0, 0)), rows)


def test_weighted_makes_classes_equally_frequent():
    rows, targets = unbalanced()
    shown = contents(epoch_order(rows, targets, 4, "weighted", 0, 0) - 1000, targets, 4)
    expected = len(rows) / 4
    assert np.abs(shown.per_class - expected).max() < 4 * np.sqrt(expected)


def test_weighted_counts_a_pictures_rarest_label():
    """Ten pictures with label 0 alone, one with both, five with none: drawn as 1/11, 1 and 1/5."""
    targets = np.array([[1, 0]] * 10 + [[1, 1]] + [[0, 0]] * 5, np.uint8)
    drawn = np.concatenate([epoch_order(np.arange(16), targets, 2, "weighted", 0, epoch) for epoch in range(2000)])
    weights = np.array([1 / 11] * 10 + [1] + [1 / 5] * 5)
    assert np.bincount(drawn, minlength=16) / len(drawn) == pytest.approx(weights / weights.sum(), abs=0.006)


def test_rarest_evens_out_one_label_exactly():
    rows, targets = unbalanced()
    order = epoch_order(rows, targets, 4, "rarest", 0, 0) - 1000
    shown = contents(order, targets, 4)
    assert shown.per_class.max() - shown.per_class.min() <= 1
    # Each class goes round: none of its pictures comes a third time before all have come twice.
    for number in range(4):
        times = np.bincount(order[targets[order] == number], minlength=len(rows))[targets == number]
        assert times.max() - times.min() <= 1


def test_rarest_takes_what_was_shown_least_at_every_step():
    """Against a slow reading of the rule: every picture carries a label with the lowest count so far."""
    rows, targets = multilabel(600)
    carried = np.column_stack([targets, targets.sum(axis=1) == 0])
    present = np.flatnonzero(carried.any(axis=0))
    shown = np.zeros(6, int)
    for row in epoch_order(rows, targets, 5, "rarest", 0, 0):
        least = present[shown[present] == shown[present].min()]
        assert carried[row, least].any()
        shown += carried[row]


def test_rarest_brings_rare_labels_up():
    rows, targets = multilabel()
    plain, balanced = targets.sum(axis=0), contents(epoch_order(rows, targets, 5, "rarest", 0, 0), targets, 5)
    assert plain.max() / plain.min() > 20
    assert balanced.per_class.max() / balanced.per_class.min() < 3
    assert balanced.without_label > 0


@given(
    st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=1, max_size=30),
    st.sampled_from(["none", "weighted", "rarest"]),
)
def test_any_labels_give_a_full_epoch(labels, method):
    targets = np.array(labels, np.uint8)
    order = epoch_order(np.arange(len(labels)), targets, 3, method, 0, 0)
    shown = contents(order, targets, 3)
    assert shown.n == len(labels)
    assert shown.without_label == (targets[order].sum(axis=1) == 0).sum()
    assert shown.per_class.tolist() == targets[order].sum(axis=0).tolist()


@given(
    st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=1, max_size=30),
    st.integers(1, 12),
    st.integers(0, 5),
    st.booleans(),
)
def test_at_most_so_many_of_a_class(labels, per_class, seed, multilabel):
    """Of one label so many, or all there are; of several at least that, and no more pictures than these need."""
    targets = (
        np.array(labels, np.uint8) if multilabel else np.array([row.index(True) if any(row) else -1 for row in labels])
    )
    rows = np.arange(len(labels)) * 3 + 5
    taken = at_most(rows, targets, 3, per_class, seed)
    assert np.isin(taken, rows).all()
    assert (np.diff(taken) > 0).all()
    assert np.array_equal(taken, at_most(rows, targets, 3, per_class, seed))
    every = [{*np.flatnonzero(row)} or {3} for row in targets] if multilabel else [{int(one)} for one in targets]
    carried = [every[index] for index in (taken - 5) // 3]
    for label in set.union(*every):
        wanted, n_shown = min(per_class, sum(label in one for one in every)), sum(label in one for one in carried)
        assert n_shown >= wanted if multilabel else n_shown == wanted
    assert len(taken) <= per_class * 4


def test_at_most_draws_at_random():
    rows, targets = unbalanced()
    first, second = (at_most(rows, targets, 4, 100, seed) for seed in (0, 1))
    assert len(np.intersect1d(first, second)) < 250  # all of the 95, and by chance few of the others
    assert first.mean() == pytest.approx(rows.mean(), rel=0.1)


@pytest.mark.parametrize("make", [unbalanced, multilabel])
def test_oversampling_keeps_every_picture_once_and_adds_the_rarest_label(make):
    rows, targets = make()
    order = epoch_order(rows, targets, 5, "oversample", 3, 4, multiple=2.5, shuffle=False)
    n = len(rows)
    assert len(order) == epoch_length(n, 2.5) == round(2.5 * n)
    assert np.array_equal(order[:n], rows)
    where = np.searchsorted(rows, order)
    carried = np.eye(5, dtype=int)[targets] if targets.ndim == 1 else targets.astype(int)
    assert carried[where[n:]].any(1).all()  # none without a label is added
    counts = carried.sum(0)
    present = counts > 0
    for row in where[n:]:
        assert carried[row][counts == counts[present].min()].any()  # it has one of the labels that are rarest so far
        counts += carried[row]
    shuffled = epoch_order(rows, targets, 5, "oversample", 3, 4, multiple=2.5)
    assert np.array_equal(np.sort(shuffled), np.sort(order))
    assert not np.array_equal(shuffled, order)
    assert not np.array_equal(np.sort(order), np.sort(epoch_order(rows, targets, 5, "oversample", 3, 5, 2.5)))


def test_a_picture_comes_again_only_when_all_others_of_its_label_have():
    targets = np.array([0] * 40 + [1] * 10)
    order = epoch_order(np.arange(50), targets, 2, "oversample", 0, 0, multiple=1.6, shuffle=False)
    assert sorted(order[50:]) == sorted([*range(40, 50)] * 3)


def test_nothing_to_oversample_is_said():
    with pytest.raises(DataError, match="No training picture has a label"):
        epoch_order(np.arange(3), np.zeros((3, 2), np.uint8), 2, "oversample", 0, 0, multiple=2.0)


def test_unshuffled_is_the_order_of_the_rows():
    rows, targets = unbalanced()
    assert np.array_equal(epoch_order(rows, targets, 5, "none", 3, 4, shuffle=False), rows)


def test_contents_by_hand():
    one = contents(np.array([0, 0, 2, 3]), np.array([1, 0, 1, -1]), 3)
    assert (one.n, one.n_different, one.per_class.tolist(), one.without_label) == (4, 3, [0, 3, 0], 1)
    many = contents(np.array([1, 1, 2]), np.array([[1, 1], [1, 1], [0, 0]], np.uint8), 2)
    assert (many.n, many.n_different, many.per_class.tolist(), many.without_label) == (3, 2, [2, 2], 1)


def test_class_weights_are_scikit_learns():
    _, targets = unbalanced()
    expected = compute_class_weight("balanced", classes=np.arange(4), y=targets)
    assert class_weights(targets, 4) == pytest.approx(expected)
    assert class_weights(targets, 4)[targets].mean() == pytest.approx(1)


def test_class_weights_of_classes_without_pictures_and_pictures_without_label():
    assert class_weights(np.array([0, 0, 2, -1]), 4) == pytest.approx([0.75, 1, 1.5, 1])
    assert class_weights(np.array([], np.int64), 2).tolist() == [1, 1]


def test_positive_weights_by_hand():
    targets = np.zeros((1000, 4), np.uint8)
    targets[:200, 0] = 1
    targets[:1, 1] = 1
    targets[:, 3] = 1
    assert positive_weights(targets) == pytest.approx([4, 100, 1, 0.01])
    assert positive_weights(targets, limit=3) == pytest.approx([3, 3, 1, 1 / 3])
