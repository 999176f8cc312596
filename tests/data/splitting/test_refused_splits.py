"""Splits that cannot be made, and pictures that are left out: what is said."""

from __future__ import annotations

import pytest

from tellapart.data.splitting.split import split
from tellapart.errors import SplitError, UsageError
from tests.data.splitting.test_split import catalog_of, check_parts, classes


def test_unreadable_and_unlabelled_pictures_are_left_out_and_told() -> None:
    labels = [*classes(20, 20), [], []]
    problem = [None] * 5 + ["the file is empty"] + [None] * 36
    divided = split(catalog_of(labels, problem=problem))
    check_parts(divided, set(range(40)) - {5})
    assert "1 unreadable" in divided.description
    assert "2 without a label" in divided.description


@pytest.mark.parametrize(
    ("sizes", "shares", "message", "hint"),
    [
        ((20, 2), {}, "The class 'class 1' has 2 usable pictures; at least 3 are needed", "test=0"),
        ((20, 1), {"test": 0}, "'class 1' has 1 usable picture; at least 2 are needed", "leave the class out"),
        ((20, 2, 1), {}, "'class 2' has 1 usable picture; at least 3 are needed", "Add pictures"),
        ((20, 0, 20), {}, "'class 1' has 0 usable pictures", "Add pictures"),
        ((20,), {}, "All pictures are of one class, 'class 0'", "Add pictures of another class"),
        ((), {}, "None of the 0 pictures has a label", "folder of its own"),
    ],
)
def test_too_few_pictures_are_told(sizes: tuple[int, ...], shares: dict[str, float], message: str, hint: str) -> None:
    names = [f"class {i}" for i in range(len(sizes))]
    catalog = catalog_of(classes(*sizes), classes=names)
    with pytest.raises(SplitError) as caught:
        split(catalog, **shares)
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_a_class_of_copies_is_too_small_and_others_are_named() -> None:
    catalog = catalog_of(classes(20, 5, 2), content=[*range(20), 100, 100, 100, 101, 101, 200, 201])
    with pytest.raises(SplitError) as caught:
        split(catalog)
    assert "'class 1' has 5 usable pictures, 2 where groups and exact copies count once" in str(caught.value)
    assert "Too small as well: class 2." in str(caught.value)


def test_groups_that_cannot_be_divided_are_told() -> None:
    """Each label has three groups, but one part has to go without one of them."""
    labels = [[0], [0, 1], [1], [0, 1], [2], [2]]
    catalog = catalog_of(labels, group=["a", "b", "c", "d", "a", "b"], multilabel=True)
    with pytest.raises(SplitError, match=r"class 2' has 2 usable pictures; at least 3"):
        split(catalog, validation=0.3, test=0.3)


@pytest.mark.parametrize(("validation", "test"), [(0.0, 0.2), (0.6, 0.4), (0.2, -0.1), (1.0, 0.0), (0.2, float("nan"))])
def test_shares_that_make_no_sense_are_refused(validation: float, test: float) -> None:
    with pytest.raises(UsageError, match="leave nothing to train on"):
        split(catalog_of(classes(20, 20)), validation=validation, test=test)
