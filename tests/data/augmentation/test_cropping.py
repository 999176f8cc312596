"""Crops that are cut together are those that are cut one by one, bit for bit."""

from __future__ import annotations

import mmap
from collections.abc import Sequence

import numpy as np
import pytest

from tellapart.core.preprocess import Preprocessing
from tellapart.data.augmentation import cropping
from tellapart.data.augmentation.cropping import Kept, scaled, scaled_together
from tellapart.data.augmentation.transforms import augment, augment_kept, generator
from tellapart.recipe import transforms as rt

CROP, FLIP = rt.RandomResizedCrop(), rt.HorizontalFlip(probability=0.5)
SIZES = [(45, 60), (30, 30), (91, 33), (64, 48), (5, 7), (48, 64), (52, 51)]


def kept(pictures: Sequence[np.ndarray]) -> Kept:
    memory = mmap.mmap(-1, sum(picture.nbytes for picture in pictures))
    sizes = np.array([picture.shape[:2] for picture in pictures])
    ends = np.cumsum([picture.nbytes for picture in pictures])
    for picture in pictures:
        memory.write(picture.tobytes())
    values = np.frombuffer(memory, np.uint8)
    values.flags.writeable = False
    return Kept(memory, values, ends - [picture.nbytes for picture in pictures], sizes[:, 0], sizes[:, 1])


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (*size, 3), np.uint8) for size in SIZES]


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize(
    "transforms",
    [
        [CROP, FLIP],
        [FLIP, CROP],
        [CROP],
        [rt.RandomResizedCrop(probability=0.5), FLIP, rt.Brightness(factor=rt.Uniform(uniform=[0.5, 1.5]))],
        [CROP, rt.Erasing(probability=0.7), FLIP, rt.Noise(std=rt.Uniform(uniform=[0, 9]))],
        [rt.Rotation(degrees=rt.Uniform(uniform=[-20, 20])), CROP, FLIP, FLIP],
    ],
    ids=["crop, flip", "flip, crop", "crop", "sometimes", "chance after it", "moves and two flips"],
)
def test_together_and_one_by_one(pictures, transforms, interpolation):
    preprocessing = Preprocessing(24, 31, interpolation=interpolation)
    for epoch in range(4):

        def rng(row: int, epoch: int = epoch) -> np.random.Generator:
            return generator(3, epoch, row)

        out = np.zeros((len(pictures), 24, 31, 3), np.uint8)
        augment_kept(kept(pictures), transforms, preprocessing, rng, out)
        for row, picture in enumerate(pictures):
            alone = augment(picture, transforms, preprocessing, rng(row))
            assert np.array_equal(out[row], alone), (epoch, row)


def test_without_the_interpreter_crops_are_the_same(pictures, monkeypatch):
    preprocessing = Preprocessing(24, 24, interpolation="bilinear")
    both = []
    for programs in (cropping._programs(), None):
        monkeypatch.setattr(cropping, "_programs", lambda programs=programs: programs)
        out = np.zeros((len(pictures), 24, 24, 3), np.uint8)
        augment_kept(kept(pictures), [CROP, FLIP], preprocessing, lambda row: generator(3, 1, row), out)
        both.append(out)
    assert both[0].any()
    assert np.array_equal(*both)


def test_the_program_cuts_boxes_of_chosen_pictures_and_mirrors_some(pictures):
    assert cropping._programs() is not None, "this version of torch has no interpreter: crops are cut one by one"
    out = np.zeros((len(pictures), 20, 30, 3), np.uint8)
    boxes = [(1, 2, 25, 31), (0, 0, 7, 5), (10, 3, 11, 4)]
    before = [picture.copy() for picture in pictures]
    assert scaled_together(kept(pictures), [2, 4, 0], boxes, [False, True, True], "bicubic", out)
    for number, box, mirrored in zip([2, 4, 0], boxes, [False, True, True], strict=True):
        alone = scaled(pictures[number], 20, 30, "bicubic", box)
        assert np.array_equal(out[number], alone[:, ::-1] if mirrored else alone)
    assert not out[[1, 3, 5, 6]].any()
    assert all(np.array_equal(one, other) for one, other in zip(pictures, before, strict=True))


def test_what_is_kept_is_handed_out_read_only(pictures):
    handed = kept(pictures).pictures()
    assert all(np.array_equal(one, other) for one, other in zip(handed, pictures, strict=True))
    assert not any(picture.flags.writeable for picture in handed)


@pytest.mark.parametrize("numbers", [(0, 0, 0, 0), (7, 2, 12345, 3), (2**64 + 5, 999, 2**40, 2**63 - 1)])
def test_a_generator_has_the_numbers_of_philox_with_this_key_and_counter(numbers):
    seed, epoch, row, view = numbers
    philox = np.random.Philox(key=[seed % 2**64, view], counter=[0, epoch, row, seed >> 64])
    assert np.array_equal(generator(seed, epoch, row, view).random(9), np.random.Generator(philox).random(9))
