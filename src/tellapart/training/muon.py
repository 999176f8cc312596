"""Muon for matrices and convolutions, AdamW for the rest: one optimizer with one state."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

_BETA2, _EPSILON = 0.999, 1e-8


class MuonAdamW(Optimizer):
    """Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon) with AdamW beside it.

    Muon turns the momentum of a weight's gradient, read as a matrix [outputs, rest], into a nearly orthogonal one of
    the same row and column space, so that rare directions learn as fast as frequent ones. Its step has the size of
    AdamW's, 0.2 √(larger side) (Liu et al. 2025, arXiv 2502.16982), and so one learning rate suits both. AdamW has what
    is no matrix: biases, normalisation, and depthwise convolutions (one input to each output).

    torch.optim.Muon is the same for linear layers, but refuses convolutions and everything else.

    Args:
        groups: dictionaries with `params`, `lr` and, if other than `weight_decay`, their own `weight_decay`.
        weight_decay: decoupled; each step takes lr · weight_decay of the weight.
        momentum: of Muon (Nesterov), and the first beta of AdamW.
    """

    def __init__(self, groups: list[dict[str, Any]], weight_decay: float, momentum: float) -> None:
        super().__init__(groups, {"lr": 1e-3, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step, from the gradients that there are."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    move = _muon if is_matrix(parameter) else _adam
                    update = move(parameter.grad, self.state[parameter], group["momentum"])
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    parameter.add_(update, alpha=-group["lr"])
        return loss


def is_matrix(parameter: nn.Parameter) -> bool:
    """Whether Muon is for it: a linear layer or a convolution that is not depthwise."""
    return parameter.ndim >= 2 and parameter.shape[1] > 1


def _muon(gradient: Tensor, state: dict[str, Tensor], momentum: float) -> Tensor:
    if not state:
        state["momentum"] = torch.zeros_like(gradient)
    state["momentum"].lerp_(gradient, 1 - momentum)
    matrix = gradient.lerp(state["momentum"], momentum).flatten(1)
    return _orthogonal(matrix).view(gradient.shape) * (0.2 * math.sqrt(max(matrix.shape)))


def _orthogonal(matrix: Tensor) -> Tensor:
    """Near to U Vᵀ, where U S Vᵀ is the matrix: five Newton-Schulz steps leave singular values about 0.7 to 1.2."""
    tall = matrix.shape[0] > matrix.shape[1]
    # bfloat16 is enough, and fast on accelerators; on processors it is mostly the slower one.
    x = matrix.to(torch.bfloat16 if matrix.is_cuda else torch.float32)
    x = x.T if tall else x
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(5):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=-4.7750, alpha=2.0315), x, beta=3.4445)
    return (x.T if tall else x).to(matrix.dtype).contiguous()


def _adam(gradient: Tensor, state: dict[str, Tensor], beta1: float) -> Tensor:
    if not state:
        state["step"] = torch.tensor(0.0)
        state["mean"], state["square"] = torch.zeros_like(gradient), torch.zeros_like(gradient)
    state["step"] += 1
    state["mean"].lerp_(gradient, 1 - beta1)
    state["square"].lerp_(gradient.square(), 1 - _BETA2)
    steps = float(state["step"])
    size = (state["square"] / (1 - math.pow(_BETA2, steps))).sqrt() + _EPSILON
    return state["mean"] / (1 - math.pow(beta1, steps)) / size
