"""The mean of finished runs, against scikit-learn's scores of the mean probabilities."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import accuracy_score

import tellapart as ta
from tellapart.core.predictions import Predictions
from tellapart.errors import DataError, RunError, UsageError
from tellapart.evaluation.evaluate import evaluate_predictions
from tellapart.runs.run import Run


def finished(folder: Path, pictures: Path, seed: int, split_seed: int = 0) -> Run:
    """A run with answers that are right more often than not."""
    folder.mkdir()
    run, random = Run(folder), np.random.default_rng(seed)
    catalog = ta.scan(pictures)
    split = ta.split(catalog, validation=0.3, test=0.4, seed=split_seed)
    catalog.save(run.catalog_file)
    split.save(run.split_file)
    evaluations = {}
    for on, rows in (("test", split.test), ("validation", split.validation)):
        target = catalog.target(rows)
        logits = random.normal(size=(len(rows), 3)) + 1.5 * (target[:, None] == np.arange(3))
        predictions = Predictions.of(rows, logits, target, catalog.classes)
        predictions.save(run.predictions_file(on))
        evaluations[on] = evaluate_predictions(predictions, on=on, n_bootstrap=20).as_dict()
    run.write_json(run.evaluation_file, {"temperature": 1.0, "thresholds": None, "evaluations": evaluations})
    return run


@pytest.fixture
def runs(picture_folder, tmp_path) -> list[Run]:
    pictures = picture_folder(n=30)
    return [finished(tmp_path / name, pictures, seed) for seed, name in enumerate(("a", "b <i>"))]


def test_the_mean_is_scored_as_scikit_learn_would(runs, tmp_path):
    together = ta.average(runs, tmp_path / "together")
    members = [run.predictions("test") for run in runs]
    mean = np.mean([each.probabilities() for each in members], axis=0)
    assert together.predictions("test").probabilities() == pytest.approx(mean, abs=1e-6)
    accuracy = ta.evaluate(together).metrics["accuracy"].value
    assert accuracy == pytest.approx(accuracy_score(members[0].target, mean.argmax(axis=1)))
    page = together.report.read_text(encoding="utf-8")
    assert "Alone and together" in page
    assert "b &lt;i&gt;" in page
    assert "answers no new pictures" in page
    assert re.search(r"With these 36 pictures the mean cannot be told from the best of the runs: [+−]\d", page)
    assert json.loads((together.directory / "average.json").read_text())["weights"] is None
    again = ta.average(runs, tmp_path / "together", weights=[3, 1])
    weighted = np.average([each.probabilities() for each in members], axis=0, weights=[3, 1])
    assert again.predictions("test").probabilities() == pytest.approx(weighted, abs=1e-6)


def test_what_cannot_be_averaged(runs, picture_folder, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(UsageError, match="at least two different runs"):
        ta.average([runs[0], runs[0]], out)
    divided = finished(tmp_path / "c", tmp_path / "photos", 3, split_seed=1)
    with pytest.raises(DataError, match="different test pictures"):
        ta.average([runs[0], divided], out)
    others = finished(tmp_path / "d", picture_folder("others", n=30, seed=4), 3)
    with pytest.raises(DataError, match="trained on different pictures"):
        ta.average([runs[0], others], out)
    classes = picture_folder("named", classes=("circle", "square", "star"), n=30)
    with pytest.raises(DataError, match="only one of them knows star, triangle"):
        ta.average([runs[0], finished(tmp_path / "e", classes, 3)], out)
    runs[1].evaluation_file.unlink()
    with pytest.raises(RunError):
        ta.average(runs, out)
    assert not out.exists()


def test_other_things_are_not_overwritten(runs, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match="holds other things"):
        ta.average(runs, out)
    assert [path.name for path in out.iterdir()] == ["notes.txt"]


def test_the_command(runs, tmp_path, here):
    command = ["average", *(run.directory for run in runs), "--out", tmp_path / "m"]
    done = here(*command)
    assert done.returncode == 0, done.stderr
    assert "their mean" in done.stdout
    assert "no bundle was written" in done.stdout
    wrong = here(*command, "--shares", "a,b")
    assert wrong.returncode == 2
    assert "expected numbers" in wrong.stderr


NEEDS_A_NETWORK = [
    ["predict", "{}", "{photos}"],
    ["explain", "{}"],
    ["review", "{}"],
    ["evaluate", "{}", "--on", "{photos}"],
    ["evaluate", "{}", "--tta", "2"],
    ["train", "{photos}", "--out", "{}"],
    ["curves", "{}", "--out", "{out}.html"],
    ["review", "{photos}", "--run", "{}"],
]


@pytest.fixture(scope="module")
def without_network(tmp_path_factory, pictures_at) -> Path:
    """An average and a cross-validation, in folders of these names; `photos` and the run `a` beside them."""
    folder = tmp_path_factory.mktemp("without")
    pictures = pictures_at(folder / "photos", n=30)
    ta.average([finished(folder / name, pictures, seed) for seed, name in enumerate("ab")], folder / "average")
    shutil.copytree(folder / "a", folder / "cross-validation" / "fold-1")
    (folder / "cross-validation" / "cross_validation.json").write_text('{"folds": ["fold-1"]}', encoding="utf-8")
    return folder


@pytest.mark.parametrize("kind", ["average", "cross-validation"])
@pytest.mark.parametrize("words", NEEDS_A_NETWORK, ids=lambda words: " ".join(words[:3]))
def test_what_has_no_network_says_what_it_is(without_network, tmp_path, here, words, kind):
    together = without_network / kind
    done = here(*(word.format(together, photos=without_network / "photos", out=tmp_path / "out") for word in words))
    assert done.returncode == 2
    if words[0] != "train":
        of = "an average of 2 runs" if kind == "average" else "a cross-validation of 1 fold"
        member = without_network / "a" if kind == "average" else together / "fold-1"
        assert f"{together} is {of}" in done.stderr
        assert f"such as {member}." in done.stderr


def test_the_errors_of_an_average_are_shown(runs, tmp_path, here):
    together = ta.average(runs, tmp_path / "together")
    done = here("errors", together.directory)
    assert done.returncode == 0
    assert "is an average of 2 runs" in done.stdout
    assert "taken for" in done.stdout
    page = (together.directory / "errors.html").read_text(encoding="utf-8")
    assert "average, together, 36 test pictures" in page


def test_the_slices_and_the_comparison_of_an_average(runs, tmp_path, here):
    together = ta.average(runs, tmp_path / "together")
    assert here("slices", together.directory, "--quiet").returncode == 0
    assert here("compare", together.directory, runs[0].directory, "--out", tmp_path / "c.html").returncode == 0
