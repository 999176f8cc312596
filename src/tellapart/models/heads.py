"""What stands on top of a body: from features to logits."""

from __future__ import annotations

from torch import nn

from tellapart.recipe.schema import Head

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "hardswish": nn.Hardswish,
}


def build_head(n_features: int, n_classes: int, head: Head) -> nn.Sequential:
    """A linear layer, or hidden layers (each with activation and dropout) and a linear layer.

    Without hidden layers, dropout acts on the features.

    Args:
        n_features: length of a feature vector.
        n_classes: number of logits.
        head: sizes of hidden layers, activation, dropout.

    Returns:
        [n, n_features] → [n, n_classes]; its last module is the linear layer that gives the logits.
    """
    layers: list[nn.Module] = []
    width = n_features
    for size in head.hidden:
        layers += [nn.Linear(width, size), ACTIVATIONS[head.activation]()]
        layers += [nn.Dropout(head.dropout)] if head.dropout else []
        width = size
    if head.dropout and not head.hidden:
        layers.append(nn.Dropout(head.dropout))
    return nn.Sequential(*layers, nn.Linear(width, n_classes))
