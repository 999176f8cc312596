"""Whole batches are changed as the CPU changes each picture, but for rounding; chance is a function of the batch."""

from __future__ import annotations

import typing
from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats

from tellapart.core.preprocess import Interpolation, Preprocessing
from tellapart.data.augmentation.cropping import scaled
from tellapart.data.augmentation.gpu_batch import (
    BATCHED,
    _draw_rectangles,
    _draw_windows,
    batch_generator,
    begin_batch,
    describe_partition,
    partition,
)
from tellapart.data.augmentation.pixel_ops import MOVES
from tellapart.data.augmentation.transforms import _window, augment_frame, generator
from tellapart.recipe import transforms as rt

FRAME = Preprocessing(40, 56, interpolation="bilinear")
KINDS: list[type[rt.Transform]] = list(typing.get_args(typing.get_args(rt.AnyTransform)[0]))
ON_CPU = {"quarter_turns", "zoom", "blur", "noise", "jpeg", "rand_augment", "trivial_augment"}


def scene(number: int, height: int = 40, width: int = 56) -> np.ndarray:
    """A smooth picture, since what is compared is interpolated, with an edge."""
    y, x = np.mgrid[:height, :width] / 9
    rng = np.random.default_rng(number)
    waves = [128 + 90 * np.sin(x * rng.uniform(0.3, 1) + y * rng.uniform(0.3, 1) + rng.uniform(0, 6)) for _ in range(3)]
    pixels = np.stack(waves, axis=2)
    pixels[: height // 3, : width // 2] = rng.uniform(0, 255, 3)
    return pixels.round().astype(np.uint8)


SCENES = [scene(number) for number in range(24)]


def in_batch(
    transforms: Sequence[rt.Transform],
    pictures: Sequence[np.ndarray] = SCENES,
    preprocessing: Preprocessing = FRAME,
    seed: int = 5,
    epoch: int = 2,
) -> np.ndarray:
    rng = batch_generator(seed, epoch, np.arange(len(pictures)) + 11)
    block, change = begin_batch(pictures, transforms, preprocessing, rng)
    return change(block).numpy()


def on_cpu(transforms: Sequence[rt.Transform]) -> np.ndarray:
    return np.stack([augment_frame(picture, transforms, FRAME, generator(0, 0, 0)) for picture in SCENES])


def apart(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    return np.abs(ours.astype(int) - theirs)


def test_every_transform_is_batched_or_listed_as_done_on_the_cpu() -> None:
    """Whoever adds a transform says which: a function in `BATCHED`, or its name in this file's list."""
    names = {kind.model_fields["transform"].default for kind in KINDS}
    assert names - ON_CPU == (set(BATCHED) - {"warp"}) | set(MOVES) | {"random_resized_crop"}
    for kind in KINDS:
        left, batched = partition([kind()], FRAME)
        assert [each.transform for each in (*left, *batched)] == [kind().transform]
        assert bool(left) == (kind().transform in ON_CPU)
        assert (kind().transform in describe_partition([kind()], FRAME)) == bool(left)


@pytest.mark.parametrize(
    "transforms",
    [
        [rt.HorizontalFlip()],
        [rt.VerticalFlip(), rt.Negative()],
        [rt.Greyscale()],
        [rt.Brightness(factor=0.6)],
        [rt.Brightness(factor=2.5), rt.Negative()],
        [rt.Contrast(factor=1.7)],
        [rt.Contrast(factor=0.0)],
        [rt.Saturation(factor=3.0)],
        [rt.Saturation(factor=0.3), rt.Brightness(factor=1.2), rt.Contrast(factor=0.8)],
        [rt.Shift(x=0.3, y=-0.2)],
        [rt.Erasing(area=1.0)],
    ],
    ids=lambda transforms: "-".join(each.transform for each in transforms),
)
def test_fixed_strengths_give_what_the_cpu_gives(transforms: list[rt.Transform]) -> None:
    difference = apart(in_batch(transforms), on_cpu(transforms))
    assert difference.max() <= 3  # one level a change, since Pillow rounds down
    assert difference.mean() < len(transforms)


@pytest.mark.parametrize(
    "transforms",
    [
        [rt.Rotation(degrees=33)],
        [rt.Scale(factor=0.6)],
        [rt.Shear(x=20, y=-5)],
        [rt.Shift(x=0.4, y=0), rt.Rotation(degrees=20), rt.Scale(factor=0.5), rt.Shift(x=-0.4, y=0)],
    ],
    ids=lambda transforms: "-".join(each.transform for each in transforms),
)
def test_moves_are_interpolated_once_and_mirrored_at_the_edges(transforms: list[rt.Transform]) -> None:
    """Blurred twice, or cut off between two moves, more than an edge here and there would differ."""
    assert np.quantile(apart(in_batch(transforms), on_cpu(transforms)), 0.99) <= 2


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_windows_are_scaled_as_on_the_cpu(interpolation: Interpolation) -> None:
    preprocessing = Preprocessing(40, 56, interpolation=interpolation)
    pictures = [scene(number, 30 + 7 * number, 150 - 5 * number) for number in range(20)]
    # Sums of bicubic weights go beyond black and white where these are neighbours.
    noise = np.random.default_rng(0).integers(0, 2, (9, 80, 90, 1), np.uint8) * 255
    pictures += list(np.repeat(noise, 3, 3))
    sizes = np.array([picture.shape[:2] for picture in pictures])
    boxes = _draw_windows(rt.RandomResizedCrop(), sizes, batch_generator(5, 2, np.arange(len(pictures)) + 11))
    theirs = [scaled(p, 40, 56, interpolation, tuple(box)) for p, box in zip(pictures, boxes.tolist(), strict=True)]
    difference = apart(in_batch([rt.RandomResizedCrop()], pictures, preprocessing), np.stack(theirs))
    assert difference.max() <= 2
    assert difference.mean() < 0.05


@pytest.mark.parametrize(("height", "width"), [(300, 300), (200, 500), (60, 900)])
def test_windows_are_drawn_as_on_the_cpu(height: int, width: int) -> None:
    """The same distribution of every side as of windows drawn one by one."""
    n, crop = 3000, rt.RandomResizedCrop()
    ours = _draw_windows(crop, np.tile([height, width], (n, 1)), batch_generator(0, 0, np.arange(n)))
    theirs = np.array([_window(height, width, crop, generator(0, 0, row)) for row in range(n)])
    assert ours.min() >= 0
    assert (ours[:, 2:] <= [width, height]).all()
    assert (ours[:, 2:] > ours[:, :2]).all()
    for column in range(4):
        assert stats.ks_2samp(ours[:, column], theirs[:, column], method="asymp").pvalue > 0.001, column


def test_windows_that_fit_nowhere_take_the_largest_in_the_middle() -> None:
    crop = rt.RandomResizedCrop(scale=1.0, ratio=[1.0, 1.01])
    sizes = np.array([[30, 200], [200, 30], [30, 200]])
    theirs = [_window(height, width, crop, generator(0, 0, 0)) for height, width in sizes.tolist()]
    assert _draw_windows(crop, sizes, batch_generator(0, 0, np.arange(3))).tolist() == [list(box) for box in theirs]


def test_one_rectangle_of_the_stated_area_is_erased() -> None:
    white = Preprocessing(200, 300, mean=(1.0, 1.0, 1.0))
    black = [np.zeros((200, 300, 3), np.uint8)] * 60
    erased = in_batch([rt.Erasing(area=0.2)], black, white)
    rng = batch_generator(5, 2, np.arange(60) + 11)
    rng.random(60)  # decides which pictures are chosen
    boxes = _draw_rectangles(np.full(60, 0.2), white, rng)["box"]
    for picture, (left, top, right, bottom) in zip(erased, boxes.tolist(), strict=True):
        expected = np.zeros((200, 300, 3), np.uint8)
        expected[top:bottom, left:right] = 255
        assert np.array_equal(picture, expected)
        assert abs(picture.mean() / 255 - 0.2) < 0.005
        assert 0.29 < (bottom - top) / (right - left) < 3.4
    assert len({tuple(box) for box in boxes.tolist()}) > 50


def test_each_picture_has_its_own_strength_and_probability_is_honoured() -> None:
    grey = [np.full((4, 6, 3), 100, np.uint8)] * 2000
    darker = [rt.Brightness(factor=rt.Uniform(uniform=[0.2, 0.8]), probability=0.3)]
    levels = in_batch(darker, grey, Preprocessing(4, 6))[:, 0, 0, 0]
    n_changed = int((levels != 100).sum())
    assert stats.binomtest(n_changed, 2000, 0.3).pvalue > 0.001
    assert stats.kstest(levels[levels != 100] / 100, stats.uniform(0.2, 0.6).cdf).pvalue > 0.001


def test_bell_curves_are_cut_off_at_the_limits() -> None:
    grey = [np.full((4, 6, 3), 100, np.uint8)] * 500
    factors = in_batch([rt.Brightness(factor=rt.Normal(normal=[0.5, 1.0]))], grey, Preprocessing(4, 6))[:, 0, 0, 0]
    assert (factors == 0).any()
    assert len(np.unique(factors)) > 100


EVERYTHING: list[rt.Transform] = [kind(probability=0.5) for kind in KINDS if kind().transform not in ON_CPU]


def test_order_is_the_recipes() -> None:
    there = [rt.Brightness(factor=1.5), rt.Negative()]
    back = [rt.Negative(), rt.Brightness(factor=1.5)]
    assert apart(in_batch(there), on_cpu(there)).max() <= 1
    assert apart(in_batch(back), on_cpu(back)).max() <= 1
    assert apart(in_batch(there), in_batch(back)).max() > 50


def test_chance_depends_on_seed_epoch_and_items_alone() -> None:
    transforms = partition(EVERYTHING[:3], FRAME)[1]
    assert np.array_equal(in_batch(transforms), in_batch(transforms))
    others = [in_batch(transforms, seed=6), in_batch(transforms, epoch=3)]
    assert all(not np.array_equal(in_batch(transforms), other) for other in others)
    numbers = [batch_generator(1, 2, np.array(items)).random() for items in ([3, 4], [4, 3], [3], [3, 4, 5])]
    assert len(set(numbers)) == 4


@pytest.mark.parametrize(
    ("transforms", "n_on_cpu", "described"),
    [
        ([rt.HorizontalFlip(), rt.Rotation()], 0, ""),
        ([rt.Jpeg(), rt.HorizontalFlip()], 1, "the CPU does jpeg, as the GPU has no batched form of jpeg"),
        (
            [rt.HorizontalFlip(), rt.Jpeg(), rt.Rotation(), rt.RandomResizedCrop()],
            3,
            "the CPU does random_resized_crop, horizontal_flip, jpeg, as the GPU has no batched form of jpeg",
        ),
        (
            [rt.HorizontalFlip(), rt.RandomResizedCrop(probability=0.5)],
            1,
            "the CPU does random_resized_crop, as the GPU has no batched form of random_resized_crop",
        ),
        (
            [rt.RandomResizedCrop(), rt.RandomResizedCrop(), rt.Negative()],
            2,
            "the CPU does random_resized_crop, random_resized_crop, as the GPU has no batched form of "
            "random_resized_crop",
        ),
    ],
)
def test_only_what_stands_before_an_unbatched_transform_is_done_on_the_cpu(
    transforms: list[rt.Transform], n_on_cpu: int, described: str
) -> None:
    left, batched = partition(transforms, FRAME)
    assert len(left) == n_on_cpu
    assert sorted(map(repr, [*left, *batched])) == sorted(map(repr, transforms))
    assert describe_partition(transforms, FRAME) == described


def test_other_filters_are_left_to_the_cpu() -> None:
    assert partition([rt.RandomResizedCrop()], FRAME)[1]
    assert not partition([rt.RandomResizedCrop()], Preprocessing(40, 56, interpolation="lanczos"))[1]
