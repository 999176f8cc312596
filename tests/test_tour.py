"""The tour of the README, executed from top to bottom: small pictures and a small network, else as it stands."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.test_commands_in_docs import ROOT, shown

TOUR = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Five minutes")[2].partition("## How good")[0]
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
    """A training of the tour with a small network; its pictures and its folder are the tour's."""
    pairs = dict(zip(words, [*words[1:], ""], strict=True))
    kept = ["--out", pairs["--out"]] if "--out" in pairs else []
    return [*words[:2], *kept, *(["--folds", "2"] if "--folds" in pairs else []), *SMALL]


@pytest.mark.slow
@pytest.mark.usefixtures("short_ends")
def test_the_tour_runs_from_top_to_bottom(desk: Path, here: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = []
    for words in shown(TOUR):
        if words[0] in WAITING or "html" in words:
            continue
        trains = words[0] in ("train", "cross-validate")
        said = here(*(_small(words) if trains else words))
        assert said.returncode == 0, f"tellapart {shlex.join(words)}\n{said.stderr}"
        done.append(words[0])
    assert set(done) >= {"scan", "train", "recipes", "predict", "evaluate", "errors", "explain", "compare"}
    assert (desk / "runs" / "first" / "report.html").is_file()
    python = "\n".join(line[4:] for line in TOUR.partition("## In Python")[2].split("\n") if line.startswith("    "))
    changes = 'changes=["model.name=cnn8", "data.size=16", "stages.0.epochs=1"], '
    exec(re.sub(r'recipe="transfer", ', f'recipe="scratch", {changes}', python), {})
    assert (desk / "runs" / "third" / "bundle" / "model.onnx").is_file()
