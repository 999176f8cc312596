"""Batches that a GPU will change, made and changed here without one; see `tests/test_gpu.py` for the rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tellapart.core.preprocess import Preprocessing, preprocess
from tellapart.data.augmentation.transforms import augment, generator
from tellapart.data.decoding.decode import decode
from tellapart.data.scan import scan
from tellapart.recipe import transforms as rt
from tellapart.training.dataset import Dataset, Rows
from tellapart.training.inputs import _changed_on_gpu
from tellapart.training.pixels import from_cache, from_files

FRAME = Preprocessing(24, 32, interpolation="bilinear")
RECIPES = {
    "crop": [rt.HorizontalFlip(probability=0.5), rt.RandomResizedCrop()],
    "frames": [rt.HorizontalFlip(probability=0.5), rt.Rotation(), rt.Brightness()],
    "in part": [rt.Jpeg(), rt.HorizontalFlip(probability=0.5)],
    "crop on the CPU": [rt.RandomResizedCrop(), rt.Blur(), rt.Negative(probability=0.5)],
}


@pytest.fixture
def dataset(picture_folder: Callable[..., Path]) -> Dataset:
    catalog = scan(picture_folder())
    rows = np.arange(len(catalog), dtype=np.int64)
    return Dataset(catalog, rows, rows[:3], FRAME, (), 7)


Batches = Sequence[tuple[list[int], torch.Tensor]]


def changed(dataset: Dataset, order: Rows, epoch: int = 1, cached: bool = False) -> Batches:
    reader = from_cache(dataset) if cached else from_files(dataset)
    batches = [order[start : start + 7] for start in range(0, len(order), 7)]
    made = _changed_on_gpu(dataset, reader, batches, epoch, 2)
    result = [(rows.tolist(), change(block)) for rows, block, change in made if change]
    reader.flush()
    return result


def same(some: Batches, others: Batches) -> bool:
    return [rows for rows, _ in some] == [rows for rows, _ in others] and all(
        torch.equal(one, other) for (_, one), (_, other) in zip(some, others, strict=True)
    )


@pytest.mark.parametrize("name", RECIPES)
def test_a_seed_gives_the_same_batches_from_any_batch_on_cached_or_not(dataset: Dataset, name: str) -> None:
    dataset = replace(dataset, transforms=RECIPES[name])
    order = np.random.default_rng(0).permutation(dataset.items)
    whole = changed(dataset, order)
    assert [row for rows, _ in whole for row in rows] == order.tolist()
    assert all(pixels.shape[1:] == (24, 32, 3) and pixels.dtype == torch.uint8 for _, pixels in whole)
    assert same(changed(dataset, order[14:]), whole[2:])
    assert same(changed(dataset, order, cached=True), whole)
    assert same(changed(dataset, order, cached=True), whole)  # read from the cache now
    assert not same(changed(dataset, order, epoch=2), whole)
    assert not same(changed(replace(dataset, seed=8), order), whole)


def test_what_the_cpu_does_comes_first_and_is_drawn_for_each_picture(dataset: Dataset) -> None:
    noise = rt.Noise(std=rt.Uniform(uniform=[5.0, 30.0]))
    dataset = replace(dataset, transforms=[noise, rt.Negative()])
    for rows, pixels in changed(dataset, dataset.items):
        for row, picture in zip(rows, pixels.numpy(), strict=True):
            source = decode(dataset.catalog.path(row))
            assert np.array_equal(picture, 255 - augment(source, [noise], FRAME, generator(7, 1, row)))


def test_versions_made_ahead_are_changed_too(dataset: Dataset) -> None:
    ahead = [[], [rt.Negative()]]
    dataset = replace(dataset, ahead=ahead, transforms=[rt.VerticalFlip()])
    shown: dict[int, torch.Tensor] = {}
    for items, pixels in changed(dataset, dataset.items):
        shown |= zip(items, pixels, strict=True)
    for row in dataset.train.tolist():
        frame = preprocess(decode(dataset.catalog.path(row)), FRAME)[::-1]
        assert np.abs(shown[2 * row].numpy().astype(int) - frame).max() == 0
        assert np.abs(shown[2 * row + 1].numpy().astype(int) - (255 - frame)).max() <= 1
