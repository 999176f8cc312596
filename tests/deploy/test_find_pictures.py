"""Pictures named by folders, patterns and files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tellapart.deploy.find_pictures import find_pictures
from tellapart.deploy.predictor import answers
from tellapart.errors import UsageError


@pytest.fixture
def tree(tmp_path, monkeypatch) -> Path:
    """Some files, with the current folder above them; contents do not matter here."""
    names = "b.jpg a/2.PNG a/10.webp a/sub/x.tif .hidden/y.jpg a/.z.jpg a/notes.txt empty/readme.md [1].png other.dat"
    for name in names.split():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def found(*inputs):
    return [path.as_posix() for path in find_pictures(inputs)]


def test_a_folder_is_gone_through_in_order_without_what_is_hidden_or_no_picture(tree):
    assert found(".") == ["[1].png", "a/10.webp", "a/2.PNG", "a/sub/x.tif", "b.jpg"]
    assert found("a") == ["a/10.webp", "a/2.PNG", "a/sub/x.tif"]
    assert found(str(tree / "a")) == [(tree / "a" / name).as_posix() for name in ("10.webp", "2.PNG", "sub/x.tif")]


def test_files_are_taken_whatever_their_name_in_the_order_given(tree):
    assert found("other.dat", "b.jpg", "a/.z.jpg", "b.jpg") == ["other.dat", "b.jpg", "a/.z.jpg", "b.jpg"]
    assert found(".hidden") == [".hidden/y.jpg"]


def test_a_pattern_below_a_folder_whose_name_looks_like_one(tree):
    folder = tree / "p [2020]"
    folder.mkdir()
    (folder / "1.png").touch()
    assert found("p [2020]/*.png") == found(f"{folder.name}/1.png") == ["p [2020]/1.png"]
    assert found(f"{folder}/[0-9].png") == [f"{folder}/1.png"]


def test_patterns_work_where_the_shell_does_not_expand_them(tree):
    assert found("*.jpg") == ["b.jpg"]
    assert found("a/*.*") == ["a/10.webp", "a/2.PNG", "a/notes.txt"]
    assert found("**/*.tif", "?.jpg") == ["a/sub/x.tif", "b.jpg"]
    assert found("a/**") == ["a/10.webp", "a/2.PNG", "a/notes.txt", "a/sub/x.tif"]
    assert found("[ab]*") == ["a/10.webp", "a/2.PNG", "a/sub/x.tif", "b.jpg"]


def test_what_systems_leave_behind_is_passed_over_unless_it_is_named(tree):
    for name in ("a/@eaDir/b.jpg/SYNO_THUMB.jpg", "__MACOSX/a/2.png", "$RECYCLE.BIN/r.jpg"):
        (tree / name).parent.mkdir(parents=True)
        (tree / name).touch()
    assert found(".") == ["[1].png", "a/10.webp", "a/2.PNG", "a/sub/x.tif", "b.jpg"]
    assert found("**/*.jpg") == ["b.jpg"]
    assert found("*/2.PNG", ".h*/*.jpg") == ["a/2.PNG", ".hidden/y.jpg"]
    assert found("__MACOSX", "$RECYCLE.BIN/*.jpg") == ["__MACOSX/a/2.png", "$RECYCLE.BIN/r.jpg"]


def test_a_name_with_brackets_is_a_name_if_it_exists(tree):
    assert found("[1].png") == ["[1].png"]


@pytest.mark.parametrize(
    ("inputs", "told"),
    [
        (["b.jpg", "gone.jpg"], r"gone\.jpg does not exist"),
        (["*.gif"], r"No file fits \*\.gif"),
        (["a", "empty"], "empty holds no pictures"),
    ],
)
def test_what_is_not_there_is_said_at_once(tree, inputs, told):
    with pytest.raises(UsageError, match=told) as caught:
        find_pictures(inputs)
    assert caught.value.hint


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_links(tree, bundle):
    (tree / "a" / "loop").symlink_to(tree / "a", target_is_directory=True)
    (tree / "a" / "link.png").symlink_to(tree / "b.jpg")
    (tree / "a" / "broken.png").symlink_to(tree / "gone")
    assert found("a") == ["a/10.webp", "a/2.PNG", "a/broken.png", "a/link.png", "a/sub/x.tif"]
    assert found("a/broken.png") == ["a/broken.png"]
    assert "does not exist" in next(answers(bundle, find_pictures(["a/broken.png"]))).problem


def test_a_folder_that_cannot_be_opened_ends_up_among_the_unreadable(tree, bundle, monkeypatch):
    scandir = os.scandir

    def guarded(path):
        if Path(path).name == "sub":
            raise PermissionError(13, "denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    assert found("a") == ["a/10.webp", "a/2.PNG", "a/sub"]
    assert [a.problem is None for a in answers(bundle, find_pictures(["a"]))] == [False] * 3


def test_folders_are_read_while_they_are_asked_for(tree, monkeypatch):
    opened = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: opened.append(Path(path).name) or scandir(path))
    pictures = find_pictures(["a", "a/sub"])
    assert next(pictures).as_posix() == "a/10.webp"
    assert opened == ["a", "sub", "a"]  # whether there is any picture, then the first folder
