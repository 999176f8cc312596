"""Mixup and CutMix: pictures and their labels are mixed within a batch.

Targets are soft: a row a picture, a weight a class. With one label a row has a single 1; with several labels, any
number of them. They are mixed by the share of each picture that can be seen, so a class of both keeps its full weight.

All chance comes from the generator that is passed in. One choice, one weight and one rectangle serve a whole batch, as
in the papers. Each picture has its own partner: another of the batch or, now and then, itself.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from tellapart.recipe.transforms import Mix

Mixed = tuple[Tensor, Tensor]
Random = np.random.Generator


def mix(images: Tensor, targets: Tensor, mix: Mix, rng: Random) -> Mixed:
    """Choose once for the batch: mixup, CutMix or neither, with the probabilities of the recipe.

    Args:
        images: [n, height, width, channels], uint8 or float.
        targets: float [n, n_classes].
        mix: probabilities (together at most 1) and alphas.
        rng: the only source of chance.

    Returns:
        Images and targets of the same shapes, types and device; the very same tensors if nothing was mixed.
    """
    choice = rng.random()
    if choice < mix.mixup:
        return mixup(images, targets, mix.mixup_alpha, rng)
    if choice < mix.mixup + mix.cutmix:
        return cutmix(images, targets, mix.cutmix_alpha, rng)
    return images, targets


def mixup(images: Tensor, targets: Tensor, alpha: float, rng: Random) -> Mixed:
    """Blend each picture, and its target, with a partner's (Zhang 2017).

    The weight of the picture itself is drawn from Beta(alpha, alpha); the partner has the rest. Bytes are rounded.
    """
    weight = float(rng.beta(alpha, alpha))
    partner = _partners(images, rng)
    blend = torch.lerp(images[partner].float(), images.float(), weight)
    if not images.is_floating_point():
        blend = blend.round_()
    return blend.to(images.dtype), torch.lerp(targets[partner], targets, weight)


def cutmix(images: Tensor, targets: Tensor, alpha: float, rng: Random) -> Mixed:
    """Replace one rectangle of each picture by the partner's, and mix the targets by area (Yun 2019).

    The share of the picture itself is drawn from Beta(alpha, alpha), the rectangle's middle from the whole picture.
    What hangs over the edge is cut off; the targets go by the pixels that were really replaced.
    """
    height, width = images.shape[1:3]
    side = math.sqrt(1 - rng.beta(alpha, alpha))
    top, bottom = _stretch(height, side, rng)
    left, right = _stretch(width, side, rng)
    partner = _partners(images, rng)
    mixed = images.clone()
    mixed[:, top:bottom, left:right] = images[partner, top:bottom, left:right]
    weight = 1 - (bottom - top) * (right - left) / (height * width)
    return mixed, torch.lerp(targets[partner], targets, weight)


def _stretch(length: int, share: float, rng: Random) -> tuple[int, int]:
    """A stretch of this share of a length, its middle anywhere, cut off at the ends."""
    half = round(length * share) / 2
    middle = rng.uniform(0, length)
    return max(0, round(middle - half)), min(length, round(middle + half))


def _partners(images: Tensor, rng: Random) -> Tensor:
    return torch.from_numpy(rng.permutation(len(images))).to(images.device)
