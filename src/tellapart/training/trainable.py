"""What of a network a stage trains, and where that begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from tellapart.errors import RecipeError
from tellapart.models.layer_groups import cut_before, layer_groups, split_backbone, train_last
from tellapart.models.network import Network
from tellapart.training.fast.forward import Forward, training_forward

Statistics = Literal["update", "keep", "free"]


@dataclass(frozen=True)
class Part:
    """The trained part of a network.

    Attributes:
        network: the whole.
        n_groups: number of groups of layers that are trained, counted from the head.
        n_all: number of all groups.
        statistics: which layers' batch-norm statistics are updated: those of trained layers ("update"), none ("keep"),
            those of frozen layers too ("free").
        description: in words.
        cut: name of the first layer behind what is frozen and can be run once; "" where there is no such point.
        prefix: the layers before it: the backbone's input → activations; None without a cut.
        rest: the backbone's layers from there on: activations → features; None without a cut, and with the head alone.
        groups: named parameters of each trained group, from input to head.
    """

    network: Network
    n_groups: int
    n_all: int
    statistics: Statistics
    description: str
    cut: str
    prefix: nn.Module | None
    rest: nn.Module | None
    groups: Sequence[Sequence[tuple[str, nn.Parameter]]]

    def train_mode(self) -> None:
        """Put trained layers into training mode, frozen ones into evaluation mode without gradients."""
        train_last(self.network, self.n_groups)
        if self.statistics != "update":
            for module in self.network.backbone.modules():
                if isinstance(module, _BatchNorm):
                    module.train(self.statistics == "free")

    @property
    def apart(self) -> bool:
        """Whether layers, as they are set now, see each picture as if alone: none takes a batch's statistics."""
        return not any(isinstance(module, _BatchNorm) and module.training for module in self.network.modules())

    def whole(self, inputs: Tensor) -> Tensor:
        """The backbone's input → logits."""
        logits: Tensor = self.network.head(self.network.backbone(inputs))
        return logits

    def tail(self, activations: Tensor) -> Tensor:
        """What the prefix gives → logits."""
        logits: Tensor = self.network.head(self.rest(activations) if self.rest else activations)
        return logits

    def training_forward(self, from_features: bool) -> Forward:
        """`tail` where inputs are stored features, else `whole`, as a training step runs them."""
        backbone = self.rest if from_features else self.network.backbone
        return training_forward(nn.Sequential(*([backbone] if backbone else []), self.network.head))

    @property
    def linear_head(self) -> nn.Linear | None:
        """The head's layer, where the head alone is trained and is one linear layer."""
        layers = list(self.network.head.children())
        if self.n_groups == 1 and len(layers) == 1 and isinstance(layers[0], nn.Linear):
            return layers[0]
        return None


def select(network: Network, train: str | float, statistics: Statistics) -> Part:
    """The part that a stage's `train` names; its parameters take gradients, all others do not.

    Args:
        network: its modes and gradients are set.
        train: "head", "all", the last n groups of layers, or (below 1) a share of the groups, rounded.
        statistics: see `Part`.

    Raises:
        RecipeError: more groups than there are.
    """
    groups = layer_groups(network)
    n = n_trained(train, len(groups))
    train_last(network, n)
    cut, prefix, rest = "", None, None
    if n == 1:
        cut, prefix = "head", network.backbone
    elif n < len(groups) and (at := cut_before(network, n)):
        cut = at
        prefix, rest = split_backbone(network, at)
    named = [
        [
            (f"{name}.{own}", p)
            for name in group
            for own, p in network.get_submodule(name).named_parameters(recurse=False)
        ]
        for group in groups[len(groups) - n :]
    ]
    description = describe_trained(n, len(groups))
    return Part(network, n, len(groups), statistics, description, cut, prefix, rest, named)


def describe_trained(n: int, total: int) -> str:
    """The last n groups of layers of so many, in words."""
    if n == 1:
        return "the head"
    return "all layers" if n == total else f"the last {n} of {total} groups of layers"


def n_trained(train: str | float, total: int) -> int:
    """How many of `total` groups of layers, counted from the head, a stage's `train` means.

    Raises:
        RecipeError: more than there are.
    """
    if train == "head":
        return 1
    if train == "all":
        return total
    assert not isinstance(train, str)
    n = max(1, round(train * total)) if isinstance(train, float) and train < 1 else int(train)
    if n > total:
        raise RecipeError(
            f"train = {train}: the network has only {total} groups of layers.", 'For all of them: train = "all"'
        )
    return n
