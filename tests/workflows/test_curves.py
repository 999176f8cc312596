"""Several runs in one figure: what is said of them, against their event logs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

import tellapart as ta
from tellapart.data.scan import scan
from tellapart.data.splitting.split import split
from tellapart.errors import RunError, UsageError
from tellapart.recipe.load import load_recipe
from tellapart.recipe.schema import Recipe, Stage
from tellapart.report.sections.curves_page import Compared, best, closest, compared_page, verdict
from tellapart.report.sections.settings import differing
from tellapart.runs.run import Run
from tellapart.runs.settings import settings
from tellapart.workflows.curves import notes


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
    pictures = picture_folder(n=40, width=12, height=10)
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
    assert (best(together), closest(together)) == ([0], [1])
    assert [run.course.total_seconds for run in together] == [180, 120]


def test_only_what_differs_is_listed(runs, tmp_path):
    together = ta.curves(runs, tmp_path / "curves.html")
    assert differing([run.settings for run in together]) == {
        "augment": ["random_resized_crop probability=1 scale=uniform=0.5–1 ratio=0.75–1.33333", "none"],
        "augment_per": ["picture", "–"],
        "stages.0.lr": ["0.002", "0.0001"],
    }
    page = (tmp_path / "curves.html").read_text(encoding="utf-8")
    assert "higher, smallest" in page
    assert "2 min 0 s" in page
    assert "1 min 0 s an epoch" in page
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


def test_a_stage_that_one_run_lacks_is_no_loss_of_another_kind(picture_folder, tmp_path):
    pictures = picture_folder(n=40, width=12, height=10)
    one = begun(tmp_path / "a", pictures, [(1.0, 1.0)], "stages=[{epochs=1}]")
    two = begun(tmp_path / "b", pictures, [(1.0, 1.0)], "stages=[{epochs=1}, {epochs=1}]")
    assert notes([one, two], ta.curves([one, two], tmp_path / "curves.html")) == []


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


@pytest.fixture
def compared(runs, tmp_path) -> Compared:
    """A run of four epochs; the loss chose the second one, whose accuracy is not the highest."""
    (one,) = ta.curves(runs[:1], tmp_path / "one.html")
    course = replace(
        one.course,
        epoch=(1, 2, 3, 4),
        train_loss=(1.0, 0.8, 0.5, 0.2),
        validation_loss=(1.0, 0.7, 0.9, 1.1),
        train_accuracy=(0.5, 0.6, 0.9, 0.99),
        validation_accuracy=(0.6, 0.8, 0.85, 0.85),
        seconds=(1.0,) * 4,
        best=2,
    )
    return replace(one, name="a", course=course, constant=0.3, n_validation=100)


def kept(run: Compared, name: str, accuracy: float, losses: tuple[float, float]) -> Compared:
    """The same run with other values at the epoch that was kept: accuracy, and training and validation loss."""
    course = run.course
    return replace(
        run,
        name=name,
        course=replace(
            course,
            train_loss=(1.0, losses[0], 0.5, 0.2),
            validation_loss=(1.0, losses[1], 0.9, 1.1),
            validation_accuracy=(0.3, accuracy, 0.99, 0.3),
        ),
    )


def test_scores_are_those_of_the_weights_that_were_kept(compared):
    assert (compared.at, compared.accuracy, compared.train_accuracy) == (2, 0.8, 0.6)
    assert (compared.highest, compared.highest_at) == (0.85, [3, 4])
    row = compared_page([compared]).sections[1].blocks[0].rows[0]
    assert [(cell.text, cell.quiet) for cell in row[1:4]] == [
        ("80.0\u202f%", "best score"),
        ("2 of 4", ""),
        ("85.0\u202f%", "epochs 3, 4"),
    ]
    assert "80.0\u202f% (weights kept: epoch 2)" in verdict([compared], ["a"])[0]
    better = kept(compared, "b", 0.81, (0.5, 0.9))  # a higher accuracy that was thrown away does not win
    worse = kept(compared, "c", 0.79, (0.5, 0.9))
    assert best([compared, better, worse]) == [1]


def test_ties_are_said(compared):
    runs = [compared, kept(compared, "b", 0.8, (0.7, 0.8)), kept(compared, "c", 0.7, (0.1, 0.9))]
    assert (best(runs), closest(runs)) == ([0, 1], [0, 1])
    said = verdict(runs, ["a", "b", "c"])
    assert said[0].startswith("a and b share the best validation accuracy")
    assert said[1].startswith("a and b share the smallest gap")
    rows = compared_page(runs).sections[1].blocks[0].rows
    assert [row[1].quiet for row in rows] == ["best score, equal", "best score, equal", ""]
    assert [row[5].quiet for row in rows] == [
        "training higher, smallest, equal",
        "validation higher, smallest, equal",
        "validation higher",
    ]


def test_a_gap_is_a_distance_and_a_run_at_chance_has_none(compared):
    runs = [compared, kept(compared, "b", 0.7, (1.5, 0.7)), kept(compared, "c", 0.31, (1.1, 1.1))]
    assert closest(runs) == [0]
    said = " ".join(verdict(runs, ["a", "b", "c"]))
    assert "a has the smallest gap between training and validation loss, 0.100." in said
    assert "c cannot be told from chance: 31.0\u202f% of 100 validation pictures" in said
    rows = compared_page(runs).sections[1].blocks[0].rows
    assert [(row[5].text, row[5].quiet) for row in rows] == [
        ("0.100", "training higher, smallest"),
        ("0.800", "training higher"),
        ("0.000", ""),
    ]
    assert rows[2][1].quiet == "not told from chance"
    assert closest(runs[2:]) == []


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        (["data.crop=0.5"], {"data.crop": ["that of the weights", "0.5"]}),
        (["data.split_seed=4"], {"data.split_seed": ["0", "4"]}),
        (["stages.0.clip=1.0"], {"stages.0.clip": ["none", "1"]}),
        (["stages.0.per_class=9"], {"stages.0.per_class": ["all", "9"]}),
        (["stages.0.lr='find'"], {"stages.0.lr": ["0.002", "find=valley spread=1"]}),
        (["evaluation.thresholds.recall=0.9"], {"evaluation.thresholds": ["f1", "recall=0.9"]}),
        (["evaluation.tta=4"], {"evaluation.tta": ["0", "4"], "evaluation.tta_mean": ["–", "logits"]}),
        (["stages.0.loss=cross_entropy"], {}),
        (["data.normalisation=rescale"], {"data.normalisation": ["that of the weights", "mean=0, 0, 0 std=1, 1, 1"]}),
        (["mix.mixup=0.5"], {"mix.mixup": ["0", "0.5"], "mix.per": ["–", "picture"], "mix.mixup_alpha": ["–", "0.2"]}),
        (["plan.minutes=3"], {"plan.minutes": ["none", "3"]}),
    ],
)
def test_a_setting_is_shown_as_it_is_in_effect(picture_folder, tmp_path, changes, shown):
    pictures = picture_folder(n=4)
    first = begun(tmp_path / "a", pictures, [(1.0, 1.0)], "seed=0")
    other = begun(tmp_path / "b", pictures, [(1.0, 1.0)], *changes)
    different = differing([settings(first), settings(other)])
    assert different == shown


def test_steps_take_the_place_of_epochs(runs):
    recipe = Recipe(stages=[Stage(steps=50), Stage(schedule="step")])
    runs[0].recipe_file.write_text(recipe.to_toml(), encoding="utf-8")
    shown = settings(runs[0])
    assert {"stages.0.steps", "stages.1.epochs", "stages.1.step_epochs"} <= shown.keys()
    assert not {"stages.0.epochs", "stages.1.steps", "stages.0.step_epochs"} & shown.keys()
