"""Files are written whole or not at all, whatever happens on the way."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tellapart.core.files import cache_folder, replacing, sync_folder, write_text

posix = pytest.mark.skipif(os.name == "nt", reason="signals and permissions of POSIX")


def test_a_file_appears_whole_with_its_folders(tmp_path):
    path = tmp_path / "a" / "b" / "c.txt"
    with replacing(path) as beside:
        beside.write_text("new", encoding="utf-8")
        assert beside.parent == path.parent
        assert not path.exists()
    assert path.read_text(encoding="utf-8") == "new"
    assert list(path.parent.iterdir()) == [path]


def test_the_old_file_is_there_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "c.txt"
    write_text(path, "old")
    with replacing(path) as beside:
        beside.write_text("half", encoding="utf-8")
        assert path.read_text(encoding="utf-8") == "old"
        beside.write_text("new", encoding="utf-8")
    assert path.read_text(encoding="utf-8") == "new"


@pytest.mark.parametrize("error", [ValueError, OSError, KeyboardInterrupt, SystemExit, GeneratorExit])
@pytest.mark.parametrize("existed", [True, False])
def test_an_error_leaves_the_old_file_and_no_litter(tmp_path, error, existed):
    path = tmp_path / "c.txt"
    if existed:
        write_text(path, "old")

    def fail() -> None:
        with replacing(path) as beside:
            beside.write_text("half", encoding="utf-8")
            raise error

    with pytest.raises(error):
        fail()
    assert [file.read_text(encoding="utf-8") for file in tmp_path.iterdir()] == ["old"] * existed


def test_a_target_that_cannot_be_replaced_leaves_no_litter(tmp_path):
    (tmp_path / "c.txt" / "inside").mkdir(parents=True)
    with pytest.raises(OSError, match=r"c\.txt"):
        write_text(tmp_path / "c.txt", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["c.txt"]


def test_writers_of_the_same_file_do_not_meet(tmp_path):
    path = tmp_path / "c.txt"
    with replacing(path) as first, replacing(path) as second:
        assert first != second
        first.write_text("first", encoding="utf-8")
        second.write_text("second", encoding="utf-8")
    assert path.read_text(encoding="utf-8") == "first"  # the outer one ends last
    assert list(tmp_path.iterdir()) == [path]


KILLED = """
import sys
from pathlib import Path
from tellapart.core.files import replacing
with replacing(Path(sys.argv[1])) as beside, beside.open("w") as file:
    file.write("new" * 100_000)
    file.flush()
    print("half", flush=True)
    sys.stdin.read()
"""


@posix
def test_a_kill_in_the_middle_leaves_the_old_file(tmp_path):
    path = tmp_path / "c.txt"
    write_text(path, "old")
    command = [sys.executable, "-c", KILLED, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "half\n"
        process.send_signal(signal.SIGKILL)
        assert process.wait(30) == -signal.SIGKILL
    assert path.read_text(encoding="utf-8") == "old"
    left = [file for file in tmp_path.iterdir() if file != path]
    assert all(file.name.startswith(".") and file.name.endswith(".part") for file in left)
    write_text(path, "new")
    assert path.read_text(encoding="utf-8") == "new"


@posix
@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664), (0o000, 0o666)])
def test_permissions_are_those_that_the_umask_leaves(tmp_path, mask, mode):
    before = os.umask(mask)
    try:
        write_text(tmp_path / "ours", "x")
        (tmp_path / "plain").touch()
        assert os.umask(mask) == mask  # left as it was
    finally:
        os.umask(before)
    for name in ("ours", "plain"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == mode


def test_text_is_utf8_and_its_line_ends_stay(tmp_path):
    write_text(tmp_path / "c.txt", "naïve – ×\nsecond\n")
    assert (tmp_path / "c.txt").read_bytes() == "naïve – ×\nsecond\n".encode()


def test_a_folder_can_be_flushed(tmp_path):
    sync_folder(tmp_path)


def test_where_the_cache_is(monkeypatch, tmp_path):
    monkeypatch.setenv("TELLAPART_CACHE", str(tmp_path))
    assert cache_folder("weights") == tmp_path / "weights"
    monkeypatch.delenv("TELLAPART_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder("weights") == tmp_path / "xdg" / "tellapart" / "weights"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder("weights") == Path.home() / ".cache" / "tellapart" / "weights"
