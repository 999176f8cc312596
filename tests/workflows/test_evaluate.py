"""Evaluation of finished runs: thresholds that are fixed, the training part, labels beside each other."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tellapart as ta
from tellapart.core.text import percent
from tellapart.errors import RecipeError
from tellapart.runs.run import Run
from tellapart.runs.settings import settings
from tellapart.workflows import evaluate as evaluation

Command = Callable[..., "subprocess.CompletedProcess[str]"]

TINY = ["model.name=mlp", "data.size=16", "stages.0.epochs=1", "stages.0.batch_size=16"]


@pytest.fixture(scope="module")
def multilabel_run(tmp_path_factory: pytest.TempPathFactory, pictures_at: Callable[..., Path], short_ends: None) -> Run:
    """A short training: every second picture is also odd, and all that are odd are small too."""
    root = pictures_at(tmp_path_factory.mktemp("labels") / "photos", n=16, width=20, height=16)
    lines = [
        f"{path.relative_to(root)},{path.parent.name}{' odd small' if int(path.stem) % 2 else ''}"
        for path in sorted(root.rglob("*.png"))
    ]
    (root / "labels.csv").write_text("file_name,labels\n" + "\n".join(lines) + "\n")
    changes = [*TINY, "evaluation.thresholds=0.4", "evaluation.explain=false"]
    return ta.train(root / "labels.csv", None, "scratch", root.parent / "run", changes=changes, runtime="cpu")


def test_a_fixed_threshold_reaches_evaluation_bundle_and_answers(multilabel_run: Run) -> None:
    run = multilabel_run
    assert run.evaluation_values["thresholds"] == [0.4] * 5
    temperature = tuple(run.evaluation_values["temperature"])
    predictions = run.predictions("test")
    answered = predictions.probabilities(temperature) >= 0.4
    right = (answered == (predictions.target == 1)).all(axis=1).mean()
    assert run.evaluations["test"].metrics["exact_match"].value == pytest.approx(right)
    assert ta.load(run.directory).bundle.thresholds == (0.4,) * 5
    paths = [run.catalog.path(int(row)) for row in predictions.row[:4]]
    for path, expected in zip(paths, answered[:4], strict=True):
        answer = ta.load(run.directory).predict(path)
        assert set(answer.chosen) == {name for name, yes in zip(predictions.classes, expected, strict=True) if yes}


def test_a_fixed_threshold_is_for_several_labels(picture_folder: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"evaluation\.thresholds is for pictures with several labels"):
        ta.train(picture_folder(n=6), recipe="scratch", out=tmp_path / "run", changes=["evaluation.thresholds=0.5"])


def test_labels_that_occur_together_are_in_report_and_json(multilabel_run: Run, here: Command) -> None:
    run = multilabel_run
    values = json.loads(here("evaluate", run.directory, "--json").stdout)
    evaluation = run.evaluations["test"]
    assert [(tuple(pair["labels"]), pair["n"]) for pair in values["together"]] == [
        (pair["labels"], pair["n"]) for pair in evaluation.together
    ]
    assert values["taken_for"] == list(evaluation.taken_for)
    odd = int((run.predictions("test").target[:, evaluation.classes.index("odd")] == 1).sum())
    assert {"labels": ("odd", "small"), "n": odd} in evaluation.together
    page = run.report.read_text(encoding="utf-8")
    assert "Which labels occur together" in page
    assert "Which labels are taken for which" in page
    assert ("On no picture was one label missed" in page) == (not evaluation.taken_for)


def test_the_training_pictures_themselves(multilabel_run: Run, here: Command) -> None:
    run = multilabel_run
    evaluation = ta.evaluate(run, "train")
    rows = run.split.train
    assert (evaluation.on, evaluation.n) == ("train", len(rows))
    bundle = ta.load(run.directory)
    target = run.catalog.target(rows) == 1
    right = 0
    for row, labels in zip(rows.tolist(), target, strict=True):
        chosen = bundle.predict(run.catalog.path(row)).chosen
        right += set(chosen) == {name for name, yes in zip(run.catalog.classes, labels, strict=True) if yes}
    assert evaluation.metrics["exact_match"].value == pytest.approx(right / len(rows))
    printed = here("evaluate", run.directory, "--on", "train").stdout
    test = run.evaluations["test"]
    assert f"train: {len(rows)} pictures" in printed
    assert "how well the network has learned them" in printed
    assert f"On the {test.n} test pictures, f1_micro is {percent(test.headline[1].value)}" in printed
    values = json.loads(here("evaluate", run.directory, "--on", "train", "--json").stdout)
    assert values["on"] == "train"
    assert "training pictures themselves" in values["note"]


def test_a_folder_of_that_name_is_not_passed_over_in_silence(
    multilabel_run: Run, here: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = multilabel_run.directory.absolute()
    (tmp_path / "train").mkdir()
    monkeypatch.chdir(tmp_path)
    done = here("evaluate", directory, "--on", "train")
    assert done.returncode == 0
    assert "--on ./train" in done.stderr
    assert here("evaluate", directory, "--on", "./train").returncode == 2


def test_the_factor_of_time_is_that_of_answers_alone(multilabel_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the first reading of the files counts, nor what the score takes, nor a moment of other work."""
    clock, calls = [0.0], 0
    answered, judged = evaluation._answered, evaluation._judged

    def slow_answers(bundle: Any, catalog: Any, rows: Any, n_copies: int, mean: Any) -> Any:
        nonlocal calls
        calls += 1
        clock[0] += len(rows) * (1 + n_copies) + (1000 if calls in (1, 2, 5) else 0)
        return answered(bundle, catalog, rows, n_copies, mean)

    def slow_score(*arguments: Any) -> Any:
        clock[0] += 500
        return judged(*arguments)

    monkeypatch.setattr(evaluation, "_answered", slow_answers)
    monkeypatch.setattr(evaluation, "_judged", slow_score)
    monkeypatch.setattr(evaluation.time, "perf_counter", lambda: clock[0])
    assert evaluation.try_copies(multilabel_run, "validation", 4).times == 5


def test_settings_that_a_recipe_leaves_open_are_those_of_the_network(multilabel_run: Run) -> None:
    shown = settings(multilabel_run)
    assert (shown["data.size"], shown["data.crop"], shown["stages.0.size"]) == ("16", "1", "16")
    assert shown["data.normalisation"].startswith("mean=")
    assert shown["stages.0.loss"] == "binary_cross_entropy"
    assert shown["evaluation.thresholds"] == "0.4"
    assert "None" not in shown.values()


def test_pictures_of_classes_that_it_does_not_know_are_left_out_on_request(
    multilabel_run: Run, here: Command, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(multilabel_run.catalog.path(0).parents[1], other)
    (other / "labels.csv").unlink()
    folder = next(path for path in other.iterdir() if path.is_dir())
    folder.rename(other / folder.name.upper())
    refused = here("evaluate", multilabel_run.directory, "--on", other)
    assert refused.returncode == 2
    assert f"{folder.name.upper()!r} (likely {folder.name!r})" in refused.stderr
    answered = here("evaluate", multilabel_run.directory, "--on", other, "--skip-unknown-classes")
    assert answered.returncode == 0
    assert f"of 1 class that the model does not know: {folder.name.upper()}." in answered.stderr


def test_what_is_passed_on_names_no_folder_of_this_machine(multilabel_run: Run) -> None:
    own = str(multilabel_run.catalog.root)
    assert own in multilabel_run.environment["command"]
    for name in ("README.md", "bundle.json"):
        text = (multilabel_run.bundle / name).read_text(encoding="utf-8")
        assert "labels.csv" in text
        assert own not in text.replace("\\", "")


def test_a_training_that_explains_nothing(multilabel_run: Run) -> None:
    assert not list(multilabel_run.figures.glob("explained*"))
    assert "Why it answered so" not in multilabel_run.report.read_text(encoding="utf-8")
