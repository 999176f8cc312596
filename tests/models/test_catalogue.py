"""Which backbones there are to choose from, and what the table says of them."""

from __future__ import annotations

import json
from pathlib import Path

import huggingface_hub.constants
import pytest
import timm
import torch
from timm.models import get_pretrained_cfg

from tellapart.models import catalogue, hub
from tellapart.models.catalogue import PUBLISHED, Candidate, candidates, count
from tellapart.models.pretrained import find
from tellapart.models.weight_packages import PACKAGES, installed
from tellapart.recipe.schema import Model


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of weights; the user's own folder and caches are out of reach."""
    (tmp_path / "weights").mkdir()
    monkeypatch.setenv("TELLAPART_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "weights"


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub that sends a megabyte a second."""
    monkeypatch.setattr(hub, "hub_speed", lambda name: 1e6)


def describe_folder(path: Path, architecture: str, size: int, licence: str | None) -> None:
    path.mkdir()
    published = {"input_size": [3, size, size]} | ({"license": licence} if licence else {})
    (path / "config.json").write_text(json.dumps({"architecture": architecture, "pretrained_cfg": published}))


@pytest.mark.parametrize("row", PUBLISHED, ids=lambda row: row.name)
def test_the_table_says_what_timm_publishes(row: Candidate) -> None:
    published = get_pretrained_cfg(row.name)
    assert published.license == row.licence.lower() == "apache-2.0"
    assert published.hf_hub_id == f"timm/{row.name}"
    assert row.size_px in (published.input_size[1], 224)
    assert row.size_px <= published.input_size[1]


@pytest.mark.slow
@pytest.mark.parametrize("row", PUBLISHED, ids=lambda row: row.name)
def test_the_tables_counts_are_those_of_the_network(row: Candidate) -> None:
    macs, n_parameters = count(find(Model(name=row.name, pretrained=False)), row.size_px)
    assert macs == pytest.approx(row.macs, abs=0.5e6)
    assert n_parameters == pytest.approx(row.n_parameters, abs=500)
    with torch.device("meta"):
        whole = timm.create_model(row.name, pretrained=False)
    n_bytes = sum(tensor.numel() * tensor.element_size() for tensor in whole.state_dict().values())
    assert n_bytes / 1e6 == pytest.approx(row.download_mb, abs=0.05)


def test_the_table_runs_from_little_to_much_computation() -> None:
    assert [row.macs for row in PUBLISHED] == sorted(row.macs for row in PUBLISHED)
    assert not any(row.at_hand for row in PUBLISHED)


def test_what_is_at_hand_comes_first_in_the_order_of_looking(folder: Path, tmp_path: Path, answering: None) -> None:
    describe_folder(folder / "mine", "test_efficientnet", 64, "mit")
    describe_folder(folder / "resnet50", "resnet50", 224, None)
    cache(tmp_path / "hub", "mobilenetv4_conv_small.e2400_r224_in1k")
    (tmp_path / "hub" / "models--timm--convnext_atto.d2_in1k").mkdir()  # a download that was broken off
    every = candidates()
    here = [c for c in every if c.at_hand]
    packages = list(installed())
    assert packages == ["tf_efficientnet_lite0", "tf_efficientnet_lite2"]
    assert [c.name for c in here] == ["mine", "resnet50", *packages, "mobilenetv4_conv_small.e2400_r224_in1k"]
    assert [c.source for c in here] == ["folder", "folder", "package", "package", "cache"]
    assert [c.licence for c in here] == ["MIT", "", "Apache-2.0", "Apache-2.0", "Apache-2.0"]
    assert [c.size_px for c in here] == [64, 224, 224, 260, 224]
    assert all(c.macs > 1e6 and c.download_mb == c.download_seconds == 0 for c in here)
    assert every[: len(here)] == here
    rest = every[len(here) :]
    names = {c.name.partition(".")[0] for c in here}
    assert [c.name for c in rest] == [c.name for c in PUBLISHED if c.name.partition(".")[0] not in names]
    assert len(rest) == len(PUBLISHED) - 4
    assert all(c.download_seconds == pytest.approx(c.download_mb) for c in rest)


def cache(root: Path, name: str) -> None:
    """Lay weights of a network into a hub's cache; nothing reads them."""
    folder = root / f"models--timm--{name}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("abc")
    (folder / "snapshots" / "abc").mkdir(parents=True)
    (folder / "snapshots" / "abc" / "model.safetensors").write_bytes(b"")


def test_a_network_made_for_large_pictures_begins_with_smaller_ones(tmp_path: Path) -> None:
    row = PUBLISHED[-1]
    cache(tmp_path / "hub", row.name)
    (cached,) = [c for c in candidates(offline=True) if c.source == "cache"]
    assert (cached.name, cached.size_px, cached.macs) == (row.name, 224, row.macs)
    assert get_pretrained_cfg(row.name).input_size[1] == 518


def test_what_others_left_in_the_hubs_cache_is_passed_over(tmp_path: Path) -> None:
    for name in ("ViT-SO400M-16-SigLIP", "resnet50.from_the_future"):
        cache(tmp_path / "hub", name)
    assert [c.source for c in candidates(offline=True)] == ["package", "package"]


def test_no_hub_that_answers_no_networks_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(name: str) -> float:
        raise hub.NotThereError("it does not answer")

    monkeypatch.setattr(hub, "hub_speed", silent)
    assert [c.name for c in candidates()] == ["tf_efficientnet_lite0", "tf_efficientnet_lite2"]


def test_offline_the_hub_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "hub_speed", lambda name: pytest.fail("asked"))
    assert [c.source for c in candidates(offline=True)] == ["package", "package"]


def test_without_packages_their_networks_are_the_hubs(answering: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue.weight_packages, "installed", dict)
    every = candidates()
    assert {c.source for c in every} == {"hub"}
    assert {f"{name}.in1k" for name in PACKAGES} <= {c.name for c in every}


@pytest.mark.parametrize(("macs", "cost"), [(499e6, "low"), (500e6, "medium"), (1999e6, "medium"), (2e9, "high")])
def test_a_word_for_the_cost(macs: float, cost: str) -> None:
    assert Candidate("a", 224, int(macs), 1, 0.0, "", "hub").cost == cost
