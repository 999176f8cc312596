"""Several runs in one figure: what is said of them, against their event logs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

import tellapart as ta
from tellapart.data.scan import scan
from tellapart.data.splitting.split import split
from tellapart.errors import RunError, UsageError
from tellapart.recipe.load import load_recipe
from tellapart.report.sections.curves_page import best, closest, differing
from tellapart.runs.run import Run


def begun(folder: Path, pictures: Path, losses: list[tuple[float, float]], *changes: str, seed: int = 0) -> Run:
    """A run as a training leaves it: one epoch for each pair of training and validation loss."""
    folder.mkdir()
    run = Run(folder)
    catalog = scan(pictures)
    catalog.save(run.catalog_file)
    split(catalog, seed=seed).save(run.split_file)
    run.recipe_file.write_text(load_recipe("scratch", list(changes)).to_toml(), encoding="utf-8")
    lowest = min(validation for _, validation in losses)
    lines = [
        {
            "event": "Validated",
            "stage": 0,
            "epoch": epoch,
            "epochs": len(losses),
            "train_loss": train,
            "validation_loss": validation,
            "train_accuracy": 1 - train / 2,
            "validation_accuracy": 1 - validation / 2,
            "lrs": [1e-3],
            "best": validation == lowest,
            "seconds": 60,
        }
        for epoch, (train, validation) in enumerate(losses, start=1)
    ]
    run.events_file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return run


@pytest.fixture
def runs(picture_folder, tmp_path) -> list[Run]:
    pictures = picture_folder(n=8)
    name = "b <script>&"
    return [
        begun(tmp_path / "a", pictures, [(1.0, 1.0), (0.4, 0.8), (0.1, 0.6)]),
        begun(tmp_path / name, pictures, [(0.9, 0.9), (0.6, 0.7)], "stages.0.lr=1e-4", "augment=[]"),
    ]


def test_best_score_and_smallest_gap_come_from_the_epoch_that_was_kept(runs, tmp_path):
    together = ta.curves(runs, tmp_path / "curves.html")
    assert [run.accuracy for run in together] == [0.7, 0.65]
    assert [run.at for run in together] == [3, 2]
    assert [run.train_accuracy for run in together] == [0.95, 0.7]
    assert [run.gap for run in together] == pytest.approx([0.5, 0.1])
    assert (best(together), closest(together)) == (0, 1)
    assert [run.course.total_seconds for run in together] == [180, 120]


def test_only_what_differs_is_listed(runs, tmp_path):
    together = ta.curves(runs, tmp_path / "curves.html")
    assert differing(together) == {
        "augment": ["random_resized_crop probability=1 scale=uniform=0.5–1 ratio=0.75–1.33333", "none"],
        "stages.0.lr": ["0.002", "0.0001"],
    }
    page = (tmp_path / "curves.html").read_text(encoding="utf-8")
    assert "smallest gap" in page
    assert "2 min 0 s" in page
    assert "<script>&" not in page.replace("<script>{", "")
    assert "b &lt;script&gt;" in page


def test_other_pictures_are_said_so(runs, picture_folder, tmp_path):
    other = begun(tmp_path / "c", picture_folder("other", seed=5), [(1.0, 1.0)], "stages.0.label_smoothing=0")
    elsewhere = begun(tmp_path / "d", tmp_path / "photos", [(1.0, 1.0)], seed=9)
    ta.curves([runs[0], other, elsewhere], tmp_path / "curves.html")
    page = (tmp_path / "curves.html").read_text(encoding="utf-8")
    assert "was trained on other pictures than" in page
    assert "was validated on other pictures than" in page
    assert "losses are not of one kind (stages.0.label_smoothing differ)" in page


@pytest.mark.parametrize("form", ["png", "svg"])
def test_the_figure_alone(runs, form, tmp_path):
    out = tmp_path / f"curves.{form}"
    ta.curves(runs, out)
    if form == "png":
        with Image.open(out) as picture:
            assert picture.width > 1200
    else:
        assert "<svg" in out.read_text(encoding="utf-8")


def test_what_cannot_be_shown(runs, tmp_path):
    with pytest.raises(UsageError, match="ends in"):
        ta.curves(runs, tmp_path / "curves.gif")
    with pytest.raises(UsageError, match="0 runs"):
        ta.curves([], tmp_path / "curves.html")
    with pytest.raises(RunError, match="not a run directory"):
        ta.curves([tmp_path], tmp_path / "curves.html")
    runs[1].events_file.unlink()
    with pytest.raises(RunError, match="no epoch to show yet"):
        ta.curves(runs, tmp_path / "curves.html")
