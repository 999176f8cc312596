"""Batch norm on several workers: its running statistics, and its statistics of a whole step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode

from tellapart.training.parallel.workers import Workers

#: Running mean and variance of a norm, and how many batches they have seen.
_Buffers = tuple[Tensor, Tensor, Tensor]


class RunningStatistics:
    """The running means and variances of norms that train, brought up to date once a step.

    A norm adds its share of a micro-batch's statistics to buffers that are 0 then. So what it added can be read off
    after each micro-batch, weighted by the pictures, and summed over the step in the order of micro-batches.
    """

    def __init__(self, modules: Iterable[nn.Module]) -> None:
        norms = [module for module in modules if isinstance(module, _BatchNorm) and module.training]
        self.norms = [(norm.momentum, _buffers(norm)) for norm in norms if norm.running_mean is not None]
        self.before = [(torch.cat([mean, variance]), n.clone()) for _, (mean, variance, n) in self.norms]

    @property
    def size(self) -> int:
        return sum(len(values) for values, _ in self.before)

    @torch.no_grad()
    def begin_part(self) -> None:
        """Ready the buffers for a micro-batch."""
        for (_, (mean, variance, n)), (_, n_before) in zip(self.norms, self.before, strict=True):
            mean.zero_()
            variance.zero_()
            n.copy_(n_before)

    @torch.no_grad()
    def added(self, share: float) -> Tensor:
        """What a micro-batch has added, weighted by its share of the step's pictures: float [size]."""
        return torch.cat([buffer for _, (mean, variance, _) in self.norms for buffer in (mean, variance)]) * share

    @torch.no_grad()
    def end_step(self, total: Tensor) -> None:
        """Put the buffers to what they were, brought up to date by the sum of all that was added."""
        for (momentum, buffers), (old, n_before) in zip(self.norms, self.before, strict=True):
            own, total = total[: len(old)], total[len(old) :]
            rate = 1 / (int(n_before) + 1) if momentum is None else momentum
            _set(buffers, old * (1 - rate) + own, n_before + 1)

    @torch.no_grad()
    def restore(self) -> None:
        """Put the buffers to what they were before the step, which has failed."""
        for (_, buffers), (old, n_before) in zip(self.norms, self.before, strict=True):
            _set(buffers, old, n_before)


def _buffers(norm: _BatchNorm) -> _Buffers:
    mean, variance, n = norm.running_mean, norm.running_var, norm.num_batches_tracked
    assert mean is not None
    assert variance is not None
    assert n is not None
    return mean, variance, n


def _set(buffers: _Buffers, values: Tensor, n: Tensor) -> None:
    mean, variance, tracked = buffers
    mean.copy_(values[: len(mean)])
    variance.copy_(values[len(mean) :])
    tracked.copy_(n)


class Synchronised(TorchFunctionMode):
    """Within it, batch norm in training takes its statistics of all workers' pictures.

    As torch.nn.SyncBatchNorm, which is for GPUs alone and needs other layers in the network. What dropout leaves to
    chance is drawn for each micro-batch apart, so that it does not depend on who computes it.

    Args:
        workers: the group.
        sizes: pictures of each of this worker's micro-batches, which go through the layers at once.
        seeds: of each.
        device: of the layers.
    """

    def __init__(self, workers: Workers, sizes: Sequence[int], seeds: Sequence[int], device: torch.device) -> None:
        super().__init__()
        self.workers, self.sizes = workers, list(sizes)
        self.generators = [torch.Generator(device).manual_seed(seed) for seed in seeds]

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        own: dict[Any, Callable[..., Any]] = {
            F.batch_norm: self._batch_norm,
            F.dropout: self._dropout,
            Tensor.bernoulli_: self._draw,
        }
        return own.get(func, func)(*args, **(kwargs or {}))

    def _draw(self, out: Tensor, p: float = 0.5, generator: torch.Generator | None = None) -> Tensor:
        """As `Tensor.bernoulli_`, for a tensor that has a row for each picture; others are drawn as ever."""
        if generator is not None or len(out) != sum(self.sizes):
            return out.bernoulli_(p, generator=generator)
        for part, own in zip(torch.split(out, self.sizes), self.generators, strict=True):
            part.bernoulli_(p, generator=own)
        return out

    def _dropout(self, input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        if not training or p == 0:
            return input
        return input * (self._draw(torch.empty_like(input), 1 - p) / (1 - p))

    def _batch_norm(
        self,
        input: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> Tensor:
        if not training:
            return F.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)
        rest = [dim for dim in range(input.ndim) if dim != 1]
        values = input.float()
        shape = [1, -1, *(1 for _ in rest[1:])]
        sums = _Summed.apply(torch.cat([values.sum(rest), values.new_tensor([values[:, 0].numel()])]), self.workers)
        n = sums[-1].detach()
        mean = sums[:-1] / n
        # Of what is left without the mean: the mean of squares less the square of the mean would lose digits.
        centred = values - mean.view(shape)
        variance = _Summed.apply(centred.square().sum(rest), self.workers) / n
        if running_mean is not None and running_var is not None:
            with torch.no_grad():
                running_mean.lerp_(mean.to(running_mean.dtype), momentum)
                running_var.lerp_((variance * n / (n - 1).clamp(min=1)).to(running_var.dtype), momentum)
        out = centred * torch.rsqrt(variance + eps).view(shape)
        out = out if weight is None else out * weight.view(shape)
        result: Tensor = out if bias is None else out + bias.view(shape)
        return result.to(input.dtype)


class _Summed(torch.autograd.Function):
    """The workers' sum; its gradient is the sum of the workers' gradients."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, workers: Workers) -> Tensor:
        ctx.workers = workers
        return workers.quick_sum(values.clone())

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        workers: Workers = ctx.workers
        return workers.quick_sum(gradients[0].clone()), None
