"""PictureCache pictures: the same with a cold cache and a warm one, whoever wrote it, and never a wrong one."""

from __future__ import annotations

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tellapart.core.array_store import KEY
from tellapart.core.files import cache_folder
from tellapart.core.preprocess import Preprocessing, preprocess
from tellapart.data.augmentation.transforms import augment, augment_frame, crops, generator
from tellapart.data.loading import picture_cache
from tellapart.data.loading.picture_cache import PictureCache, source, source_side
from tellapart.data.scan import scan
from tellapart.errors import UnreadableError
from tellapart.recipe.transforms import HorizontalFlip, Noise, RandomResizedCrop, Rotation, Uniform
from tellapart.training.dataset import Dataset

HOW = Preprocessing(24, 24, crop=0.875)
CROP = [RandomResizedCrop(), HorizontalFlip(probability=0.5)]


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TELLAPART_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def dataset(picture_folder: Any) -> Dataset:
    """Pictures of 120 × 90 pixels, one of them twice."""
    folder = picture_folder(n=5, width=120, height=90)
    shutil.copy(folder / "circle/000.png", folder / "circle/again.png")
    catalog = scan(folder)
    rows = np.arange(len(catalog))
    return Dataset(catalog, rows[::2], rows[1::2], HOW, CROP, 3)


def shown(dataset: Dataset, epochs: int = 2) -> list[np.ndarray]:
    pictures = [dataset.augmented(int(row), epoch) for epoch in range(epochs) for row in dataset.train]
    pictures += [dataset.plain(int(row)) for row in dataset.validation]
    dataset.flush()
    return pictures


def same(one: list[np.ndarray], other: list[np.ndarray]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("transforms", [CROP, [HorizontalFlip(probability=0.5), Noise()], [Rotation()]])
def test_without_a_cache_with_a_cold_and_with_a_warm_one(
    dataset: Dataset, transforms: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = Dataset(dataset.catalog, dataset.train, dataset.validation, HOW, transforms, 3)
    expected = shown(dataset)
    assert same(shown(dataset.kept()), expected)
    monkeypatch.setattr("tellapart.data.loading.picture_cache.decode", lambda *_: pytest.fail("decoded again"))
    monkeypatch.setattr("tellapart.training.dataset.read_picture", lambda *_: pytest.fail("decoded again"))
    assert same(shown(dataset.kept()), expected)


@pytest.mark.parametrize("transforms", [[], CROP, [HorizontalFlip(probability=0.5), Noise()]])
@pytest.mark.parametrize("plain", [[], [[]]], ids=["versions", "and the picture itself"])
def test_versions_made_ahead_are_made_once(
    dataset: Dataset, transforms: Any, plain: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = [*plain, [HorizontalFlip()], [Rotation(degrees=Uniform(uniform=[-15, 15]))]]
    dataset = replace(dataset, transforms=transforms, ahead=versions)

    def epochs(dataset: Dataset) -> list[np.ndarray]:
        pictures = [dataset.augmented(int(item), epoch) for epoch in range(2) for item in dataset.items]
        dataset.flush()
        return pictures

    expected = epochs(dataset)
    assert same(epochs(dataset.kept()), expected)
    monkeypatch.setattr("tellapart.data.loading.picture_cache.decode", lambda *_: pytest.fail("decoded again"))
    for again in ("decode", "read_picture"):
        monkeypatch.setattr(f"tellapart.training.dataset.{again}", lambda *_: pytest.fail("decoded again"))
    assert same(epochs(dataset.kept()), expected)
    other = replace(dataset, seed=4).kept()
    with pytest.raises(pytest.fail.Exception):  # another seed, another rotation
        other.augmented(int(other.items[-1]), 0)


@pytest.mark.parametrize("augmented", [True, False])
def test_what_was_not_expected_is_read_all_the_same(dataset: Dataset, augmented: bool) -> None:
    expected = [dataset.view(int(row)) for row in dataset.train]
    keeping = dataset.kept(augmented)
    assert same([keeping.view(int(row)) for row in dataset.train], expected)
    assert same(shown(keeping), shown(dataset))


def test_threads_share_it(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picture_cache, "_WRITE_BYTES", 5000)
    monkeypatch.setattr("tellapart.core.array_store._RELEASE_BYTES", 20000)
    expected, keeping = shown(dataset, 3), dataset.kept()
    barrier = threading.Barrier(4)

    def work(_: int) -> list[np.ndarray]:
        barrier.wait(30)
        return shown(keeping, 3)

    with ThreadPoolExecutor(4) as pool:
        assert all(same(each, expected) for each in pool.map(work, range(4)))


def test_a_picture_that_is_there_twice_is_kept_once(dataset: Dataset) -> None:
    keeping = dataset.kept()
    shown(keeping)
    assert isinstance(keeping.frames, PictureCache)
    different = len({bytes(sha) for sha in dataset.catalog.table["sha256"].gather(dataset.validation)})
    assert keeping.frames.store.n_bytes == different * 24 * 24 * 3


def test_a_damaged_one_is_made_again(dataset: Dataset) -> None:
    expected = shown(dataset.kept())
    for folder in cache_folder("pictures").iterdir():
        data = bytearray((folder / "values.bin").read_bytes())
        data[len(data) // 2] ^= 4
        (folder / "values.bin").write_bytes(data)
    assert same(shown(dataset.kept()), expected)
    assert same(shown(dataset.kept()), expected)
    for folder in cache_folder("pictures").iterdir():
        (folder / "values.bin").unlink()
    assert same(shown(dataset.kept()), expected)


def test_a_full_cache_and_one_that_cannot_be_written_change_nothing(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    expected = shown(dataset)
    monkeypatch.setenv("TELLAPART_CACHE_LIMIT", "1k")
    keeping = dataset.kept()
    assert same(shown(keeping), expected)
    assert same(shown(keeping), expected)
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("TELLAPART_CACHE", str(tmp_path / "file"))
    assert dataset.kept() is dataset
    assert same(shown(dataset.kept()), expected)


def test_another_picture_is_another_one(dataset: Dataset) -> None:
    shown(dataset.kept())
    path = dataset.catalog.path(0)
    picture = np.asarray(Image.open(path))
    Image.fromarray(255 - picture).save(path)
    catalog = scan(dataset.catalog.root)
    changed = Dataset(catalog, dataset.train, dataset.validation, HOW, CROP, 3)
    assert same(shown(changed.kept()), shown(changed))


def test_one_that_breaks_is_named(dataset: Dataset) -> None:
    dataset.catalog.path(2).write_bytes(b"\x89PNG broken")
    with pytest.raises(UnreadableError, match=dataset.catalog.path(2).name):
        shown(dataset.kept())


def test_sources_of_crops_are_half_as_large_again_as_the_input(dataset: Dataset) -> None:
    preprocessing = Preprocessing(32, 32)
    assert source_side(CROP, preprocessing) == 48  # a crop of 0.08 of the area would want 114
    assert source_side([RandomResizedCrop(scale=Uniform(uniform=[0.5, 1.0]))], preprocessing) == 46
    path = dataset.catalog.path(0)
    assert source(path, 48, preprocessing).shape == (48, 64, 3)
    assert source(path, 90, preprocessing).shape == source(path, 500, preprocessing).shape == (90, 120, 3)
    assert np.array_equal(source(path, 500, preprocessing), np.asarray(Image.open(path).convert("RGB")))


def test_a_frame_is_changed_as_the_whole_picture_would_be(dataset: Dataset) -> None:
    transforms = [HorizontalFlip(probability=0.5), Rotation(), Noise(probability=0.3)]
    pixels = np.asarray(Image.open(dataset.catalog.path(0)).convert("RGB"))
    frame = preprocess(pixels, HOW)
    frame.flags.writeable = False
    assert not crops(transforms)
    for row in range(10):
        whole = augment(pixels, transforms, HOW, generator(0, 1, row))
        assert np.array_equal(augment_frame(frame, transforms, HOW, generator(0, 1, row)), whole)
    assert augment_frame(frame, [], HOW, generator(0, 0, 0)).flags.writeable


@pytest.mark.parametrize("transforms", [CROP, [HorizontalFlip(probability=0.5)]], ids=["crops", "frames"])
def test_many_are_taken_at_once_when_all_are_kept(dataset: Dataset, transforms: Any) -> None:
    dataset = replace(dataset, transforms=transforms)
    cold = dataset.kept()
    rows = dataset.train
    assert cold.unchanged_together(rows) is None
    alone = [cold.unchanged(int(row)) for row in rows]
    cold.flush()
    for again in (cold, dataset.kept()):
        for row in rows:  # of an earlier process: checked when each is first read
            again.unchanged(int(row))
        together = again.unchanged_together(rows[::-1])
        assert together is not None
        assert same(list(together), alone[::-1])
    assert cold.unchanged_together(dataset.validation) is None or not crops(transforms)


def test_pictures_of_several_sizes_are_taken_at_once(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (3 + number % 4, 5, 3), np.uint8) for number in range(9)]
    keys = np.frombuffer(bytes(range(9 * KEY.itemsize)), KEY)
    store = PictureCache(np.arange(9), keys, {"as": "test"}, lambda number: pictures[number])
    for number in range(9):
        store(number)
    store.flush()
    taken = store.together(np.array([7, 0, 0, 3]))
    assert taken is not None
    assert same(list(taken), [pictures[number] for number in (7, 0, 0, 3)])
    assert store.together(np.array([7, 8])) is not None
