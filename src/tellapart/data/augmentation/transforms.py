"""Data augmentation: a recipe's random transforms, applied to one picture.

All chance comes from the generator that is passed in; `generator` makes it from (seed, epoch, row, view) alone. So
a picture is changed alike by any thread, worker or machine, whatever was done before it.

To add a transform: its keys go to `recipe.transforms`; its pixels to `pixel_ops.DETERMINISTIC`, or to `STOCHASTIC`
below if it draws more than its strengths. A form for whole batches on a GPU may follow in `gpu_batch.BATCHED`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import reduce
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.random.bit_generator import ISeedSequence

from tellapart.core import preprocess
from tellapart.core.preprocess import Pixels, Preprocessing
from tellapart.data.augmentation import pixel_ops as ops
from tellapart.data.augmentation.cropping import Box, Kept, scaled, scaled_together
from tellapart.recipe.transforms import (
    Erasing,
    Noise,
    Normal,
    QuarterTurns,
    RandAugment,
    RandomResizedCrop,
    Strength,
    Transform,
    TrivialAugment,
    Uniform,
    Zoom,
    strengths,
)

Random = np.random.Generator


def generator(seed: int, epoch: int, row: int, view: int = 0) -> Random:
    """The random generator of one picture in one epoch: these four numbers, 0 or more, and nothing else decide.

    Philox (Salmon 2011) takes them as key and counter as they are. Mixing them into a seed would take longer than the
    drawing.
    """
    high, low = divmod(seed, 1 << 64)
    counter = np.array([0, epoch, row, high], np.uint64)
    key: Any = _Key(np.array([low, view], np.uint64))
    return np.random.Generator(np.random.Philox(key, counter=counter))


class _Key(ISeedSequence):
    """A key for Philox as it is.

    With `key=`, NumPy asks the system for random bits that it does not use: that takes as long as three generators.
    """

    def __init__(self, key: npt.NDArray[np.uint64]) -> None:
        self.key = key

    def generate_state(self, n_words: int, dtype: Any = np.uint32) -> npt.NDArray[Any]:
        return self.key


def batch_generator(seed: int, epoch: int, batch: int) -> Random:
    """The random generator of all pictures of one batch in one epoch. No picture has its own `generator`'s numbers."""
    return generator(seed, epoch, batch, (1 << 63) - 1)


def augment(pixels: Pixels, transforms: Sequence[Transform], preprocessing: Preprocessing, rng: Random) -> Pixels:
    """Augment one picture and bring it to size.

    A `random_resized_crop`, if drawn, cuts from the picture as it was decoded; otherwise the picture is brought to size
    as in validation. The other transforms follow in the order of the list. Neighbouring affine ones (rotation, shift,
    scale, shear) are done as one, so that the picture is interpolated once.

    Args:
        pixels: uint8 [height, width, 3], decoded and upright; not written to.
        transforms: sections of a recipe.
        preprocessing: size of the result.
        rng: the only source of chance; see `generator`.

    Returns:
        uint8 [preprocessing.height, preprocessing.width, 3], contiguous, writable, memory of its own.
    """
    drawn = _drawn(transforms, rng)
    crop = next((transform for transform in drawn if isinstance(transform, RandomResizedCrop)), None)
    if crop is None:
        result = preprocess.preprocess(pixels, preprocessing)
    else:
        drawn.remove(crop)
        result = _random_resized_crop(pixels, crop, preprocessing, rng)
    result = _changed(result, drawn, preprocessing, rng)
    return result.copy() if np.may_share_memory(result, pixels) else np.require(result, requirements=["C", "W"])


def augment_frame(frame: Pixels, transforms: Sequence[Transform], preprocessing: Preprocessing, rng: Random) -> Pixels:
    """Augment a picture that is at size already; without a `random_resized_crop`, the same as `augment`.

    Args:
        frame: uint8 [preprocessing.height, preprocessing.width, 3], as `preprocess` gives it; not written to.
        transforms, preprocessing, rng: see `augment`.
    """
    result = _changed(frame, _drawn(transforms, rng), preprocessing, rng)
    return result.copy() if np.may_share_memory(result, frame) else np.require(result, requirements=["C", "W"])


def augment_kept(
    kept: Kept,
    transforms: Sequence[Transform],
    preprocessing: Preprocessing,
    rng: Callable[[int], Random],
    out: Pixels,
) -> None:
    """Augment pictures that are kept in memory: the same as `augment` for each, in less time.

    First all is drawn, then all crops are cut in one call: Python's own steps take twice as long where each follows a
    kernel that has emptied the processor's caches, and a call that holds no lock lets other threads work.

    Args:
        kept: n pictures, each as it was decoded.
        transforms, preprocessing: see `augment`.
        rng: number of a picture → its source of chance; whenever it is asked for, from the beginning.
        out: uint8 [n, preprocessing.height, preprocessing.width, 3], written to.
    """
    chosen, boxes, flips, rests = [], [], [], []
    heights, widths = kept.height.tolist(), kept.width.tolist()
    for number in range(len(kept)):
        source = rng(number)
        drawn = _drawn(transforms, source)
        crop = next((transform for transform in drawn if isinstance(transform, RandomResizedCrop)), None)
        if crop is not None:
            drawn.remove(crop)
            chosen.append(number)
            boxes.append(_window(heights[number], widths[number], crop, source))
            flips.append(bool(drawn) and drawn[0].transform == "horizontal_flip")
            rests.append((drawn[1:] if flips[-1] else drawn, source))
    if not scaled_together(kept, chosen, boxes, flips, preprocessing.interpolation, out):
        chosen, rests = [], []
    for number, (rest, source) in zip(chosen, rests, strict=True):
        if rest:
            out[number] = _changed(out[number], rest, preprocessing, source)
    for number in sorted(set(range(len(kept))) - set(chosen)):
        out[number] = augment(kept[number], transforms, preprocessing, rng(number))


def crops(transforms: Sequence[Transform]) -> bool:
    """Whether there is a `random_resized_crop`, which cuts from the picture as it was decoded."""
    return any(isinstance(transform, RandomResizedCrop) for transform in transforms)


def _drawn(transforms: Sequence[Transform], rng: Random) -> list[Transform]:
    return [transform for transform in transforms if rng.random() < transform.probability]


def _changed(pixels: Pixels, drawn: Sequence[Transform], preprocessing: Preprocessing, rng: Random) -> Pixels:
    """Apply all transforms but the crop from the decoded picture."""
    for only_moves, group in groupby(drawn, key=lambda transform: transform.transform in ops.MOVES):
        if only_moves:
            matrices = [ops.move(each.transform, preprocessing, *draw(each, rng).values()) for each in group]
            pixels = ops.warp(pixels, reduce(lambda before, after: after @ before, matrices))
            continue
        for each in group:
            if each.transform in ops.DETERMINISTIC:
                pixels = ops.DETERMINISTIC[each.transform](pixels, **draw(each, rng))
            else:
                pixels = STOCHASTIC[each.transform](pixels, each, preprocessing, rng)
    return pixels


def draw(transform: Transform, rng: Random, shape: int | tuple[int, ...] | None = None) -> dict[str, Any]:
    """One value for each strength of a transform, by the field's name; for a batch, an array of them of this shape."""
    values = {}
    for name, limits in strengths(type(transform)).items():
        value: Any
        match getattr(transform, name):
            case Uniform(uniform=[low, high]):
                value = rng.uniform(low, high, shape)
            case Normal(normal=[mean, std]):
                value = rng.normal(mean, std, shape)
            case fixed:
                value = float(fixed) if shape is None else np.full(shape, float(fixed))
        # Python's own functions are five times as fast for a single number.
        is_one = shape is None
        values[name] = min(max(value, limits.low), limits.high) if is_one else np.clip(value, limits.low, limits.high)
    return values


def left_to_chance(transforms: Sequence[Transform]) -> bool:
    """Whether the result depends on the generator: that of a plain flip, for one, does not."""
    return any(
        each.probability < 1
        or each.transform in STOCHASTIC
        or any(isinstance(getattr(each, name), Uniform | Normal) for name in strengths(type(each)))
        for each in transforms
    )


def decode_at_least(transforms: Sequence[Transform], preprocessing: Preprocessing) -> int:
    """The shorter side, in pixels, that decoding must keep so that the smallest crop loses no detail."""
    shares = [_smallest(t.scale) for t in transforms if isinstance(t, RandomResizedCrop)]
    return max(
        preprocessing.decode_at_least,
        math.ceil(max(preprocessing.height, preprocessing.width) / math.sqrt(min(shares, default=1.0))),
    )


def _smallest(share: Strength) -> float:
    match share:
        case Uniform():
            return share.uniform[0]
        case Normal():
            mean, std = share.normal
            return max(mean - 2 * std, 0.01)
        case fixed:
            return fixed


def _random_resized_crop(
    pixels: Pixels, transform: RandomResizedCrop, preprocessing: Preprocessing, rng: Random
) -> Pixels:
    height, width = pixels.shape[:2]
    return scaled(
        pixels,
        preprocessing.height,
        preprocessing.width,
        preprocessing.interpolation,
        _window(height, width, transform, rng),
    )


def _window(height: int, width: int, transform: RandomResizedCrop, rng: Random) -> Box:
    """A box (left, top, right, bottom) as Szegedy 2015 draws it: ten tries, else the largest allowed, in the middle."""
    low, high = transform.ratio
    for _ in range(10):
        area = height * width * draw(transform, rng)["scale"]
        ratio = math.exp(rng.uniform(math.log(low), math.log(high)))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, top = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
            return left, top, left + w, top + h
    w, h = min(width, max(1, round(height * high))), min(height, max(1, round(width / low)))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def _quarter_turns(pixels: Pixels, transform: QuarterTurns, preprocessing: Preprocessing, rng: Random) -> Pixels:
    """A lying frame turned upright no longer fits: it is scaled until it covers, and its middle cut out."""
    turned = ops.quarter_turn(pixels, transform.turns[rng.integers(len(transform.turns))])
    if turned.shape == pixels.shape:
        return turned
    height, width = turned.shape[:2]
    w, h = (
        min(width, height * preprocessing.width / preprocessing.height),
        min(height, width * preprocessing.height / preprocessing.width),
    )
    box = ((width - w) / 2, (height - h) / 2, (width + w) / 2, (height + h) / 2)
    return preprocess.resize(turned, preprocessing.height, preprocessing.width, preprocessing.interpolation, box)


def _zoom(pixels: Pixels, transform: Zoom, preprocessing: Preprocessing, rng: Random) -> Pixels:
    factor = draw(transform, rng)["factor"]
    height, width = pixels.shape[:2]
    h, w = max(1, round(height / factor)), max(1, round(width / factor))
    left, top = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
    return scaled(
        pixels, preprocessing.height, preprocessing.width, preprocessing.interpolation, (left, top, left + w, top + h)
    )


def _noise(pixels: Pixels, transform: Noise, preprocessing: Preprocessing, rng: Random) -> Pixels:
    std = draw(transform, rng)["std"]
    return ops.add(pixels, rng.standard_normal(pixels.shape, np.float32) * np.float32(std))


def _erasing(pixels: Pixels, transform: Erasing, preprocessing: Preprocessing, rng: Random) -> Pixels:
    height, width = pixels.shape[:2]
    area = draw(transform, rng)["area"] * height * width
    # Only ratios (height / width) with which a rectangle of this area lies within the frame: none has to be refused.
    low, high = max(0.3, area / width**2), min(3.3, height**2 / max(area, 1))
    ratio = math.exp(rng.uniform(math.log(min(low, high)), math.log(high)))
    h, w = min(height, round(math.sqrt(area * ratio))), min(width, round(math.sqrt(area / ratio)))
    left, top = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
    mean_colour = tuple(255 * mean for mean in preprocessing.mean)
    return ops.erase(pixels, (left, top, left + w, top + h), mean_colour)


def _rand_augment(pixels: Pixels, transform: RandAugment, preprocessing: Preprocessing, rng: Random) -> Pixels:
    space = _operations(preprocessing, wide=False)
    for number in rng.integers(len(space), size=transform.n):
        pixels = space[number](pixels, transform.magnitude / 30 * rng.choice((-1, 1)))
    return pixels


def _trivial_augment(pixels: Pixels, transform: TrivialAugment, preprocessing: Preprocessing, rng: Random) -> Pixels:
    space = _operations(preprocessing, wide=True)
    return space[rng.integers(len(space))](pixels, rng.integers(31) / 30 * rng.choice((-1, 1)))


def _operations(preprocessing: Preprocessing, wide: bool) -> tuple[Callable[[Pixels, float], Pixels], ...]:
    """The fourteen operations of RandAugment (Cubuk 2019) or TrivialAugment Wide (Müller 2021).

    Each takes a strength from -1 to 1; of 1 it does what the paper (as torchvision reads it) calls its strongest.
    Unlike there, pictures are slanted about their middle, and mirrored where points are missing.
    """
    slant, turn, colour, bits = (0.99, 135, 0.99, 6) if wide else (0.3, 30, 0.9, 4)
    right, down = (32.0, 32.0) if wide else (preprocessing.width * 150 / 331, preprocessing.height * 150 / 331)
    return (
        lambda pixels, _: pixels,
        lambda pixels, s: ops.warp(pixels, ops.shear(math.degrees(math.atan(slant * s)), 0)),
        lambda pixels, s: ops.warp(pixels, ops.shear(0, math.degrees(math.atan(slant * s)))),
        lambda pixels, s: ops.warp(pixels, ops.shift(right * s, 0)),
        lambda pixels, s: ops.warp(pixels, ops.shift(0, down * s)),
        lambda pixels, s: ops.warp(pixels, ops.rotation(turn * s)),
        lambda pixels, s: ops.brightness(pixels, 1 + colour * s),
        lambda pixels, s: ops.saturation(pixels, 1 + colour * s),
        lambda pixels, s: ops.contrast(pixels, 1 + colour * s),
        lambda pixels, s: ops.sharpness(pixels, 1 + colour * s),
        lambda pixels, s: ops.posterize(pixels, 8 - round(bits * abs(s))),
        lambda pixels, s: ops.solarize(pixels, 255 * (1 - abs(s))),
        lambda pixels, _: ops.autocontrast(pixels),
        lambda pixels, _: ops.equalize(pixels),
    )


#: Transforms of a recipe that draw more than their strengths.
STOCHASTIC: dict[str, Callable[..., Pixels]] = {
    "random_resized_crop": _random_resized_crop,
    "quarter_turns": _quarter_turns,
    "zoom": _zoom,
    "noise": _noise,
    "erasing": _erasing,
    "rand_augment": _rand_augment,
    "trivial_augment": _trivial_augment,
}
