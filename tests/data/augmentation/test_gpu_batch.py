"""Whole batches are changed as each picture would be alone, from the same chance."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tellapart.core.preprocess import Preprocessing
from tellapart.data.augmentation import gpu_batch
from tellapart.data.augmentation.philox import Chance
from tellapart.data.augmentation.transforms import augment, augment_frame, generator
from tellapart.recipe import transforms as rt

HOW = Preprocessing(40, 56, interpolation="bilinear")


def scene(number: int, height: int, width: int) -> np.ndarray:
    """A smooth picture, since what is compared is interpolated, with an edge."""
    y, x = np.mgrid[:height, :width] / 9
    rng = np.random.default_rng(number)
    waves = [128 + 90 * np.sin(x * rng.uniform(0.3, 1) + y * rng.uniform(0.3, 1) + rng.uniform(0, 6)) for _ in range(3)]
    pixels = np.stack(waves, axis=2)
    pixels[: height // 3, : width // 2] = rng.uniform(0, 255, 3)
    return pixels.round().astype(np.uint8)


def changed(transforms, preprocessing, pictures, epoch=2, seed=5):
    rows = np.arange(len(pictures)) + 11
    sizes = np.array([picture.shape[:2] for picture in pictures])
    drawn = gpu_batch.draw(transforms, preprocessing, sizes, Chance(seed, epoch, rows, rows * 0))
    batch = gpu_batch.lay_out(pictures, drawn, pinned=False)
    return gpu_batch.apply(batch, drawn, preprocessing).numpy()


def alone(transforms, preprocessing, pictures, epoch=2, seed=5):
    one = augment if any(isinstance(each, rt.RandomResizedCrop) for each in transforms) else augment_frame
    return np.stack(
        [
            one(picture, transforms, preprocessing, generator(seed, epoch, row + 11))
            for row, picture in enumerate(pictures)
        ]
    )


@given(seed=st.integers(0, 2**62), epoch=st.integers(0, 10**6), steps=st.lists(st.integers(0, 2), max_size=40))
@settings(max_examples=40, deadline=None)
def test_lanes_give_the_numbers_of_generators(seed, epoch, steps):
    rows, views = np.array([0, 3, 2**31, 7]), np.array([0, 1, 0, 500])
    chance = Chance(seed, epoch, rows, views)
    generators = [generator(seed, epoch, int(row), int(view)) for row, view in zip(rows, views, strict=True)]
    some = np.random.default_rng(seed)
    for step in steps:
        lanes = np.flatnonzero(some.random(4) < 0.7)
        if step == 0:
            assert chance.random(lanes).tolist() == [generators[lane].random() for lane in lanes]
        elif step == 1:
            assert chance.uniform(lanes, -3, 0.5).tolist() == [generators[lane].uniform(-3, 0.5) for lane in lanes]
        else:
            ends = some.integers(1, 2**32 - 5, len(lanes)) // some.choice([1, 2**20, 2**31])
            ends = np.maximum(ends, 1)
            expected = [generators[lane].integers(end) for lane, end in zip(lanes, ends, strict=True)]
            assert chance.integers(lanes, ends).tolist() == expected


def test_there_may_be_no_lanes():
    nobody = np.zeros(0, np.int64)
    assert Chance(0, 0, nobody, nobody).random(nobody).shape == (0,)


ALONE = {
    "flip": [rt.HorizontalFlip(probability=0.5), rt.VerticalFlip(probability=0.5)],
    "shift": [rt.Shift(probability=0.8)],
    "erasing": [rt.Erasing(probability=0.7)],
    "colour": [rt.Brightness(probability=0.7), rt.Contrast(probability=0.7), rt.Saturation(probability=0.7)],
    "grey": [rt.Greyscale(probability=0.5), rt.Negative(probability=0.5)],
}


@pytest.mark.parametrize("name", ALONE)
def test_nothing_but_rounding_differs(name):
    pictures = [scene(number, 40, 56) for number in range(24)]
    ours, theirs = changed(ALONE[name], HOW, pictures), alone(ALONE[name], HOW, pictures)
    apart = np.abs(ours.astype(int) - theirs)
    assert apart.max() <= (2 if name == "colour" else 0)
    assert (theirs != np.stack(pictures)).any()


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_random_crops_are_scaled_as_alone(interpolation):
    preprocessing = Preprocessing(40, 56, interpolation=interpolation)
    transforms = [rt.HorizontalFlip(probability=0.5), rt.RandomResizedCrop()]
    pictures = [scene(number, 30 + 7 * number, 150 - 5 * number) for number in range(20)]
    # Sums of bicubic weights go beyond black and white where these are neighbours.
    pictures += [
        np.repeat(np.random.default_rng(n).integers(0, 2, (80, 90, 1), np.uint8) * 255, 3, 2) for n in range(9)
    ]
    apart = np.abs(
        changed(transforms, preprocessing, pictures).astype(int) - alone(transforms, preprocessing, pictures)
    )
    assert apart.max() <= 2
    assert apart.mean() < 0.05


def test_crops_that_fit_nowhere_take_the_largest_in_the_middle():
    transforms = [rt.RandomResizedCrop(scale=1.0, ratio=[1.0, 1.01])]
    pictures = [scene(number, 30, 200) for number in range(4)] + [scene(9, 200, 30)]
    assert np.abs(changed(transforms, HOW, pictures).astype(int) - alone(transforms, HOW, pictures)).max() <= 2


def test_moves_are_interpolated_once_and_mirrored_at_the_edges():
    transforms = [
        rt.Rotation(degrees=rt.Uniform(uniform=[-40, 40])),
        rt.Shift(probability=0.6),
        rt.Scale(factor=rt.Uniform(uniform=[0.6, 1.3])),
        rt.Shear(y=rt.Uniform(uniform=[-5, 5])),
    ]
    pictures = [scene(number, 40, 56) for number in range(16)]
    apart = np.abs(changed(transforms, HOW, pictures).astype(int) - alone(transforms, HOW, pictures))
    assert np.quantile(apart, 0.99) <= 1


@pytest.mark.parametrize("probability", [0.0, 0.5])
def test_moves_are_one_where_nothing_is_drawn_between_them(probability):
    transforms = [
        rt.Shift(x=0.4, y=0.0),
        rt.Rotation(degrees=rt.Uniform(uniform=[-40, 40]), probability=0.7),
        rt.Greyscale(probability=probability),
        rt.HorizontalFlip(probability=probability),
        rt.Scale(factor=0.5, probability=0.8),
        rt.Shift(x=-0.4, y=0.0),
    ]
    pictures = [scene(number, 40, 56) for number in range(24)]
    apart = np.abs(changed(transforms, HOW, pictures).astype(int) - alone(transforms, HOW, pictures))
    assert np.quantile(apart, 0.99) <= 1
    assert apart.max() <= 3


def test_what_follows_greyscale_changes_the_others_no_more():
    transforms = [rt.Greyscale(), rt.Saturation(factor=3.0, probability=0.5), rt.Negative(probability=0.5)]
    pictures = [scene(number, 40, 56) for number in range(8)]
    assert np.array_equal(changed(transforms, HOW, pictures), alone(transforms, HOW, pictures))


@pytest.mark.parametrize(
    "transforms",
    [
        [rt.Jpeg()],
        [rt.Rotation(degrees=rt.Normal(normal=[0, 5]))],
        [rt.RandomResizedCrop(probability=0.5)],
        [rt.RandomResizedCrop(), rt.RandomResizedCrop()],
    ],
)
def test_what_cannot_be_done_in_batches_is_known(transforms):
    assert not gpu_batch.fits(transforms, HOW)


def test_other_filters_are_left_to_the_processor():
    crop = [rt.RandomResizedCrop()]
    assert gpu_batch.fits(crop, HOW)
    assert not gpu_batch.fits(crop, Preprocessing(40, 56, interpolation="lanczos"))
