"""Trainings in this process: several labels, pictures that break, stored features that are cut off, real pictures."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import tellapart as ta
from tellapart.core.events import Note, StageDone, Validated
from tellapart.runs.run import Run
from tellapart.workflows.train import RunOptions, run
from tests.workflows.test_train import QUICK, Command

pytestmark = pytest.mark.usefixtures("short_ends")


def test_several_labels_from_table_to_answer(
    tmp_path: Path, picture_folder: Callable[..., Path], here: Command
) -> None:
    photos = picture_folder(n=20)
    rows = ["file_name,labels"]
    for path in sorted(photos.glob("*/*.png")):
        number = int(path.stem)
        labels = [path.parent.name, *(["even"] if number % 2 == 0 else [])] if number % 5 else []
        rows.append(f"{path.relative_to(photos).as_posix()},{' '.join(labels)}")
    (photos / "labels.csv").write_text("\n".join(rows) + "\n")
    out = tmp_path / "run"
    settings = ["--set", "evaluation.thresholds.recall=0.9", "--set", "evaluation.tta=1"]
    settings += ["--set", "evaluation.tta_mean='probabilities'"]
    done = here("train", photos, *QUICK, "--model", "mlp", *settings, "--set", "stages.0.epochs=2", "--out", out)
    assert done.returncode == 0, done.stderr
    assert "f1_micro" in done.stdout
    run = Run(out)
    assert run.catalog.multilabel
    assert run.predictions("test").target.shape[1] == 4
    answer = ta.load(out).predict(next(photos.glob("*/*.png")))
    assert len(answer.labels) == 4
    assert len(ta.load(out).bundle.temperature) == 4  # type: ignore[arg-type]
    assert (ta.load(out).bundle.tta, ta.load(out).bundle.tta_mean) == (1, "probabilities")
    validation = run.predictions("validation")
    told = json.loads(run.evaluation_file.read_text())
    answered = validation.probabilities(tuple(told["temperature"])) >= told["thresholds"]
    given = validation.target == 1
    assert ((answered & given).sum(axis=0) >= 0.9 * given.sum(axis=0) - 1e-9).all()
    assert "probabilities averaged over each picture and 1 changed copy of it" in told["tta"]["sentence"]


@pytest.mark.skipif(sys.platform == "darwin", reason="its names are all UTF-8")
def test_a_folder_whose_name_is_no_text_begins_and_is_read_again(
    tmp_path: Path, picture_folder: Callable[..., Path]
) -> None:
    photos = picture_folder(n=6).rename(os.fsdecode(os.fsencode(tmp_path) + b"/ph\xff"))
    catalog, recipe = ta.scan(photos), ta.load_recipe("scratch", ["model.name=mlp", "data.size=8", "stages.0.epochs=1"])
    options = RunOptions(runtime="cpu", command=f"tellapart train '{photos}'")
    training = run(recipe, catalog, ta.split(catalog), tmp_path / "run", options)
    assert any(isinstance(event, Validated) for event in training)
    training.close()
    assert Run(tmp_path / "run").environment["command"].endswith(r"/ph\udcff'")


def test_a_picture_that_breaks_is_skipped_only_when_asked(
    tmp_path: Path, picture_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TELLAPART_CACHE", str(tmp_path / "cache"))  # other tests' may keep the same picture
    photos = picture_folder(n=10)
    catalog = ta.scan(photos)
    split = ta.split(catalog)
    broken = catalog.path(int(split.train[2]))
    broken.write_bytes(b"no picture any more")
    changes = ["model.name=mlp", "data.size=16", "stages.0.epochs=1", "evaluation.explain=false"]
    quick = {"changes": changes, "runtime": "cpu"}
    with pytest.raises(ta.TellapartError, match=broken.name) as raised:
        ta.train(catalog, split, "scratch", tmp_path / "run", **quick)  # type: ignore[arg-type]
    assert "--on-unreadable skip" in str(raised.value)
    run = ta.train(catalog, split, "scratch", tmp_path / "run", on_unreadable="skip", **quick)  # type: ignore[arg-type]
    assert [Path(entry["path"]).name for entry in run.skipped] == [broken.name]
    assert "left out, as asked for" in run.report.read_text(encoding="utf-8")


def test_stored_features_that_are_cut_off_in_mid_training_are_made_again(
    tmp_path: Path, picture_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TELLAPART_CACHE", str(tmp_path / "cache"))
    stage = {"train": "head", "augment": False, "epochs": 3, "batch_size": 8}
    model = {"name": "cnn8", "pretrained": False}
    recipe = ta.Recipe.model_validate({"data": {"size": 32}, "model": model, "stages": [stage]})
    catalog = ta.scan(picture_folder(n=10))
    courses: list[list[Validated]] = []
    for damage in (False, True):
        course: list[Validated] = []
        notes: list[str] = []
        for event in run(recipe, catalog, ta.split(catalog), tmp_path / str(damage), RunOptions(runtime="cpu")):
            if isinstance(event, Validated):
                course.append(event)
                if damage and event.epoch == 2 and not notes:
                    for values in (tmp_path / "cache" / "activations").glob("*/values.bin"):
                        os.truncate(values, 10)
            if isinstance(event, Note):
                notes.append(event.text)
            if isinstance(event, StageDone):
                break
        courses.append(course)
    assert [note for note in notes if "was cut off while it was read. It is made again" in note]
    whole, damaged = courses
    assert {event.epoch: event for event in damaged} == {event.epoch: event for event in whole}
    logged = [event for event in Run(tmp_path / "False").events() if event["event"] == "Validated"]
    assert ["preparation" in event for event in logged] == [True, False, False]


@pytest.mark.slow
def test_the_default_on_real_pictures_with_real_weights(
    test_data: Path, weights: Path, tmp_path: Path, here: Command
) -> None:
    """The main job in miniature: 40 pictures of each fruit, and one network to choose from."""
    for kind in ("cherry", "strawberry", "tomato"):
        (tmp_path / "fruit" / kind).mkdir(parents=True)
        for path in sorted((test_data / "fruit" / kind).iterdir())[:40]:
            (tmp_path / "fruit" / kind / path.name).symlink_to(path)
    run = tmp_path / "run"
    small = ["--model", "mobilenetv2_100", "--set", "data.size=96"]
    done = here("train", tmp_path / "fruit", "--follow-links", *small, "--minutes", "1", "--out", run)
    assert done.returncode == 0, done.stderr
    assert "mobilenetv2_100 at 96 pixels" in done.stderr
    assert Run(run).evaluations["test"].metrics["accuracy"].value > 0.5
    assert "mobilenetv2_100" in Run(run).environment["weights"]
