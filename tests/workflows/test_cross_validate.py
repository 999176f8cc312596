"""Cross-validation as a user starts it, and how its answers are pooled."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
from sklearn.metrics import accuracy_score

from tellapart.core.predictions import Predictions
from tellapart.errors import UsageError
from tellapart.runs.run import Run
from tellapart.workflows.cross_validate import cross_validate, pooled

pytestmark = pytest.mark.usefixtures("short_ends")

QUICK = [
    "--recipe",
    "scratch",
    "--set",
    "data.size=16",
    "--set",
    "stages.0.epochs=1",
    "--set",
    "model.name=mlp",
    "--set",
    "evaluation.explain=false",
]


def test_every_picture_is_answered_by_a_training_that_has_not_seen_it(
    picture_folder: Callable[..., Path], tmp_path: Path, here: Callable[..., CompletedProcess[str]]
) -> None:
    photos, out = picture_folder(n=9), tmp_path / "folds"
    done = here("cross-validate", photos, *QUICK, "--folds", "2", "--out", out)
    assert done.returncode == 0, done.stderr
    result = json.loads((out / "cross_validation.json").read_text())
    answers = Predictions.load(out / "predictions.parquet")
    assert answers.row.tolist() == list(range(27))
    assert result["pooled"]["n"] == 27
    right = accuracy_score(answers.target, answers.logits.argmax(1))
    assert result["pooled"]["metrics"]["accuracy"]["value"] == pytest.approx(right)
    runs = [Run(out / name) for name in result["folds"]]
    assert result["scores"]["accuracy"] == [run.evaluations["test"].metrics["accuracy"].value for run in runs]
    assert np.concatenate([run.split.test for run in runs]).shape == (27,)
    assert "±" in done.stdout
    assert "How good: " in done.stdout
    assert ", each by a training that had not seen it" in done.stdout
    assert not list(out.glob("fold-*/figures/explained*"))  # as every fold would repeat them

    before = (out / "fold-1" / "events.jsonl").read_bytes()
    again = here("cross-validate", photos, *QUICK, "--folds", "2", "--out", out)
    assert again.returncode == 0
    assert again.stdout == done.stdout
    assert (out / "fold-1" / "events.jsonl").read_bytes() == before

    other = here("cross-validate", photos, *QUICK, "--folds", "3", "--out", photos)
    assert other.returncode == 2
    assert "holds other things" in other.stderr


def test_pooled_answers_are_calibrated_fold_by_fold() -> None:
    one = Predictions.of([0, 2], [[2.0, 0.0], [0.0, 4.0]], [0, 1], ("a", "b"))
    two = Predictions.of([1], [[0.0, 3.0]], [0], ("a", "b"))
    together = pooled([(one, 2.0), (two, 0.5)])
    assert together.row.tolist() == [0, 1, 2]
    assert together.logits.tolist() == [[1.0, 0.0], [0.0, 6.0], [0.0, 2.0]]
    assert together.target.tolist() == [0, 0, 1]


def test_a_share_for_the_test_is_not_passed_over(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="each fold is the test once"):
        cross_validate(tmp_path, "scratch", changes=["data.test=0.3"])
