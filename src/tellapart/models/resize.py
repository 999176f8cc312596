"""Resizing as a part of a network: in training, in the exported model and on the server it is the same."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class ResizeInside(nn.Module):
    """Brings pictures to one size, ignoring the aspect ratio.

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
