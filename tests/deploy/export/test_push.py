"""A bundle in a hub repository: what arrives, what is said before, and what never leaves this machine."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import tellapart as ta
from tellapart.core.bundle_description import DESCRIPTION
from tellapart.deploy.bundle.card import card
from tellapart.deploy.bundle.golden import check_golden
from tellapart.deploy.bundle.read import Bundle
from tests.bundles import change
from tests.deploy.export.hub_server import TOKEN, Hub, serving

# The hub's own client passes a file in a way that its HTTP library warns of.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

COMMAND = "tellapart train '/mnt/my photos' --set model.weights=/srv/w.safetensors --out runs/first"


@pytest.fixture(autouse=True)
def _described(exportable: Path) -> None:
    """As training writes it: with what the model card tells."""
    change(exportable / "bundle", architecture={"name": "colours"}, weights_source="none", onnx_opset=18)
    (exportable / "bundle" / "README.md").write_text("# Colours\n")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub on this machine, which huggingface_hub takes for the real one."""
    from huggingface_hub import constants

    with serving() as here:
        monkeypatch.setattr(constants, "ENDPOINT", here.address)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # its own store, of no part in this protocol
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield here


def test_the_repository_answers_as_the_bundle_and_names_no_folder(
    exportable: Path, hub: Hub, here: Callable, tmp_path: Path
) -> None:
    source = "file /srv/deep/w.safetensors, see https://example.org/a/b"
    recipe = {"model": {"weights": "/srv/deep/w.safetensors"}}
    change(exportable / "bundle", about={"command": COMMAND, "recipe": recipe}, weights_source=source)
    file = exportable / "bundle" / DESCRIPTION
    (exportable / "bundle" / "README.md").write_text(card(json.loads(file.read_text())))
    done = here("export", exportable, "--to", "push", "--repo", "me/fruit")
    assert done.returncode == 0, done.stderr
    assert hub.private == {"me/fruit": True}
    assert f"Sent: {hub.address}/me/fruit/commit/" in done.stdout
    for words in (f"Sending to {hub.address}/me/fruit", "model.onnx", "3 of the validation pictures", "made private"):
        assert words in done.stderr
    downloaded = tmp_path / "downloaded"
    downloaded.mkdir()
    for name, content in hub.repositories["me/fruit"].items():
        (downloaded / name).write_bytes(content)
    bundle = Bundle.load(downloaded)
    assert check_golden(bundle) < 1e-6
    picture = np.full((9, 9, 3), (200, 10, 10), np.uint8)
    assert ta.load(downloaded).predict(picture) == ta.load(exportable).predict(picture)
    sent = b"".join([*hub.bodies, *hub.stored.values()])
    assert not any(word in sent for word in (b"/mnt", b"/srv", str(tmp_path).encode(), TOKEN.encode()))
    assert bundle.about["command"] == ("tellapart train 'my photos' --set model.weights=w.safetensors --out runs/first")
    values = json.loads((downloaded / DESCRIPTION).read_text())
    assert values["weights_source"] == "file w.safetensors, see https://example.org/a/b"
    assert (downloaded / "README.md").read_text().startswith("---\npipeline_tag: image-classification\n")


def test_public_is_asked_for_and_a_repository_keeps_what_it_is(exportable: Path, hub: Hub, here: Callable) -> None:
    assert "everybody" in here("export", exportable, "--to", "push", "--repo", "me/open", "--public").stderr
    assert hub.private == {"me/open": False}
    again = here("export", exportable, "--to", "push", "--repo", "me/open")
    assert "exists, and is public: everybody can see it" in again.stderr
    assert hub.requests.count("POST /api/repos/create") == 1


def test_nothing_is_sent_without_a_name_a_token_or_a_whole_bundle(
    exportable: Path, hub: Hub, here: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    def refused(*words: str) -> str:
        done = here("export", exportable, "--to", "push", *words)
        assert done.returncode == 2
        assert "Traceback" not in done.stderr
        return done.stderr

    assert "OWNER/NAME" in refused()
    for name in ("fruit", "../fruit", "me/fruit/x", "me/fr uit", "me/fruit\n", "https://host/me/fruit"):
        assert "OWNER/NAME" in refused("--repo", name)
    assert "--to push" in here("export", exportable, "--to", "onnx", "--repo", "me/fruit").stderr
    with monkeypatch.context() as patch:
        patch.setattr(constants, "HF_HUB_OFFLINE", True)
        assert "HF_HUB_OFFLINE" in refused("--repo", "me/fruit")
        patch.setattr(constants, "HF_HUB_OFFLINE", False)
        patch.setenv("HF_TOKEN", "")
        patch.setattr(constants, "HF_TOKEN_PATH", str(exportable / "none"))
        assert "hf auth login" in refused("--repo", "me/fruit")
        patch.setenv("HF_TOKEN", "hf_of_somebody_else")
        told = refused("--repo", "me/fruit")
        assert "does not take me/fruit" in told
        assert "hf_of_somebody_else" not in told
    weights = exportable / "bundle" / "model.onnx"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert "model.onnx" in refused("--repo", "me/fruit")
    assert hub.repositories == {}


def test_an_edited_card_that_names_a_folder_is_refused(exportable: Path, hub: Hub, here: Callable) -> None:
    (exportable / "bundle" / "README.md").write_text(f"# Mine, trained in {exportable.resolve()}\n")
    done = here("export", exportable, "--to", "push", "--repo", "me/fruit")
    assert done.returncode == 2
    assert "README.md names a folder of this machine" in done.stderr
    assert hub.requests == []
    (exportable / "bundle" / "README.md").write_text("---\nlicense: mit\n---\n# Mine\n")
    assert here("export", exportable, "--to", "push", "--repo", "me/fruit").returncode == 0
    assert hub.repositories["me/fruit"]["README.md"] == b"---\nlicense: mit\n---\n# Mine\n"
