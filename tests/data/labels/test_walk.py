"""What is taken for a picture, and which ways are not followed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tellapart.data.labels.walk import BAD_NAME, walk
from tellapart.errors import DataError

Draw = Callable[..., Path]

needs_links = pytest.mark.skipif(os.name == "nt", reason="links need rights on this system")


def paths(root: Path, follow_links: bool = False) -> list[str]:
    return walk(root, follow_links).pictures["path"].to_list()


def test_pictures_are_found_at_any_depth_whatever_the_case_of_their_suffix(draw: Draw) -> None:
    root = draw("b/2.PNG", "a/1.jpg", "a/deep/er/3.Jpeg", "0.png")
    (root / "a" / "notes.txt").write_text("no picture")
    assert paths(root) == ["0.png", "a/1.jpg", "a/deep/er/3.Jpeg", "b/2.PNG"]
    assert walk(root).others == {".txt": 1}


def test_hidden_and_left_behind_files_are_passed_over(draw: Draw) -> None:
    root = draw("a/1.png", ".hidden/2.png", "a/.3.png", "__MACOSX/a/4.png", "a/@eaDir/5.png")
    (root / "a" / "Thumbs.db").write_bytes(b"x")
    (root / "a" / ".DS_Store").write_bytes(b"x")
    assert paths(root) == ["a/1.png"]
    assert not walk(root).others


def test_a_hidden_root_is_no_hidden_folder(draw: Draw) -> None:
    assert paths(draw(".cache/photos/a/1.png") / ".cache" / "photos") == ["a/1.png"]


def test_folders_without_pictures_are_told(draw: Draw) -> None:
    root = draw("a/1.png", "b/c/2.png")
    (root / "empty" / "below").mkdir(parents=True)
    (root / "b" / "none").mkdir()
    assert walk(root).empty_folders == ["b/none", "empty"]


@needs_links
def test_links_are_followed_inside_the_root_only(draw: Draw) -> None:
    root = draw("root/a/1.png", "root/.store/2.png", "outside/3.png", "outside/folder/4.png") / "root"
    (root / "a" / "inside.png").symlink_to("../.store/2.png")
    (root / "a" / "out.png").symlink_to(root.parent / "outside" / "3.png")
    (root / "b").symlink_to(root.parent / "outside" / "folder")
    assert paths(root) == ["a/1.png", "a/inside.png"]
    assert walk(root).outside == ("a/out.png", "b")
    assert paths(root, follow_links=True) == ["a/1.png", "a/inside.png", "a/out.png", "b/4.png"]


@needs_links
def test_links_cannot_loop(draw: Draw) -> None:
    root = draw("a/1.png", "b/2.png")
    (root / "a" / "up").symlink_to("..")
    (root / "a" / "self").symlink_to("self")
    (root / "a" / "side").symlink_to("../b")
    (root / "b" / "side").symlink_to("../a")
    (root / "loop.png").symlink_to("loop.png")
    assert paths(root, follow_links=True) == ["a/1.png", "b/2.png", "loop.png"]
    assert paths(root) == ["a/1.png", "b/2.png", "loop.png"]


@needs_links
def test_a_link_to_a_folder_gives_it_its_name_only_if_it_has_no_other(draw: Draw) -> None:
    root = draw("cats/1.png", ".store/dogs/2.png")
    (root / "also cats").symlink_to("cats")
    (root / "dogs").symlink_to(".store/dogs")
    assert paths(root) == ["cats/1.png", "dogs/2.png"]


@needs_links
def test_a_link_that_leads_nowhere_is_listed(draw: Draw) -> None:
    root = draw("a/1.png")
    (root / "a" / "gone.png").symlink_to("nothing.png")
    assert paths(root) == ["a/1.png", "a/gone.png"]


@pytest.mark.skipif(os.name == "nt", reason="names are Unicode on this system")
def test_names_that_are_no_utf8_are_listed_with_the_reason(draw: Draw) -> None:
    root = draw("a/1.png")
    try:
        (root / "a" / os.fsdecode(b"caf\xe9.png")).write_bytes((root / "a" / "1.png").read_bytes())
    except OSError:
        pytest.skip("the file system takes no such names")
    table = walk(root).pictures
    assert table.rows() == [("a/1.png", None), ("a/caf\\xe9.png", BAD_NAME)]


def test_pipes_and_folders_named_like_pictures_are_none(draw: Draw) -> None:
    root = draw("a/1.png")
    (root / "a" / "folder.png").mkdir()
    if hasattr(os, "mkfifo"):
        os.mkfifo(root / "a" / "pipe.png")
    assert paths(root) == ["a/1.png"]


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="needs a user whom rights bind")
def test_a_folder_that_cannot_be_listed_is_an_error(draw: Draw) -> None:
    root = draw("a/1.png")
    (root / "a").chmod(0)
    try:
        with pytest.raises(DataError, match="cannot be listed"):
            walk(root)
    finally:
        (root / "a").chmod(0o700)
