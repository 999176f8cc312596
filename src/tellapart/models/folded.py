"""Networks that only answer: batch normalisation folded into the convolution before it.

In evaluation mode a batch norm multiplies and adds fixed numbers, which the convolution's weights can take over
(Jacob et al. 2018, arXiv 1712.05877, section 3.2). On a CPU that saves a pass over every map.
"""

from __future__ import annotations

import copy
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

#: How far the folded network's answers may be from the plain one's, relative to their largest value.
TOLERANCE = 1e-3


def folded(module: nn.Module, example: Tensor) -> nn.Module:
    """A copy in evaluation mode with its batch norms folded, or a plain copy where that would change the answers.

    That a batch norm follows the convolution that stands before it in the definition is a guess, so it is tried.

    Args:
        module: left as it is.
        example: an input, in float32.
    """
    plain = copy.deepcopy(module).eval().requires_grad_(False)
    trial = copy.deepcopy(plain)
    _fold(trial)
    with torch.no_grad():
        expected, got = plain(example), trial(example)
    if expected.shape == got.shape and (expected - got).abs().max() <= TOLERANCE * expected.abs().max():
        return trial.eval()  # also what came in place of the norms
    return plain


def _fold(module: nn.Module) -> None:
    before: tuple[str, nn.Module] | None = None
    for name, child in list(module.named_children()):
        if isinstance(child, nn.BatchNorm2d) and before and _fits(before[1], child):
            setattr(module, before[0], fuse_conv_bn_eval(cast(nn.Conv2d, before[1]), _plain(child)))
            # timm's batch norms may carry an activation (and a dropout, which does nothing here).
            setattr(module, name, getattr(child, "act", nn.Identity()))
        else:
            _fold(child)
        before = name, child


def _fits(convolution: nn.Module, norm: nn.BatchNorm2d) -> bool:
    return (
        isinstance(convolution, nn.Conv2d)
        and convolution.out_channels == norm.num_features
        and norm.running_mean is not None
    )


def _plain(norm: nn.BatchNorm2d) -> nn.BatchNorm2d:
    assert norm.running_mean is not None
    plain = nn.BatchNorm2d(norm.num_features, eps=norm.eps, affine=norm.affine, device=norm.running_mean.device)
    plain.load_state_dict({key: norm.state_dict()[key] for key in plain.state_dict()})
    return plain.eval()
