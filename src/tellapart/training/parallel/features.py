"""The feature cache, filled by all workers and shared by those that see the same folder."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from tellapart.core.array_store import Keys
from tellapart.core.events import Computing
from tellapart.training.feature_cache import Activations, compute
from tellapart.training.parallel.workers import Workers

Rows = npt.NDArray[np.int64]


def fill_together(
    workers: Workers,
    stage: int,
    task: str,
    layers: Callable[[Tensor], Tensor],
    inputs: Callable[[Rows], Iterator[Tensor]],
    keys: Keys,
    about: dict[str, Any],
    batch_size: int,
) -> Generator[Computing, None, Activations]:
    """As `compute`, whose arguments these are; each worker computes a share of the items first.

    Then each opens all of them. Where workers have caches of their own, on disks of their own, it computes the rest.
    """
    own = workers.share(len(keys), batch_size)
    with workers.together():
        if workers.n > 1 and own.start < own.stop:

            def inputs_of_share(rows: Rows) -> Iterator[Tensor]:
                return inputs(rows + own.start)

            yield from compute(stage, task, layers, inputs_of_share, keys[own], about, batch_size)
    with workers.together():
        return (yield from compute(stage, task, layers, inputs, keys, about, batch_size))
