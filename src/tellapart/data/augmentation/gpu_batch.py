"""The random changes of `data.augment` done to whole batches, on an accelerator.

`draw` takes the same numbers from the same chance, so a picture is changed as it would be alone, but for rounding.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from tellapart.core.preprocess import Pixels, Preprocessing
from tellapart.data.augmentation import pixel_ops as ops
from tellapart.data.augmentation.philox import Chance, Lanes
from tellapart.recipe.transforms import Erasing, Normal, RandomResizedCrop, Transform, Uniform, strengths

_KINDS = (
    *("random_resized_crop", "horizontal_flip", "vertical_flip", *ops.MOVES, "erasing"),
    *("brightness", "contrast", "saturation", "greyscale", "negative"),
)
#: Luma of ITU-R 601-2, as Pillow has it, in 65536ths.
_LUMA = (19595, 38470, 7471)
#: So that what is a whole number but for float32's rounding is not rounded down to the next.
_HAIR = 1e-2


@dataclass(frozen=True)
class Change:
    """One change to some pictures of a batch.

    Attributes:
        kind: a transform's name, or "warp" for moves.
        lanes: the pictures' places in the batch, int64 [k].
        values: what was drawn for each: float64 [k] by the strength's name; for "warp" `back` [k, 3, 3], from points of
            the result to those of the picture, for erasing `box` [k, 4]: left, top, right, bottom.
    """

    kind: str
    lanes: Lanes
    values: dict[str, npt.NDArray[np.generic]]


@dataclass(frozen=True)
class Drawn:
    """What chance does to a batch.

    Attributes:
        boxes: int64 [n, 4], the window (left, top, right, bottom) of each picture that fills the frame; None: it is in
            the frame already.
        changes: of the frame, in their order.
    """

    boxes: Lanes | None
    changes: Sequence[Change]


def fits(transforms: Sequence[Transform], preprocessing: Preprocessing) -> bool:
    """Whether all changes of a recipe can be done to whole batches."""
    crops = [each for each in transforms if isinstance(each, RandomResizedCrop)]
    normal = any(isinstance(getattr(each, name), Normal) for each in transforms for name in strengths(type(each)))
    return (
        all(each.transform in _KINDS for each in transforms)
        and not normal  # NumPy draws them by rejection, each from an unknown number of words
        and (not crops or (len(crops) == 1 and crops[0].probability == 1))
        and (not crops or preprocessing.interpolation in ("bilinear", "bicubic"))
    )


def draw(transforms: Sequence[Transform], preprocessing: Preprocessing, sizes: Lanes, chance: Chance) -> Drawn:
    """What `augment` would draw for each picture.

    Args:
        transforms: of which `fits` is true.
        preprocessing: size of the frame.
        sizes: int64 [n, 2], height and width of each picture as it was decoded.
        chance: a lane a picture, none used yet.
    """
    everyone = np.arange(len(sizes))
    lanes = [everyone[chance.random(everyone) < each.probability] for each in transforms]
    boxes: Lanes | None = None
    changes: list[Change] = []
    for each in transforms:
        if isinstance(each, RandomResizedCrop):
            boxes = _windows(each, sizes, chance)
    waiting = np.broadcast_to(np.eye(3), (len(sizes), 3, 3)).copy()

    def warp(some: Lanes) -> None:
        """Neighbouring moves as one: of each picture those between which nothing else was drawn for it."""
        moved = some[(waiting[some] != np.eye(3)).any(axis=(1, 2))]
        changes.append(Change("warp", moved, {"back": np.linalg.inv(waiting[moved])}))
        waiting[moved] = np.eye(3)

    for each, some in zip(transforms, lanes, strict=True):
        if isinstance(each, RandomResizedCrop):
            continue
        values = _strengths(each, some, chance)
        if each.transform in ops.MOVES:
            waiting[some] = ops.move(each.transform, preprocessing, *values.values()) @ waiting[some]
            continue
        warp(some)
        if isinstance(each, Erasing):
            values = {"box": _rectangles(values["area"], preprocessing, some, chance)}
        changes.append(Change(each.transform, some, values))
    warp(everyone)
    return Drawn(boxes, [change for change in changes if len(change.lanes)])


def _strengths(transform: Transform, lanes: Lanes, chance: Chance) -> dict[str, npt.NDArray[np.generic]]:
    values: dict[str, npt.NDArray[np.generic]] = {}
    for name, limits in strengths(type(transform)).items():
        match getattr(transform, name):
            case Uniform(uniform=[low, high]):
                value = chance.uniform(lanes, low, high)
            case fixed:
                value = np.full(len(lanes), float(fixed))
        values[name] = np.clip(value, limits.low, limits.high)
    return values


def _windows(transform: RandomResizedCrop, sizes: Lanes, chance: Chance) -> Lanes:
    """As `augment._window`, for each picture."""
    low, high = transform.ratio
    height, width = sizes.T
    w = np.minimum(width, np.maximum(1, np.rint(height * high)))
    h = np.minimum(height, np.maximum(1, np.rint(width / low)))
    boxes = np.stack([(width - w) // 2, (height - h) // 2, w, h], axis=1).astype(np.int64)
    open_ = np.arange(len(sizes))
    for _ in range(10):
        area = height[open_] * width[open_] * _strengths(transform, open_, chance)["scale"]
        ratio = np.exp(chance.uniform(open_, np.log(low), np.log(high)))
        w, h = np.rint(np.sqrt(area * ratio)).astype(np.int64), np.rint(np.sqrt(area / ratio)).astype(np.int64)
        good = (w > 0) & (w <= width[open_]) & (h > 0) & (h <= height[open_])
        lanes, w, h = open_[good], w[good], h[good]
        left = chance.integers(lanes, width[lanes] - w + 1)
        boxes[lanes] = np.stack([left, chance.integers(lanes, height[lanes] - h + 1), w, h], axis=1)
        open_ = open_[~good]
    boxes[:, 2:] += boxes[:, :2]
    return boxes


def _rectangles(share: npt.NDArray[np.generic], preprocessing: Preprocessing, lanes: Lanes, chance: Chance) -> Lanes:
    """As `augment._erasing` draws them."""
    height, width = preprocessing.height, preprocessing.width
    area = share.astype(np.float64) * height * width
    low, high = np.maximum(0.3, area / width**2), np.minimum(3.3, height**2 / np.maximum(area, 1))
    ratio = np.exp(chance.uniform(lanes, np.log(np.minimum(low, high)), np.log(high)))
    h = np.minimum(height, np.rint(np.sqrt(area * ratio))).astype(np.int64)
    w = np.minimum(width, np.rint(np.sqrt(area / ratio))).astype(np.int64)
    left, top = chance.integers(lanes, width - w + 1), chance.integers(lanes, height - h + 1)
    return np.stack([left, top, left + w, top + h], axis=1)


def lay_out(pictures: Sequence[Pixels], drawn: Drawn, pinned: bool) -> Tensor:
    """Pictures as `apply` takes them: one upon the other, or their windows, each in the upper left corner.

    Args:
        pictures: uint8 [height, width, 3] each.
        drawn: see `draw`.
        pinned: into memory from which a GPU copies while it computes.
    """
    if drawn.boxes is not None:
        pictures = [
            picture[top:bottom, left:right]
            for picture, (left, top, right, bottom) in zip(pictures, drawn.boxes.tolist(), strict=True)
        ]
    height, width = (max(picture.shape[axis] for picture in pictures) for axis in (0, 1))
    batch = torch.empty((len(pictures), height, width, 3), dtype=torch.uint8, pin_memory=pinned)
    if drawn.boxes is None:
        np.stack(pictures, out=batch.numpy())
        return batch
    for place, picture in zip(batch.numpy(), pictures, strict=True):
        place[: picture.shape[0], : picture.shape[1]] = picture
    return batch


def apply(pictures: Tensor, drawn: Drawn, preprocessing: Preprocessing) -> Tensor:
    """Change the pictures of a batch as was drawn, on the device on which they are.

    Args:
        pictures: uint8 [n, h, w, 3], see `lay_out`; what is around a window makes no difference.
        drawn: see `draw`.
        preprocessing: size of the result.

    Returns:
        uint8 [n, how.height, how.width, 3].
    """
    kind = torch.float16 if pictures.is_cuda else torch.float32
    pixels = (
        pictures.permute(0, 3, 1, 2).to(kind)
        if drawn.boxes is None
        else _scaled(pictures, drawn.boxes, preprocessing, kind)
    )
    for change in drawn.changes:
        values = {name: torch.from_numpy(value).to(pictures.device) for name, value in change.values.items()}
        if len(change.lanes) == len(pixels):
            pixels = _changed(pixels, change.kind, values, preprocessing)
            continue
        lanes = torch.from_numpy(change.lanes).to(pictures.device)
        pixels[lanes] = _changed(pixels[lanes], change.kind, values, preprocessing)
    return pixels.permute(0, 2, 3, 1).to(torch.uint8)


def _changed(pixels: Tensor, kind: str, values: dict[str, Tensor], preprocessing: Preprocessing) -> Tensor:
    """One change to pictures [k, 3, h, w] of whole numbers from 0 to 255, in a type that holds these exactly."""
    match kind:
        case "warp":
            return _warped(pixels.float(), values["back"]).to(pixels.dtype)
        case "horizontal_flip":
            return pixels.flip(3)
        case "vertical_flip":
            return pixels.flip(2)
        case "negative":
            return 255 - pixels
        case "greyscale":
            return _grey(pixels).to(pixels.dtype).repeat(1, 3, 1, 1)
        case "erasing":
            return _erased(pixels, values["box"], preprocessing)
        case "brightness":
            base = torch.zeros((), device=pixels.device)
        case "saturation":
            base = _grey(pixels)
        case _:  # contrast
            base = (_grey(pixels).mean((1, 2, 3), keepdim=True) + 0.5).floor()
    factor = values["factor"].float().view(-1, 1, 1, 1)
    return (base + factor * (pixels - base) + _HAIR).clamp(0, 255).floor().to(pixels.dtype)


def _grey(pixels: Tensor) -> Tensor:
    red, green, blue = _LUMA
    luma = pixels[:, :1].float() * red + pixels[:, 1:2].float() * green + pixels[:, 2:].float() * blue
    return ((luma + 0x8000) / 65536).floor()


def _erased(pixels: Tensor, box: Tensor, preprocessing: Preprocessing) -> Tensor:
    left, top, right, bottom = box.view(-1, 4, 1, 1, 1).unbind(1)
    down = torch.arange(pixels.shape[2], device=pixels.device).view(1, 1, -1, 1)
    across = torch.arange(pixels.shape[3], device=pixels.device).view(1, 1, 1, -1)
    within = (down >= top) & (down < bottom) & (across >= left) & (across < right)
    colour = torch.tensor(preprocessing.mean, device=pixels.device).mul(255).round().view(1, 3, 1, 1)
    return torch.where(within, colour.to(pixels.dtype), pixels)


def _warped(pixels: Tensor, back: Tensor) -> Tensor:
    """As `operations.warp`: about the middle, bilinear, mirrored at the edges, rounded down."""
    height, width = pixels.shape[2:]
    # From pixels about the middle to shares of half a side.
    half = torch.tensor([width / 2, height / 2, 1.0], dtype=back.dtype, device=back.device)
    shares = back * half[None, None, :] / half[None, :, None]
    grid = affine_grid(shares[:, :2].float(), list(pixels.shape), align_corners=False)
    moved = grid_sample(pixels, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    return (moved + _HAIR).clamp(0, 255).floor()


def _scaled(pictures: Tensor, boxes: Lanes, preprocessing: Preprocessing, kind: torch.dtype) -> Tensor:
    """Each picture's window brought to the frame's size, as torch's `interpolate` does with antialias.

    Columns and rows are weighted sums, so two matrix products for each picture do it, which is what accelerators are
    made for. Between them is rounded and cut off at 0 and 255, as there: bicubic sums go far beyond.
    """
    n, height, width, _ = pictures.shape
    wide, high = (boxes[:, 2:] - boxes[:, :2]).T
    lines = pictures.to(kind).transpose(1, 2).reshape(n, width, height * 3)
    lines = (
        torch.bmm(_weights(wide, preprocessing.width, preprocessing.interpolation, lines), lines)
        .round_()
        .clamp_(0, 255)
    )
    lines = lines.view(n, preprocessing.width, height, 3).transpose(1, 2).reshape(n, height, preprocessing.width * 3)
    lines = (
        torch.bmm(_weights(high, preprocessing.height, preprocessing.interpolation, lines), lines)
        .round_()
        .clamp_(0, 255)
    )
    return lines.view(n, preprocessing.height, preprocessing.width, 3).permute(0, 3, 1, 2)


def _weights(lengths: Lanes, wanted: int, interpolation: str, lines: Tensor) -> Tensor:
    """What each pixel of a line adds to each pixel of a shorter or longer one.

    Args:
        lengths: int64 [n], pixels of each picture's lines.
        wanted: pixels of the result's.
        interpolation: "bilinear" or "bicubic".
        lines: [n, longest, …], for its device, type and longest line.

    Returns:
        [n, wanted, longest], rows of sum 1.
    """
    n, longest = lines.shape[:2]
    reach = 1 if interpolation == "bilinear" else 2
    length = torch.from_numpy(lengths).to(lines.device).float().view(-1, 1, 1)
    scale = length / wanted
    stretch = scale.clamp(min=1)
    middle = scale * (torch.arange(wanted, device=lines.device).view(1, -1, 1) + 0.5)
    first = (middle - reach * stretch + 0.5).trunc().clamp(min=0)
    last = torch.minimum((middle + reach * stretch + 0.5).trunc(), length)
    # Few pixels have a weight at all: only these are computed.
    n_taps = math.ceil(2 * reach * max(1, int(lengths.max()) / wanted)) + 1
    place = first + torch.arange(n_taps, device=lines.device)
    distance = ((place - middle + 0.5) / stretch).abs()
    weights = (1 - distance).clamp(min=0) if interpolation == "bilinear" else _cubic(distance)
    weights = torch.where(place < last, weights, 0)
    weights = (weights / weights.sum(2, keepdim=True)).to(lines.dtype)
    dense = torch.zeros((n, wanted, longest), dtype=lines.dtype, device=lines.device)
    return dense.scatter_add_(2, place.long().clamp(max=longest - 1), weights)


def _cubic(distance: Tensor) -> Tensor:
    """Keys' kernel with a = -0.5."""
    near = (1.5 * distance - 2.5) * distance**2 + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    return torch.where(distance < 1, near, torch.where(distance < 2, far, 0))
