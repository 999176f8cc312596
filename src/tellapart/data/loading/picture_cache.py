"""Pictures that are read again and again are decoded once: kept on disk as bytes, upright and brought to size.

What is kept is fixed by the file's content and by what was made of it, so epochs, runs and processes share it. Its
file is mapped into memory and its pages are given back again and again, so that a training takes the same memory
whatever the number of pictures.
"""

from __future__ import annotations

import hashlib
import json
import math
import mmap
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tellapart.core import cache
from tellapart.core.array_store import Keys, Store
from tellapart.core.files import cache_folder, write_text
from tellapart.core.preprocess import Pixels, Preprocessing
from tellapart.data.augmentation.transforms import decode_at_least, scaled
from tellapart.data.decoding.decode import decode
from tellapart.recipe.transforms import Transform

Rows = npt.NDArray[np.int64]
#: How much larger than the network's input a picture is kept for random crops (see docs/decisions/0016).
LARGER = 1.5
#: Pictures are written so many bytes at a time; a kill loses no more than that.
_PORTION = 1 << 24
#: Bytes that may be read before the pages of the file are given back.
_RELEASE = 1 << 28


def source_side(transforms: Sequence[Transform], preprocessing: Preprocessing) -> int:
    """The shorter side, in pixels, of the pictures that random crops are cut from: at most `LARGER` than needed."""
    return min(decode_at_least(transforms, preprocessing), math.ceil(LARGER * preprocessing.decode_at_least))


def source(path: Path, side: int, preprocessing: Preprocessing) -> Pixels:
    """A picture to cut random crops from: decoded, upright, its shorter side `side` pixels or less.

    Raises:
        UnreadableError: with the path and a plain reason.
    """
    pixels = decode(path, side, preprocessing.background)
    height, width = pixels.shape[:2]
    scale = side / min(height, width)
    if scale >= 1:
        return pixels
    return scaled(
        pixels, max(side, round(height * scale)), max(side, round(width * scale)), preprocessing.interpolation
    )


class Kept:
    """A maker of pictures that remembers what it has made, on disk. Called with a picture's number, from any thread."""

    def __init__(self, numbers: Rows, keys: Keys, about: dict[str, Any], make: Callable[[int], Pixels]) -> None:
        """Open what is kept.

        Args:
            numbers: of the pictures that are worth keeping, 0 or more; others may be asked for too.
            keys: one each, by content: pictures of the same key are the same; see `data.content`.
            about: all that `make` depends on besides what the key says.
            make: number → uint8 [height, width, 3].

        Raises:
            OSError: the cache's folder cannot be written to.
        """
        about = {**about, "versions": cache.versions()}
        name = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:32]
        self.make = make
        self.store = Store(cache_folder("pictures") / name)
        if not (note := self.store.folder / "about.json").is_file():
            write_text(note, json.dumps(about, indent=1))
        self.keys, place = np.unique(keys, return_inverse=True)
        self.place = np.full(numbers.max(initial=-1) + 1, -1, np.int64)
        self.place[numbers] = place
        found = self.store.find(self.keys, check=False)
        self.offset, self.height, self.width = (found[name].copy() for name in ("offset", "height", "width"))
        self.checked = np.zeros(len(self.keys), bool)
        self.bytes: npt.NDArray[np.uint8] = np.zeros(0, np.uint8)
        self.pages: mmap.mmap
        self.touched = 0
        self.full = False
        self.waiting: dict[int, Pixels] = {}
        self.waiting_bytes = 0
        self.lock, self.writing = threading.Lock(), threading.Lock()

    def __call__(self, number: int) -> Pixels:
        """The picture of a number, read-only where it was kept.

        Raises:
            UnreadableError: it has to be made, and its file cannot be read.
        """
        place = int(self.place[number]) if number < len(self.place) else -1
        if place < 0:
            return self.make(number)
        if self.offset[place] >= 0 and (pixels := self._read(place)) is not None:
            return pixels
        pixels = self.make(number)
        with self.lock:
            if not self.full and self.offset[place] < 0 and place not in self.waiting:
                self.waiting[place] = pixels
                self.waiting_bytes += pixels.nbytes
            due = self.waiting_bytes > _PORTION
        if due and self.writing.acquire(blocking=False):
            try:
                self._write()
            finally:
                self.writing.release()
        return pixels

    def together(self, numbers: Rows) -> Sequence[Pixels] | None:
        """Pictures taken at once; None unless all of them are kept and checked. One array where they lie that way."""
        if not len(numbers) or numbers.max() >= len(self.place):
            return None
        places = self.place[numbers]
        offsets = self.offset[places]
        if min(places.min(), offsets.min()) < 0 or not self.checked[places].all():
            return None
        heights, widths = self.height[places].astype(np.int64), self.width[places].astype(np.int64)
        sizes = heights * widths * 3
        if (offsets + sizes).max() > len(self.bytes):
            self._map()
        self._touch(int(sizes.sum()))
        kept, height, width, size = self.bytes, int(heights[0]), int(widths[0]), int(sizes[0])
        if (heights == height).all() and (widths == width).all() and not (offsets % size).any():
            n = len(kept) // size
            return list(kept[: n * size].reshape(n, height, width, 3)[offsets // size])
        every = zip(offsets.tolist(), heights.tolist(), widths.tolist(), sizes.tolist(), strict=True)
        return [kept[start : start + size].reshape(h, w, 3) for start, h, w, size in every]

    def flush(self) -> None:
        """Write what has been made and not written yet."""
        with self.writing:
            self._write()

    def _read(self, place: int) -> Pixels | None:
        """A kept picture; None where its file is damaged."""
        if not self.checked[place]:
            if not self.store.sound(int(self.offset[place])):
                self.offset[place] = -1
                return None
            self.checked[place] = True
        height, width = int(self.height[place]), int(self.width[place])
        n_bytes = height * width * 3
        offset = int(self.offset[place])
        if offset + n_bytes > len(self.bytes):
            self._map()
        self._touch(n_bytes)
        return self.bytes[offset : offset + n_bytes].reshape(height, width, 3)

    def _touch(self, n_bytes: int) -> None:
        """Give pages back now and then; the system keeps them as long as memory is not short."""
        self.touched += n_bytes
        if self.touched > _RELEASE and hasattr(mmap, "MADV_DONTNEED"):
            self.touched = 0
            self.pages.madvise(mmap.MADV_DONTNEED)

    def _map(self) -> None:
        """Map all that has been written by now; what was read before keeps the map it came from."""
        with self.lock, self.store.values_file.open("rb") as file:
            self.pages = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            self.bytes = np.frombuffer(self.pages, np.uint8)

    def _write(self) -> None:
        with self.lock:
            pictures, self.waiting, self.waiting_bytes = self.waiting, {}, 0
        if not pictures or self.full:
            return
        places = np.array(list(pictures))
        items = [np.ascontiguousarray(pixels) for pixels in pictures.values()]
        sizes = np.array([pixels.shape[:2] for pixels in items])
        # Where there is no room, pictures are decoded anew in each epoch: slower, and the same.
        self.full = not cache.make_room(sum(pixels.nbytes for pixels in items))
        if self.full:
            return
        try:
            offset = self.store.append(self.keys[places], items, sizes)
        except OSError:
            self.full = True
            return
        self.height[places], self.width[places], self.checked[places] = sizes[:, 0], sizes[:, 1], True
        self.offset[places] = offset  # last: from here on other threads read them
