"""The gradient of a step, summed over the micro-batches of all workers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from tellapart.training.parallel.division import Division
from tellapart.training.parallel.norms import RunningStatistics


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
        self.rows = torch.zeros(n_rows, self.n_values + self.statistics.size, device=first.device, dtype=torch.float32)

    @contextlib.contextmanager
    def step(self) -> Iterator[None]:
        """Within it, a step is computed; where that fails, statistics are what they were."""
        self.rows.zero_()
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
        workers, ordered = self.division.workers, self.division.ordered
        if not ordered:
            self._take(self.rows[0])
        if not counts:
            self.rows.zero_()
        total = workers.ordered_sum(self.rows) if ordered else workers.quick_sum(self.rows[0])
        start = 0
        for parameter in self.parameters:
            values = total[start : start + parameter.numel()].view(parameter.shape)
            parameter.grad = values.to(parameter.dtype)
            start += parameter.numel()
        self.statistics.end_step(total[self.n_values :])

    def _statistics(self) -> RunningStatistics:
        # Norms that are synchronised bring themselves up to date.
        return RunningStatistics([] if self.division.synchronised else self.network.modules())

    def _take(self, row: Tensor) -> None:
        """Move the parameters' gradients into a row."""
        start = 0
        for parameter in self.parameters:
            if parameter.grad is not None:
                row[start : start + parameter.numel()].view(parameter.shape).copy_(parameter.grad)
                parameter.grad = None
            start += parameter.numel()
