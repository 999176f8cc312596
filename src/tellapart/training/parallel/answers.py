"""Answers to pictures of which each worker takes a share, brought together by row."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tellapart.training.parallel.workers import Workers

Rows = npt.NDArray[np.int64]


def shared_answers(
    workers: Workers, answer: Callable[[slice], Iterator[tuple[Tensor, Rows]]], rows: Rows, size: int
) -> Iterator[tuple[Tensor, Rows]]:
    """The answers to all rows, at every worker, in the batches that one process alone would make.

    Args:
        workers: the group; each computes whole batches.
        answer: part of the rows → answers [n, ...] and rows, batch by batch.
        rows: all of them, in order.
        size: rows a batch.
    """
    with workers.together():
        own = [(answers.float(), its_rows) for answers, its_rows in answer(workers.share(len(rows), size))]
        device = own[0][0].device if own else torch.device("cpu")
        table = torch.cat([answers for answers, _ in own]).cpu() if own else torch.zeros(0, 0)
        own_rows = np.concatenate([its_rows for _, its_rows in own]) if own else rows[:0]
    together, numbers = everyones(workers, table, own_rows, len(rows), size)
    together = together.to(device)
    at = {number: index for index, number in enumerate(numbers.tolist())}  # one answer a row, whoever gave it
    order = torch.tensor([at[number] for number in rows.tolist()], device=together.device)
    for start in range(0, len(rows), size):
        yield together[order[start : start + size]], rows[start : start + size]


def everyones(workers: Workers, table: Tensor, rows: Rows, n: int, size: int) -> tuple[Tensor, Rows]:
    """All workers' answers and their rows, worker after worker.

    Args:
        workers, size: see `shared_answers`.
        table: float [n_own, width] of this worker; the width of one without rows does not matter.
        rows: int64 [n_own].
        n: number of rows, all workers together.
    """
    most = math.ceil(math.ceil(n / size) / workers.n) * size  # no share has more blocks
    width = int(workers.gathered(torch.tensor([table.shape[1]])).max())
    padded, numbers = table.new_zeros((most, width)), torch.full((most,), -1)
    if len(rows):
        padded[: len(rows)], numbers[: len(rows)] = table, torch.from_numpy(rows)
    everyone, all_rows = workers.gathered(padded).flatten(0, 1), workers.gathered(numbers).flatten()
    taken = all_rows >= 0
    return everyone[taken], all_rows[taken].numpy()
