"""Optimizers, and the parameter groups with their learning rates."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adadelta, Adam, AdamW, NAdam, Optimizer

from tellapart.errors import RecipeError
from tellapart.training.muon import MuonAdamW

Named = Iterable[tuple[str, nn.Parameter]]


def parameter_groups(groups: Sequence[Named], lrs: Sequence[float], weight_decay: float) -> list[dict[str, Any]]:
    """Parameter groups with their learning rate and weight decay.

    Frozen parameters are left out. Biases and normalisation (every parameter with fewer than two dimensions) are not
    decayed: pulling them to 0 limits nothing but what the network can express (He et al. 2019, arXiv 1812.01187).

    Args:
        groups: named parameters of each group of layers.
        lrs: peak learning rate of each of them.
        weight_decay: of the rest.

    Returns:
        At most two for each group of layers, none empty: {"params", "lr", "weight_decay"}.
    """
    trained_groups = []
    for named, lr in zip(groups, lrs, strict=True):
        trained = [parameter for _, parameter in named if parameter.requires_grad]
        decayed = [parameter for parameter in trained if parameter.ndim >= 2]
        plain = [parameter for parameter in trained if parameter.ndim < 2]
        for parameters, decay in ((decayed, weight_decay), (plain, 0.0)):
            if parameters:
                trained_groups.append({"params": parameters, "lr": lr, "weight_decay": decay})
    return trained_groups


def build_optimizer(
    kind: str, groups: list[dict[str, Any]], *, weight_decay: float = 0.01, momentum: float = 0.9
) -> Optimizer:
    """An optimizer whose groups have their peak learning rate as "initial_lr"; `set_lrs` sets that of a step.

    * adamw (Loshchilov and Hutter 2019, arXiv 1711.05101), adam (Kingma and Ba 2015, arXiv 1412.6980),
      nadam (Dozat 2016): `momentum` is the first beta, the second is 0.999.
    * sgd with Nesterov's momentum.
    * adadelta (Zeiler 2012, arXiv 1212.5701): has no momentum; `momentum` is the share rho that its running means keep.
    * muon: see `MuonAdamW`.

    Weight decay is decoupled from the gradient in adamw and muon; in the others it is the gradient of an L2 penalty.
    The same start and the same gradients give the same weights, bit for bit, on a CPU (muon: with as many threads).

    Args:
        kind: as above.
        groups: as `parameter_groups` makes them: "params", "lr" and, if other than `weight_decay`, "weight_decay".
        weight_decay: of groups that do not state their own.
        momentum: in [0, 1).

    Raises:
        RecipeError: an unknown kind, or nothing to train.
    """
    groups = [{**group, "initial_lr": group["lr"]} for group in groups if group["params"]]
    if not groups:
        raise RecipeError("There is nothing to train: every layer is frozen.", "Set 'train' to head, all or a number.")
    fused = {"fused": True} if _can_fuse(groups) else {}
    betas = (momentum, 0.999)
    kinds: dict[str, Callable[[], Optimizer]] = {
        "adamw": lambda: AdamW(groups, betas=betas, weight_decay=weight_decay, **fused),
        "adam": lambda: Adam(groups, betas=betas, weight_decay=weight_decay, **fused),
        "sgd": lambda: SGD(
            groups, lr=0.0, momentum=momentum, nesterov=momentum > 0, weight_decay=weight_decay, **fused
        ),
        "nadam": lambda: NAdam(groups, betas=betas, weight_decay=weight_decay),
        "adadelta": lambda: Adadelta(groups, rho=momentum, weight_decay=weight_decay),
        "muon": lambda: MuonAdamW(groups, weight_decay, momentum),
    }
    if kind not in kinds:
        raise RecipeError(f"There is no optimizer '{kind}'.", f"Possible: {', '.join(kinds)}.")
    optimizer = kinds[kind]()
    optimizer.register_step_pre_hook(_align)
    return optimizer


def set_lrs(optimizer: Optimizer, factor: float) -> None:
    """Set the learning rate of each group to `factor` of its peak."""
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * factor


def _can_fuse(groups: list[dict[str, Any]]) -> bool:
    """Fused steps are 3 to 10 times as fast, and as reproducible; not every device has them."""
    parameters = [parameter for group in groups for parameter in group["params"]]
    return all(p.device.type in ("cpu", "cuda") and p.is_floating_point() for p in parameters)


def _align(optimizer: Optimizer, _args: object, _kwargs: object) -> None:
    """Bring gradients and state to the memory layout of their weight.

    Fused steps walk through memory and do not ask for strides: with a weight in channels-last layout and a state that
    was stored in the usual one, they would take other elements' state, and say nothing.
    """
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter.grad is None:
                continue
            if not _same_layout(parameter.grad, parameter):
                parameter.grad = _laid_out(parameter.grad, parameter)
            state = optimizer.state[parameter]
            for name, value in state.items():
                if isinstance(value, Tensor) and value.shape == parameter.shape and not _same_layout(value, parameter):
                    state[name] = _laid_out(value, parameter)


def _same_layout(tensor: Tensor, parameter: Tensor) -> bool:
    if tensor.stride() == parameter.stride():
        return True
    strides = zip(tensor.stride(), parameter.stride(), tensor.shape, strict=True)
    return all(mine == other or size == 1 for mine, other, size in strides)


def _laid_out(tensor: Tensor, parameter: Tensor) -> Tensor:
    return torch.empty_like(parameter, dtype=tensor.dtype, requires_grad=False).copy_(tensor)
