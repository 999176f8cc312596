"""How a step's pictures are divided: into micro-batches, and these among the workers.

The number of micro-batches is the recipe's, whatever the number of workers. Each has its own gradient, and its own
seed for all that is left to chance; gradients are added in the order of the micro-batches. So a step's result does not
depend on who computes which of them.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass
from itertools import pairwise

from tellapart.core.events import Computing
from tellapart.errors import UsageError
from tellapart.recipe.distributed import Distributed
from tellapart.training.parallel.workers import Workers
from tellapart.training.runtime import Runtime


@dataclass(frozen=True)
class Share:
    """One worker's share of a step.

    Attributes:
        cuts: where its micro-batches lie in the epoch's order; none is empty.
        first: number of its first micro-batch in the step.
        sizes: pictures of every micro-batch of the step, of all workers; the same number a worker, some may be 0.
        repeated: whether every worker computes all of it, as there are fewer pictures than workers; then the leader's
            gradient is taken.
    """

    cuts: tuple[slice, ...]
    first: int
    sizes: tuple[int, ...]
    repeated: bool = False

    @property
    def n_pictures(self) -> int:
        """Of the step, all workers together."""
        return sum(self.sizes)


@dataclass(frozen=True)
class Division:
    """Who takes which pictures.

    Attributes:
        workers: the group.
        config: the recipe's section.
    """

    workers: Workers
    config: Distributed

    def __post_init__(self) -> None:
        if self.config.micro_batches % self.workers.n:
            possible = [str(n) for n in range(1, self.config.micro_batches + 1) if self.config.micro_batches % n == 0]
            raise UsageError(
                f"{self.workers.n} workers cannot share {self.config.micro_batches} micro-batches evenly.",
                f"Start {', '.join(possible)} of them, or set distributed.micro_batches in a new run.",
            )

    @property
    def ordered(self) -> bool:
        """Whether gradients are added in the order of micro-batches."""
        return self.config.reduce == "ordered"

    @property
    def synchronised(self) -> bool:
        """Whether batch norm takes its statistics of all pictures of a step."""
        return self.config.batch_norm == "synchronised"

    def n_rows(self, accumulate: int) -> int:
        """Micro-batches of one worker in a step, as far as their gradients are kept apart."""
        return self.config.micro_batches * accumulate // self.workers.n if self.ordered and not self.synchronised else 1

    def share(self, start: int, n: int, batch_size: int, accumulate: int) -> Share:
        """This worker's share of the n pictures from `start` on, of a step that has batch_size × accumulate at most.

        An epoch's last step has fewer micro-batches, not smaller ones: batch norm would have little to go by.
        """
        rank, n_workers = self.workers.rank, self.workers.n
        n_parts = self.config.micro_batches * accumulate
        used = min(n, n_parts) if self.synchronised else math.ceil(n / math.ceil(batch_size * accumulate / n_parts))
        ends = [start + n * min(part, used) // used for part in range(n_parts + 1)]
        sizes = tuple(end - begin for begin, end in pairwise(ends))
        per_worker = n_parts // n_workers
        # Where norms take their statistics of all pictures together, each worker needs one.
        repeated = self.synchronised and min(sum(sizes[i : i + per_worker]) for i in range(0, n_parts, per_worker)) == 0
        own = range(n_parts) if repeated else range(rank * per_worker, (rank + 1) * per_worker)
        cuts = tuple(slice(ends[part], ends[part + 1]) for part in own if sizes[part])
        return Share(cuts, own.start, sizes, repeated)


def as_the_leader(
    workers: Workers, choosing: Generator[Computing, None, Runtime]
) -> Generator[Computing, None, Runtime]:
    """The runtime that the leader chooses: clocks differ from worker to worker, and all must run alike."""
    chosen = None
    with workers.together():
        if workers.leads:
            chosen = (yield from choosing).with_plain_frozen
    return Runtime(**workers.json_from_leader(chosen and chosen.as_dict()))
