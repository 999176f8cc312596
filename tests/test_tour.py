"""The tours of README and docs, executed from top to bottom: small pictures and a small network, else as they stand."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from socket import socket
from typing import Any

import pytest

from tests.test_commands_in_docs import ROOT, shown

README = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Five minutes")[2].partition("## How good")[0]
TOUR = (ROOT / "docs" / "tour.md").read_text(encoding="utf-8")
PYTHON = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
SMALL = ["--recipe", "scratch", "--set", "model.name=cnn8", "--set", "data.size=16", "--set", "stages.0.epochs=1"]
SMALL += ["--set", "evaluation.explain=false"]  # `explain` itself is run
#: These wait for a browser or for requests, or need what a browser loads: other tests start them.
WAITING = {"serve", "review", "open"}


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pictures_at: Callable[..., Path]) -> Path:
    """A folder with all that the tour names: photos/, newer_photos/, new.jpg, more/, inbox/, holiday.zip."""
    photos = pictures_at(tmp_path / "photos", n=12, width=24, height=24)
    newer = pictures_at(tmp_path / "newer_photos", n=4, width=24, height=24)
    files = sorted(newer.rglob("*.png"))
    shutil.copyfile(files[0], tmp_path / "new.jpg")
    for name in ("more", "inbox"):
        (tmp_path / name).mkdir()
        shutil.copyfile(files[1], tmp_path / name / "a.jpg")
    with zipfile.ZipFile(tmp_path / "holiday.zip", "w") as archive:
        archive.write(files[2], "beach.png")
    assert photos.is_dir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _small(words: list[str]) -> list[str]:
    """A training of the tour with a small network; its pictures, its folder and what it varies are the tour's."""
    pairs = dict(zip(words, [*words[1:], ""], strict=True)) | ({"--folds": "2"} if "--folds" in words else {})
    kept = [word for name in ("--out", "--folds", "--vary", "--seeds") if name in pairs for word in (name, pairs[name])]
    return [*words[:2], *kept, *SMALL]


def _python(text: str) -> str:
    return "\n".join(line[4:] for line in text.split("\n") if line.startswith("    "))


@pytest.mark.slow
@pytest.mark.usefixtures("short_ends")
def test_the_tour_runs_from_top_to_bottom(
    desk: Path, here: Callable[..., subprocess.CompletedProcess[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    done = []
    for words in [*shown(README), *shown(TOUR)]:
        if words[0] in WAITING or "html" in words:
            continue
        trains = words[0] in ("train", "cross-validate", "study")
        said = here(*(_small(words) if trains else words))
        assert said.returncode == 0, f"tellapart {shlex.join(words)}\n{said.stderr}"
        done.append(words[0])
    seen = {"scan", "audit", "train", "recipes", "predict", "evaluate", "errors", "explain", "compare", "study"}
    assert seen <= set(done)
    assert (desk / "runs" / "first" / "report.html").is_file()
    changes = 'changes=["model.name=cnn8", "data.size=16", "stages.0.epochs=1"], '
    in_python = _python(README.partition("## In Python")[2])
    exec(re.sub(r'recipe="transfer", ', f'recipe="scratch", {changes}', in_python), {})
    assert (desk / "runs" / "third" / "bundle" / "model.onnx").is_file()

    async def at_once(_served: object, _run: Path, _engine: str, listener: socket, _lines: list[str]) -> None:
        listener.close()  # as a server that is stopped as soon as it is ready

    monkeypatch.setattr("uvicorn.Server.run", lambda self, sockets: sockets[0].close())
    monkeypatch.setattr("tellapart.workflows.serve._until_stopped", at_once)
    names: dict[str, Any] = {}
    exec(_python(PYTHON.partition("## Every verb")[2].partition("\n## ")[0]), names)
    assert names["corrections"] == Path("runs/first/corrections.csv")
    assert names["errors"].labels.height == 36
    assert names["shown"].path.is_file()
    assert names["test"].setting == f"stages.0.lr={names['test'].lr!r}"
