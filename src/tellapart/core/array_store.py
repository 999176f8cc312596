"""Many small arrays by key, in two append-only files: what the caches of pictures and of features are made of.

A store is a folder. `values.bin` holds the items one after the other; `index.bin` names them, in blocks:

    index.bin   block, block, …
    block       header, an entry for each item, CRC-32 of the header and the entries
    header      magic, where the block's items begin and end in values.bin, number of entries, CRC-32 of the items
    entry       key (16 bytes), offset in values.bin, height, width

Three rules make a store safe without a recovery step and without flushing to disk:

- Items are written before the block that names them. A kill or a full disk leaves bytes that no block names; the next
  writer cuts them off.
- A block counts only when its checksums fit. After a power cut or on a bad disk its items count as missing, and the
  cache makes them again. A damaged item is never returned: a wrong picture goes unnoticed, a missing one costs time.
- Nothing is changed in place. A mended item is a new entry, and the last entry of a key counts. So readers need no
  lock: several processes may read while one appends.

A store that can be neither read nor written, whatever happened to its files, is set aside: a cache can be made again.

The magic carries the format's version: blocks of a version that this code does not know end the index.
docs/decisions/0037 compares it with LMDB.
"""

from __future__ import annotations

import bisect
import errno
import hashlib
import json
import mmap
import os
import shutil
import struct
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from tellapart.core.cache import read_note, write_note
from tellapart.core.file_locks import Hold, lock

#: [n] of 16 bytes each.
Keys = npt.NDArray[np.bytes_]
Numbers = npt.NDArray[np.int64]
KEY = np.dtype("S16")
ENTRY = np.dtype([("key", KEY), ("offset", "<i8"), ("height", "<u4"), ("width", "<u4")])
_MAGIC = b"TAstore1"
_HEADER = struct.Struct("<8sQQII")  # magic, begin, end, n entries, CRC of the items
_CHECKSUM = struct.Struct("<I")  # of header and entries
_READ_BYTES = 1 << 24
_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)
#: A mapped file's pages are given back after so many bytes: else all that was read would count as memory in use.
_RELEASE_BYTES = 1 << 28


@dataclass(eq=False)
class _Block:
    """Items that were written together; [begin, end) is where they lie in `values.bin`."""

    begin: int
    end: int
    checksum: int
    entries: npt.NDArray[np.void]
    is_sound: bool | None = None  # None: its items have not been checked yet


class Store:
    """An open store. As long as it is held, `cache.make_room` does not remove it.

    Attributes:
        folder: where it lies; made if it does not exist.
        values_file: the items.
        note_file: says what the items are; see `describe`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.values_file, self.note_file = folder, folder / "values.bin", folder / "about.json"
        self.hold = Hold(folder)
        self._blocks: list[_Block] = []
        self._index_bytes = 0  # how much of the index has been read
        self._refresh()

    @property
    def n_bytes(self) -> int:
        """Where the next item will be written."""
        return self._blocks[-1].end if self._blocks else 0

    def describe(self, about: dict[str, Any]) -> None:
        """Write down what the items are, whole or not at all; once, unless the note is damaged."""
        if self.note() is None:
            write_note(self.note_file, about)

    def note(self) -> dict[str, Any] | None:
        """What `describe` wrote; None where that is missing or damaged."""
        return read_note(self.note_file)

    def find(self, keys: Keys, check: bool = True) -> npt.NDArray[np.void]:
        """The entries of keys, as `ENTRY`; offset -1 for those that are missing or damaged.

        Args:
            keys: [n].
            check: whether to compare the items with their checksums, each block once. Else the caller asks `is_sound`
                before it reads.
        """
        self._refresh()
        result = np.zeros(len(keys), ENTRY)
        result["key"], result["offset"] = keys, -1
        blocks = [block for block in self._blocks if block.is_sound is not False]
        while blocks and len(keys):
            entries = np.concatenate([block.entries for block in blocks])
            order = np.argsort(entries["key"], kind="stable")
            # Of several entries with one key the last counts: it was written because the others were damaged.
            last = np.searchsorted(entries["key"][order], keys, side="right") - 1
            rows = order[np.maximum(last, 0)]
            exists = (last >= 0) & (entries["key"][rows] == keys)
            of_block = np.repeat(np.arange(len(blocks)), [len(block.entries) for block in blocks])
            wanted = [blocks[number] for number in np.unique(of_block[rows[exists]])]
            damaged = [block for block in wanted if check and not self._check(block)]
            if not damaged:
                result[exists] = entries[rows[exists]]
                break
            # Again without them: an earlier block may hold the same item undamaged.
            blocks = [block for block in blocks if block not in damaged]
        return result

    def append(self, keys: Keys, items: Sequence[npt.NDArray[np.uint8]], sizes: Numbers | None = None) -> Numbers:
        """Add items that `find` did not find; those that another process has added meanwhile are left out.

        Args:
            keys: [n], all different.
            items: n arrays of bytes, contiguous.
            sizes: [n, 2], height and width of each; stored for the reader.

        Returns:
            The offset of each in `values.bin`.

        Raises:
            OSError: it cannot be written, or was removed by somebody; the store is as it was.
        """
        with self._locked():
            if not self.hold.in_place:  # what we know of the files is not true of those that are there now
                raise FileNotFoundError(errno.ENOENT, "the store was removed while it was open", str(self.folder))
            n_known = len(self._blocks)
            self._refresh()
            offsets: dict[bytes, int] = {}
            for block in self._blocks[n_known:]:
                offsets.update(zip(block.entries["key"].tolist(), block.entries["offset"].tolist(), strict=True))
            new: list[int] = []
            begin = end = self.n_bytes
            for row, key in enumerate(keys.tolist()):
                if key not in offsets:
                    offsets[key] = end
                    end += items[row].nbytes
                    new.append(row)
            entries = np.zeros(len(keys), ENTRY)
            entries["key"], entries["offset"] = keys, [offsets[key] for key in keys.tolist()]
            if sizes is not None:
                entries["height"], entries["width"] = sizes.T
            if new:
                self._write(begin, end, [items[row] for row in new], entries[new])
            result: Numbers = entries["offset"].copy()
            return result

    def is_sound(self, offset: int) -> bool:
        """Whether the block that an item lies in is what was written; the block is read once."""
        return self._check(self._blocks[bisect.bisect_right(self._blocks, offset, key=lambda block: block.begin) - 1])

    def _write(
        self, begin: int, end: int, items: Sequence[npt.NDArray[np.uint8]], entries: npt.NDArray[np.void]
    ) -> None:
        # The order makes a kill safe: until the index names them, the items are bytes that nobody reads.
        checksum = 0
        with _end_of(self.values_file, begin) as file:
            for item in items:
                view = item.reshape(-1).data
                checksum = zlib.crc32(view, checksum)
                file.write(view)
        head = _HEADER.pack(_MAGIC, begin, end, len(entries), checksum) + entries.tobytes()
        with _end_of(self.folder / "index.bin", self._index_bytes) as file:
            file.write(head + _CHECKSUM.pack(zlib.crc32(head)))
        self._refresh()
        self._blocks[-1].is_sound = True

    def _refresh(self) -> None:
        """Read the blocks that have been added since; the index ends at the first that is not whole."""
        index = self.folder / "index.bin"
        if not index.is_file() or index.stat().st_size <= self._index_bytes:
            return
        with index.open("rb") as file:
            file.seek(self._index_bytes)
            data = file.read()
        at = 0
        while len(data) - at >= _HEADER.size:
            magic, begin, end, n, checksum = _HEADER.unpack_from(data, at)
            entries_end = at + _HEADER.size + n * ENTRY.itemsize
            if magic != _MAGIC or len(data) < entries_end + _CHECKSUM.size:
                break
            if _CHECKSUM.unpack_from(data, entries_end)[0] != zlib.crc32(memoryview(data)[at:entries_end]):
                break
            entries = np.frombuffer(data[at + _HEADER.size : entries_end], ENTRY)
            self._blocks.append(_Block(begin, end, checksum, entries))
            at = entries_end + _CHECKSUM.size
        self._index_bytes += at

    def _check(self, block: _Block) -> bool:
        if block.is_sound is None:
            checksum, n_left = 0, block.end - block.begin
            try:
                with self.values_file.open("rb") as file:
                    file.seek(block.begin)
                    while n_left and (data := file.read(min(n_left, _READ_BYTES))):
                        checksum = zlib.crc32(data, checksum)
                        n_left -= len(data)
                block.is_sound = checksum == block.checksum and not n_left
            except OSError:
                block.is_sound = False
        return block.is_sound

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Alone among writers; the system takes the lock back from a process that dies."""
        with (self.folder / "lock").open("ab") as file:
            lock(file.fileno(), shared=False)
            yield


class MappedValues:
    """The items as memory, in pages that the system reads when they are asked for and keeps while memory allows.

    Attributes:
        data: all bytes that `values.bin` had when it was mapped.
    """

    def __init__(self, store: Store) -> None:
        with store.values_file.open("rb") as file:
            if not os.fstat(file.fileno()).st_size:
                raise OSError(f"{store.values_file} is empty")
            # Private: torch asks for memory that may be written to, and nothing of it may reach the file.
            self.data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
            self._file = os.dup(file.fileno())
        self._n_read = 0

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            os.close(self._file)

    @property
    def is_whole(self) -> bool:
        """Whether the file is as long as it was. To read what was cut off it would end the process (SIGBUS)."""
        return os.fstat(self._file).st_size >= len(self.data)

    def count(self, n_bytes: int) -> None:
        """Note that so many bytes are read; give the pages back now and then."""
        self._n_read += n_bytes
        if self._n_read > _RELEASE_BYTES and hasattr(mmap, "MADV_DONTNEED"):
            self._n_read = 0
            self.data.madvise(mmap.MADV_DONTNEED)


def name_of(about: dict[str, Any]) -> str:
    """A store's name: a digest of all that its items depend on besides their keys."""
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:32]


def set_aside(folder: Path, error: OSError) -> bool:
    """Take a store that cannot be used out of the way, so that a new one can be made in its place.

    Whoever has it open reads on: its files are gone when they are closed.

    Args:
        error: what happened to it. A full disk, or one that may not be written to, is no fault of the store.

    Returns:
        Whether the place is free.
    """
    if error.errno in _OF_THE_DISK:
        return False
    try:
        if os.path.lexists(folder):
            aside = Path(tempfile.mkdtemp(dir=folder.parent, prefix="damaged-"))
            folder.rename(aside / folder.name)
            shutil.rmtree(aside, ignore_errors=True)
    except OSError:
        return False
    return True


@contextmanager
def _end_of(path: Path, begin: int) -> Iterator[BinaryIO]:
    """A file to write to from `begin` on; what a killed writer has left there is dropped."""
    path.touch()
    with path.open("r+b") as file:
        file.truncate(begin)
        file.seek(begin)
        yield file
