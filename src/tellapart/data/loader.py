"""Batches of pictures, made ahead of the network by a few threads.

Decoding and resizing release Python's lock, so threads scale and nothing is copied between processes. What a batch
holds depends only on the order asked for, never on the number of threads.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from tellapart.preprocess import Pixels

Rows = npt.NDArray[np.int64]
#: Batches that are in the making while one is in use; of small ones more.
AHEAD = 3
#: Pictures, and bytes, that are made before the first of them is used where loading and using take turns.
_IN_TURN, _ROOM = 512, 1 << 27
#: Pictures that a thread takes at a time: handing them out one by one costs more than a small picture.
_HANDFUL = 4


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
    order: Rows, batch_size: int, load: Callable[[int], Pixels], workers: int, in_turn: bool = False
) -> Iterator[Batch]:
    """Cut an order of rows into batches, loading ahead.

    Args:
        order: row numbers, in the order wanted; the last batch may be smaller.
        batch_size: pictures a batch.
        load: row → uint8 [height, width, 3], all of one size; called in several threads.
        workers: number of threads, at least 1.
        in_turn: load nothing while a batch is being used: some are made, then handed out.
    """
    if in_turn:
        start, portion = 0, batch_size  # of the first batch, to see how large a picture is
        while start < len(order):
            made = list(batches(order[start : start + portion], batch_size, load, workers))
            yield from made
            start += portion
            portion = batch_size * max(1, min(_IN_TURN, _ROOM // made[0].image[0].nbytes) // batch_size)
        return
    if len(order) == 0:
        return
    parts = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    ahead = max(AHEAD, math.ceil(2 * workers * _HANDFUL / batch_size))  # something for every thread
    # The threads are the parallelism: torch's own below each of them would only get in each other's way.
    alone = (torch.set_num_threads, (1,))
    with ThreadPoolExecutor(workers, "tellapart-load", *alone) as pool:
        pending: deque[tuple[_Making, list[Future[None]]]] = deque()
        try:
            for part in parts:
                making = _Making(part)
                starts = range(0, len(part), _HANDFUL)
                pending.append((making, [pool.submit(making.fill, load, start) for start in starts]))
                if len(pending) > ahead:
                    yield _collect(*pending.popleft())
            while pending:
                yield _collect(*pending.popleft())
        finally:
            # Reached also when the reader stops early: what nobody will use must not be waited for.
            pool.shutdown(wait=True, cancel_futures=True)
            # What a thread sets for itself, later threads would begin with.
            torch.set_num_threads(torch.get_num_threads())


class _Making:
    """A batch in the making: each picture is put into its place as soon as it is there."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self.image: Pixels | None = None
        self.lock = threading.Lock()

    def fill(self, load: Callable[[int], Pixels], start: int) -> None:
        """Load a handful of pictures."""
        for place, row in enumerate(self.rows[start : start + _HANDFUL].tolist(), start=start):
            picture = load(row)
            with self.lock:
                if self.image is None:
                    self.image = np.empty((len(self.rows), *picture.shape), picture.dtype)
            if picture.shape != self.image.shape[1:]:
                raise ValueError("all pictures of a batch must have the same shape")
            self.image[place] = picture


def _collect(making: _Making, futures: list[Future[None]]) -> Batch:
    for future in futures:
        future.result()
    assert making.image is not None
    return Batch(torch.from_numpy(making.image), making.rows)
