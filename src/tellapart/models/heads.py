"""Heads, from features to logits, and the resizing inside a network, before its backbone."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from tellapart.recipe.schema import Head

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "hardswish": nn.Hardswish,
}


def build_head(n_features: int, n_classes: int, head: Head) -> nn.Sequential:
    """Build a head: a linear layer, or hidden layers (each with activation and dropout) and a linear layer.

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


class ResizeInside(nn.Module):
    """Resize pictures to one size, ignoring the aspect ratio.

    Bilinear with antialiasing: when shrinking, the triangle grows with the factor, so that every pixel counts; when
    enlarging, plain bilinear. As Pillow does it, but on floats and without rounding to whole grey levels. Exported
    to ONNX it is one Resize.
    """

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.height, self.width = height, width

    def extra_repr(self) -> str:
        """The size, for `print`."""
        return f"{self.height}, {self.width}"

    def forward(self, pictures: Tensor) -> Tensor:
        """Float [n, c, h, w] → [n, c, height, width], in the same memory format."""
        size = (self.height, self.width)
        return F.interpolate(pictures, size, mode="bilinear", align_corners=False, antialias=True)
