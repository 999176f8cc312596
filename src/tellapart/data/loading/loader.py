"""The data loader: threads make batches of pictures ahead of the network.

Decoding and resizing release Python's lock, so threads scale, and nothing is copied between processes. The content of
a batch depends on the order asked for alone, never on the number of threads.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch

from tellapart.core.preprocess import Pixels

Rows = npt.NDArray[np.int64]
T = TypeVar("T")
Load = Callable[[int], Pixels]
#: Prefetched batches while one is in use; of small ones more.
AHEAD = 3
#: At most so many pictures, and bytes, are loaded before the first is used, where loading and using take turns.
_IN_TURN, _ROOM = 512, 1 << 27
#: Pictures that a thread takes at a time: handing them out one by one costs more than a small picture.
_HANDFUL = 4
#: The same where a thread makes all of them in one call: more calls would wait for Python's lock more often.
_TOGETHER = 16


@runtime_checkable
class Together(Protocol):
    """What loads many pictures in less time than one by one, if they can be had at once."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of a picture: height, width, 3."""

    def __call__(self, row: int) -> Pixels:
        """One picture."""

    def fill(self, rows: Rows, out: Pixels) -> bool:
        """Write pictures to `out`, uint8 [n, height, width, 3], or return False: then they are loaded one by one."""


@dataclass(frozen=True)
class Batch:
    """Some pictures as the network takes them.

    Attributes:
        image: uint8 [n, height, width, 3].
        row: int64 [n], the catalog's row numbers.
    """

    image: torch.Tensor
    row: Rows


def batches(
    order: Rows,
    batch_size: int,
    load: Load,
    workers: int,
    sequential: bool = False,
    pinned: bool = False,
) -> Iterator[Batch]:
    """Cut an order of rows into batches, loading ahead.

    Args:
        order: row numbers, in the order wanted; the last batch may be smaller.
        batch_size: pictures a batch.
        load: row → uint8 [height, width, 3], all of one size, or `Together`; called in several threads.
        workers: number of threads, at least 1.
        sequential: load nothing while a batch is being used: some are made, then handed out.
        pinned: into memory from which a GPU copies while it computes.
    """
    if sequential:
        # The first batch says how large a picture is. It is handed out with the others of its portion, so that whoever
        # makes ready to use them can do so while these are read.
        first = list(batches(order[:batch_size], batch_size, load, workers, pinned=pinned))
        room = _ROOM // first[0].image[0].nbytes if first else 0
        portion = batch_size * max(1, min(_IN_TURN, room) // batch_size)
        for start in range(0, len(order), portion):
            others = order[max(start, batch_size) : start + portion]
            yield from [*([] if start else first), *batches(others, batch_size, load, workers, pinned=pinned)]
        return
    yield from batches_of(cut(order, batch_size), load, workers, pinned)


def cut(order: Rows, batch_size: int) -> list[Rows]:
    """The rows of one batch after another; the last may be smaller."""
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


def batches_of(parts: Sequence[Rows], load: Load, workers: int, pinned: bool = False) -> Iterator[Batch]:
    """Batches of the rows given, each at least one, loading ahead; as `batches`."""
    if not parts:
        return
    batch_size = max(map(len, parts))
    handful = _HANDFUL
    if isinstance(load, Together):
        handful = min(_TOGETHER, max(_HANDFUL, math.ceil(batch_size / workers)))
    ahead = max(AHEAD, math.ceil(2 * workers * handful / batch_size))  # something for every thread
    with _threads(workers) as pool:
        pending: deque[tuple[_Making, list[Future[None]]]] = deque()
        for part in parts:
            making = _Making(part, pinned)
            starts = range(0, len(part), handful)
            pending.append((making, [pool.submit(making.fill, load, start, handful) for start in starts]))
            if len(pending) > ahead:
                yield _collect(*pending.popleft())
        while pending:
            yield _collect(*pending.popleft())


def gathered(
    parts: Sequence[Rows],
    ready: Callable[[Rows], Sequence[Pixels] | None],
    load: Callable[[int], Pixels],
    make: Callable[[Rows, Sequence[Pixels]], T],
    workers: int,
) -> Iterator[T]:
    """Batches of pictures of any size, collated by the caller, ahead of use.

    Args:
        parts, workers: see `batches_of`.
        ready: rows → their pictures, where these can be had at once; then nothing is handed out to threads, which
            would cost more than it saves.
        load: row → uint8 [height, width, 3]; called in several threads.
        make: rows and their pictures → the batch; called in a thread of its own, so it may take its time.
    """
    stopped = threading.Event()

    def few(rows: Rows) -> list[Pixels]:
        return [load(row) for row in rows.tolist() if not stopped.is_set()]

    # Two makers: one copies while the other waits for Python.
    with _threads(workers) as pool, ThreadPoolExecutor(2, "tellapart-make") as makers:

        def whole(rows: Rows) -> T:
            if (pictures := ready(rows)) is not None:
                return make(rows, pictures)
            size = math.ceil(len(rows) / workers)
            loading = [pool.submit(few, rows[start : start + size]) for start in range(0, len(rows), size)]
            pictures = [picture for future in loading for picture in future.result()]
            if stopped.is_set():
                raise CancelledError
            return make(rows, pictures)

        pending: deque[Future[T]] = deque()
        try:
            for part in parts:
                pending.append(makers.submit(whole, part))
                if len(pending) > AHEAD:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            # Reached also when the reader stops early: then no more is loaded than the pictures at hand.
            stopped.set()
            makers.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _threads(workers: int) -> Iterator[ThreadPoolExecutor]:
    """Threads that load. They are the parallelism: torch's own below each of them would get in each other's way."""
    with ThreadPoolExecutor(workers, "tellapart-load", torch.set_num_threads, (1,)) as pool:
        try:
            yield pool
        finally:
            # Reached also when the reader stops early: what nobody will use must not be waited for.
            pool.shutdown(wait=True, cancel_futures=True)
            # What a thread sets for itself, later threads would begin with.
            torch.set_num_threads(torch.get_num_threads())


class _Making:
    """A batch in the making: each picture is copied into it as soon as it is loaded."""

    def __init__(self, rows: Rows, pinned: bool) -> None:
        self.rows, self.pinned = rows, pinned
        self.image: torch.Tensor | None = None
        self.pixels: Pixels = np.empty(0, np.uint8)
        self.lock = threading.Lock()

    def fill(self, load: Load, start: int, n: int) -> None:
        """Load a handful of pictures."""
        rows = self.rows[start : start + n]
        if isinstance(load, Together):
            self.allocate(load.shape)
            if load.fill(rows, self.pixels[start : start + n]):
                return
        for index, row in enumerate(rows.tolist(), start=start):
            picture = load(row)
            self.allocate(picture.shape)
            if picture.shape != self.pixels.shape[1:]:
                raise ValueError("all pictures of a batch must have the same shape")
            self.pixels[index] = picture

    def allocate(self, shape: tuple[int, ...]) -> None:
        """Make room for pictures of this shape, once."""
        with self.lock:
            if self.image is None:
                self.image = torch.empty((len(self.rows), *shape), dtype=torch.uint8, pin_memory=self.pinned)
                self.pixels = self.image.numpy()


def _collect(making: _Making, futures: list[Future[None]]) -> Batch:
    for future in futures:
        future.result()
    assert making.image is not None
    return Batch(making.image, making.rows)
