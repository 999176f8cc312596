"""Studies are run: paired, locked, resumed, repaired."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import numpy as np
import optuna
import polars as pl
import pytest
import torch

from tellapart.data.catalog import Catalog
from tellapart.data.scan import scan
from tellapart.data.splitting.split import split
from tellapart.errors import RecipeError, RunError, UsageError
from tellapart.experiments import run_study, train_cell
from tellapart.experiments.directory import locked
from tellapart.experiments.results import read_results
from tellapart.experiments.run_study import best_cell
from tellapart.experiments.seeds import Seed
from tellapart.experiments.splits import StudySplits
from tellapart.recipe.load import read_recipe
from tests.experiments import small


def table(results):
    """All that must be the same, however a study came about."""
    return results.runs.drop("seconds").write_csv()


def test_every_cell_has_every_seed(grid):
    counts = grid.runs.group_by("cell").len()["len"].to_list()
    assert counts == [2] * 4
    assert grid.runs["status"].unique().to_list() == ["done"]
    assert grid.levels(grid.description.baseline) == {"stages.0.lr": "0.01", "stages.0.batch_size": "8"}
    for row in grid.runs.iter_rows(named=True):
        curve = grid.curve(row["path"])
        assert len(curve) == row["epochs"] == 1
        assert curve[0]["validation_accuracy"] == pytest.approx(row["score"])


def test_the_same_command_trains_nothing_again(tmp_path, do, monkeypatch):
    first = do(tmp_path, small.PAIR)
    monkeypatch.setattr(train_cell, "fit", None)
    assert do(tmp_path, small.PAIR).runs.equals(first.runs)


def test_nothing_of_the_test_part_is_stored(grid, pictures):
    test = set(
        StudySplits(
            pictures, read_recipe(grid.directory / "cells" / grid.description.baseline / "recipe.toml")[0]
        ).whole.test.tolist()
    )
    assert test
    for path in grid.runs["path"]:
        assert not test & set(grid.predictions(path).row.tolist())
    names = {path.name for path in (grid.directory / "cells").rglob("*") if path.is_file()}
    assert names == {"cell.json", "recipe.toml", "result.json", "curve.json", "validation.parquet"}


def test_cells_of_one_seed_are_paired(tmp_path, do, monkeypatch):
    """The same initial weights, the same pictures, in the same order; another seed has others."""
    begun = []
    whole = train_cell.fit

    def watched(network, recipe, dataset, state, runtime):
        weights = np.concatenate([t.numpy().ravel() for t in network.state_dict().values()])
        begun.append((weights.tobytes(), dataset.seed, dataset.train.tobytes(), dataset.validation.tobytes()))
        return whole(network, recipe, dataset, state, runtime)

    monkeypatch.setattr(train_cell, "fit", watched)
    do(tmp_path, small.PAIR.replace("seeds = 1", "seeds = 2"))
    first, second = begun[:2], begun[2:]
    assert len(set(first)) == len(set(second)) == 1
    assert first[0][0] != second[0][0]
    assert first[0][1] != second[0][1]
    assert first[0][2:] == second[0][2:]


def test_nested_randomness_tells_its_parts_apart(tmp_path, do):
    text = small.PAIR.replace("seeds = 1", 'seeds = 2\nvary_randomness = ["split", "init"]\nnested = true')
    runs = do(tmp_path, text).runs
    one = runs.filter(pl.col("number") == 0)
    assert one["split_seed"].to_list() == [0, 0, 1, 1]
    assert one["init_seed"].n_unique() == 4
    assert one["order_seed"].n_unique() == 1


def test_folds_are_validated_once_each(tmp_path, do, pictures):
    results = do(tmp_path, small.PAIR.replace("seeds = 1", "seeds = 1\nfolds = 3"))
    one = results.runs.filter(pl.col("number") == 0)
    rows = np.concatenate([results.predictions(path).row for path in one["path"]])
    splits = StudySplits(pictures, read_recipe(tmp_path / "small.toml")[0])
    assert sorted(rows.tolist()) == sorted([*splits.whole.train.tolist(), *splits.whole.validation.tolist()])


def test_levels_and_seeds_are_added_without_touching_what_is_done(tmp_path, do):
    before = do(tmp_path, small.PAIR)
    times = {path: path.stat().st_mtime_ns for path in before.directory.rglob("result.json")}
    after = do(tmp_path, small.PAIR.replace("[0.01, 0.1]", "[0.01, 0.1, 1.0]").replace("seeds = 1", "seeds = 2"))
    assert after.runs.height == 6
    assert {path: path.stat().st_mtime_ns for path in times} == times
    summaries = optuna.get_all_study_summaries(f"sqlite:///{tmp_path}/out/optuna.db")
    assert sorted(summary.n_trials for summary in summaries) == [2, 6]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (("seeds = 2", "seeds = 2\nset = ['data.size=9']"), "another recipe"),
        (("seeds = 2", "seeds = 2\nfolds = 2"), "another division"),
        (("seeds = 2", "seeds = 2\nruntime = 'contiguous'"), "another runtime"),
        (("seeds = 2", "seeds = 2\nvary_randomness = ['init']"), "vary_randomness"),
    ],
)
def test_what_cannot_be_compared_is_not_mixed(tmp_path, grid, do, change, reason):
    folder = grid.directory.parent
    with pytest.raises(RunError, match=reason):
        do(folder, small.GRID.replace(*change))
    small.write(folder)


def test_other_pictures_are_refused(grid, do, picture_folder):
    other = scan(picture_folder(n=12, width=16, height=16, seed=1))
    with pytest.raises(RunError, match="other pictures"):
        do(grid.directory.parent, catalog=other)


def test_a_second_writer_is_refused(tmp_path, do):
    with locked(tmp_path / "out"), pytest.raises(RunError, match="in use by another process"):
        do(tmp_path)


def test_another_folder_is_left_alone(tmp_path, do):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "letter.txt").write_text("dear")
    with pytest.raises(RunError, match="other things"):
        do(tmp_path)


def test_a_loss_that_is_no_number_fails_that_training_alone(tmp_path, do):
    text = small.PAIR.replace("[0.01, 0.1]", "[0.01, 1e6]")
    text = text.replace("seeds = 1", 'seeds = 1\nset = ["stages.0.optimizer=sgd", "stages.0.epochs=3"]')
    runs = do(tmp_path, text).runs
    assert runs["status"].to_list() == ["done", "failed"]
    assert "nan" in runs["reason"][1] or "inf" in runs["reason"][1]
    failed = optuna.load_study(study_name="out", storage=f"sqlite:///{tmp_path}/out/optuna.db").trials[1]
    assert failed.state == optuna.trial.TrialState.FAIL


def test_failed_trainings_alone_are_done_again(tmp_path, do, monkeypatch):
    whole = train_cell.scores

    def broken(predictions):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(train_cell, "scores", broken)
    first = do(tmp_path, small.PAIR)
    assert first.runs["reason"].unique().to_list() == ["RuntimeError: out of memory"]
    monkeypatch.setattr(train_cell, "scores", whole)
    assert do(tmp_path, small.PAIR).runs["status"].unique().to_list() == ["failed"]
    again = do(tmp_path, small.PAIR, retry_failed=True)
    assert again.runs["status"].unique().to_list() == ["done"]


def test_a_full_disk_stops_the_study_and_loses_nothing(tmp_path, do, monkeypatch):
    from tellapart.experiments import execute

    whole, calls = execute.write_training, []

    def full(folder, *values):
        calls.append(folder)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device", str(folder))
        whole(folder, *values)

    monkeypatch.setattr(execute, "write_training", full)
    with pytest.raises(RunError, match="No space left"):
        do(tmp_path, small.PAIR)
    monkeypatch.setattr(execute, "write_training", whole)
    assert read_results(tmp_path / "out").runs.height == 1
    assert do(tmp_path, small.PAIR).runs.height == 2


def test_a_cell_that_cannot_be_trained_is_said_before_the_first(tmp_path, do):
    text = small.PAIR.replace("[0.01, 0.1]", "[0.01, { head = 1e-3, wrong = 3 }]")
    with pytest.raises(RecipeError, match=r"The cell stages.0.lr = .* cannot be trained"):
        do(tmp_path, text)
    assert not list((tmp_path / "out").rglob("result.json"))
    # What is refused holds no directory: the recipe may be mended too.
    assert do(tmp_path, small.PAIR, small.RECIPE.replace("channels = 4", "channels = 3")).runs.height == 2


def test_a_check_leaves_the_network_that_trainings_are_copied_from(pictures):
    recipe, _ = read_recipe("scratch", ["data.size=16", "model.name=small-cnn", "stages.0.size=8"])
    seed, divided = Seed(0, 0, 5, 5), split(pictures)
    before = train_cell.initial_network(recipe, 3, seed.init)
    train_cell.check_cell(recipe, pictures, divided, seed)
    after = train_cell.initial_network(recipe, 3, seed.init)
    assert [m.training for m in after.modules()] == [m.training for m in before.modules()]
    assert any(m.training for m in after.modules())
    assert all(
        torch.equal(a, b) for a, b in zip(before.state_dict().values(), after.state_dict().values(), strict=True)
    )


def test_a_catalog_that_a_kill_left_is_not_taken_for_this_studys(tmp_path, do, pictures, picture_folder):
    (tmp_path / "out").mkdir(parents=True)
    scan(picture_folder(n=3)).save(tmp_path / "out" / "catalog.parquet")
    do(tmp_path, small.PAIR, minutes=0.0)
    assert Catalog.load(tmp_path / "out" / "catalog.parquet").digest == pictures.digest


def test_no_time_leaves_a_study_that_goes_on(tmp_path, do):
    assert do(tmp_path, small.PAIR, minutes=0.0).runs.height == 0
    assert json.loads((tmp_path / "out" / "study.json").read_text())["state"] == "open"
    assert do(tmp_path, small.PAIR).runs.height == 2
    assert json.loads((tmp_path / "out" / "study.json").read_text())["state"] == "done"


def test_a_runtime_that_is_measured_is_refused(tmp_path, do):
    with pytest.raises(UsageError, match="one runtime"):
        do(tmp_path, small.GRID.replace("seeds = 2", "seeds = 2\nruntime = 'auto'"))


def test_the_winner_is_a_recipe(grid):
    recipe, _ = read_recipe(grid.directory / "winner.toml")
    mine, _ = read_recipe(grid.directory / "cells" / best_cell(grid) / "recipe.toml")
    assert recipe == mine


def test_optuna_opens_the_trials(grid):
    trials = optuna.load_study(study_name="out", storage=f"sqlite:///{grid.directory}/optuna.db").trials
    assert [trial.values[0] for trial in trials] == grid.runs.sort("seed", "number")["score"].to_list()
    assert trials[0].params == {"stages.0.lr": "0.01", "stages.0.batch_size": "8"}


@pytest.mark.slow
def test_a_search_goes_on_as_if_unbroken(tmp_path, do, monkeypatch):
    """It is stopped in its second trial, and once between the draws of a trial."""
    unbroken = do(tmp_path / "a", small.SEARCH)
    whole, calls = train_cell.fit, []

    def stopped(*values):
        calls.append(1)
        if len(calls) in (3, 5):
            raise KeyboardInterrupt
        return whole(*values)

    monkeypatch.setattr(train_cell, "fit", stopped)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            do(tmp_path / "b", small.SEARCH)
    broken = do(tmp_path / "b", small.SEARCH)
    assert table(broken) == table(unbroken)
    assert broken.runs["cell"].n_unique() == 5


def test_seeds_are_added_where_undecided(tmp_path, do, monkeypatch):
    from tellapart.experiments import cell_statistics

    asked = []

    def undecided(summary):
        asked.append({cell.cell: cell.n for cell in summary.cells})
        return [summary.cells[1].cell] if len(asked) < 3 else []

    monkeypatch.setattr(cell_statistics, "undecided", undecided)
    text = small.PAIR.replace("seeds = 1", "seeds = { from = 2, to = 5 }").replace("0.1]", "0.1, 1.0]")
    runs = do(tmp_path, text).runs
    assert runs.group_by("number").len().sort("number")["len"].to_list() == [3, 3, 2]
    assert set(asked[0].values()) == {2}


def test_a_cell_that_was_stopped_while_it_rose_is_marked(tmp_path, do):
    text = small.PAIR.replace("seeds = 1", 'seeds = 2\nset = ["stages.0.epochs=3", "stages.0.monitor=loss"]')
    results = do(tmp_path, text)
    for row in results.runs.iter_rows(named=True):
        losses = [epoch["validation_loss"] for epoch in results.curve(row["path"])]
        assert row["still_rising"] == (losses[-1] == min(losses))
        assert row["best_epoch"] == losses.index(min(losses)) + 1
    assert results.runs["still_rising"].any()


def test_every_file_of_a_study_is_its_own(grid):
    assert not [path for path in Path(grid.directory).rglob("*") if path.name.endswith(".part")]


def test_labels_are_read_as_they_were_when_the_study_goes_on(tmp_path, pictures, here, monkeypatch):
    """Without its delimiter the table would have one class for each cell."""
    monkeypatch.setattr(run_study, "finish", lambda *_: None)  # no page
    names = sorted(pictures.root.rglob("*.png"))
    lines = [f"{path.relative_to(pictures.root)},{path.parent.name}/red" for path in names]
    (tmp_path / "labels.csv").write_text("\n".join(["path,labels", *lines]) + "\n", encoding="utf-8")
    small.write(tmp_path, small.PAIR)
    command = ["study", tmp_path / "study.toml", pictures.root, "--out", tmp_path / "out", "--quiet"]
    done = here(*command, "--labels", tmp_path / "labels.csv", "--delimiter", "/")
    assert done.returncode == 0, done.stderr
    again = here("study", tmp_path / "out", "--quiet", "--retry-failed")
    assert (again.returncode, again.stdout) == (0, done.stdout), again.stderr
    assert "red" in read_results(tmp_path / "out").description.classes
    small.write(tmp_path, small.PAIR.replace("seeds = 1", "seeds = 1\nlabel_options = { delimeter = '/' }"))
    refused = here(*command)
    assert refused.returncode == 2
    assert "Did you mean 'delimiter'?" in refused.stderr
