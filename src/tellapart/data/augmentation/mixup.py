"""Mixup and CutMix: pictures and their labels are mixed within a batch.

Targets are soft: a row a picture, a weight a class. With one label a row has a single 1; with several labels, any
number of them. They are mixed by the share of each picture that can be seen, so a class of both keeps its full weight.

All chance comes from the generator that is passed in. Each picture has a choice, a weight or rectangle, and a partner
of its own. With `per = "batch"`, as in the papers, one choice and one weight or rectangle serve a whole batch, and a
picture's partner is now and then itself.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tellapart.recipe.transforms import Mix

Mixed = tuple[Tensor, Tensor]
Random = np.random.Generator


def mix(images: Tensor, targets: Tensor, mix: Mix, rng: Random) -> Mixed:
    """Choose for each picture, or once for the batch: mixup, CutMix or neither, with the recipe's probabilities.

    Args:
        images: [n, height, width, channels], uint8 or float.
        targets: float [n, n_classes].
        mix: probabilities (together at most 1) and alphas.
        rng: the only source of chance.

    Returns:
        Images and targets of the same shapes, types and device; the very same tensors if nothing was mixed.
    """
    if mix.per == "picture":
        return _each(images, targets, mix, rng)
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


def _each(images: Tensor, targets: Tensor, mix: Mix, rng: Random) -> Mixed:
    """Every picture by itself.

    Everything is drawn for every picture, so that what one gets does not depend on what the others get: a larger share
    mixes the same pictures in the same way, and more of them.
    """
    n, (height, width) = len(images), images.shape[1:3]
    choice, partner = rng.random(n), _others(n, rng)
    weights, areas = rng.beta(mix.mixup_alpha, mix.mixup_alpha, n), 1 - rng.beta(mix.cutmix_alpha, mix.cutmix_alpha, n)
    stretches = [
        (*_stretch(height, math.sqrt(area), rng), *_stretch(width, math.sqrt(area), rng)) for area in areas.tolist()
    ]
    blended = np.flatnonzero(choice < mix.mixup)
    cut = np.flatnonzero((choice >= mix.mixup) & (choice < mix.mixup + mix.cutmix))
    if not len(blended) + len(cut):
        return images, targets
    mixed, soft = images.clone(), targets.clone()
    for rows, change in ((blended, _blended), (cut, _cut)):
        if len(rows):
            here, there = (torch.from_numpy(each).to(images.device) for each in (rows, partner[rows]))
            own = weights[rows] if change is _blended else np.array(stretches)[rows]
            pixels, share = change(images[here], images[there], torch.from_numpy(own).to(images.device))
            mixed[here] = pixels
            soft[here] = torch.lerp(targets[there], targets[here], share.to(targets.dtype)[:, None])
    return mixed, soft


def _blended(own: Tensor, other: Tensor, weight: Tensor) -> Mixed:
    """Pictures blended with others, and the shares of the own ones [n]."""
    blend = torch.lerp(other.float(), own.float(), weight.float()[:, None, None, None])
    return (blend if own.is_floating_point() else blend.round_()).to(own.dtype), weight


def _cut(own: Tensor, other: Tensor, stretches: Tensor) -> Mixed:
    """Pictures with a rectangle of others, top, bottom, left and right [n, 4]; and the shares of the own ones [n]."""
    (height, width), (top, bottom, left, right) = own.shape[1:3], stretches[:, :, None].unbind(1)
    y, x = (torch.arange(length, device=own.device) for length in (height, width))
    inside = ((y >= top) & (y < bottom))[:, :, None] & ((x >= left) & (x < right))[:, None, :]
    return torch.where(inside[..., None], other, own), 1 - inside.double().mean((1, 2))


def _others(n: int, rng: Random) -> npt.NDArray[np.int64]:
    """For each of n pictures another one, any with the same probability; itself where there is no other."""
    if n == 1:
        return np.zeros(1, np.int64)
    partner: npt.NDArray[np.int64] = (np.arange(n) + rng.integers(1, n, n)) % n
    return partner


def _stretch(length: int, share: float, rng: Random) -> tuple[int, int]:
    """A stretch of this share of a length, its middle anywhere, cut off at the ends."""
    half = round(length * share) / 2
    middle = rng.uniform(0, length)
    return max(0, round(middle - half)), min(length, round(middle + half))


def _partners(images: Tensor, rng: Random) -> Tensor:
    return torch.from_numpy(rng.permutation(len(images))).to(images.device)
