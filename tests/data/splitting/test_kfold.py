"""Folds: every picture is the test once, no group or copy is torn apart, every class is everywhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedKFold

from tellapart.data.catalog import SCHEMA, Catalog
from tellapart.data.splitting.kfold import deal, kfold
from tellapart.data.splitting.stratify import Ties
from tellapart.errors import SplitError, UsageError


def made_up(labels: list[int], copies: list[int], groups: list[str | None], split: list[str | None]) -> Catalog:
    n = len(labels)
    classes = tuple(f"class {i}" for i in range(max(labels) + 1))
    table = pl.DataFrame(
        {
            "path": [f"{i}.png" for i in range(n)],
            "labels": [[label] for label in labels],
            "split": split,
            "group": groups,
            "width": [32] * n,
            "height": [32] * n,
            "mode": ["RGB"] * n,
            "format": ["PNG"] * n,
            "orientation": [1] * n,
            "bytes": [100] * n,
            "sha256": [str(copy).encode().ljust(32, b"0") for copy in copies],
            "problem": [None] * n,
        },
        schema=SCHEMA,
    )
    return Catalog(table, classes, False, Path("pictures"))


@settings(max_examples=12)
@given(
    n_folds=st.integers(2, 5),
    sizes=st.lists(st.integers(12, 30), min_size=2, max_size=4),
    seed=st.integers(0, 10),
    grouped=st.booleans(),
)
def test_each_picture_is_the_test_once_and_ties_stay_together(
    n_folds: int, sizes: list[int], seed: int, grouped: bool
) -> None:
    labels = [label for label, size in enumerate(sizes) for _ in range(size)]
    n = len(labels)
    # Pairs of exact copies within a class, and where asked groups of two pictures each.
    copies = [i - (i % 2 if i % 7 < 2 and i and labels[i] == labels[i - i % 2] else 0) for i in range(n)]
    groups = [f"{labels[i]}-{i // 2}" if grouped else None for i in range(n)]
    catalog = made_up(labels, copies, groups, [None] * n)
    splits = kfold(catalog, n_folds, seed=seed)
    assert sorted(np.concatenate([split.test for split in splits]).tolist()) == list(range(n))
    for split in splits:
        sides = np.empty(n, int)
        for number, rows in enumerate((split.train, split.validation, split.test)):
            sides[rows] = number
            assert set(np.array(labels)[rows]) == set(labels)
        assert sum(map(len, (split.train, split.validation, split.test))) == n
        for keys in (copies, groups if grouped else []):
            for key in set(keys):
                assert len({int(sides[i]) for i in range(n) if keys[i] == key}) == 1
    again = kfold(catalog, n_folds, seed=seed)
    assert all((a.test == b.test).all() and (a.train == b.train).all() for a, b in zip(splits, again, strict=True))


def test_shares_of_classes_are_equal_and_given_test_pictures_stay_aside() -> None:
    labels = [0] * 100 + [1] * 50
    split = ["test"] * 10 + ["train"] * 140
    splits = kfold(made_up(labels, list(range(150)), [None] * 150, split), 5)
    for fold in splits:
        assert np.bincount(np.array(labels)[fold.test]).tolist() == [18, 10]
        assert not set(range(10)) & set(np.concatenate([fold.train, fold.validation, fold.test]).tolist())
        assert "Left aside: 10 given as test pictures." in fold.description


def test_a_class_smaller_than_the_folds_is_trained_on_every_time() -> None:
    labels = [0] * 20 + [1] * 4
    splits = kfold(made_up(labels, list(range(24)), [None] * 24, [None] * 24), 5)
    for split in splits:
        assert 1 in np.array(labels)[split.train]
        assert 1 in np.array(labels)[split.validation]
    assert sum((np.array(labels)[split.test] == 1).sum() for split in splits) == 4


def test_too_few_pictures_are_named() -> None:
    with pytest.raises(SplitError, match="class 1"):
        kfold(made_up([0] * 20 + [1] * 2, list(range(22)), [None] * 22, [None] * 22), 5)
    with pytest.raises(SplitError, match="too few for 9 folds"):
        kfold(made_up([0] * 4 + [1] * 4, list(range(8)), [None] * 8, [None] * 8), 9)
    with pytest.raises(UsageError):
        kfold(made_up([0] * 4 + [1] * 4, list(range(8)), [None] * 8, [None] * 8), 1)


@settings(max_examples=20)
@given(sizes=st.lists(st.integers(5, 60), min_size=2, max_size=5), n_folds=st.integers(2, 5), seed=st.integers(0, 5))
def test_folds_are_as_equal_as_scikit_learns(sizes: list[int], n_folds: int, seed: int) -> None:
    target = np.repeat(np.arange(len(sizes)), sizes)
    ties = Ties(np.arange(len(target)), target, [str(i) for i in range(len(sizes))], False)
    fold = deal(ties, n_folds, seed)
    counts = np.array([[((fold == f) & (target == c)).sum() for c in range(len(sizes))] for f in range(n_folds)])
    theirs = StratifiedKFold(n_folds, shuffle=True, random_state=seed).split(target, target)
    expected = np.array([np.bincount(target[test], minlength=len(sizes)) for _, test in theirs])
    assert (np.sort(counts, axis=0) == np.sort(expected, axis=0)).all()


@pytest.mark.parametrize("n_folds", [3, 5])
def test_folds_of_a_table_come_back_as_those_of_its_groups(n_folds: int) -> None:
    """The way out that a table with a column of folds is given: in a column `group`, with as many folds."""
    rng = np.random.default_rng(n_folds)
    own = rng.permutation(np.arange(60) % n_folds)
    labels = rng.integers(0, 3, 60).tolist()
    catalog = made_up(labels, list(range(100, 160)), [str(fold) for fold in own], [None] * 60)
    tests = [tuple(split.test) for split in kfold(catalog, n_folds, validation=0.5 / n_folds, seed=1)]
    assert sorted(tests) == sorted(tuple(np.flatnonzero(own == fold)) for fold in range(n_folds))
