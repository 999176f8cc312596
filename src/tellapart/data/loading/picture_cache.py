"""The picture cache: pictures that are read again and again are decoded once, and stored upright and brought to size.

A picture's key is the content of its file, and the store's name says what was made of it. So epochs, runs and processes
share pictures, and a renamed file is not decoded again. The store's file is mapped into memory and its pages are given
back now and then, so that a training takes the same memory whatever the number of pictures.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tellapart.core import cache
from tellapart.core.array_store import Keys, MappedValues, Store, name_of, set_aside
from tellapart.core.files import cache_folder
from tellapart.core.preprocess import Pixels, Preprocessing
from tellapart.data.augmentation.cropping import Kept, scaled
from tellapart.data.augmentation.transforms import decode_at_least
from tellapart.data.decoding.decode import decode
from tellapart.recipe.transforms import Transform

Rows = npt.NDArray[np.int64]
#: How much larger than the network's input a picture is kept for random crops (see docs/decisions/0016).
LARGER = 1.5
#: Pictures are written so many bytes at a time; a kill loses no more than that.
_WRITE_BYTES = 1 << 24


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


class PictureCache:
    """Makes pictures and remembers them on disk. Called with a picture's number, from any thread."""

    def __init__(self, numbers: Rows, keys: Keys, about: dict[str, Any], make: Callable[[int], Pixels]) -> None:
        """Open the store.

        Args:
            numbers: of the pictures that are worth storing, 0 or more; others may be asked for too.
            keys: one each, by content: pictures of the same key are the same; see `content_keys`.
            about: all that `make` depends on besides what the key says.
            make: number → uint8 [height, width, 3].

        Raises:
            OSError: the cache's folder cannot be written to.
        """
        about = {**about, "versions": cache.versions()}
        self.make = make
        self.store = _opened(cache_folder("pictures") / name_of(about), about)
        # Pictures of the same key share a slot; number → slot, or -1.
        self.keys, slots = np.unique(keys, return_inverse=True)
        self.slots = np.full(numbers.max(initial=-1) + 1, -1, np.int64)
        self.slots[numbers] = slots
        # By slot. Checksums are compared when a block is first read: all at once would delay the first batch.
        entries = self.store.find(self.keys, check=False)
        self.offset, self.height, self.width = (
            entries[name].astype(np.int64) for name in ("offset", "height", "width")
        )
        self.is_checked = np.zeros(len(self.keys), bool)
        self.mapped: MappedValues
        self.values: npt.NDArray[np.uint8] = np.zeros(0, np.uint8)
        self.unwritten: dict[int, Pixels] = {}
        self.unwritten_bytes = 0
        self.is_full = False
        self.lock, self.writing = threading.Lock(), threading.Lock()

    def __call__(self, number: int) -> Pixels:
        """The picture of a number, read-only where it comes from the store.

        Raises:
            UnreadableError: it has to be made, and its file cannot be read.
        """
        slot = int(self.slots[number]) if number < len(self.slots) else -1
        if slot < 0:
            return self.make(number)
        if self.offset[slot] >= 0 and (pixels := self._read(slot)) is not None:
            return pixels
        pixels = self.make(number)
        with self.lock:
            if not self.is_full and self.offset[slot] < 0 and slot not in self.unwritten:
                self.unwritten[slot] = pixels
                self.unwritten_bytes += pixels.nbytes
            due = self.unwritten_bytes > _WRITE_BYTES
        if due and self.writing.acquire(blocking=False):
            try:
                self._write()
            finally:
                self.writing.release()
        return pixels

    def together(self, numbers: Rows) -> Kept | None:
        """Many pictures at once; None unless all of them are stored and checked."""
        if not len(numbers) or numbers.max() >= len(self.slots):
            return None
        slots = self.slots[numbers]
        self._drop_if_cut_off()
        offsets = self.offset[slots]
        if min(slots.min(), offsets.min()) < 0 or not self.is_checked[slots].all():
            return None
        heights, widths = self.height[slots].astype(np.int64), self.width[slots].astype(np.int64)
        ends = offsets + heights * widths * 3
        values = self._mapped(int(ends.max()), int((ends - offsets).sum()))
        return Kept(self.mapped.data, values, offsets, heights, widths)

    def flush(self) -> None:
        """Write what has been made and not written yet."""
        with self.writing:
            self._write()

    def _read(self, slot: int) -> Pixels | None:
        """A stored picture; None where its block is damaged, so that it is made again."""
        offset = int(self.offset[slot])
        self._drop_if_cut_off()
        if self.offset[slot] < 0:
            return None
        if not self.is_checked[slot]:
            if not self.store.is_sound(offset):
                self.offset[slot] = -1
                return None
            self.is_checked[slot] = True
        height, width = int(self.height[slot]), int(self.width[slot])
        end = offset + height * width * 3
        return self._mapped(end, end - offset)[offset:end].reshape(height, width, 3)

    def _drop_if_cut_off(self) -> None:
        """Forget what is stored where somebody has cut the file off: what it still has is not worth asking for."""
        if len(self.values) and not self.mapped.is_whole:
            self.offset[:] = -1

    def _mapped(self, end: int, n_read: int) -> npt.NDArray[np.uint8]:
        """The store's bytes, at least up to `end`, of which so many will be read."""
        if end > len(self.values):
            with self.lock:  # pictures that were read before keep the map that they came from
                self.mapped = MappedValues(self.store)
                values = np.frombuffer(self.mapped.data, np.uint8)
                values.flags.writeable = False
                self.values = values
        self.mapped.count(n_read)
        return self.values

    def _write(self) -> None:
        with self.lock:
            pictures, self.unwritten, self.unwritten_bytes = self.unwritten, {}, 0
        if not pictures or self.is_full:
            return
        slots = np.array(list(pictures))
        items = [np.ascontiguousarray(pixels) for pixels in pictures.values()]
        sizes = np.array([pixels.shape[:2] for pixels in items])
        # Without room, pictures are decoded anew in each epoch: slower, and the same.
        self.is_full = not cache.make_room(sum(pixels.nbytes for pixels in items))
        if self.is_full:
            return
        try:
            offset = self.store.append(self.keys[slots], items, sizes)
        except OSError as error:
            self.is_full = True
            if self.store.hold.in_place:
                set_aside(self.store.folder, error)  # the next training makes it again
            return
        self.height[slots], self.width[slots], self.is_checked[slots] = sizes[:, 0], sizes[:, 1], True
        self.offset[slots] = offset  # last: from here on other threads read them


def _opened(folder: Path, about: dict[str, Any]) -> Store:
    """The store of a folder, made again if it cannot be used."""
    for _ in range(2):
        try:
            store = Store(folder)
            store.describe(about)
            return store
        except OSError as error:
            problem = error
            if not set_aside(folder, error):
                break
    raise problem
