"""Many small arrays by key, in two files that only grow: what the caches are made of.

A store is a folder. `values.bin` holds the items one after the other, `index.bin` says in blocks which key lies where:

    index.bin   block, block, …; a block is a header and an entry for each item
    header      magic, where the block's items begin and end in values.bin, number of entries, CRC-32 of the items,
                CRC-32 of this header and the entries
    entry       key (16 bytes), offset in values.bin, height, width

Items are written before the block that names them. So whatever a kill or a full disk leaves behind is not in the
index, and the next writer writes over it. Blocks that do not fit their checksum (a power cut, a bad disk) count as
missing. Several processes may read and append at once: appending holds a lock, which the system takes back from
a process that dies, and reading needs none.
"""

from __future__ import annotations

import bisect
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

#: [n] of 16 bytes each.
Keys = npt.NDArray[np.bytes_]
Numbers = npt.NDArray[np.int64]
KEY = np.dtype("S16")
ENTRY = np.dtype([("key", KEY), ("offset", "<i8"), ("height", "<u4"), ("width", "<u4")])
_MAGIC = b"TAstore1"
_HEADER = struct.Struct("<8sQQII")  # magic, begin, end, n entries, CRC of the items
_CHECK = struct.Struct("<I")  # CRC of header and entries
_PIECE = 1 << 24


@dataclass(frozen=True)
class _Block:
    begin: int
    end: int
    check: int


@dataclass
class Store:
    """An open store. As long as it is held, `cache.make_room` leaves it alone.

    Attributes:
        folder: where it lies; made if it does not exist.
    """

    folder: Path
    _entries: list[npt.NDArray[np.void]] = field(default_factory=list)
    _blocks: list[_Block] = field(default_factory=list)
    _sound: dict[int, bool] = field(default_factory=dict)  # by number of the block, once it has been checked
    _read: int = 0  # bytes of the index that have been read

    def __post_init__(self) -> None:
        self.hold = Hold(self.folder)
        self._refresh()

    @property
    def values_file(self) -> Path:
        """The items."""
        return self.folder / "values.bin"

    @property
    def n_bytes(self) -> int:
        """Where the next item will be written."""
        return self._blocks[-1].end if self._blocks else 0

    def find(self, keys: Keys, check: bool = True) -> npt.NDArray[np.void]:
        """The entries of keys, as `ENTRY`; offset -1 for those that are missing or damaged.

        The items found are checked against their checksums, each block once; or later, by `sound`.
        """
        self._refresh()
        found = np.zeros(len(keys), ENTRY)
        found["key"], found["offset"] = keys, -1
        if not self._blocks or not len(keys):
            return found
        entries = np.concatenate(self._entries)
        block = np.repeat(np.arange(len(self._blocks)), [len(part) for part in self._entries])
        while True:
            order = np.argsort(entries["key"], kind="stable")
            # Of several entries with one key the last one counts: it was written because the others were damaged.
            place = np.searchsorted(entries["key"][order], keys, side="right") - 1
            at = order[np.maximum(place, 0)]
            there = (place >= 0) & (entries["key"][at] == keys)
            bad = [number for number in np.unique(block[at[there]]).tolist() if not self._check(number, check)]
            if not bad:
                found[there] = entries[at[there]]
                return found
            keep = ~np.isin(block, bad)
            entries, block = entries[keep], block[keep]
            if not len(entries):
                return found

    def append(self, keys: Keys, items: Sequence[npt.NDArray[np.uint8]], sizes: Numbers | None = None) -> Numbers:
        """Add items that `find` did not find; those that another process has added meanwhile are left out.

        Args:
            keys: [n], all different.
            items: n arrays of bytes, contiguous.
            sizes: [n, 2], height and width of each; only kept for the reader.

        Returns:
            The offset of each in `values.bin`.

        Raises:
            OSError: it cannot be written; the store is as it was.
        """
        with self._locked():
            known = len(self._entries)
            self._refresh()
            entries = np.zeros(len(keys), ENTRY)
            entries["key"] = keys
            others = np.concatenate([np.zeros(0, ENTRY), *self._entries[known:]])
            theirs = dict(zip(others["key"], others["offset"], strict=True))
            written = [number for number, key in enumerate(entries["key"]) if key not in theirs]
            offset = begin = self.n_bytes
            for number, key in enumerate(entries["key"]):
                entries["offset"][number] = theirs.get(key, offset)
                if key not in theirs:
                    offset += items[number].nbytes
            if sizes is not None:
                entries["height"], entries["width"] = sizes[:, 0], sizes[:, 1]
            if written:
                self._write(begin, offset, [items[number] for number in written], entries[written])
            result: Numbers = entries["offset"].copy()
            return result

    def read(self, offset: int, n_bytes: int) -> npt.NDArray[np.uint8]:
        """Some bytes of `values.bin`, as memory of its own."""
        with self.values_file.open("rb") as file:
            file.seek(offset)
            return np.frombuffer(file.read(n_bytes), np.uint8)

    def _write(
        self, begin: int, end: int, items: Sequence[npt.NDArray[np.uint8]], entries: npt.NDArray[np.void]
    ) -> None:
        check = 0
        with self.values_file.open("r+b" if self.values_file.exists() else "w+b") as file:
            file.truncate(begin)  # drops what a writer that was killed has left
            file.seek(begin)
            for item in items:
                flat = item.reshape(-1).data
                check = zlib.crc32(flat, check)
                file.write(flat)
        head = _HEADER.pack(_MAGIC, begin, end, len(entries), check) + entries.tobytes()
        index = self.folder / "index.bin"
        with index.open("r+b" if index.exists() else "w+b") as file:
            file.truncate(self._read)
            file.seek(self._read)
            file.write(head + _CHECK.pack(zlib.crc32(head)))
        self._refresh()
        self._sound[len(self._blocks) - 1] = True

    def _refresh(self) -> None:
        """Read the blocks that have come since; at the first that is not whole, the index ends."""
        index = self.folder / "index.bin"
        if not index.is_file() or index.stat().st_size <= self._read:
            return
        with index.open("rb") as file:
            file.seek(self._read)
            data = file.read()
        at = 0
        while len(data) - at >= _HEADER.size:
            magic, begin, end, n, check = _HEADER.unpack_from(data, at)
            backbone = at + _HEADER.size + n * ENTRY.itemsize
            if magic != _MAGIC or len(data) < backbone + _CHECK.size:
                break
            if _CHECK.unpack_from(data, backbone)[0] != zlib.crc32(memoryview(data)[at:backbone]):
                break
            self._entries.append(np.frombuffer(data[at + _HEADER.size : backbone], ENTRY))
            self._blocks.append(_Block(begin, end, check))
            at = backbone + _CHECK.size
        self._read += at

    def sound(self, offset: int) -> bool:
        """Whether the block that an item lies in is what was written; looked at once."""
        number = bisect.bisect_right(self._blocks, offset, key=lambda block: block.begin) - 1
        return self._check(number)

    def _check(self, number: int, look: bool = True) -> bool:
        """Whether a block's items are what was written; without looking, as far as is known."""
        if number not in self._sound:
            if not look:
                return True
            block, check = self._blocks[number], 0
            try:
                with self.values_file.open("rb") as file:
                    file.seek(block.begin)
                    left = block.end - block.begin
                    while left and (piece := file.read(min(left, _PIECE))):
                        check = zlib.crc32(piece, check)
                        left -= len(piece)
                self._sound[number] = check == block.check and not left
            except OSError:
                self._sound[number] = False
        return self._sound[number]

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with (self.folder / "lock").open("ab") as file:
            lock(file.fileno(), shared=False)
            yield


class Hold:
    """A mark that a folder of the cache is in use, until it is closed, forgotten, or the process ends.

    Its time is that of the last use.
    """

    handle = -1

    def __init__(self, folder: Path) -> None:
        while True:
            folder.mkdir(parents=True, exist_ok=True)
            self.handle = os.open(folder / "used", os.O_RDWR | os.O_CREAT, 0o666)
            lock(self.handle, shared=True)
            try:
                os.utime(folder / "used")
                # The file that we hold may have been removed before we held it.
                if os.path.samestat(os.fstat(self.handle), (folder / "used").stat()):
                    return
            except FileNotFoundError:
                pass
            self.close()

    def close(self) -> None:
        """Let others remove the folder."""
        handle, self.handle = self.handle, -1
        if handle >= 0:
            os.close(handle)

    def __del__(self) -> None:
        self.close()


def lock(handle: int, shared: bool, wait: bool = True) -> bool:
    """Lock an open file, for this process alone or together with others; the system unlocks it when it is closed.

    Returns:
        False where it would have to wait and shall not.
    """
    try:
        import fcntl
    except ImportError:  # Windows knows no shared lock; there, files that are open cannot be removed anyway
        return True if shared else _lock_on_windows(handle, wait)
    try:
        fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True


def _lock_on_windows(handle: int, wait: bool) -> bool:
    import msvcrt

    os.lseek(handle, 0, os.SEEK_SET)
    try:
        msvcrt.locking(handle, msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
    except OSError:
        return False
    return True
