"""Stored activations: shared by content, added to, whole after a kill, and the same whatever was there before."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tellapart.core.array_store import KEY, Store
from tellapart.core.files import cache_folder
from tellapart.data.scan import scan
from tellapart.errors import CacheError, LostCacheError
from tellapart.models.create import create_network
from tellapart.recipe.schema import Data, Model
from tellapart.training.extract_features import features
from tellapart.training.fast.engines import inference_layers
from tellapart.training.feature_cache import Activations, about_layers, compute
from tellapart.training.runtime import Runtime

N = 200
BATCH = 64


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TELLAPART_CACHE", str(tmp_path / "cache"))


def keys(numbers: Any) -> np.ndarray:
    return np.array([int(number).to_bytes(16, "big") for number in numbers], KEY)


class Layers:
    """Gives each input its number on 3 × 2 × 2 maps; counts what it was asked for."""

    def __init__(self) -> None:
        self.seen: list[int] = []
        self.sizes: set[int] = set()

    def inputs(self, numbers: Any) -> Callable[[np.ndarray], Iterator[Tensor]]:
        def given(items: np.ndarray) -> Iterator[Tensor]:
            wanted = np.asarray(numbers)[items]
            self.seen += wanted.tolist()
            for start in range(0, len(items), BATCH):
                yield torch.from_numpy(wanted[start : start + BATCH]).float()[:, None]

        return given

    def __call__(self, inputs: Tensor) -> Tensor:
        self.sizes.add(len(inputs))
        return inputs[:, :, None, None] + torch.arange(12).reshape(1, 3, 2, 2) / 100


def finished(work: Generator[Any, None, Activations]) -> Activations:
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value


def run(layers: Layers, numbers: Any, about: str = "layers") -> Generator[Any, None, Activations]:
    return compute(0, "", layers, layers.inputs(numbers), keys(numbers), {"of": about}, BATCH)


def right(stored: Activations, numbers: Any) -> bool:
    expected = Layers()(torch.as_tensor(np.asarray(numbers)).float()[:, None])
    given = stored.gather(np.arange(len(numbers)), "cpu")
    in_order = torch.cat(list(stored.in_order(np.arange(len(numbers)), "cpu", BATCH)))
    return torch.equal(given, expected) and torch.equal(in_order, expected)


def test_only_what_is_missing_is_computed() -> None:
    layers = Layers()
    assert right(finished(run(layers, range(100))), range(100))
    assert layers.seen == list(range(100))
    mixed = [150, 3, 99, 120, 0]
    assert right(finished(run(layers, mixed)), mixed)
    assert layers.seen == [*range(100), 150, 120]
    assert right(finished(run(layers, mixed, "other layers")), mixed)
    assert layers.seen[102:] == mixed


def test_equal_pictures_are_computed_once_and_batches_are_full() -> None:
    layers = Layers()
    assert right(finished(run(layers, [1, 2, 1, 1, 3])), [1, 2, 1, 1, 3])
    assert layers.seen == [1, 2, 3]
    assert layers.sizes == {BATCH}


def test_what_was_computed_before_a_stop_is_kept() -> None:
    layers = Layers()
    work = run(layers, range(N))
    next(work)
    next(work)
    work.close()
    layers.seen.clear()
    events = list(run(layers, range(N)))
    assert layers.seen == list(range(2 * BATCH, N))
    assert [(event.done, event.total) for event in events] == [(3 * BATCH, N), (N, N)]


def test_what_was_written_before_a_kill_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """As after kill -9: what has not been written by then is gone, and nothing else runs any more."""
    monkeypatch.setattr("tellapart.training.feature_cache._WRITE_BYTES", 2 * BATCH * 48 - 1)
    layers = Layers()
    work = run(layers, range(N))
    for _ in range(3):
        next(work)
    folder = next(cache_folder("activations").iterdir())
    shutil.copytree(folder, folder.with_name("as it was"))
    work.close()
    shutil.rmtree(folder)
    folder.with_name("as it was").rename(folder)
    layers.seen.clear()
    assert right(finished(run(layers, range(N))), range(N))
    assert layers.seen == list(range(2 * BATCH, N))


def test_two_at_once_share_one_store() -> None:
    one, other = Layers(), Layers()
    first, second = run(one, range(N)), run(other, range(50, N + 50))
    for _ in range(2):
        next(first)
        next(second)
    assert right(finished(first), range(N))
    assert right(finished(second), range(50, N + 50))
    (folder,) = cache_folder("activations").iterdir()
    assert Store(folder).n_bytes == (N + 50) * 48


def test_a_damaged_store_is_made_again() -> None:
    finished(run(Layers(), range(N)))
    (folder,) = cache_folder("activations").iterdir()
    data = bytearray((folder / "values.bin").read_bytes())
    data[1000] ^= 1
    (folder / "values.bin").write_bytes(data)
    assert right(finished(run(Layers(), range(N))), range(N))
    (folder / "values.bin").unlink()
    assert right(finished(run(Layers(), range(N))), range(N))
    (folder / "about.json").unlink()
    assert right(finished(run(Layers(), range(N))), range(N))


def _store() -> Path:
    """The one store, filled anew."""
    shutil.rmtree(cache_folder("activations"), ignore_errors=True)
    finished(run(Layers(), range(N)))
    (folder,) = cache_folder("activations").iterdir()
    return folder


FILES = ("about.json", "index.bin", "values.bin", "used", "lock")


def _flip(file: Path, at: int, bit: int = 0) -> None:
    data = bytearray(file.read_bytes())
    if data:
        data[at % len(data)] ^= 1 << bit
        file.write_bytes(data)


def _make_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


DAMAGES: dict[str, Callable[[Path], object]] = {
    "first byte": lambda file: _flip(file, 0),
    "byte in the middle": lambda file: _flip(file, file.stat().st_size // 2, 6),
    "last byte": lambda file: _flip(file, -1, 7),
    "removed": lambda file: file.unlink(),
    "emptied": lambda file: file.write_bytes(b""),
    "cut off": lambda file: os.truncate(file, file.stat().st_size * 2 // 3),
    "longer": lambda file: file.write_bytes(file.read_bytes() + b"\0{" * 500),
    "other text": lambda file: file.write_bytes(b"[" * 5000),
    "folder": _make_folder,
}


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_made_again_whatever_it_is(file: str, damage: str) -> None:
    folder = _store()
    DAMAGES[damage](folder / file)
    assert right(finished(run(Layers(), range(N))), range(N))
    again = Layers()
    assert right(finished(run(again, range(N))), range(N))
    assert not again.seen  # made again, not merely passed by


@pytest.mark.parametrize("at", range(0, 60, 3))
def test_a_flipped_bit_of_the_note_is_noticed(at: int) -> None:
    """Some bits leave the note readable, with another shape or type."""
    folder = _store()
    n = (folder / "about.json").stat().st_size
    _flip(folder / "about.json", at * n // 60, at % 8)
    assert right(finished(run(Layers(), range(N))), range(N))


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES)
def test_every_byte_may_be_damaged(file: str) -> None:
    folder = _store()
    whole = (folder / file).read_bytes()
    for at in range(0, len(whole), 1 if len(whole) < 1000 else 97):
        for bit in (0, 6):
            _flip(folder / file, at, bit)
            assert right(finished(run(Layers(), range(N))), range(N)), (at, bit)
            folder = _store()


@pytest.mark.parametrize("kind", ["nothing", "file", "empty folder"])
def test_a_store_that_is_gone_is_made_again(kind: str) -> None:
    folder = _store()
    shutil.rmtree(folder)
    if kind == "file":
        folder.write_bytes(b"?")
    elif kind == "empty folder":
        folder.mkdir()
    assert right(finished(run(Layers(), range(N))), range(N))


@pytest.mark.parametrize("after", [1, 2])
@pytest.mark.parametrize("replaced", [False, True])
def test_a_store_that_is_removed_while_it_is_filled_is_made_again(
    monkeypatch: pytest.MonkeyPatch, after: int, replaced: bool
) -> None:
    monkeypatch.setattr("tellapart.training.feature_cache._WRITE_BYTES", 0)
    work = run(Layers(), range(N))
    for _ in range(after):
        next(work)
    (folder,) = cache_folder("activations").iterdir()
    shutil.rmtree(folder)
    if replaced:  # by another training, which goes on with its own
        other = finished(run(Layers(), range(50, 150)))
    assert right(finished(work), range(N))
    if replaced:
        assert right(other, range(50, 150))
        again = Layers()
        assert right(finished(run(again, range(N))), range(N))
        assert not again.seen


def test_what_was_opened_outlives_its_files_and_is_not_read_where_it_was_cut_off() -> None:
    folder = _store()
    stored = finished(run(Layers(), range(N)))
    os.truncate(folder / "values.bin", 100)
    with pytest.raises(LostCacheError, match=r"values\.bin was cut off"):
        stored.gather(np.arange(N), "cpu")
    stored = finished(run(Layers(), range(N)))
    shutil.rmtree(folder)
    assert right(stored, range(N))


def test_a_stop_in_a_store_that_is_gone_is_a_stop() -> None:
    work = run(Layers(), range(N))
    next(work)
    shutil.rmtree(cache_folder("activations"))
    work.close()


def test_damage_to_other_items_does_not_matter() -> None:
    finished(run(Layers(), range(50)))
    finished(run(Layers(), range(50, 100)))
    (folder,) = cache_folder("activations").iterdir()
    os.truncate(folder / "values.bin", 60 * 48 + 5)
    layers = Layers()
    assert right(finished(run(layers, range(50))), range(50))
    assert layers.seen == []
    assert right(finished(run(layers, range(100))), range(100))
    assert layers.seen == list(range(50, 100))


@pytest.mark.parametrize(("number", "words"), [(errno.ENOSPC, "The disk is full"), (errno.EROFS, "Read-only")])
def test_a_disk_that_takes_no_more_is_said(monkeypatch: pytest.MonkeyPatch, number: int, words: str) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(number, "Read-only file system" if number == errno.EROFS else "No space left on device")

    monkeypatch.setattr(Store, "append", refuse)
    with pytest.raises(CacheError, match=words) as error:
        finished(run(Layers(), range(N)))
    assert "TELLAPART_CACHE" in error.value.hint


def test_a_file_in_the_place_of_the_cache_is_named() -> None:
    folder = cache_folder("activations")
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.write_text("mine")
    with pytest.raises(CacheError, match=r"activations is a file") as error:
        finished(run(Layers(), range(N)))
    assert "Move it elsewhere" in error.value.hint
    assert folder.read_text() == "mine"


def test_work_that_the_disk_cannot_hold_is_refused_at_its_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tellapart.core.cache._free", lambda place: 1000)
    layers = Layers()
    with pytest.raises(CacheError, match="only 1000 B left"):
        finished(run(layers, range(N)))
    assert len(layers.sizes) == 1


def test_pages_are_given_back_without_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tellapart.core.array_store._RELEASE_BYTES", 0)
    stored = finished(run(Layers(), range(N)))
    for _ in range(3):
        assert right(stored, range(N))


def test_another_run_with_other_pictures_computes_only_new_ones(picture_folder: Any) -> None:
    """In folders of other names, with other row numbers and another number of classes."""
    folder = picture_folder(n=6)
    other = folder.with_name("other")
    shutil.copytree(folder / "circle", other / "ring")
    shutil.copytree(folder / "square", other / "box")
    catalog, smaller = scan(folder), scan(other)
    network, second = (_network(classes) for classes in (3, 2))
    runtime = Runtime("cpu")
    whole = _all(features(network, catalog, np.arange(18), runtime, ""))
    assert whole[0] > 0
    events, found = _all(features(second, smaller, np.arange(12), runtime, ""))
    assert events == 0
    old = {bytes(sha): row for row, sha in zip(whole[1], catalog.table["sha256"], strict=True)}
    assert all(np.array_equal(old[bytes(s)], row) for s, row in zip(smaller.table["sha256"], found, strict=True))


def test_features_are_the_same_to_the_bit_whatever_was_there_before(picture_folder: Any) -> None:
    catalog = scan(picture_folder(n=30))
    network, runtime = _network(3), Runtime("cpu")
    cold = _all(features(network, catalog, np.arange(90), runtime, ""))[1]
    shutil.rmtree(cache_folder("activations"))
    for rows in (np.array([80, 2, 3]), np.arange(40, 60)):
        _all(features(network, catalog, rows, runtime, ""))
    assert np.array_equal(_all(features(network, catalog, np.arange(90), runtime, ""))[1], cold)


def test_layers_are_told_apart(weights: Path) -> None:
    one, other = _network(3), _network(3, seed=1)
    preprocessing, cpu = one.preprocessing, Runtime("cpu")
    plain = about_layers(one, one.backbone, "head", preprocessing, cpu)
    assert about_layers(_network(5), one.backbone, "head", preprocessing, cpu) == plain
    assert about_layers(other, other.backbone, "head", preprocessing, cpu) != plain
    assert about_layers(one, one.backbone, "head", preprocessing, Runtime("cpu", frozen="bfloat16")) != plain


@pytest.mark.parametrize("precision", ["float32", pytest.param("bfloat16", marks=pytest.mark.slow)])
def test_what_real_layers_make_of_a_picture_does_not_depend_on_the_others(weights: Path, precision: Any) -> None:
    file = next((weights / "mobilenetv2_100").glob("*.safetensors"))
    network = create_network(Model(name="mobilenetv2_100", weights=str(file)), 3, Data(size=64))
    layers = inference_layers(network.backbone, Runtime("cpu", frozen=precision))
    x = torch.rand(BATCH, 3, 64, 64, generator=torch.Generator().manual_seed(0)).to(memory_format=torch.channels_last)
    order = torch.randperm(BATCH, generator=torch.Generator().manual_seed(1))
    whole = layers(x)
    assert torch.equal(layers(x[order]), whole[order])
    alone = x[order[:5]].index_select(0, torch.arange(BATCH).clamp(max=4))
    assert torch.equal(layers(alone)[:5], whole[order[:5]])


def _network(n_classes: int, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return create_network(Model(name="small-cnn", pretrained=False), n_classes, Data(size=32))


def _all(work: Generator[Any, None, Any]) -> tuple[int, Any]:
    n = 0
    while True:
        try:
            next(work)
        except StopIteration as end:
            return n, end.value
        n += 1
