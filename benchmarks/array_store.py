"""The array store against LMDB: speed in turn, then kills, changed bits, a torn file and a full disk.

LMDB gets the best layout that was tried. Each item is a value, with its size and a CRC-32 of key and item in front. A
portion is one transaction. A reader holds one read transaction and a view of each item. The variants: as the array
store does it (nothing is flushed to disk), flushed at each portion, and verified by py-lmdb's `verify` when opened.

LMDB is no dependency of Tellapart, so it is installed by hand:

    uv pip install --python .venv/bin/python lmdb
    python -m benchmarks.array_store [--rounds 7] [--kills 30] [--flips 1500]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import Any

import lmdb
import lmdb.verify
import numpy as np
import numpy.typing as npt

from benchmarks import record
from tellapart.core.array_store import KEY, MappedValues, Store

Array = npt.NDArray[Any]
#: Number of items, one item, and how many bytes the caches write at a time.
KINDS = {
    "frames uint8": (3600, np.empty((224, 224, 3), np.uint8), 1 << 24),
    "features float32": (20_000, np.empty(1280, np.float32), 1 << 26),
    "features float16": (20_000, np.empty(1280, np.float16), 1 << 26),
}


class ArrayStore:
    """Tellapart's own, read as its caches read it."""

    def __init__(self, folder: Path) -> None:
        self.store = Store(folder)

    def append(self, keys: Array, items: Sequence[Array]) -> None:
        """Write a portion."""
        self.store.append(keys, [item.reshape(-1).view(np.uint8) for item in items])

    def read(self, keys: Array, n_bytes: int) -> list[Array | None]:
        """Each item; None where it is missing or damaged."""
        offsets = self.store.find(keys)["offset"].tolist()
        data = MappedValues(self.store).data if max(offsets) >= 0 else b""
        return [np.frombuffer(data, np.uint8, n_bytes, offset) if offset >= 0 else None for offset in offsets]

    def open(self, keys: Array, like: Array) -> None:
        """Check every item, and get ready to gather."""
        import torch

        offset = self.store.find(keys)["offset"]
        assert (offset >= 0).all()
        self.mapped = MappedValues(self.store)
        self.values = torch.frombuffer(self.mapped.data, dtype=torch.from_numpy(like).dtype).view(-1, like.size)
        self.index = torch.from_numpy(offset // like.nbytes)

    def gather(self, rows: Array, out: Any) -> None:
        """Copy items to `out`."""
        import torch

        torch.index_select(self.values, 0, self.index[torch.from_numpy(rows)], out=out)

    def close(self) -> None:
        """Let go of the files."""
        self.store.hold.close()


class Lmdb:
    """The same on LMDB."""

    head = struct.Struct("<IIIxxxx")  # CRC-32 of key and item, height, width

    def __init__(self, folder: Path, flushed: bool = False, verified: bool = False) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        if verified and (folder / "data.mdb").exists() and not _is_sound(folder):
            (folder / "data.mdb").unlink()
        # A map cannot grow while this process reads from it, so it is as large as any cache will ever be.
        options = {"sync": flushed, "metasync": flushed, "max_readers": 1024, "readahead": False}
        self.env = lmdb.open(str(folder), map_size=1 << 40, **options)

    def append(self, keys: Array, items: Sequence[Array]) -> None:
        """Write a portion."""
        with self.env.begin(write=True, buffers=True) as transaction:
            for key, item in zip(_bytes(keys), items, strict=True):
                data = item.reshape(-1).view(np.uint8).data
                head = self.head.pack(
                    zlib.crc32(data, zlib.crc32(key)), *(item.shape if item.ndim == 3 else (0, 0))[:2]
                )
                # A damaged item is written again, one that another process has written is not.
                transaction.put(key, head + data, overwrite=self._item(transaction, key) is None)

    def read(self, keys: Array, n_bytes: int) -> list[Array | None]:
        """Each item; None where it is missing or damaged."""
        with self.env.begin(buffers=True) as transaction:
            views = [self._item(transaction, key) for key in _bytes(keys)]
            return [None if view is None else np.array(view) for view in views]

    def open(self, keys: Array, like: Array) -> None:
        """Check every item, and get ready to gather."""
        import torch

        self.transaction = self.env.begin(buffers=True)
        views = [self._item(self.transaction, key) for key in _bytes(keys)]
        self.views = [torch.from_numpy(np.frombuffer(view, like.dtype)) for view in views if view is not None]
        assert len(self.views) == len(keys)

    def gather(self, rows: Array, out: Any) -> None:
        """Copy items to `out`."""
        import torch

        torch.stack([self.views[row] for row in rows.tolist()], out=out)

    def close(self) -> None:
        """Let go of the files."""
        self.env.close()

    def _item(self, transaction: Any, key: bytes) -> memoryview | None:
        view = transaction.get(key)
        if view is None or len(view) < self.head.size:
            return None
        item = view[self.head.size :]
        return item if zlib.crc32(item, zlib.crc32(key)) == self.head.unpack(view[: self.head.size])[0] else None


CONTESTANTS: dict[str, Callable[[Path], ArrayStore | Lmdb]] = {
    "array store": ArrayStore,
    "LMDB": Lmdb,
    "LMDB, flushed": partial(Lmdb, flushed=True),  # else a power cut may destroy the file
    "LMDB, verified": partial(Lmdb, verified=True),  # walks through the file first; a damaged one is removed
}


def _is_sound(folder: Path) -> bool:
    with suppress(lmdb.verify.VerifyError, OSError):
        return not lmdb.verify.verify(str(folder))
    return False


def _bytes(keys: Array) -> list[bytes]:
    return [key.ljust(16, b"\0") for key in keys.tolist()]


def keys_of(numbers: Sequence[int]) -> Array:
    return np.array([hashlib.sha256(str(number).encode()).digest()[:16] for number in numbers], KEY)


def private() -> int:
    """Bytes of this process alone."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) * 1024


def turn(name: str, kind: str, folder: str) -> None:
    """Print the seconds of each part: of the processor, which other programs do not change, and by the clock."""
    import torch  # here: the writers that are killed need none, and start faster

    n, like, portion = KINDS[kind]
    torch.set_num_threads(1)
    random, keys = np.random.default_rng(0), keys_of(range(n))
    base = random.integers(0, 256, like.nbytes + n, np.uint8)
    shape = like.shape if like.ndim == 3 else -1
    items = [base[row : row + like.nbytes].reshape(shape) for row in range(n)]
    each, out = portion // like.nbytes, torch.empty(64, like.size, dtype=torch.from_numpy(like).dtype)
    figures: dict[str, float] = {}

    def timed(part: str, work: Callable[[], object]) -> None:
        wall, processor = time.perf_counter(), time.process_time()
        work()
        figures[f"{part}, processor s"] = time.process_time() - processor
        figures[f"{part}, s"] = time.perf_counter() - wall

    def read(rows: Array, batch: int) -> None:
        for first in range(0, n, batch):
            part = rows[first : first + batch]
            store.gather(part, out[: len(part)])

    def reopen() -> None:
        nonlocal store
        store = CONTESTANTS[name](Path(folder))
        store.open(keys, like)

    store = CONTESTANTS[name](Path(folder))
    parts = [slice(first, first + each) for first in range(0, n, each)]
    timed("write", lambda: [store.append(keys[part], items[part]) for part in parts])
    store.close()
    figures["bytes on disk"] = sum(entry.stat().st_blocks * 512 for entry in os.scandir(folder))
    before = private()
    timed("open and check", reopen)
    timed("first pass", lambda: read(np.arange(n), 64))
    figures["private bytes"] = private() - before
    for row in random.permutation(n)[:50].tolist():
        store.gather(np.array([row]), out[:1])
        assert out[0].numpy().tobytes() == items[row].tobytes()
    for batch in (32, 64):
        orders = [random.permutation(n) for _ in range(3)]
        timed(f"3 × random batches of {batch}", lambda: [read(rows, batch) for rows in orders])  # noqa: B023
    timed("3 × whole set in order", lambda: [read(np.arange(n), 64) for _ in range(3)])
    print(json.dumps(figures))


def speed(rounds: int) -> dict[str, Any]:
    """Each part's medians and spread, all in turn, and how many times the array store's."""
    figures: dict[str, Any] = {}
    for kind in KINDS:
        measured: dict[str, dict[str, list[float]]] = {}
        for number in range(rounds):
            for name in list(CONTESTANTS)[:: 1 if number % 2 else -1]:
                with tempfile.TemporaryDirectory() as folder:
                    command = [sys.executable, "-m", "benchmarks.array_store", "--call", "turn", name, kind, folder]
                    for part, value in json.loads(subprocess.check_output(command)).items():
                        measured.setdefault(part, {}).setdefault(name, []).append(value)
        figures[kind] = {part: _compared(by_name) for part, by_name in measured.items()}
    return figures


def _compared(by_name: dict[str, list[float]]) -> dict[str, Any]:
    spreads = {name: record.spread(by_name[name]) for name in CONTESTANTS}
    own = spreads["array store"]["median"] or 1
    return {**spreads, "times the array store": {name: each["median"] / own for name, each in spreads.items()}}


@cache
def item(number: int) -> Array:
    return np.random.default_rng(number).integers(0, 256, 2500, np.uint8)


def audit(name: str, folder: Path, numbers: Sequence[int]) -> str:
    """Read, write what is missing, open again and read: what happens, in a process of its own, which may crash."""
    child = os.fork()
    if not child:
        signal.alarm(60)
        os._exit(_audit(name, folder, numbers))
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        return f"killed by {signal.Signals(os.WTERMSIG(status)).name}"
    return ["whole", "mended", "wrong item", "not mended", "error"][os.WEXITSTATUS(status)]


def _audit(name: str, folder: Path, numbers: Sequence[int]) -> int:
    keys, was_whole = keys_of(numbers), True
    try:
        for turn_number in range(2):
            store = CONTESTANTS[name](folder)
            values = dict(zip(numbers, store.read(keys, 2500), strict=True))
            if any(value is not None and not np.array_equal(value, item(number)) for number, value in values.items()):
                return 2
            if (missing := [number for number, value in values.items() if value is None]) and turn_number:
                return 3
            if missing:
                was_whole = False
                store.append(keys_of(missing), [item(number) for number in missing])
            store.close()
    except (lmdb.Error, OSError, ValueError, AssertionError):
        return 4
    return 0 if was_whole else 1


def write_for_ever(name: str, folder: str, first: str) -> None:
    store = CONTESTANTS[name](Path(folder))
    print("ready", flush=True)
    for start in range(int(first), int(first) + 2000, 20):
        numbers = range(start, start + 20)
        store.append(keys_of(numbers), [item(number) for number in numbers])


def kills(name: str, times: int) -> dict[str, int]:
    """Two writers at once are killed, again and again in the same folder."""
    random, outcomes = np.random.default_rng(0), Counter()
    for _ in range(times):
        with tempfile.TemporaryDirectory() as folder:
            for turn_of_two in range(2):
                command = [sys.executable, "-m", "benchmarks.array_store", "--call", "write_for_ever", name, folder]
                firsts = [turn_of_two * 500, turn_of_two * 500 + 1000]
                writers = [subprocess.Popen([*command, str(first)], stdout=subprocess.PIPE) for first in firsts]
                for writer in writers:
                    writer.stdout.readline()
                time.sleep(random.uniform(0.005, 0.1))
                for writer in writers:
                    writer.send_signal(signal.SIGKILL)
                    writer.communicate()
            outcomes[audit(name, Path(folder), range(4000))] += 1
    return dict(outcomes)


def structure(file: Path) -> list[int]:
    """Offsets of bytes that are not items: the index; in LMDB all pages but those of items, and their headers."""
    data = file.read_bytes()
    if file.name == "index.bin":
        return list(range(len(data)))
    if file.name != "data.mdb":
        return []
    offsets: list[int] = []
    for page in range(0, len(data), 4096):
        is_item = struct.unpack_from("<H", data, page + 10)[0] & 4
        offsets += range(page, page + (16 if is_item else 4096))
    return offsets


def damage(name: str, flips: int) -> dict[str, dict[str, int]]:
    """One changed byte, a file that ends too early, a full disk: what happens to a reader and the next writer."""
    outcomes: dict[str, Counter[str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        whole, broken = Path(folder) / "whole", Path(folder) / "broken"
        store = CONTESTANTS[name](whole)
        for first in range(0, 200, 50):
            numbers = range(first, first + 50)
            store.append(keys_of(numbers), [item(number) for number in numbers])
        store.close()
        for part, harm in _harms(name, whole, flips):
            shutil.rmtree(broken, ignore_errors=True)
            shutil.copytree(whole, broken)
            harm(broken)
            outcomes.setdefault(part, Counter())[audit(name, broken, range(230 if part == "full disk" else 200))] += 1
    return {part: dict(count) for part, count in outcomes.items()}


def _harms(name: str, whole: Path, flips: int) -> Iterator[tuple[str, Callable[[Path], None]]]:
    random = np.random.default_rng(0)
    files = [file for file in whole.iterdir() if file.name in ("index.bin", "values.bin", "data.mdb")]
    largest = max(files, key=lambda file: file.stat().st_size)
    inner = [(file.name, offset) for file in files for offset in structure(file)]
    outer = sorted({(largest.name, offset) for offset in range(largest.stat().st_size)} - set(inner))
    for part, offsets, n in (("structure", inner, flips), ("items", outer, flips // 4)):
        for row in random.permutation(len(offsets))[:n].tolist():
            yield part, partial(_flip, *offsets[row], int(random.integers(8)))
    for file in files:
        for size in np.linspace(0.02, 0.98, 25) * file.stat().st_size:
            yield "torn file", lambda folder, name=file.name, size=size: os.truncate(folder / name, int(size))  # type: ignore[misc]
    for more in range(25):
        yield "full disk", partial(_fill, name, largest.stat().st_size + more * 1000)


def _flip(file: str, offset: int, bit: int, folder: Path) -> None:
    data = bytearray((folder / file).read_bytes())
    data[offset] ^= 1 << bit
    (folder / file).write_bytes(data)


def _fill(name: str, limit: int, folder: Path) -> None:
    """Write more than there is room for, in a process of its own."""
    child = os.fork()
    if not child:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        try:
            CONTESTANTS[name](folder).append(keys_of(range(200, 220)), [item(number) for number in range(200, 220)])
        except (lmdb.Error, OSError):
            os._exit(0)
        os._exit(1)
    os.waitpid(child, 0)


def compare(rounds: int, times: int, flips: int) -> None:
    """Everything in turn, recorded."""
    record.PACKAGES = ("tellapart", "lmdb", "numpy", "torch")
    harmed = {name: damage(name, flips) for name in CONTESTANTS if name != "LMDB, flushed"}  # it is the same file
    killed = {name: kills(name, times) for name in CONTESTANTS}
    record.write("array_store", {"speed": speed(rounds), "kills of two writers": killed, "damage": harmed})


def main() -> None:
    parser = argparse.ArgumentParser()
    for option, default in (("--rounds", 7), ("--kills", 30), ("--flips", 1500)):
        parser.add_argument(option, type=int, default=default)
    parser.add_argument("--call", nargs="+", help="for this script alone: run one of its functions")
    asked = parser.parse_args()
    warnings.filterwarnings("ignore", message="The given NumPy array is not writable")  # nothing writes to it
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if asked.call:
        globals()[asked.call[0]](*asked.call[1:])
    else:
        compare(asked.rounds, asked.kills, asked.flips)


if __name__ == "__main__":
    main()
