"""Augmentation of whole batches, on a GPU.

Threads that change pictures one by one cannot feed a GPU (docs/decisions/0031), so it changes a batch at a time, each
picture by strengths of its own. The host draws these with one generator a batch, made from (seed, epoch, items) alone:
a training that resumes draws them again. They are not the numbers that the CPU draws for each picture by itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial, reduce
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from tellapart.core.preprocess import Pixels, Preprocessing
from tellapart.data.augmentation import pixel_ops as ops
from tellapart.data.augmentation.transforms import Random, draw
from tellapart.recipe.transforms import Erasing, RandomResizedCrop, Transform

Ints = npt.NDArray[np.int64]
Values = dict[str, npt.NDArray[Any]]


def partition(
    transforms: Sequence[Transform], preprocessing: Preprocessing
) -> tuple[Sequence[Transform], Sequence[Transform]]:
    """Transforms that the CPU does picture by picture, and those that a GPU then does to whole batches.

    The order stays: whatever stands before a transform without a batched form is done on the CPU too. A
    `random_resized_crop` counts as the first, since it is done first wherever it stands.
    """
    ordered = sorted(transforms, key=lambda each: not isinstance(each, RandomResizedCrop))
    n_on_cpu = max((i for i, each in enumerate(ordered, 1) if not _is_batched(each, ordered, preprocessing)), default=0)
    return ordered[:n_on_cpu], ordered[n_on_cpu:]


def _is_batched(transform: Transform, transforms: Sequence[Transform], preprocessing: Preprocessing) -> bool:
    if not isinstance(transform, RandomResizedCrop):
        return transform.transform in (*BATCHED, *ops.MOVES)
    n_crops = sum(isinstance(each, RandomResizedCrop) for each in transforms)
    return n_crops == 1 and transform.probability == 1 and preprocessing.interpolation in ("bilinear", "bicubic")


def describe_partition(transforms: Sequence[Transform], preprocessing: Preprocessing) -> str:
    """One clause about the transforms that the CPU does though a GPU trains; empty where there are none."""
    on_cpu, _ = partition(transforms, preprocessing)
    names = [each.transform for each in on_cpu]
    reasons = [each.transform for each in on_cpu if not _is_batched(each, transforms, preprocessing)]
    if not names:
        return ""
    return f"the CPU does {', '.join(names)}, as the GPU has no batched form of {', '.join(dict.fromkeys(reasons))}"


def batch_generator(seed: int, epoch: int, items: Ints) -> Random:
    """The random generator of one batch: seed, epoch and the batch's items, int64 [n], decide, and nothing else."""
    return np.random.default_rng((seed, epoch, *items.tolist()))


def begin_batch(
    pictures: Sequence[Pixels], transforms: Sequence[Transform], preprocessing: Preprocessing, rng: Random
) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """Put the pictures of a batch into one block of memory, to be changed on the device.

    Args:
        pictures: uint8 [height, width, 3] each: frames, or of any size if a `random_resized_crop` will cut from them.
        transforms: the second part of `partition`.
        preprocessing: size of the frame.
        rng: see `batch_generator`.

    Returns:
        The block, uint8 [n, h, w, 3], and a function to call with it, once, when it is on the device: that gives the
        changed pictures, uint8 [n, preprocessing.height, preprocessing.width, 3].
    """
    boxes = None
    if transforms and isinstance(transforms[0], RandomResizedCrop):
        boxes = _draw_windows(transforms[0], np.array([picture.shape[:2] for picture in pictures]), rng)
        transforms = transforms[1:]
        pictures = [p[y0:y1, x0:x1] for p, (x0, y0, x1, y1) in zip(pictures, boxes.tolist(), strict=True)]
    height, width = (max(picture.shape[axis] for picture in pictures) for axis in (0, 1))
    # From pinned memory a GPU copies while it computes.
    pinned = torch.cuda.is_available()
    block = torch.empty((len(pictures), height, width, 3), dtype=torch.uint8, pin_memory=pinned)
    # A window lies in the upper left corner of its cell; what is around it has no weight in `_scaled`.
    for cell, picture in zip(block.numpy(), pictures, strict=True):
        cell[: picture.shape[0], : picture.shape[1]] = picture
    return block, partial(_augment, boxes=boxes, transforms=transforms, preprocessing=preprocessing, rng=rng)


def _augment(
    pictures: Tensor, boxes: Ints | None, transforms: Sequence[Transform], preprocessing: Preprocessing, rng: Random
) -> Tensor:
    # Half precision takes half the time on a GPU, and holds the grey levels exactly. Colours are computed in single.
    dtype = torch.float16 if pictures.is_cuda else torch.float32
    pixels = pictures.to(dtype)
    pixels = pixels.permute(0, 3, 1, 2) if boxes is None else _scaled(pixels, boxes, preprocessing)
    for name, chosen, values in _draw(transforms, preprocessing, len(pixels), rng):
        if chosen.any():
            tensors = {key: _four_axes(value, pixels.device) for key, value in values.items()}
            changed = BATCHED[name](pixels, **tensors).clamp(0, 255).to(dtype)
            pixels = torch.where(_four_axes(chosen, pixels.device).bool(), changed, pixels)
    return pixels.round().to(torch.uint8).permute(0, 2, 3, 1)


def _four_axes(values: npt.NDArray[Any], device: torch.device) -> Tensor:
    """Values [n, …] as float32 with four axes, the last ones of length 1, as pictures [n, 3, h, w] have four."""
    tensor = torch.from_numpy(values.astype(np.float32)).to(device)
    return tensor.view(*tensor.shape, *[1] * (4 - tensor.ndim))


def _draw(
    transforms: Sequence[Transform], preprocessing: Preprocessing, n: int, rng: Random
) -> Iterator[tuple[str, npt.NDArray[np.bool_], Values]]:
    """The changes of a batch: a key of `BATCHED`, the pictures chosen, bool [n], and the function's arguments.

    Neighbours that only move points become one warp, so that a picture is interpolated once.
    """
    for is_move, group in groupby(transforms, key=lambda each: each.transform in ops.MOVES):
        if is_move:
            moves = [_draw_move(each, preprocessing, n, rng) for each in group]
            matrices = reduce(lambda before, after: after @ before, moves)
            yield "warp", (matrices != np.eye(3)).any(axis=(1, 2)), {"back": np.linalg.inv(matrices)}
            continue
        for each in group:
            chosen, values = rng.random(n) < each.probability, draw(each, rng, n)
            if isinstance(each, Erasing):
                values = _draw_rectangles(values["area"], preprocessing, rng)
            yield each.transform, chosen, values


def _draw_move(transform: Transform, preprocessing: Preprocessing, n: int, rng: Random) -> ops.Matrix:
    """A matrix for each picture, [n, 3, 3]; that of no move for pictures that are not chosen."""
    chosen = rng.random(n) < transform.probability
    matrices = ops.move(transform.transform, preprocessing, *draw(transform, rng, n).values())
    return np.where(chosen[:, None, None], matrices, np.eye(3))


def _draw_windows(transform: RandomResizedCrop, sizes: Ints, rng: Random) -> Ints:
    """A window for each picture, int64 [n, 4], by the rule of `transforms._window`: the first of ten that fits."""
    low, high = transform.ratio
    height, width = sizes.T
    area = height * width * draw(transform, rng, (10, len(sizes)))["scale"]
    ratio = np.exp(rng.uniform(math.log(low), math.log(high), area.shape))
    w, h = np.rint(np.sqrt(area * ratio)), np.rint(np.sqrt(area / ratio))
    fits = (w > 0) & (w <= width) & (h > 0) & (h <= height)
    # The eleventh is the largest that is allowed, in the middle.
    w = np.vstack([w, np.clip(np.rint(height * high), 1, width)])
    h = np.vstack([h, np.clip(np.rint(width / low), 1, height)])
    first = np.vstack([fits, np.ones(len(sizes), bool)]).argmax(axis=0)
    w, h = (side[first, np.arange(len(sizes))].astype(np.int64) for side in (w, h))
    left = np.where(first < 10, rng.integers(width - w + 1), (width - w) // 2)
    top = np.where(first < 10, rng.integers(height - h + 1), (height - h) // 2)
    return np.stack([left, top, left + w, top + h], axis=1)


def _draw_rectangles(share: npt.NDArray[np.float64], preprocessing: Preprocessing, rng: Random) -> Values:
    """A rectangle of a share of the area for each picture, by the rule of `transforms._erasing`, and its colour."""
    height, width = preprocessing.height, preprocessing.width
    area = share * height * width
    low, high = np.maximum(0.3, area / width**2), np.minimum(3.3, height**2 / np.maximum(area, 1))
    ratio = np.exp(rng.uniform(np.log(np.minimum(low, high)), np.log(high)))
    h = np.minimum(height, np.rint(np.sqrt(area * ratio))).astype(np.int64)
    w = np.minimum(width, np.rint(np.sqrt(area / ratio))).astype(np.int64)
    left, top = rng.integers(width - w + 1), rng.integers(height - h + 1)
    colour = np.broadcast_to(255 * np.array(preprocessing.mean), (len(share), 3))
    return {"box": np.stack([left, top, left + w, top + h], axis=1), "colour": colour}


def _blend(pixels: Tensor, base: Tensor, factor: Tensor) -> Tensor:
    return base + factor * (pixels - base)


def _grey(pixels: Tensor) -> Tensor:
    """Luma of ITU-R 601-2, float32 [n, 1, h, w]."""
    shares = torch.tensor([0.299, 0.587, 0.114], device=pixels.device).view(3, 1, 1)
    return (pixels * shares).sum(1, keepdim=True)


def _erase(pixels: Tensor, box: Tensor, colour: Tensor) -> Tensor:
    left, top, right, bottom = box.view(-1, 4, 1, 1, 1).unbind(1)
    down = torch.arange(pixels.shape[2], device=pixels.device).view(1, 1, -1, 1)
    across = torch.arange(pixels.shape[3], device=pixels.device).view(1, 1, 1, -1)
    within = (down >= top) & (down < bottom) & (across >= left) & (across < right)
    return torch.where(within, colour.view(-1, 3, 1, 1).to(pixels.dtype), pixels)


def _warp(pixels: Tensor, back: Tensor) -> Tensor:
    """Move points about the middle; bilinear; mirrored at the edges. `back` [n, 3, 3, 1] leads to where they came from.

    Torch counts from the middle as `ops.Matrix` does, but in halves of a side.
    """
    height, width = pixels.shape[2:]
    half = torch.tensor([width / 2, height / 2, 1.0], device=pixels.device)
    grid = affine_grid((back.squeeze(3) * half / half[:, None])[:, :2], list(pixels.shape), align_corners=False)
    return grid_sample(pixels.float(), grid, mode="bilinear", padding_mode="reflection", align_corners=False)


#: Pictures [n, 3, h, w] of 0 to 255, in half or single precision, and strengths by name, float32 [n, 1, 1, 1], to
#: pictures in either precision; what lies beyond 0 and 255 is cut off. Moves are merged into "warp". A transform that
#: is not here is done on the CPU; see `partition`.
BATCHED: dict[str, Callable[..., Tensor]] = {
    "warp": _warp,
    "horizontal_flip": lambda pixels: pixels.flip(3),
    "vertical_flip": lambda pixels: pixels.flip(2),
    "brightness": lambda pixels, factor: pixels * factor,
    "contrast": lambda pixels, factor: _blend(pixels, _grey(pixels).mean((2, 3), keepdim=True), factor),
    "saturation": lambda pixels, factor: _blend(pixels, _grey(pixels), factor),
    "greyscale": lambda pixels: _grey(pixels).expand_as(pixels),
    "negative": lambda pixels: 255 - pixels,
    "erasing": _erase,
}


def _scaled(pixels: Tensor, boxes: Ints, preprocessing: Preprocessing) -> Tensor:
    """Each picture's window brought to the frame's size, as torch's `interpolate` does with antialias.

    `interpolate` takes one size for a whole batch, and here each window has its own. Columns and rows of the result are
    weighted sums, so two matrix products for each picture do it, which is what GPUs are made for.

    Args:
        pixels: [n, h, w, 3].
        boxes: int64 [n, 4]; only the windows' sizes count.
    """
    widths, heights = (boxes[:, 2:] - boxes[:, :2]).T
    n, height, _, _ = pixels.shape
    columns = pixels.transpose(1, 2).flatten(2)  # [n, w, h · 3]
    columns = _weights(widths, preprocessing.width, preprocessing.interpolation, columns) @ columns
    # As on the CPU, sums become grey levels in between too: bicubic ones go far beyond black and white.
    rows = columns.round_().clamp_(0, 255).view(n, preprocessing.width, height, 3).transpose(1, 2).flatten(2)
    rows = _weights(heights, preprocessing.height, preprocessing.interpolation, rows) @ rows
    rows = rows.round_().clamp_(0, 255).view(n, preprocessing.height, preprocessing.width, 3)
    return rows.permute(0, 3, 1, 2)


def _weights(lengths: Ints, size: int, interpolation: str, lines: Tensor) -> Tensor:
    """The share of each pixel of a line in each pixel of the scaled line.

    Args:
        lengths: int64 [n], pixels of each picture's lines.
        size: pixels of the scaled lines.
        interpolation: "bilinear" or "bicubic".
        lines: [n, longest, …], for its device, type and longest line.

    Returns:
        [n, size, longest], rows of sum 1.
    """
    n, longest = lines.shape[:2]
    reach = 1 if interpolation == "bilinear" else 2
    length = torch.from_numpy(lengths).to(lines.device).float().view(-1, 1, 1)
    scale = length / size
    stretch = scale.clamp(min=1)
    middle = scale * (torch.arange(size, device=lines.device).view(1, -1, 1) + 0.5)
    # Few pixels of a line have a share at all: only these are computed, then laid out.
    n_taps = math.ceil(2 * reach * max(1, int(lengths.max()) / size)) + 1
    first = (middle - reach * stretch + 0.5).trunc().clamp(min=0)
    position = first + torch.arange(n_taps, device=lines.device)
    distance = ((position - middle + 0.5) / stretch).abs()
    shares = (1 - distance).clamp(min=0) if interpolation == "bilinear" else _cubic(distance)
    shares = torch.where(position < length, shares, 0)
    shares = (shares / shares.sum(2, keepdim=True)).to(lines.dtype)
    weights = torch.zeros((n, size, longest), dtype=lines.dtype, device=lines.device)
    return weights.scatter_add_(2, position.long().clamp(max=longest - 1), shares)


def _cubic(distance: Tensor) -> Tensor:
    """Kernel of R. Keys, Cubic convolution interpolation for digital image processing, 1981, with a = -0.5."""
    near = (1.5 * distance - 2.5) * distance**2 + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    return torch.where(distance < 1, near, torch.where(distance < 2, far, 0))
