"""Which to label next: unsure ones first, and not all of one kind."""

import numpy as np
import pytest

from tellapart.evaluation.active_learning import ask_next, uncertainty


def test_uncertainty_is_one_less_the_margin() -> None:
    chances = np.array([[0.5, 0.4, 0.1], [0.98, 0.01, 0.01], [1 / 3, 1 / 3, 1 / 3]])
    assert uncertainty(chances, False) == pytest.approx([0.9, 0.03, 1.0])
    assert uncertainty(np.array([[0.9, 0.5], [0.99, 0.02], [0.2, 0.1]]), True) == pytest.approx([1.0, 0.04, 0.4])


def test_of_many_alike_one_is_asked_first() -> None:
    random = np.random.default_rng(0)
    kinds = np.eye(5, dtype=np.float32)
    features = np.repeat(kinds, 20, axis=0) + random.normal(0, 0.01, (100, 5)).astype(np.float32)
    unsure = np.full(100, 0.5)
    unsure[:20] = 0.9
    order = ask_next(unsure, features, 5)
    assert order[0] < 20
    assert sorted(order // 20) == [0, 1, 2, 3, 4]
    assert sorted(ask_next(unsure, features, 1000)) == list(range(100))


def test_what_is_sure_is_asked_last() -> None:
    features = np.eye(4, dtype=np.float32)
    assert ask_next(np.array([0.1, 0.9, 0.0, 0.5]), features, 4).tolist() == [1, 3, 0, 2]
