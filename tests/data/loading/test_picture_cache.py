"""Pictures of the cache: the same with a cold cache and a warm one, whoever wrote it, and never a wrong one."""

from __future__ import annotations

import os
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
from tellapart.data.loading.loader import Together, batches
from tellapart.data.loading.picture_cache import PictureCache, source, source_side
from tellapart.data.scan import scan
from tellapart.errors import UnreadableError
from tellapart.recipe.transforms import HorizontalFlip, Noise, RandomResizedCrop, Rotation, Uniform
from tellapart.training.dataset import Dataset
from tellapart.training.pixels import Reader, augmented, fixed_view, from_cache, from_files, plain

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


def shown(dataset: Dataset, reader: Reader, epochs: int = 2) -> list[np.ndarray]:
    pictures = [augmented(dataset, epoch, reader)(int(row)) for epoch in range(epochs) for row in dataset.train]
    pictures += [plain(dataset, reader)(int(row)) for row in dataset.validation]
    reader.flush()
    return pictures


def same(one: list[np.ndarray], other: list[np.ndarray]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("transforms", [CROP, [HorizontalFlip(probability=0.5), Noise()], [Rotation()]])
def test_without_a_cache_with_a_cold_and_with_a_warm_one(
    dataset: Dataset, transforms: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = Dataset(dataset.catalog, dataset.train, dataset.validation, HOW, transforms, 3)
    expected = shown(dataset, from_files(dataset))
    assert same(shown(dataset, from_cache(dataset)), expected)
    monkeypatch.setattr("tellapart.data.loading.picture_cache.decode", lambda *_: pytest.fail("decoded again"))
    monkeypatch.setattr("tellapart.training.pixels.read_picture", lambda *_: pytest.fail("decoded again"))
    assert same(shown(dataset, from_cache(dataset)), expected)


@pytest.mark.parametrize("transforms", [[], CROP, [HorizontalFlip(probability=0.5), Noise()]])
@pytest.mark.parametrize("plain", [[], [[]]], ids=["versions", "and the picture itself"])
def test_versions_made_ahead_are_made_once(
    dataset: Dataset, transforms: Any, plain: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = [*plain, [HorizontalFlip()], [Rotation(degrees=Uniform(uniform=[-15, 15]))]]
    dataset = replace(dataset, transforms=transforms, ahead=versions)

    def epochs(reader: Reader) -> list[np.ndarray]:
        pictures = [augmented(dataset, epoch, reader)(int(item)) for epoch in range(2) for item in dataset.items]
        reader.flush()
        return pictures

    expected = epochs(from_files(dataset))
    assert same(epochs(from_cache(dataset)), expected)
    monkeypatch.setattr("tellapart.data.loading.picture_cache.decode", lambda *_: pytest.fail("decoded again"))
    for again in ("decode", "read_picture"):
        monkeypatch.setattr(f"tellapart.training.pixels.{again}", lambda *_: pytest.fail("decoded again"))
    assert same(epochs(from_cache(dataset)), expected)
    other = replace(dataset, seed=4)
    with pytest.raises(pytest.fail.Exception):  # another seed, another rotation
        augmented(other, 0, from_cache(other))(int(other.items[-1]))


@pytest.mark.parametrize("augments", [True, False])
def test_what_was_not_expected_is_read_all_the_same(dataset: Dataset, augments: bool) -> None:
    expected = [fixed_view(dataset)(int(row)) for row in dataset.train]
    reader = from_cache(dataset, augments)
    assert same([fixed_view(dataset, reader=reader)(int(row)) for row in dataset.train], expected)
    assert same(shown(dataset, reader), shown(dataset, from_files(dataset)))


def test_threads_share_it(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picture_cache, "_WRITE_BYTES", 5000)
    monkeypatch.setattr("tellapart.core.array_store._RELEASE_BYTES", 20000)
    expected, reader = shown(dataset, from_files(dataset), 3), from_cache(dataset)
    barrier = threading.Barrier(4)

    def work(_: int) -> list[np.ndarray]:
        barrier.wait(30)
        return shown(dataset, reader, 3)

    with ThreadPoolExecutor(4) as pool:
        assert all(same(each, expected) for each in pool.map(work, range(4)))


def test_a_picture_that_is_there_twice_is_kept_once(dataset: Dataset) -> None:
    reader = from_cache(dataset)
    shown(dataset, reader)
    assert isinstance(reader.frame, PictureCache)
    different = len({bytes(sha) for sha in dataset.catalog.table["sha256"].gather(dataset.validation)})
    assert reader.frame.store.n_bytes == different * 24 * 24 * 3


def test_a_damaged_one_is_made_again(dataset: Dataset) -> None:
    expected = shown(dataset, from_cache(dataset))
    for folder in cache_folder("pictures").iterdir():
        data = bytearray((folder / "values.bin").read_bytes())
        data[len(data) // 2] ^= 4
        (folder / "values.bin").write_bytes(data)
    assert same(shown(dataset, from_cache(dataset)), expected)
    assert same(shown(dataset, from_cache(dataset)), expected)
    for folder in cache_folder("pictures").iterdir():
        (folder / "values.bin").unlink()
    assert same(shown(dataset, from_cache(dataset)), expected)


@pytest.mark.parametrize("file", ["about.json", "index.bin", "values.bin", "used", "lock", ""])
@pytest.mark.parametrize("damage", ["folder", "emptied", "flipped"])
def test_a_store_that_cannot_be_used_is_made_again(dataset: Dataset, file: str, damage: str) -> None:
    expected = shown(dataset, from_cache(dataset))
    for folder in cache_folder("pictures").iterdir():
        path = folder / file
        data = path.read_bytes() if file else b""
        shutil.rmtree(path) if not file else path.unlink()
        if damage == "folder" and file:
            path.mkdir()
        elif damage == "emptied":
            path.write_bytes(b"")
        elif damage == "flipped":
            path.write_bytes(bytes([data[0] ^ 1]) + data[1:] if data else b"?")
    for _ in range(2):
        assert same(shown(dataset, from_cache(dataset)), expected)
    stores = [cache.store for cache in from_cache(dataset).caches]
    assert stores
    assert all(store.n_bytes for store in stores)  # and filled


def test_what_was_cut_off_while_it_was_read_is_decoded(dataset: Dataset) -> None:
    expected = shown(dataset, from_cache(dataset))
    reader = from_cache(dataset)
    assert same(shown(dataset, reader), expected)
    for folder in cache_folder("pictures").iterdir():
        os.truncate(folder / "values.bin", 10)
    assert same(shown(dataset, reader), expected)


def test_a_full_cache_and_one_that_cannot_be_written_change_nothing(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    expected = shown(dataset, from_files(dataset))
    monkeypatch.setenv("TELLAPART_CACHE_LIMIT", "1k")
    reader = from_cache(dataset)
    assert same(shown(dataset, reader), expected)
    assert same(shown(dataset, reader), expected)
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("TELLAPART_CACHE", str(tmp_path / "file"))
    assert from_cache(dataset).caches == []
    assert same(shown(dataset, from_cache(dataset)), expected)


def test_another_picture_is_another_one(dataset: Dataset) -> None:
    shown(dataset, from_cache(dataset))
    path = dataset.catalog.path(0)
    picture = np.asarray(Image.open(path))
    Image.fromarray(255 - picture).save(path)
    catalog = scan(dataset.catalog.root)
    changed = Dataset(catalog, dataset.train, dataset.validation, HOW, CROP, 3)
    assert same(shown(changed, from_cache(changed)), shown(changed, from_files(changed)))


def test_one_that_breaks_is_named(dataset: Dataset) -> None:
    dataset.catalog.path(2).write_bytes(b"\x89PNG broken")
    with pytest.raises(UnreadableError, match=dataset.catalog.path(2).name):
        shown(dataset, from_cache(dataset))


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

    def begins(reader: Reader) -> PictureCache:
        """What gives the pictures that a GPU changes."""
        load = reader.source if crops(transforms) else reader.frame
        assert isinstance(load, PictureCache)
        return load

    cold = begins(from_cache(dataset))
    rows = dataset.train
    assert cold.together(rows) is None
    alone = [cold(int(row)) for row in rows]
    cold.flush()
    for again in (cold, begins(from_cache(dataset))):
        for row in rows:  # of an earlier process: checked when each is first read
            again(int(row))
        together = again.together(rows[::-1])
        assert together is not None
        assert same(list(together), alone[::-1])
    assert cold.together(dataset.validation) is None or not crops(transforms)


def test_threads_that_cut_many_crops_at_once_show_what_one_by_one_shows(dataset: Dataset) -> None:
    reader, files = from_cache(dataset), from_files(dataset)
    for epoch, workers in enumerate((1, 2, 3)):  # decoded, then read and checked, then taken at once
        load = augmented(dataset, epoch, reader)
        assert isinstance(load, Together)
        for batch in batches(dataset.train, 4, load, workers):
            alone = [augmented(dataset, epoch, files)(int(row)) for row in batch.row]
            assert same(list(batch.image.numpy()), alone)
        reader.flush()
    assert isinstance(reader.source, PictureCache)
    assert reader.source.together(dataset.train) is not None


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
