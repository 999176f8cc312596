"""An ensemble in one network: several backbones see the same picture, one head sees all their features side by side.

A picture is brought to size once, for the backbone with the largest pictures; a smaller one is made from it inside the
network. Where all backbones were made with the same mean and deviation, the network normalises once for all of them.
Otherwise it hands on the pixels, 0 to 255, as they are, and each backbone normalises for itself: whole numbers are
exact in floating point, so each backbone gets the very values that it would get alone.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from tellapart.core.preprocess import Preprocessing
from tellapart.models.heads import ResizeInside


def shared_preprocessing(members: Sequence[Preprocessing]) -> Preprocessing:
    """Preprocessing that all backbones of an ensemble share.

    Size, filter and fit are those of the backbone with the largest pictures (the first of several). The crop is the
    largest of all, so that no backbone sees less of a picture than it was made for. Mean and deviation are those of
    all, or such that pixels stay 0 to 255.

    Args:
        members: preprocessing of each backbone; at least one.
    """
    largest = max(members, key=lambda each: each.height * each.width)
    height, width = (
        max(preprocessing.height for preprocessing in members),
        max(preprocessing.width for preprocessing in members),
    )
    agreed = len({(preprocessing.mean, preprocessing.std) for preprocessing in members}) == 1
    shared = replace(largest, height=height, width=width, crop=max(preprocessing.crop for preprocessing in members))
    return shared if agreed else replace(shared, mean=(0.0, 0.0, 0.0), std=(1 / 255, 1 / 255, 1 / 255))


class SideBySide(nn.Module):
    """Several backbones as one: their features concatenated, in the order of the backbones.

    Attributes:
        members: each brings the shared picture to its backbone's size and scale, and runs the backbone.
    """

    def __init__(
        self, backbones: Sequence[nn.Module], preprocessings: Sequence[Preprocessing], shared: Preprocessing
    ) -> None:
        """Put backbones side by side.

        Args:
            backbones: each float [n, 3, h, w], normalised → features [n, d].
            preprocessings: of each backbone; size, mean and deviation count.
            shared: preprocessing of the input; see `shared_preprocessing`.
        """
        super().__init__()
        self.members = nn.ModuleList(
            nn.Sequential(OrderedDict([*_adapted(own, shared).items(), ("backbone", backbone)]))
            for backbone, own in zip(backbones, preprocessings, strict=True)
        )

    def forward(self, pictures: Tensor) -> Tensor:
        """Float [n, 3, h, w], normalised as `shared` says → features [n, sum of all d]."""
        return torch.cat([member(pictures) for member in self.members], dim=1)


class Renormalise(nn.Module):
    """Renormalisation from one mean and deviation to another, with one multiply-add.

    Attributes:
        scale, shift: float [1, 3, 1, 1], not part of the state: they follow from the preprocessing.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, before: Preprocessing, after: Preprocessing) -> None:
        super().__init__()
        mean, std = _double(after.mean), _double(after.std)
        scale, shift = _double(before.std) / std, (_double(before.mean) - mean) / std
        self.register_buffer("scale", scale.float().view(1, 3, 1, 1), persistent=False)
        self.register_buffer("shift", shift.float().view(1, 3, 1, 1), persistent=False)

    def forward(self, pictures: Tensor) -> Tensor:
        """Float [n, 3, h, w] → the same, scaled per channel."""
        return torch.addcmul(self.shift, pictures, self.scale)


def _adapted(own: Preprocessing, shared: Preprocessing) -> dict[str, nn.Module]:
    """The steps from the shared picture to a backbone's own; none where they agree."""
    steps: dict[str, nn.Module] = {}
    if (own.height, own.width) != (shared.height, shared.width):
        steps["resize"] = ResizeInside(own.height, own.width)
    if (own.mean, own.std) != (shared.mean, shared.std):
        steps["renormalise"] = Renormalise(shared, own)
    return steps


def _double(values: tuple[float, float, float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)
