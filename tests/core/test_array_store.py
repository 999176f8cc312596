"""Stores: what was put in comes out, whatever else happens to the files."""

from __future__ import annotations

import os
import shutil
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tellapart.core.array_store import KEY, Store

V0_1 = Path(__file__).parents[1] / "compatibility/v0_1/cache"


def keys(*numbers: int) -> np.ndarray:
    return np.array([number.to_bytes(16, "big") for number in numbers], KEY)


def item(number: int, size: int = 50) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, size, np.uint8)


def put(store: Store, *numbers: int) -> None:
    store.append(keys(*numbers), [item(number) for number in numbers])


def missing(store: Store, *numbers: int) -> list[int]:
    """Numbers that are not there; the others are what was put in."""
    offsets = store.find(keys(*numbers))["offset"].tolist()
    values = store.values_file.read_bytes() if store.values_file.exists() else b""
    for number, offset in zip(numbers, offsets, strict=True):
        assert offset < 0 or values[offset : offset + 50] == item(number).tobytes()
    return [number for number, offset in zip(numbers, offsets, strict=True) if offset < 0]


@given(parts=st.lists(st.lists(st.integers(0, 300), unique=True, max_size=8), max_size=6), asked=st.integers(0, 300))
def test_what_was_put_in_comes_out(
    tmp_path_factory: pytest.TempPathFactory, parts: list[list[int]], asked: int
) -> None:
    folder = tmp_path_factory.mktemp("store")
    store = Store(folder)
    for part in parts:
        put(store, *part)
    there = sorted({number for part in parts for number in part})
    for each in (store, Store(folder)):
        assert missing(each, *there) == []
        assert missing(each, asked) == ([] if asked in there else [asked])


def test_sizes_are_kept(tmp_path: Path) -> None:
    store = Store(tmp_path)
    offset = store.append(keys(1, 2), [item(1, 6), item(2, 12)], np.array([[1, 2], [2, 2]]))
    found = Store(tmp_path).find(keys(2, 1))
    assert found["offset"].tolist() == offset[::-1].tolist() == [6, 0]
    assert found["height"].tolist() == [2, 1]
    assert found["width"].tolist() == [2, 2]


def test_two_who_write_see_each_other_and_write_nothing_twice(tmp_path: Path) -> None:
    one, other = Store(tmp_path), Store(tmp_path)
    put(one, 1, 2)
    put(other, 2, 3)
    put(one, 3, 4)
    assert missing(one, 1, 2, 3, 4) == missing(other, 1, 2, 3, 4) == []
    assert one.values_file.stat().st_size == 4 * 50


@pytest.mark.parametrize("lost", [1, 10, 40, 100])
def test_a_torn_block_counts_as_nothing_and_is_written_over(tmp_path: Path, lost: int) -> None:
    put(Store(tmp_path), 1, 2)
    put(Store(tmp_path), 3, 4)
    index = tmp_path / "index.bin"
    os.truncate(index, index.stat().st_size - lost)
    store = Store(tmp_path)
    assert missing(store, 1, 2, 3, 4) == [3, 4]
    put(store, 4, 5)
    assert missing(Store(tmp_path), 1, 2, 3, 4, 5) == [3]


def test_items_without_a_block_are_written_over(tmp_path: Path) -> None:
    put(Store(tmp_path), 1)
    with (tmp_path / "values.bin").open("ab") as file:
        file.write(b"half an item")
    put(Store(tmp_path), 2)
    assert missing(Store(tmp_path), 1, 2) == []


def test_every_byte_that_changes_is_noticed_and_mended(tmp_path: Path) -> None:
    put(Store(tmp_path), 1, 2)
    put(Store(tmp_path), 3)
    for name in ("values.bin", "index.bin"):
        whole = (tmp_path / name).read_bytes()
        for at in range(len(whole)):
            changed = bytearray(whole)
            changed[at] ^= 0x10
            (tmp_path / name).write_bytes(changed)
            lost = missing(Store(tmp_path), 1, 2, 3)  # none of those found is wrong
            assert lost in ([1, 2], [3], [1, 2, 3])
        (tmp_path / name).write_bytes(whole)
    changed = bytearray((tmp_path / "values.bin").read_bytes())
    changed[60] ^= 1
    (tmp_path / "values.bin").write_bytes(changed)
    store = Store(tmp_path)
    assert missing(store, 1, 2, 3) == [1, 2]
    put(store, 1, 2)
    for each in (store, Store(tmp_path)):
        assert missing(each, 1, 2, 3) == []


def test_a_file_that_is_gone_or_shorter_is_noticed(tmp_path: Path) -> None:
    put(Store(tmp_path), 1)
    put(Store(tmp_path), 2)
    os.truncate(tmp_path / "values.bin", 70)
    assert missing(Store(tmp_path), 1, 2) == [2]
    (tmp_path / "values.bin").unlink()
    store = Store(tmp_path)
    assert missing(store, 1, 2) == [1, 2]
    put(store, 1, 2)
    assert missing(Store(tmp_path), 1, 2) == []


WRITER = """
import sys
from pathlib import Path
import numpy as np
from tellapart.core.array_store import KEY, Store
store, first = Store(Path(sys.argv[1])), int(sys.argv[2])
for number in range(first, first + 100000):
    key = np.array([number.to_bytes(16, "big")], KEY)
    store.append(key, [np.random.default_rng(number).integers(0, 256, 50, np.uint8)])
    if number == first:
        print("ready", flush=True)
"""


def test_writers_that_are_killed_leave_nothing_half(tmp_path: Path) -> None:
    """Two at a time, again and again; what is in the index afterwards is whole."""
    random = np.random.default_rng(0)
    for turn in range(4):
        command = [sys.executable, "-c", WRITER, str(tmp_path)]
        writers = [subprocess.Popen([*command, str(start)], stdout=subprocess.PIPE) for start in (0, 10_000)]
        for writer in writers:
            assert writer.stdout
            writer.stdout.readline()
        time.sleep(random.uniform(0.05, 0.2))
        for writer in writers:
            writer.send_signal(signal.SIGKILL)
            writer.communicate()
        put(Store(tmp_path), 20_000 + turn)
    store = Store(tmp_path)
    many = [*range(500), *range(10_000, 10_500), *range(20_000, 20_004)]
    assert 20_003 not in missing(store, *many)
    assert len(missing(store, *many)) < 1000
    assert store.values_file.stat().st_size == store.n_bytes


def test_a_full_disk_leaves_the_store_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    resource = pytest.importorskip("resource")
    store = Store(tmp_path)
    put(store, 1)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (70, limits[1]))
        with pytest.raises(OSError, match="large"):
            put(store, 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    put(store, 3)
    assert missing(Store(tmp_path), 1, 2, 3) == [2]


@pytest.mark.parametrize("kind", ["activations", "pictures"])
def test_stores_of_0_1_are_read_whole_and_added_to(kind: str, tmp_path: Path) -> None:
    for number, folder in enumerate(sorted((V0_1 / kind).iterdir())):
        copy = shutil.copytree(folder, tmp_path / str(number))
        index, old, at = (copy / "index.bin").read_bytes(), [], 0
        while at < len(index):  # read by hand, so that a changed format is noticed
            assert index[at : at + 8] == b"TAstore1"
            (n,) = struct.unpack_from("<I", index, at + 24)
            old += [index[at + 32 + 32 * entry :][:16] for entry in range(n)]
            at += 32 + 32 * n + 4
        assert old
        for _ in range(2):
            assert (Store(copy).find(np.array(old, KEY))["offset"] >= 0).all()
            put(Store(copy), 1)
        assert missing(Store(copy), 1) == []
