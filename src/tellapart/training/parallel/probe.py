"""The gradient of a linear probe, of whose features each worker takes a share."""

from __future__ import annotations

import torch
from torch import Tensor

from tellapart.training.linear_probe import Loss
from tellapart.training.parallel.division import Division


def shared_gradient(division: Division, x: Tensor, target: Tensor, weight: Tensor, bias: Tensor, loss: Loss) -> Tensor:
    """The mean loss of all rows; its gradient is added to those of weight and bias.

    Rows are cut into the recipe's micro-batches, and their gradients added in that order: with any number of workers
    each step of the solver is the same.
    """
    workers, n_parts, n = division.workers, division.config.micro_batches, len(x)
    ends = [n * part // n_parts for part in range(n_parts + 1)]
    n_own = n_parts // workers.n
    sums = x.new_zeros((n_own, weight.numel() + bias.numel() + 1))
    with workers.together():
        for own in range(n_own):
            begin, end = ends[workers.rank * n_own + own : workers.rank * n_own + own + 2]
            if begin < end:
                total = loss(x[begin:end] @ weight.T + bias, target[begin:end]) * ((end - begin) / n)
                gradients = torch.autograd.grad(total, (weight, bias))
                sums[own] = torch.cat([*(each.flatten() for each in gradients), total.detach()[None]])
    added = workers.ordered_sum(sums)
    weight.grad = _plus(weight.grad, added[: weight.numel()].view_as(weight))
    bias.grad = _plus(bias.grad, added[weight.numel() : -1])
    return added[-1]


def _plus(gradient: Tensor | None, more: Tensor) -> Tensor:
    return more.clone() if gradient is None else gradient + more
