"""Batch normalisation folded into the convolution before it.

In evaluation mode a batch norm multiplies and adds fixed numbers, which the convolution's weights can take over
(Jacob et al. 2018, arXiv 1712.05877, section 3.2). On a CPU that saves a pass over every map. `folded` is for networks
that only answer, `learning` for layers that learn: there, norms that keep their statistics.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from itertools import chain
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval

#: How far the folded network's answers may be from the plain one's, relative to their largest value.
TOLERANCE = 1e-3
#: Activations whose gradient is computed from their input: in place, autograd has to copy it first.
_NEEDING_INPUT = (nn.Hardtanh, nn.SiLU, nn.Hardswish, nn.Mish)


def folded(module: nn.Module, example: Tensor) -> nn.Module:
    """A copy in evaluation mode with its batch norms folded, or a plain copy where that would change the answers.

    Args:
        module: left as it is.
        example: an input, in float32.
    """
    plain = copy.deepcopy(module).eval().requires_grad_(False)
    trial = copy.deepcopy(plain)
    _fold(trial, _fused)
    return trial.eval() if _alike(plain, trial, example) else plain  # eval: also what came in place of the norms


def learning(module: nn.Module, example: Tensor) -> nn.Module:
    """Layers with the same parameters, as a training step runs them fastest.

    A batch norm in evaluation mode is part of the convolution before it, and activations do not work in place where
    autograd would then copy what it is given. What changes the answers is not done; where nothing can be done, the
    module itself comes back.

    Parameters and buffers are shared: gradients reach the module's own, and its steps are seen here. Modes are those of
    the moment.

    Args:
        module: left as it is.
        example: an input.
    """
    parts = list(module.modules())
    keeps = any(isinstance(part, nn.BatchNorm2d) and not part.training for part in parts)
    copies = any(isinstance(part, _NEEDING_INPUT) and part.inplace for part in parts)
    for join in [True] * keeps + [False] * copies:
        spare = copy.deepcopy(module)
        trial = _shared(spare, join)
        for part in chain(spare.modules(), trial.modules()):
            if isinstance(part, _BatchNorm):  # statistics of few pictures would make much of a difference in rounding
                part.eval()
        with torch.autocast(example.device.type, enabled=False):
            if _alike(spare, trial, example.float()):
                return _shared(module, join)
    return module


def _shared(module: nn.Module, join: bool) -> nn.Module:
    """A copy with the same parameters and buffers, made faster; its norms joined or not."""
    made = copy.deepcopy(module, {id(tensor): tensor for tensor in chain(module.parameters(), module.buffers())})
    for part in made.modules():
        if isinstance(part, _NEEDING_INPUT):
            part.inplace = False
    if join:
        _fold(made, _Joined)
    return made


class _Joined(nn.Module):
    """A convolution and the norm behind it: one convolution, whose weights are computed from the parameters of both."""

    def __init__(self, convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        self.convolution, self.norm = convolution, norm
        # The same kind of convolution, with weights that are no parameters: whatever its kind does beside is done.
        self.bare = copy.copy(convolution)
        self.bare._parameters = {}

    def forward(self, inputs: Tensor) -> Tensor:
        norm, bias = self.norm, self.convolution.bias
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = torch.rsqrt(norm.running_var + norm.eps)
        scale = scale if norm.weight is None else scale * norm.weight
        shift = (-norm.running_mean if bias is None else bias - norm.running_mean) * scale
        self.bare.weight = cast(nn.Parameter, self.convolution.weight * scale[:, None, None, None])
        self.bare.bias = cast(nn.Parameter, shift if norm.bias is None else shift + norm.bias)
        result: Tensor = self.bare(inputs)
        return result


def _alike(one: nn.Module, other: nn.Module, example: Tensor) -> bool:
    """Whether two modules answer alike from equal random states.

    That a batch norm follows the convolution that stands before it in the definition is a guess, so it is tried.
    """
    answers = []
    with torch.no_grad():
        for module in (one, other):
            with torch.random.fork_rng(devices=[example.device] if example.is_cuda else []):
                torch.manual_seed(0)
                answers.append(module(example.clone()))
    expected, got = answers
    alike = expected.shape == got.shape and (expected - got).abs().max() <= TOLERANCE * expected.abs().max()
    return bool(alike)


def _fold(module: nn.Module, join: Callable[[nn.Conv2d, nn.BatchNorm2d], nn.Module]) -> None:
    before: tuple[str, nn.Module] | None = None
    for name, child in list(module.named_children()):
        if isinstance(child, nn.BatchNorm2d) and before and _fits(before[1], child):
            setattr(module, before[0], join(cast(nn.Conv2d, before[1]), child))
            # timm's batch norms may carry a dropout and an activation.
            behind = [getattr(child, part) for part in ("drop", "act") if hasattr(child, part)]
            setattr(module, name, nn.Sequential(*behind))
        else:
            _fold(child, join)
        before = name, child


def _fits(convolution: nn.Module, norm: nn.BatchNorm2d) -> bool:
    return (
        isinstance(convolution, nn.Conv2d)
        and convolution.out_channels == norm.num_features
        and norm.running_mean is not None
        and not norm.training
    )


def _fused(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Module:
    assert norm.running_mean is not None
    plain = nn.BatchNorm2d(norm.num_features, eps=norm.eps, affine=norm.affine, device=norm.running_mean.device)
    plain.load_state_dict({key: norm.state_dict()[key] for key in plain.state_dict()})
    return fuse_conv_bn_eval(convolution, plain.eval())
