"""Batches of pictures, made ahead of the network by a few threads.

Decoding and resizing release Python's lock, so threads scale and nothing is copied between processes. What a batch
holds depends only on the order asked for, never on the number of threads.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from tellapart.preprocess import Pixels

Rows = npt.NDArray[np.int64]
#: Batches that are in the making while one is in use.
AHEAD = 3


@dataclass(frozen=True)
class Batch:
    """Some pictures as the network takes them.

    Attributes:
        image: uint8 [n, height, width, 3].
        row: int64 [n], the catalog's row numbers.
    """

    image: torch.Tensor
    row: Rows


def batches(order: Rows, batch_size: int, load: Callable[[int], Pixels], workers: int) -> Iterator[Batch]:
    """Cut an order of rows into batches, loading ahead.

    Args:
        order: row numbers, in the order wanted; the last batch may be smaller.
        batch_size: pictures a batch.
        load: row → uint8 [height, width, 3], all of one size; called in several threads.
        workers: number of threads, at least 1.
    """
    if len(order) == 0:
        return
    parts = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    with ThreadPoolExecutor(max_workers=workers, thread_name_prefix="tellapart-load") as pool:
        pending: deque[tuple[Rows, list[Future[Pixels]]]] = deque()
        try:
            for part in parts:
                pending.append((part, [pool.submit(load, int(row)) for row in part]))
                if len(pending) > AHEAD:
                    yield _collect(*pending.popleft())
            while pending:
                yield _collect(*pending.popleft())
        finally:
            # Reached also when the reader stops early: what nobody will use must not be waited for.
            pool.shutdown(wait=True, cancel_futures=True)


def _collect(part: Rows, futures: list[Future[Pixels]]) -> Batch:
    # NumPy's, since torch takes neither read-only nor mirrored memory and would stretch a picture of another size.
    image = np.stack([future.result() for future in futures])
    return Batch(torch.from_numpy(image), part)
