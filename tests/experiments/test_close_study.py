"""A study is closed once, shown, exported, and driven from the command line."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

import tellapart as ta
from tellapart.errors import DataError, RecipeError, RunError, UsageError
from tellapart.experiments.close import close_study, close_text
from tellapart.experiments.optimism import optimism
from tellapart.experiments.results import read_results
from tellapart.experiments.tracking import export_mlflow, export_tensorboard
from tellapart.runs.run import Run
from tests.experiments import small
from tests.experiments.made_up import cell_id, write_study


@pytest.mark.slow
@pytest.mark.usefixtures("short_ends")
def test_the_test_part_is_opened_once(tmp_path, do, pictures):
    """The winner is the run that a plain training of its recipe would be."""
    results = do(tmp_path, small.PAIR)
    values = close_study(results.directory)
    winner = Run(results.directory / "winner")
    assert winner.finished
    assert len(winner.split.test) == values["n_test"] > 0
    assert values["winner_test"]["accuracy"]["value"] == winner.evaluations["test"].metrics["accuracy"].value
    of_winner = results.runs.filter((results.runs["cell"] == values["winner"]) & (results.runs["seed"] == 0))
    cell, run = results.predictions(of_winner["path"][0]), winner.predictions("validation")
    assert np.array_equal(cell.row, run.row)
    np.testing.assert_allclose(cell.logits, run.logits, atol=1e-4)
    assert f"{values['n_test']} test pictures" in close_text(values)
    assert close_study(results.directory) == json.loads(json.dumps(values))
    with pytest.raises(RunError, match="is closed"):
        do(tmp_path, small.PAIR)


def test_an_unfinished_study_is_not_closed_without_a_word(tmp_path):
    levels = {"lr": ["0.1", "0.01", "0.001"]}
    cells = [({"lr": level}, 0.7) for level in levels["lr"]]
    folder = write_study(tmp_path / "rates", levels, cells, state="open")
    for seed in ("1", "2"):
        shutil.rmtree(folder / "cells" / cell_id({"lr": "0.01"}) / seed)
    for seed in ("0", "1", "2"):
        shutil.rmtree(folder / "cells" / cell_id({"lr": "0.001"}) / seed)
    with pytest.raises(RunError, match=r"2 cells lack trainings \(lr = 0\.01: 1 of 3; lr = 0\.001: 0 of 3\)") as error:
        close_study(folder)
    assert f"`tellapart study {folder}`" in error.value.hint
    assert f"tellapart study close {folder} --unfinished" in error.value.hint
    assert not (folder / "close.json").exists()
    assert not (folder / "winner").exists()
    # Asked for, it goes on to its file, which this made-up study does not have.
    with pytest.raises(RecipeError, match="There is no study"):
        close_study(folder, unfinished=True)


@pytest.mark.slow
def test_a_study_without_a_test_part_is_not_closed(tmp_path, do):
    results = do(tmp_path, small.PAIR.replace("seeds = 1", 'seeds = 1\nset = ["data.test=0"]'))
    with pytest.raises(DataError, match="no test part"):
        close_study(results.directory)


def test_choosing_among_equals_flatters(tmp_path):
    """Forty cells of one accuracy: their best looks better by luck alone, by as much as is computed on average."""
    levels = [str(i) for i in range(40)]
    cells = [({"a": level}, 0.8) for level in levels]
    looks = []
    for random in range(4):
        folder = write_study(tmp_path / str(random), {"a": levels}, cells, 1, random=random, spread=0.03)
        results = read_results(folder)
        best = results.runs["score"].max()
        looks.append((optimism(results, "accuracy", lower_is_better=False), best - 0.8))
    computed, true = np.mean(looks, axis=0)
    assert 0.01 < computed < 2 * true


def test_a_clear_winner_is_hardly_flattered(tmp_path):
    cells = [({"a": "x"}, 0.5), ({"a": "y"}, 0.9)]
    results = read_results(write_study(tmp_path / "s", {"a": ["x", "y"]}, cells, n_pictures=600))
    assert abs(optimism(results, "accuracy", lower_is_better=False)) < 0.01


@pytest.mark.parametrize("metric", ["accuracy", "log_loss", "balanced_accuracy"])
def test_resamples_that_leave_out_no_picture_say_nothing(tmp_path, metric):
    """Of three pictures two in nine resamples draw all."""
    cells = [({"a": "x"}, 0.4), ({"a": "y"}, 0.7)]
    results = read_results(write_study(tmp_path / "s", {"a": ["x", "y"]}, cells, n_pictures=3))
    assert optimism(results, metric, lower_is_better=metric == "log_loss") >= 0


def test_of_one_picture_nothing_is_left_to_judge_the_choice_on(tmp_path):
    cells = [({"a": "x"}, 0.4), ({"a": "y"}, 0.7)]
    results = read_results(write_study(tmp_path / "s", {"a": ["x", "y"]}, cells, n_pictures=1))
    assert optimism(results, "accuracy", lower_is_better=False) is None


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the libraries themselves
def test_mlflow_reads_what_was_exported(tmp_path, grid):
    from mlflow.tracking import MlflowClient

    uri = f"sqlite:///{tmp_path}/mlflow.db"
    assert export_mlflow(grid, uri) == grid.runs.height
    assert export_mlflow(grid, uri) == 0
    client = MlflowClient(tracking_uri=uri)
    runs = client.search_runs([client.get_experiment_by_name("out").experiment_id])
    scores = {run.data.tags["tellapart.path"]: run.data.metrics["validation_accuracy"] for run in runs}
    assert scores == dict(zip(grid.runs["path"], grid.runs["score"], strict=True))
    assert {run.data.params["stages.0.lr"] for run in runs} == {"0.01", "0.1"}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_mlflow_takes_any_name_long_curves_and_two_studies_of_one_name(tmp_path):
    """Another name than these may have is one that MLflow refuses, in the middle of an export."""
    from mlflow.tracking import MlflowClient

    names = {"größe (×2)": ["a", "b"], "/abs": ["c" * 7000, "d"], "seed": ["e", "f"]}
    levels = [dict(zip(names, labels, strict=True)) for labels in zip(*names.values(), strict=True)]
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    for folder, digest in (("one", "1"), ("two", "2")):
        cells = [(levels[0], 0.5), (levels[1], 0.6)]
        more = {"n_seeds": 1, "fingerprint": {"pictures": digest}}
        results = read_results(write_study(tmp_path / folder / "same", names, cells, **more))
        curve = results.directory / results.runs["path"][0] / "curve.json"
        curve.write_text(json.dumps([json.loads(curve.read_text())[0] | {"validation_loss": i} for i in range(700)]))
        assert export_mlflow(results, uri) == 2
        assert export_mlflow(results, uri) == 0
    client = MlflowClient(tracking_uri=uri)
    runs = client.search_runs([client.get_experiment_by_name("same").experiment_id])
    assert len(runs) == 4
    first = next(run for run in runs if run.data.params["größe _28__d7_2_29_"] == "a")
    assert first.data.params["seed"] == "0"
    assert first.data.params["seed factor"] == "e"
    assert first.data.params["_2f_abs"] == "c" * 6000
    history = client.get_metric_history(first.info.run_id, "epoch_validation_loss")
    assert [metric.value for metric in history] == list(range(700))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_tensorboard_reads_what_was_exported(tmp_path, grid):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert export_tensorboard(grid, tmp_path / "board") == grid.runs.height
    row = grid.runs.row(0, named=True)
    events = EventAccumulator(str(tmp_path / "board" / row["path"].removeprefix("cells/"))).Reload()
    curve = grid.curve(row["path"])
    assert [e.value for e in events.Scalars("validation/accuracy")] == pytest.approx(
        [epoch["validation_accuracy"] for epoch in curve]
    )
    assert events.Scalars("final/accuracy")[0].value == pytest.approx(row["score"])
    with pytest.raises(UsageError, match="no empty folder"):
        export_tensorboard(grid, tmp_path / "board")


@pytest.mark.slow
def test_the_command_line(tmp_path, photos, here):
    small.write(tmp_path)
    vary = ["--recipe", tmp_path / "small.toml", "--vary", "stages.0.lr=0.01,0.1", "--seeds", "2"]
    out = ["--out", tmp_path / "rates"]
    tried = here("study", photos, *vary, *out, "--dry-run", "--quiet")
    assert tried.returncode == 0, tried.stderr
    assert "2 cells, 4 trainings, about " in tried.stdout
    assert not (tmp_path / "rates").exists()
    done = here("study", photos, *vary, *out, "--quiet")
    assert done.returncode == 0, done.stderr
    assert "Page: " in done.stdout
    again = here("study", tmp_path / "rates", "--json", "--quiet")
    assert [row["lr" if "lr" in row else "stages.0.lr"] for row in json.loads(again.stdout)] == ["0.01", "0.1"]
    shown = here("study", "show", tmp_path / "rates", "--quiet")
    assert shown.stdout.splitlines()[0] == done.stdout.splitlines()[0]
    listed = here("runs", tmp_path, "--where", "kind = study", "--json")
    assert [row["path"] for row in json.loads(listed.stdout)] == ["rates"]


@pytest.mark.slow
def test_from_python(tmp_path, photos):
    small.write(tmp_path)
    study = ta.study(
        photos, {"stages.0.lr": [0.01, 0.1]}, recipe=tmp_path / "small.toml", seeds=2, out=tmp_path / "rates"
    )
    assert study.page.is_file()
    assert study.table.height == 2
    assert study.runs.height == 4
    assert study.results.description.name == "rates"


def test_commands_name_what_is_missing(tmp_path, here, photos):
    assert "nothing is varied" in here("study", photos).stderr
    assert "is no study" in here("study", "show", tmp_path).stderr
    assert "There is no study" in here("study", tmp_path / "nothing.toml").stderr
    assert "expected a number" in here("study", photos, "--vary", "a=1,2", "--seeds", "many").stderr
