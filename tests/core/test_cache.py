"""The cache's limit: the oldest goes first, and never what somebody uses."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tellapart.cli import main
from tellapart.core import cache
from tellapart.core.array_store import KEY, Store
from tellapart.errors import CacheError, UsageError

Fill = Callable[[str, int, int], Path]


@pytest.fixture
def fill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fill:
    """Writes a store of so many bytes that was last used at some time, and lets go of it."""
    monkeypatch.setenv("TELLAPART_CACHE", str(tmp_path))

    def filled(name: str, n_bytes: int, used: int) -> Path:
        folder = tmp_path / name
        Store(folder).append(np.array([b"1"], KEY), [np.zeros(n_bytes, np.uint8)])
        os.utime(folder / "used", (used, used))
        return folder

    return filled


def test_the_least_recently_used_goes_first(fill: Fill, monkeypatch: pytest.MonkeyPatch) -> None:
    oldest = fill("activations/a", 5000, 100)
    newest = fill("activations/b", 5000, 300)
    middle = fill("pictures/c", 5000, 200)
    monkeypatch.setenv("TELLAPART_CACHE_LIMIT", "11k")
    assert cache.make_room()
    assert [path.exists() for path in (oldest, middle, newest)] == [False, True, True]
    assert cache.make_room(more=5000)
    assert [path.exists() for path in (middle, newest)] == [False, True]


def test_to_open_is_to_use(fill: Fill, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = fill("activations/a", 5000, 100), fill("activations/b", 5000, 200)
    Store(first)
    monkeypatch.setenv("TELLAPART_CACHE_LIMIT", "6k")
    assert cache.make_room()
    assert first.exists()
    assert not second.exists()


def test_what_is_in_use_stays(fill: Fill, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = fill("activations/a", 5000, 100)
    store = Store(folder)
    monkeypatch.setenv("TELLAPART_CACHE_LIMIT", "0")
    assert not cache.make_room()
    freed, left = cache.clear()
    assert (freed, [each.path for each in left]) == (0, [folder])
    assert store.find(np.array([b"1"], KEY))["offset"] == 0
    del store
    assert cache.clear()[1] == []
    assert not folder.exists()


def test_one_kind_is_cleared(fill: Fill, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    activations, pictures = fill("activations/a", 2048, 100), fill("pictures/b", 2048, 100)
    monkeypatch.setattr("sys.argv", ["tellapart", "cache", "clear", "pictures"])
    with pytest.raises(SystemExit, match="0"):
        main.main()
    assert "2.1 KiB given back." in capsys.readouterr().out
    assert activations.exists()
    assert not pictures.exists()
    with pytest.raises(UsageError, match="no kind of cache called 'photos'"):
        cache.clear("photos")


def test_the_table_says_what_lies_there(
    fill: Fill, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fill("activations/a", 1 << 20, 86400 * 365)
    fill("activations/b", 1 << 20, 86400 * 366)
    monkeypatch.setenv("TELLAPART_CACHE_LIMIT", "20 GB")
    monkeypatch.setattr("sys.argv", ["tellapart", "cache"])
    with pytest.raises(SystemExit, match="0"):
        main.main()
    said = capsys.readouterr().out
    line = next(line for line in said.splitlines() if line.startswith("activations"))
    assert line.split()[:6] == ["activations", "2", "2.0", "MiB", "1971-01-02", line.split()[5]]
    assert "2.0 MiB of 20.0 GiB in" in said


@pytest.mark.parametrize(
    ("text", "expected"), [("0", 0), ("500M", 500 << 20), ("1.5g", 3 << 29), ("20 GiB", 20 << 30), ("7", 7)]
)
def test_limits_are_read(monkeypatch: pytest.MonkeyPatch, text: str, expected: int) -> None:
    monkeypatch.setenv("TELLAPART_CACHE_LIMIT", text)
    assert cache.limit() == expected


@pytest.mark.parametrize("text", ["much", "-1", "5 apples"])
def test_what_is_no_limit_is_said(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("TELLAPART_CACHE_LIMIT", text)
    with pytest.raises(UsageError, match="no size"):
        cache.limit()


def test_a_disk_without_room_is_said_before_the_work(fill: Fill) -> None:
    folder = fill("activations/a", 5000, 100)
    with pytest.raises(CacheError, match=r"needs room for 1024\.0 TiB"):
        cache.check_disk(1 << 50)
    assert folder.exists()  # removing it would not have helped


def test_room_is_made_on_a_disk_that_is_almost_full(fill: Fill, monkeypatch: pytest.MonkeyPatch) -> None:
    older, newer = fill("activations/a", 5000, 100), fill("activations/b", 5000, 200)
    monkeypatch.setattr(cache, "_free", lambda place: cache._SPARE + (0 if older.exists() else 5000))
    cache.check_disk(4000)
    assert not older.exists()
    assert newer.exists()
