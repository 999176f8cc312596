"""A study's directory → table of results."""

from __future__ import annotations

import json

import pytest

from tellapart.errors import RunError
from tellapart.evaluation.metrics import scores
from tellapart.experiments.results import read_results
from tests.experiments.made_up import cell_id, write_study

CELLS = [({"lr": "0.1"}, 0.7), ({"lr": "0.01"}, 0.9)]


@pytest.fixture
def study(tmp_path):
    return write_study(tmp_path / "lr", {"lr": ["0.1", "0.01"]}, CELLS)


def test_a_row_a_training_in_the_order_of_the_design(study):
    results = read_results(study)
    assert results.runs["cell"].to_list() == [cell_id({"lr": "0.1"})] * 3 + [cell_id({"lr": "0.01"})] * 3
    assert results.runs["seed"].to_list() == [0, 1, 2] * 2
    assert results.levels(cell_id({"lr": "0.01"})) == {"lr": "0.01"}
    assert results.metrics[0] == "accuracy"
    for row in results.runs.iter_rows(named=True):
        assert row["score"] == row["validation_accuracy"] == scores(results.predictions(row["path"]))["accuracy"]
        assert results.curve(row["path"])[-1]["training_accuracy"] == row["training_score"]


def test_folds_are_rows_of_their_own(tmp_path):
    runs = read_results(write_study(tmp_path / "a", {"lr": ["0.1", "0.01"]}, CELLS, n_seeds=2, folds=5)).runs
    assert runs.height == 20
    assert runs["fold"].to_list() == [0, 1, 2, 3, 4] * 4


def test_a_training_without_a_result_has_not_ended(study):
    gone = study / "cells" / cell_id({"lr": "0.1"}) / "1"
    (gone / "result.json").unlink()
    assert read_results(study).runs.height == 5


def test_a_failed_training_has_a_reason_and_no_score(study):
    path = study / "cells" / cell_id({"lr": "0.1"}) / "1" / "result.json"
    failed = {"status": "failed", "reason": "The loss is nan.", "seed": 1, "fold": None, "scores": {}}
    path.write_text(json.dumps(failed))
    row = read_results(study).runs.row(1, named=True)
    assert (row["status"], row["reason"], row["score"], row["seconds"]) == ("failed", "The loss is nan.", None, None)


def test_a_study_without_results_has_all_columns(study):
    for path in study.rglob("result.json"):
        path.unlink()
    assert read_results(study).runs.columns[:3] == ["cell", "number", "levels"]


@pytest.mark.parametrize("text", ["", "[]", "{", '{"version": 1}', "[" * 100_000])
@pytest.mark.parametrize("name", ["study.json", "result.json", "cell.json"])
def test_damaged_files_are_named(study, name, text):
    path = next(iter(sorted(study.rglob(name))))
    path.write_text(text)
    with pytest.raises(RunError, match=name):
        read_results(study)


def test_another_folder_is_no_study(tmp_path):
    with pytest.raises(RunError, match="no study"):
        read_results(tmp_path)
