"""Pictures are sorted by links or copies: each in its class's folder, none moved, none lost, names kept apart."""

import os
import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tellapart.deploy.answer import Answer
from tellapart.deploy.sort_into import SortInto, folder_names
from tellapart.errors import UsageError

pytestmark = pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")


def answer(path, *labels, unknown=None, problem=None):
    return Answer(str(path), labels, tuple((label, 0.9) for label in labels), 0.9, unknown=unknown, problem=problem)


@pytest.fixture
def pictures(tmp_path):
    paths = [tmp_path / "new" / name for name in ("1.png", "2.png", "a/1.png", "b/1.png", "3.png")]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(path))
    return paths


def sort(folder, answers, **how):
    sorting = SortInto(folder, ("cat", "dog"), (), **how)
    assert list(sorting.sorting(answers)) == answers
    return sorting


def tree(folder):
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("copies", [False, True])
def test_each_picture_lies_in_its_class_and_where_it_was(tmp_path, pictures, copies):
    one, two, third, fourth, fifth = pictures
    answers = [answer(one, "cat"), answer(two, "dog"), answer(third, "cat"), answer(fourth, "cat")]
    answers += [answer(fifth, unknown="unlike all"), answer("gone.png", problem="no such file")]
    sorting = sort(tmp_path / "sorted", answers, copies=copies)
    contents = tree(tmp_path / "sorted")
    assert sorted(contents.values()) == sorted(map(str, pictures))
    assert {"cat/1.png", "dog/2.png", "unknown/3.png"} < contents.keys()
    assert all(name.startswith("cat/1-") for name in contents.keys() - {"cat/1.png", "dog/2.png", "unknown/3.png"})
    assert all(path.read_text() == str(path) for path in pictures)
    assert (tmp_path / "sorted/cat/1.png").is_symlink() != copies
    assert (sorting.counts, sorting.n_left_out) == ({"cat": 3, "dog": 1, "unknown": 1}, 1)
    assert "could not be read" in sorting.lines()[-1]
    sort(tmp_path / "sorted", answers, copies=copies)  # again: nothing twice
    assert tree(tmp_path / "sorted") == contents


def test_a_dry_run_counts_and_writes_nothing(tmp_path, pictures):
    sorting = sort(tmp_path / "sorted", [answer(path, "cat") for path in pictures], dry=True)
    assert not (tmp_path / "sorted").exists()
    assert sorting.lines()[0].startswith("5 pictures would be linked")
    assert "--dry-run" in sorting.lines()[-1]


def test_a_picture_of_several_labels_lies_with_each_and_one_of_none_apart(tmp_path, pictures):
    sort(tmp_path / "sorted", [answer(pictures[0], "cat", "dog"), answer(pictures[1])])
    assert tree(tmp_path / "sorted").keys() == {"cat/1.png", "dog/1.png", "none/2.png"}


def test_another_file_in_the_way_is_never_replaced(tmp_path, pictures):
    target = tmp_path / "sorted" / "cat" / "1.png"
    target.parent.mkdir(parents=True)
    target.write_text("mine")
    sort(tmp_path / "sorted", [answer(pictures[0], "cat")])
    assert target.read_text() == "mine"
    assert str(pictures[0]) in tree(tmp_path / "sorted").values()


def test_folders_that_it_cannot_sort_into(tmp_path, pictures):
    (tmp_path / "file").touch()
    (tmp_path / "a.zip").touch()
    source = str(tmp_path / "new")
    for folder, inputs, message in [
        (tmp_path / "file", (), "this is a file"),
        (tmp_path / "new" / "sorted", (source,), "answered twice"),
        (tmp_path / "new", (source,), "answered twice"),
        (tmp_path / "sorted", (str(tmp_path / "a.zip"),), "is an archive"),
    ]:
        with pytest.raises(UsageError, match=message):
            SortInto(folder, ("cat",), inputs)
    with pytest.raises(UsageError, match="no file"):
        sort(tmp_path / "sorted", [answer("-", "cat")])


NAMES = st.text(st.sampled_from(string.ascii_letters + "./\\:*? \0\n\u202eé-") | st.characters(), max_size=12)


@given(st.lists(NAMES, unique=True, max_size=8))
def test_any_class_gets_a_folder_of_its_own_below_the_folder(classes):
    names = folder_names(classes)
    assert names.keys() == {"unknown", "none", *classes}
    lower = [name.casefold() for name in names.values()]
    assert len(set(lower)) == len(lower)
    for name in names.values():
        assert name == Path(name).name
        assert name not in ("", ".", "..")
        assert not set(name) & set('<>:"/\\|?*\0\n\u202e')
        assert name == name.strip().rstrip(".")


def test_ordinary_names_stay_and_others_are_told_apart():
    names = folder_names(["Golden Retriever", "Cat", "cat", "a/b", "CON", "unknown", "..", "猫"])
    assert (names["Golden Retriever"], names["Cat"], names["unknown"], names["猫"]) == (
        "Golden Retriever",
        "Cat",
        "unknown",
        "猫",
    )
    assert names["cat"].startswith("cat-")
    assert names["a/b"].startswith("a_b-")
    assert names["CON"].startswith("CON-")
