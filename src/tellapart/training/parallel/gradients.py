"""The gradient of a step, summed over the micro-batches of all workers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from tellapart.training.parallel.division import Division
from tellapart.training.parallel.norms import RunningStatistics
from tellapart.training.parallel.shared_rows import shared_rows


class GradientSum:
    """The memory in which gradients of micro-batches wait to be added; made once a stage.

    Args:
        division: who takes which pictures.
        network: its parameters that take gradients.
        n_rows: micro-batches of one worker in a step whose gradients are kept apart.
    """

    def __init__(self, division: Division, network: nn.Module, n_rows: int) -> None:
        self.division = division
        self.parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
        self.network = network
        self.n_values = sum(parameter.numel() for parameter in self.parameters)
        self.statistics = self._statistics()
        first = self.parameters[0]
        size = self.n_values + self.statistics.size
        can_share = division.ordered and not division.synchronised and first.device.type == "cpu"
        self.shared = shared_rows(division.workers, n_rows, size) if can_share else None
        self.rows = self.shared.own if self.shared else torch.zeros(n_rows, size, device=first.device)

    @contextlib.contextmanager
    def step(self, n_parts: int) -> Iterator[None]:
        """Within it, a step is computed; where that fails, statistics are what they were.

        Args:
            n_parts: micro-batches that this worker computes; at an epoch's end there may be fewer than rows.
        """
        self.rows[:, self.n_values :] = 0
        self.rows[n_parts:] = 0  # now: after the next meeting, others read them
        self.statistics = self._statistics()
        try:
            yield
        except BaseException:
            self.statistics.restore()
            raise

    @contextlib.contextmanager
    def part(self, number: int, share: float) -> Iterator[None]:
        """Within it, the worker computes its micro-batch `number`, which is `share` of the step's pictures."""
        self.statistics.begin_part()
        yield
        row = self.rows[number if self.division.ordered else 0]
        if self.division.ordered:
            self._take(row)
        if self.statistics.norms:
            row[self.n_values :] += self.statistics.added(share)

    def finish(self, counts: bool) -> None:
        """Put the sum over all workers into the parameters' gradients.

        Args:
            counts: whether this worker's gradients are added.
        """
        if not self.division.ordered:
            self._take(self.rows[0])
        if not counts:
            self.rows.zero_()
        total = self._summed()
        start = 0
        for parameter in self.parameters:
            values = total[start : start + parameter.numel()].view(parameter.shape)
            parameter.grad = values.to(parameter.dtype)
            start += parameter.numel()
        self.statistics.end_step(total[self.n_values :])

    def _summed(self) -> Tensor:
        if self.shared:
            return self.shared.sum()
        workers = self.division.workers
        return workers.ordered_sum(self.rows) if self.division.ordered else workers.quick_sum(self.rows[0])

    def _statistics(self) -> RunningStatistics:
        # Norms that are synchronised bring themselves up to date.
        return RunningStatistics([] if self.division.synchronised else self.network.modules())

    def _take(self, row: Tensor) -> None:
        """Move the parameters' gradients into a row."""
        start = 0
        for parameter in self.parameters:
            values = row[start : start + parameter.numel()].view(parameter.shape)
            if parameter.grad is None:
                values.zero_()
            else:
                values.copy_(parameter.grad)
            parameter.grad = None
            start += parameter.numel()
