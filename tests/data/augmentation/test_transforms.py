"""Augmentation: each transform by name, probability and strength; chance that depends on four numbers alone."""

from __future__ import annotations

import threading
import typing
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
import torchvision.transforms.v2 as v2
from scipy import stats

from tellapart.core.preprocess import Preprocessing, preprocess
from tellapart.data.augmentation import pixel_ops as ops
from tellapart.data.augmentation.transforms import (
    STOCHASTIC,
    _operations,
    _window,
    augment,
    decode_at_least,
    draw,
    generator,
)
from tellapart.recipe import transforms as rt
from tellapart.recipe.transforms import Normal, RandomResizedCrop, Transform, Uniform

HOW = Preprocessing(32, 32)
LYING = Preprocessing(24, 40, interpolation="bilinear")
KINDS: list[type[Transform]] = list(typing.get_args(typing.get_args(rt.AnyTransform)[0]))


def photo(height: int = 45, width: int = 60, seed: int = 0) -> np.ndarray:
    """Blobs of colour: neither flat nor noise."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    return preprocess(coarse, Preprocessing(height, width, fit="squash"))


def once(transform: Transform, preprocessing: Preprocessing = HOW, seed: int = 0) -> np.ndarray:
    return augment(photo(), [transform], preprocessing, generator(seed, 0, 0))


PLAIN = preprocess(photo(), HOW)


def test_every_transform_of_the_schema_has_one_way_to_be_done():
    """A new one is a class of the schema and a function in one of these tables."""
    tables = [set(ops.DETERMINISTIC), set(STOCHASTIC), set(ops.MOVES)]
    assert set().union(*tables) == {kind.model_fields["transform"].default for kind in KINDS}
    assert sum(map(len, tables)) == len(KINDS)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize(
    "preprocessing", [HOW, LYING, Preprocessing(31, 32, fit="pad"), Preprocessing(45, 60, fit="squash")]
)
def test_every_transform_gives_a_picture_of_the_size_asked(kind, preprocessing):
    pixels = photo()
    pixels.flags.writeable = False  # as from a memory-mapped cache
    for row in range(20):
        result = augment(pixels, [kind()], preprocessing, generator(0, 0, row))
        assert result.shape == (preprocessing.height, preprocessing.width, 3)
        assert result.dtype == np.uint8
        assert result.flags.c_contiguous
        assert result.flags.writeable
        assert not np.may_share_memory(result, pixels)
    assert np.array_equal(pixels, photo())


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_transform_does_something_unless_its_probability_is_0(kind):
    results = [augment(photo(), [kind()], HOW, generator(0, 0, row)) for row in range(30)]
    assert any(not np.array_equal(result, PLAIN) for result in results)
    assert np.array_equal(once(kind(probability=0.0)), PLAIN)


def test_nothing_to_do_is_what_validation_sees():
    assert np.array_equal(augment(photo(), [], HOW, generator(0, 0, 0)), PLAIN)


@pytest.mark.parametrize(
    ("transform", "expected"),
    [
        (rt.HorizontalFlip(), PLAIN[:, ::-1]),
        (rt.VerticalFlip(), PLAIN[::-1]),
        (rt.QuarterTurns(turns=[90]), np.rot90(PLAIN, 1)),
        (rt.QuarterTurns(turns=[270]), np.rot90(PLAIN, 3)),
        (rt.Rotation(degrees=90), np.rot90(PLAIN, 1)),
        (rt.Rotation(degrees=-180), PLAIN[::-1, ::-1]),
        (rt.Shift(x=0.25, y=0), np.concatenate([PLAIN[:, 7::-1], PLAIN[:, :24]], axis=1)),
        (rt.Shift(x=0, y=-0.5), np.concatenate([PLAIN[16:], PLAIN[:15:-1]])),
        (rt.Scale(factor=1), PLAIN),
        (rt.Scale(factor=1.5), ops.warp(PLAIN, ops.scaling(1.5))),
        (rt.Shear(x=10, y=5), ops.warp(PLAIN, ops.shear(10, 5))),
        (rt.Zoom(factor=1), PLAIN),
        (rt.Brightness(factor=1.2), ops.brightness(PLAIN, 1.2)),
        (rt.Contrast(factor=0.5), ops.contrast(PLAIN, 0.5)),
        (rt.Saturation(factor=0), ops.saturation(PLAIN, 0)),
        (rt.Greyscale(), ops.greyscale(PLAIN)),
        (rt.Negative(), 255 - PLAIN),
        (rt.Blur(sigma=1.5), ops.blur(PLAIN, 1.5)),
        (rt.Noise(std=0), PLAIN),
        (rt.Erasing(area=0), PLAIN),
        (rt.Erasing(area=1), np.broadcast_to(np.array([124, 116, 104], np.uint8), PLAIN.shape)),
        (rt.Jpeg(quality=40), ops.jpeg(PLAIN, 40)),
    ],
    ids=lambda value: repr(value) if isinstance(value, Transform) else "",
)
def test_fixed_strengths_do_exactly_that(transform, expected):
    # Sines and cosines are not exact, so a turn by 90 degrees may cost a grey level.
    allowed = 1 if isinstance(transform, rt.Rotation) else 0
    assert np.abs(once(transform).astype(int) - expected).max() <= allowed


def test_quarter_turn_of_a_lying_frame_covers_it():
    """A turned frame is higher than wide: its middle is cut out and scaled, here from 24 × 14.4 pixels."""
    turned = np.rot90(preprocess(photo(), LYING))
    result = once(rt.QuarterTurns(turns=[90]), LYING)
    middle = turned[20 - 7 : 20 + 7]
    expected = preprocess(np.ascontiguousarray(middle), Preprocessing(24, 40, "squash", interpolation="bilinear"))
    assert np.abs(result.astype(int) - expected).mean() < 6


def test_zoom_shows_a_window_of_the_stated_size_anywhere():
    steps = np.broadcast_to(np.arange(0, 256, 4, np.uint8)[None, :, None], (64, 64, 3)).copy()
    preprocessing = Preprocessing(64, 64, interpolation="bilinear")
    shown = [augment(steps, [rt.Zoom(factor=2)], preprocessing, generator(0, 0, row)) for row in range(300)]
    widths = [int(pixels[0, -1, 0]) - int(pixels[0, 0, 0]) for pixels in shown]
    assert max(abs(width - 31 * 4) for width in widths) <= 3
    lefts = [pixels[0, 0, 0] / 4 for pixels in shown]
    assert min(lefts) < 2
    assert max(lefts) > 30


def test_noise_has_the_stated_deviation():
    grey = np.full((100, 100, 3), 128, np.uint8)
    result = augment(grey, [rt.Noise(std=9)], Preprocessing(100, 100), generator(0, 0, 0))
    assert stats.kstest((result.ravel() - 128.0)[::7] / 9, "norm").statistic < 0.05
    assert abs(result.std() - 9) < 0.2
    assert len(np.unique(result.reshape(-1, 3), axis=0)) > 1000, "channels must differ"


def test_erasing_hides_the_stated_area_in_one_rectangle():
    preprocessing = Preprocessing(200, 300, mean=(1.0, 1.0, 1.0))
    black = np.zeros((200, 300, 3), np.uint8)
    ratios = []
    for row in range(200):
        white = augment(black, [rt.Erasing(area=0.2)], preprocessing, generator(0, 0, row))[:, :, 0] == 255
        high, wide = white.any(axis=1).sum(), white.any(axis=0).sum()
        assert white.sum() == high * wide
        assert abs(white.mean() - 0.2) < 0.005
        ratios.append(high / wide)
    assert min(ratios) > 0.29
    assert max(ratios) < 3.4
    assert abs(np.median(np.log(ratios))) < 0.3


def test_jpeg_quality_out_of_a_bell_curve_stays_possible():
    transform = rt.Jpeg(quality=Normal(normal=[90, 60]))
    qualities = [draw(transform, generator(0, 0, row))["quality"] for row in range(200)]
    assert min(qualities) == 1
    assert max(qualities) == 100


@pytest.mark.parametrize("probability", [0.03, 0.3, 0.5, 0.9])
def test_probability_is_honoured(probability):
    n = 2000
    flip = [rt.HorizontalFlip(probability=probability)]
    small = Preprocessing(4, 6)
    pixels = photo(4, 6)
    n_flipped = sum(np.array_equal(augment(pixels, flip, small, generator(1, 0, i)), pixels[:, ::-1]) for i in range(n))
    assert stats.binomtest(n_flipped, n, probability).pvalue > 0.001


def test_transforms_are_drawn_independently():
    pair = [rt.HorizontalFlip(probability=0.5), rt.VerticalFlip(probability=0.5)]
    pixels, small = photo(4, 6), Preprocessing(4, 6)
    kinds = [pixels, pixels[:, ::-1], pixels[::-1], pixels[::-1, ::-1]]
    seen = [augment(pixels, pair, small, generator(0, 0, row)) for row in range(1000)]
    counts = [sum(np.array_equal(result, kind) for result in seen) for kind in kinds]
    assert sum(counts) == 1000
    assert stats.chisquare(counts).pvalue > 0.001


@pytest.mark.parametrize(
    ("strength", "distribution"),
    [
        (Uniform(uniform=[-20, 40]), stats.uniform(-20, 60)),
        (Normal(normal=[5, 12]), stats.norm(5, 12)),
    ],
)
def test_strengths_follow_their_distribution(strength, distribution):
    drawn = [draw(rt.Rotation(degrees=strength), generator(0, 0, row))["degrees"] for row in range(2000)]
    assert stats.kstest(drawn, distribution.cdf).pvalue > 0.001


def test_quarter_turns_are_equally_likely():
    pixels, square = photo(5, 5), Preprocessing(5, 5)
    seen = [augment(pixels, [rt.QuarterTurns()], square, generator(0, 0, row)) for row in range(900)]
    counts = [sum(np.array_equal(result, np.rot90(pixels, k)) for result in seen) for k in (1, 2, 3)]
    assert sum(counts) == 900
    assert stats.chisquare(counts).pvalue > 0.001


@pytest.mark.parametrize(("height", "width"), [(300, 300), (200, 500), (60, 900)])
def test_windows_are_torchvisions(height, width):
    """The same distribution of area, ratio and place as torchvision's RandomResizedCrop."""
    torch.manual_seed(0)
    n = 3000
    image = torch.empty(3, height, width)
    theirs_class = v2.RandomResizedCrop(224, antialias=True)
    theirs = np.array([list(theirs_class.make_params([image]).values()) for _ in range(n)], float)
    boxes = np.array([_window(height, width, RandomResizedCrop(), generator(0, 0, i)) for i in range(n)], float)
    ours = np.column_stack([boxes[:, 1], boxes[:, 0], boxes[:, 3] - boxes[:, 1], boxes[:, 2] - boxes[:, 0]])
    assert (boxes >= 0).all()
    assert (boxes[:, 2] <= width).all()
    assert (boxes[:, 3] <= height).all()
    for column in range(4):
        assert stats.ks_2samp(ours[:, column], theirs[:, column], method="asymp").pvalue > 0.001, column


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos"])
def test_random_crop_is_scaled_as_pillow_would(interpolation):
    preprocessing = Preprocessing(32, 48, interpolation=interpolation)
    pixels = photo(90, 130)
    left, top, right, bottom = _window(90, 130, RandomResizedCrop(), after_one(generator(0, 0, 5)))
    window = np.ascontiguousarray(pixels[top:bottom, left:right])
    expected = preprocess(window, Preprocessing(32, 48, "squash", interpolation=interpolation))
    result = augment(pixels, [RandomResizedCrop()], preprocessing, generator(0, 0, 5))
    difference = np.abs(result.astype(int) - expected)
    assert difference.max() <= 3
    assert difference.mean() < 0.5


def after_one(rng: np.random.Generator) -> np.random.Generator:
    """Past the number that decides whether the first transform is done."""
    rng.random()
    return rng


def test_random_crop_cuts_from_the_whole_picture_wherever_it_stands():
    """Sharper than a crop of the picture at size, and not of the margin-less middle only."""
    lines = np.zeros((200, 200, 3), np.uint8)
    lines[:, ::4] = 255
    transforms = [rt.Negative(), RandomResizedCrop(scale=0.04, ratio=[1, 1])]
    result = augment(lines, transforms, Preprocessing(40, 40, crop=0.5), generator(0, 0, 3))
    assert set(np.unique(result)) == {0, 255}


def test_neighbouring_moves_are_interpolated_once():
    rotation, shift, shear, scale = rt.Rotation(degrees=30), rt.Shift(x=0.1, y=0.2), rt.Shear(x=9), rt.Scale(factor=1.2)
    matrix = ops.scaling(1.2) @ ops.shear(9, 0) @ ops.shift(3, 6) @ ops.rotation(30)
    merged = augment(photo(), [rotation, shift, shear, scale], HOW, generator(0, 0, 0))
    assert np.array_equal(merged, ops.warp(PLAIN, matrix))


def test_a_shift_moves_whole_pixels_and_blurs_nothing():
    shifted = augment(photo(), [rt.Shift(x=0.11, y=-0.07)], HOW, generator(0, 0, 0))
    assert np.array_equal(shifted[:-2, 4:], PLAIN[2:, :-4])


def test_there_and_back_is_no_move():
    transforms = [rt.Rotation(degrees=33), rt.Rotation(degrees=-33)]
    assert np.abs(augment(photo(), transforms, HOW, generator(0, 0, 0)).astype(int) - PLAIN).max() <= 1


def test_order_is_the_recipes():
    brighter, negative = rt.Brightness(factor=1.5), rt.Negative()
    there = augment(photo(), [brighter, negative], HOW, generator(0, 0, 0))
    back = augment(photo(), [negative, brighter], HOW, generator(0, 0, 0))
    assert np.array_equal(there, 255 - ops.brightness(PLAIN, 1.5))
    assert np.array_equal(back, ops.brightness(255 - PLAIN, 1.5))


EVERYTHING: Sequence[Transform] = [kind(probability=0.5) for kind in KINDS]


def test_chance_depends_on_four_numbers_alone():
    """Threads in any number take pictures in any order: each comes out the same. torch's own chance is not touched."""
    numbers = [(seed, epoch, row, view) for seed in (0, 1) for epoch in (0, 7) for row in range(6) for view in (0, 2)]
    state = torch.get_rng_state()
    alone = {four: augment(photo(seed=four[2]), EVERYTHING, HOW, generator(*four)) for four in numbers}
    for workers, order in ((2, numbers), (7, numbers[::-1])):
        gate = threading.Barrier(workers)

        def work(numbered, gate=gate, workers=workers):
            i, four = numbered
            if i < workers:
                gate.wait(timeout=10)  # so that all threads are in it at the same time
            return augment(photo(seed=four[2]), EVERYTHING, HOW, generator(*four))

        with ThreadPoolExecutor(workers) as pool:
            for four, result in zip(order, pool.map(work, enumerate(order)), strict=True):
                assert np.array_equal(result, alone[four]), four
    assert torch.equal(torch.get_rng_state(), state)
    assert len({result.tobytes() for result in alone.values()}) > 0.9 * len(alone)


def test_each_of_the_four_numbers_counts():
    first = [
        generator(*four).random() for four in [(0, 0, 0, 0), (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)]
    ]
    assert len(set(first)) == 5
    assert generator(3, 4, 5, 6).random() == generator(3, 4, 5, 6).random()


def test_small_crops_need_larger_pictures():
    preprocessing = Preprocessing(200, 100, crop=0.8)
    assert decode_at_least([], preprocessing) == preprocessing.decode_at_least == 250
    assert decode_at_least([rt.Negative(), RandomResizedCrop(scale=0.25)], preprocessing) == 400
    assert decode_at_least([RandomResizedCrop(scale=Uniform(uniform=[0.04, 1]))], preprocessing) == 1000
    assert decode_at_least([RandomResizedCrop(scale=Normal(normal=[0.5, 0.125]))], preprocessing) == 400
    assert decode_at_least([RandomResizedCrop(scale=0.9)], preprocessing) == 250


@pytest.mark.parametrize("wide", [False, True])
def test_searched_operations_are_torchvisions(wide):
    """The same fourteen, each as strong: at the strongest, what torchvision's table says."""
    theirs = (v2.TrivialAugmentWide() if wide else v2.RandAugment())._AUGMENTATION_SPACE
    names = list(theirs)
    table = {name: theirs[name][0](31, 32, 32) for name in names}
    strongest = {name: None if values is None else float(values[30]) for name, values in table.items()}
    slant = np.degrees(np.arctan(strongest["ShearX"]))
    expected = {
        "Identity": PLAIN,
        "ShearX": ops.warp(PLAIN, ops.shear(slant, 0)),
        "ShearY": ops.warp(PLAIN, ops.shear(0, slant)),
        "TranslateX": ops.warp(PLAIN, ops.shift(strongest["TranslateX"], 0)),
        "TranslateY": ops.warp(PLAIN, ops.shift(0, strongest["TranslateY"])),
        "Rotate": ops.warp(PLAIN, ops.rotation(strongest["Rotate"])),
        "Brightness": ops.brightness(PLAIN, 1 + strongest["Brightness"]),
        "Color": ops.saturation(PLAIN, 1 + strongest["Color"]),
        "Contrast": ops.contrast(PLAIN, 1 + strongest["Contrast"]),
        "Sharpness": ops.sharpness(PLAIN, 1 + strongest["Sharpness"]),
        "Posterize": ops.posterize(PLAIN, int(strongest["Posterize"])),
        "Solarize": ops.solarize(PLAIN, strongest["Solarize"] * 255),
        "AutoContrast": ops.autocontrast(PLAIN),
        "Equalize": ops.equalize(PLAIN),
    }
    assert set(names) == set(expected)
    results = [operation(PLAIN, 1.0) for operation in _operations(HOW, wide)]
    assert len(results) == len(expected)
    for name, result in zip(expected, results, strict=True):
        assert np.abs(result.astype(int) - expected[name]).max() <= 1, name


def test_rand_augment_without_strength_changes_little():
    """At magnitude 0 only the operations without a strength (and one level of solarize) change anything."""
    seen = {once(rt.RandAugment(n=1, magnitude=0), seed=seed).tobytes() for seed in range(60)}
    possible = [PLAIN, ops.autocontrast(PLAIN), ops.equalize(PLAIN), ops.solarize(PLAIN, 255)]
    assert seen <= {pixels.tobytes() for pixels in possible}
    assert len(seen) >= 3


def test_rand_augment_does_as_many_operations_as_asked():
    def changed(n: int) -> float:
        results = [once(rt.RandAugment(n=n, magnitude=15), seed=seed) for seed in range(60)]
        return float(np.mean([np.abs(result.astype(int) - PLAIN).mean() for result in results]))

    assert changed(1) < changed(3) < changed(8)
