"""Parts are complete, disjoint, stratified and repeatable; groups and copies never cross; given parts stay."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from tellapart.core.extras import require
from tellapart.data.catalog import SCHEMA, Catalog
from tellapart.data.scan import scan
from tellapart.data.splitting.split import Split, split
from tellapart.data.splitting.split_warnings import split_warnings
from tellapart.data.splitting.stratify import tie
from tellapart.errors import MissingExtraError, SplitError, TellapartError, UsageError


def catalog_of(
    labels: Sequence[Sequence[int]],
    *,
    content: Sequence[int] | None = None,
    group: Sequence[str | None] | None = None,
    part: Sequence[str | None] | None = None,
    problem: Sequence[str | None] | None = None,
    multilabel: bool = False,
    classes: Sequence[str] | None = None,
) -> Catalog:
    """A catalog of pictures that do not exist; `content` says which are copies of each other."""
    n = len(labels)
    n_classes = 1 + max((max(row, default=0) for row in labels), default=0)
    names = classes if classes is not None else [f"class {i}" for i in range(n_classes)]
    values = {
        "path": [f"{i:05}.png" for i in range(n)],
        "labels": list(map(list, labels)),
        "split": list(part or [None] * n),
        "group": list(group or [None] * n),
        "width": [10] * n,
        "height": [10] * n,
        "mode": ["RGB"] * n,
        "format": ["PNG"] * n,
        "orientation": [1] * n,
        "bytes": [100] * n,
        "sha256": [int(c).to_bytes(32, "big") for c in (content if content is not None else range(n))],
        "problem": list(problem or [None] * n),
    }
    return Catalog(pl.DataFrame(values, schema=SCHEMA), tuple(names), multilabel, Path("photos"), "One folder a class.")


def classes(*sizes: int) -> list[list[int]]:
    return [[number] for number, size in enumerate(sizes) for _ in range(size)]


def parts(divided: Split) -> dict[str, set[int]]:
    return {name: set(getattr(divided, name).tolist()) for name in ("train", "validation", "test")}


def check_parts(divided: Split, expected: set[int]) -> None:
    every = np.concatenate([divided.train, divided.validation, divided.test])
    assert len(every) == len(set(every.tolist()))
    assert set(every.tolist()) == expected
    for rows in (divided.train, divided.validation, divided.test):
        assert rows.dtype == np.int64
        assert (np.diff(rows) > 0).all()


def crossing(divided: Split, keys: Sequence[object]) -> set[object]:
    """Keys whose pictures are in more than one part."""
    sides: dict[object, set[str]] = {}
    for name, rows in parts(divided).items():
        for row in rows:
            if keys[row] is not None:
                sides.setdefault(keys[row], set()).add(name)
    return {key for key, side in sides.items() if len(side) > 1}


def test_shares_are_those_asked_for_in_every_class() -> None:
    catalog = catalog_of(classes(400, 200, 100))
    divided = split(catalog, validation=0.2, test=0.1, seed=3)
    check_parts(divided, set(range(700)))
    assert (len(divided.train), len(divided.validation), len(divided.test)) == (490, 140, 70)
    for rows, share in ((divided.validation, 0.2), (divided.test, 0.1)):
        counts = np.bincount(catalog.target(rows))
        assert np.abs(counts - share * np.array([400, 200, 100])).max() <= 1


def test_the_same_seed_gives_the_same_parts_and_another_gives_others() -> None:
    catalog = catalog_of(classes(60, 60))
    first, again, other = split(catalog, seed=1), split(catalog, seed=1), split(catalog, seed=2)
    assert parts(first) == parts(again)
    assert first.description == again.description
    assert parts(first) != parts(other)


def test_a_division_does_not_depend_on_the_global_random_state() -> None:
    catalog = catalog_of([[i % 3] if i % 4 else [0, i % 3] for i in range(90)], multilabel=True)
    results = []
    for seed in (1, 2):
        np.random.seed(seed)
        results.append(parts(split(catalog)))
    assert results[0] == results[1]


@given(
    sizes=st.lists(st.integers(3, 40), min_size=2, max_size=5),
    validation=st.floats(0.05, 0.4),
    test=st.one_of(st.just(0.0), st.floats(0.05, 0.4)),
    seed=st.integers(0, 1000),
)
@example(sizes=[3, 3, 3, 3, 14], validation=0.0625, test=0.0, seed=0)
def test_every_class_is_on_every_side(sizes: list[int], validation: float, test: float, seed: int) -> None:
    catalog = catalog_of(classes(*sizes))
    divided = split(catalog, validation=validation, test=test, seed=seed)
    check_parts(divided, set(range(sum(sizes))))
    for rows in (divided.train, divided.validation) + ((divided.test,) if test else ()):
        assert set(catalog.target(rows)) == set(range(len(sizes)))
    assert bool(len(divided.test)) == bool(test)
    for rows, share in ((divided.validation, validation), (divided.test, test)):
        counts = np.bincount(catalog.target(rows), minlength=len(sizes))
        # A part has room for every class, so a tiny share of few pictures is raised to one picture a class.
        raised = max(share, len(sizes) / sum(sizes)) if share else 0.0
        assert (np.abs(counts - raised * np.array(sizes)) <= 2).all()


@given(data=st.data(), multilabel=st.booleans(), seed=st.integers(0, 99))
def test_groups_and_copies_never_cross(data: st.DataObject, multilabel: bool, seed: int) -> None:
    n = data.draw(st.integers(30, 80))
    of_picture = (
        st.lists(st.integers(0, 2), unique=True, max_size=3)
        if multilabel
        else st.lists(st.integers(0, 2), min_size=1, max_size=1)
    )
    labels = data.draw(st.lists(of_picture, min_size=n, max_size=n))
    content = data.draw(st.lists(st.integers(0, 60), min_size=n, max_size=n))
    group = data.draw(st.lists(st.sampled_from([None, *"abcdefghijklmnop"]), min_size=n, max_size=n))
    assume(len({i for row in labels for i in row}) == 3)
    catalog = catalog_of(labels, content=content, group=group, multilabel=multilabel)
    try:
        divided = split(catalog, validation=0.2, test=0.2, seed=seed)
    except SplitError:
        return  # too few ties for every side; that this is said rightly is tested elsewhere
    check_parts(divided, set(range(n)))
    assert not crossing(divided, content)
    assert not crossing(divided, group)
    assert parts(divided) == parts(split(catalog, validation=0.2, test=0.2, seed=seed))
    for rows in (divided.train, divided.validation, divided.test):
        assert {i for row in rows for i in labels[row]} == {0, 1, 2}


def test_groups_keep_the_shares_of_classes() -> None:
    random = np.random.default_rng(0)
    labels = [[int(i)] for i in random.choice(3, 900, p=[0.6, 0.3, 0.1])]
    group = [f"camera {i}" for i in random.integers(0, 150, 900)]
    catalog = catalog_of(labels, group=group)
    divided = split(catalog, validation=0.2, test=0.2)
    assert not crossing(divided, group)
    whole = np.bincount(catalog.target(), minlength=3) / 900
    for rows in (divided.validation, divided.test):
        assert abs(len(rows) / 900 - 0.2) < 0.04
        assert np.abs(np.bincount(catalog.target(rows), minlength=3) / len(rows) - whole).max() < 0.04
    assert "groups kept on one side" in divided.description


def test_several_labels_keep_their_shares() -> None:
    random = np.random.default_rng(0)
    target = random.random((600, 4)) < [0.5, 0.2, 0.1, 0.03]
    catalog = catalog_of([np.flatnonzero(row).tolist() for row in target], multilabel=True)
    divided = split(catalog, validation=0.2, test=0.2)
    check_parts(divided, set(range(600)))
    for rows in (divided.validation, divided.test):
        assert abs(len(rows) / 600 - 0.2) < 0.03
        assert np.abs(target[rows].mean(axis=0) - target.mean(axis=0)).max() < 0.03
        assert (catalog.target(rows).sum(axis=1) == 0).any()  # pictures without a label are on every side too


def test_one_label_that_may_be_missing_is_divided_too() -> None:
    catalog = catalog_of([[0] if i % 3 else [] for i in range(60)], multilabel=True)
    divided = split(catalog)
    check_parts(divided, set(range(60)))
    assert {len(row) for row in catalog.table["labels"].gather(divided.test)} == {0, 1}


# ---------------------------------------------------------------- given parts


def given_parts(names: str) -> list[str | None]:
    """One letter a picture: t(rain), v(alidation), e(valuation), or a dot for none."""
    return [{"t": "train", "v": "validation", "e": "test", ".": None}[letter] for letter in names]


def test_three_given_parts_stay_as_they_are() -> None:
    catalog = catalog_of(classes(4, 4), part=given_parts("ttve" * 2))
    divided = split(catalog)
    assert parts(divided) == {"train": {0, 1, 4, 5}, "validation": {2, 6}, "test": {3, 7}}
    assert "as the data have them" in divided.description


def test_validation_is_drawn_from_training_where_only_a_test_is_given() -> None:
    catalog = catalog_of(classes(30, 30), part=given_parts(("t" * 20 + "e" * 10) * 2))
    divided = split(catalog, validation=0.25)
    assert parts(divided)["test"] == set(range(20, 30)) | set(range(50, 60))
    assert len(divided.validation) == 10
    check_parts(divided, set(range(60)))


def test_a_given_validation_part_becomes_the_test() -> None:
    catalog = catalog_of(classes(30, 30), part=given_parts(("t" * 20 + "v" * 10) * 2))
    divided = split(catalog, validation=0.25)
    assert parts(divided)["test"] == set(range(20, 30)) | set(range(50, 60))
    assert len(divided.validation) == 10
    assert "their validation part is the test" in divided.description
    without_test = split(catalog, validation=0.25, test=0)
    assert parts(without_test)["validation"] == set(range(20, 30)) | set(range(50, 60))
    assert not len(without_test.test)


def test_pictures_without_a_part_are_for_training() -> None:
    catalog = catalog_of(classes(4, 4), part=given_parts("t.ve" * 2))
    assert parts(split(catalog))["train"] == {0, 1, 4, 5}


def test_a_training_part_alone_is_divided() -> None:
    catalog = catalog_of(classes(40, 40), part=given_parts("t" * 80))
    divided = split(catalog)
    assert len(divided.validation) == 12
    assert len(divided.test) == 12


def test_nothing_to_train_on_is_told() -> None:
    catalog = catalog_of(classes(4, 4), part=given_parts("eeev" * 2))
    with pytest.raises(SplitError, match="None of the pictures is for training"):
        split(catalog)


def test_copies_and_groups_across_given_parts_are_told_not_moved() -> None:
    part = given_parts("ttvettve")
    catalog = catalog_of(classes(4, 4), content=[0, 1, 0, 0, 4, 5, 6, 7], group=[None, *"aaaaaaa"], part=part)
    divided = split(catalog)
    assert parts(divided) == {"train": {0, 1, 4, 5}, "validation": {2, 6}, "test": {3, 7}}
    assert "Leak: 1 picture for the test is an exact copy of training pictures." in divided.description
    assert "Leak: 2 pictures for validation are of a group with training pictures." in divided.description


def test_classes_that_training_lacks_are_told() -> None:
    catalog = catalog_of(classes(10, 10, 2), part=given_parts("t" * 20 + "ee"))
    assert "Without a picture for training: class 2." in split(catalog).description


def test_warnings_name_leaks_missing_classes_and_a_validation_part_taken_as_test() -> None:
    part = given_parts("ttttvvtttvv")
    catalog = catalog_of(classes(6, 4, 1), content=[*range(4), 0, 5, 6, 7, 8, 9, 9], part=part)
    divided = Split(np.array([0, 1, 2, 6, 7]), np.array([3, 8]), np.array([4, 5, 9, 10]), catalog.digest, 0, "by hand")
    assert split_warnings(catalog, divided) == [
        "Leak: 1 picture for the test is an exact copy of training pictures.",
        "Without a picture for training: class 2.",
        "Training as the data have it; their validation part is the test, so that no score is of pictures that chose "
        "the model.",
    ]


def test_warnings_name_copies_between_validation_and_test_and_what_is_left_out() -> None:
    problem = [None] * 7 + ["truncated"]
    catalog = catalog_of(classes(6, 2), content=[0, 1, 2, 3, 2, 5, 6, 7], problem=problem)
    divided = Split(np.array([0, 1, 6]), np.array([2, 3]), np.array([4, 5]), catalog.digest, 0, "")
    assert split_warnings(catalog, divided) == [
        "Leak: 1 picture for the test is an exact copy of validation pictures.",
        "Without a picture for validation: class 1.",
        "Without a picture for the test: class 1.",
        "Left out: 1 unreadable.",
    ]


def test_a_plain_split_has_no_warnings() -> None:
    catalog = catalog_of(classes(20, 20))
    assert split_warnings(catalog, split(catalog)) == []


# ---------------------------------------------------------------- ties


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(-1, 5)), min_size=1, max_size=30))
def test_ties_are_the_closure_of_copies_and_groups(rows: list[tuple[int, int]]) -> None:
    ties = tie(np.array([c for c, _ in rows]), np.array([g for _, g in rows]))
    expected = list(range(len(rows)))  # the plainest way: join until nothing changes
    changed = True
    while changed:
        changed = False
        for i, (copy, group) in enumerate(rows):
            for j, (other_copy, other_group) in enumerate(rows):
                if (copy == other_copy or (group == other_group and group >= 0)) and expected[i] != expected[j]:
                    expected[i] = expected[j] = min(expected[i], expected[j])
                    changed = True
    same = [[a == b for b in ties] for a in ties]
    assert same == [[a == b for b in expected] for a in expected]
    assert sorted(set(ties.tolist())) == list(range(len(set(expected))))


# ---------------------------------------------------------------- files and changes


def test_a_missing_package_is_asked_for() -> None:
    with pytest.raises(MissingExtraError) as caught:
        require("no_such_package_at_all.part", "Dividing pictures", "train", "no-such-package")
    assert isinstance(caught.value, TellapartError)
    assert "Dividing pictures needs the package 'no-such-package'" in str(caught.value)
    assert "pip install 'tellapart[train]'" in str(caught.value)
    assert require("json", "Reading", "train") is json


@pytest.mark.parametrize("folder", ["fruit", "breeds", "grocery", "animals"])
def test_real_folders_are_divided(folder: str, test_data: Path) -> None:
    catalog = scan(test_data / folder)
    divided = split(catalog)
    check_parts(divided, set(catalog.readable.tolist()))
    if catalog.table["split"].null_count() == len(catalog):
        assert not crossing(divided, catalog.table["sha256"].to_list())
        target = catalog.target(divided.test)
        present = np.unique(target) if target.ndim == 1 else np.flatnonzero(target.any(axis=0))
        assert len(present) == len(catalog.classes)


# ---------------------------------------------------------------- numbers of pictures


@pytest.mark.parametrize("multilabel", [False, True])
@pytest.mark.parametrize(("validation", "test"), [(15, 17), (30, 0.1), (0.2, 40), (8, 0)])
def test_parts_may_be_asked_for_by_their_number_of_pictures(multilabel: bool, validation: float, test: float) -> None:
    rng = np.random.default_rng(1)
    labels = [np.flatnonzero(rng.random(4) < 0.4).tolist() if multilabel else [i % 4] for i in range(203)]
    made = split(numbered(labels, multilabel), validation=validation, test=test, seed=3)
    for amount, rows in ((validation, made.validation), (test, made.test)):
        if amount >= 1 or amount == 0:
            assert len(rows) == amount
    assert len(made.train) + len(made.validation) + len(made.test) == 203
    again = split(numbered(labels, multilabel), validation=validation, test=test, seed=3)
    np.testing.assert_array_equal(made.test, again.test)


def test_numbers_that_ties_do_not_allow_come_close_and_are_said() -> None:
    made = split(numbered([[i % 2] for i in range(60)], groups=[i // 6 for i in range(60)]), validation=7, test=13)
    assert (len(made.validation), len(made.test)) == (6, 12)
    assert "6 instead of 7 for validation" in made.description
    assert "12 instead of 13 for the test" in made.description


def test_numbers_of_pictures_that_cannot_be_had_are_refused() -> None:
    catalog = numbered([[i % 2] for i in range(20)])
    with pytest.raises(
        SplitError, match="There are 20 pictures to divide: 10 for the test and 10 for validation leave"
    ):
        split(catalog, validation=10, test=10)
    for wrong in (1, 2.5, -3):
        with pytest.raises(UsageError):
            split(catalog, validation=0.1, test=wrong)


def numbered(labels: list[list[int]], multilabel: bool = False, groups: list[int] | None = None) -> Catalog:
    """A catalog with these labels, each picture different from the others."""
    n = len(labels)
    columns: dict[str, Any] = {name: [None] * n for name in SCHEMA}
    columns |= {"path": [f"{i}.png" for i in range(n)], "labels": labels}
    columns["sha256"] = [i.to_bytes(4, "big") for i in range(n)]
    columns["group"] = [None] * n if groups is None else [str(group) for group in groups]
    names = tuple(f"c{i}" for i in range(1 + max(i for line in labels for i in line)))
    return Catalog(pl.DataFrame(columns, schema=SCHEMA), names, multilabel, Path("/nowhere"))
