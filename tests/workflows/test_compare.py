"""The compare command on run directories: what may be compared, what is grouped, what the page shows."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import tellapart as ta
from tellapart.cli.main import app
from tellapart.core.predictions import Predictions
from tellapart.data.catalog import Catalog
from tellapart.data.scan import scan
from tellapart.data.splitting.split import split
from tellapart.errors import DataError, RunError, UsageError
from tellapart.evaluation.evaluate import evaluate_predictions
from tellapart.recipe.load import load_recipe
from tellapart.report.sections.comparison_page import text, verdict
from tellapart.runs.run import Run
from tellapart.workflows.compare import compare_runs


def finished(folder: Path, catalog: Catalog, wrong: int, *changes: str, seed: int = 0, rows=None, classes=None) -> Run:
    """A run as a training leaves it, whose first `wrong` test pictures are answered wrongly."""
    run = Run(folder)
    folder.mkdir(parents=True)
    (folder / "predictions").mkdir()
    catalog = catalog if classes is None else catalog.with_classes(classes)
    catalog.save(run.catalog_file)
    recipe = load_recipe("scratch", [f"seed={seed}", *changes])
    run.recipe_file.write_text(recipe.to_toml(), encoding="utf-8")
    parts = split(catalog, test=0.5, seed=recipe.split_seed)
    rows = parts.test if rows is None else rows
    target = catalog.target(rows)
    n_classes = len(catalog.classes)
    answer = np.where(np.arange(len(rows)) < wrong, (target + 1) % n_classes, target)
    noise = np.random.default_rng(seed).normal(size=(len(rows), n_classes))
    predictions = Predictions.of(rows, 4 * np.eye(n_classes)[answer] + 0.3 * noise, target, catalog.classes)
    predictions.save(run.predictions_file("test"))
    evaluation = evaluate_predictions(predictions, on="test", n_bootstrap=20)
    values = {"temperature": 1.2, "thresholds": None, "evaluations": {"test": evaluation.as_dict()}}
    run.evaluation_file.write_text(json.dumps(values))
    return run


@pytest.fixture
def catalog(picture_folder) -> Catalog:
    return scan(picture_folder(classes=("circle", "b <script>", "triangle"), n=16, width=20, height=16))


FIXED = "data.split_seed=0"
NAMES = (("one", 9), ("other", 2))


def test_an_option_that_changed_nothing_is_said(catalog, tmp_path):
    alike = [finished(tmp_path / name, catalog, 3, *changes) for name, *changes in (("a",), ("b", "mix.cutmix=0.1"))]
    other = finished(tmp_path / "c", catalog, 5, "mix.cutmix=0.2")
    for run, weights in zip([*alike, other], (b"1", b"1", b"2"), strict=True):
        run.bundle.mkdir()
        (run.bundle / "model.safetensors").write_bytes(weights)
    comparison = ta.compare([*alike, other], out=tmp_path / "page.html")
    (note,) = comparison.notes
    assert note.startswith(f"{tmp_path / 'a'} and {tmp_path / 'b'} have identical weights: what differs")
    assert "their recipes (mix.cutmix) changed nothing" in note  # not `mix.per`, which follows from it
    assert note in text(comparison, "test")
    assert "have identical weights" in (tmp_path / "page.html").read_text(encoding="utf-8")
    (alike[1].bundle / "model.safetensors").write_bytes(b"3")
    assert not ta.compare(alike).notes  # equal answers alone are no proof


def test_two_runs_are_told_apart_and_shown(catalog, tmp_path):
    one = finished(tmp_path / "one", catalog, 9)
    other = finished(tmp_path / "b <script>", catalog, 0, "stages.0.epochs=3")
    out = tmp_path / "compare.html"
    found = ta.compare([one.directory, other], out=out)
    (pair,) = found.differences
    assert (pair.discordant, pair.verdict) == ((0, 9), "better")
    assert pair.p == pytest.approx(2 / 2**9)
    said = text(found, "test")
    assert "B is better than A: +37.5 points of accuracy" in said
    assert "trained once" in said
    page = out.read_text(encoding="utf-8")
    assert "9 right in B, wrong in A" in page
    assert "0 right in A, wrong in B" in page
    assert "There is no such picture." in page
    assert "stages.0.epochs" in page
    assert "b &lt;script&gt;" in page
    assert "b <script>" not in page
    assert page.count("data:image") + page.count("/9j/") >= 9


def test_classes_in_another_order_are_matched_by_name(catalog, tmp_path):
    one = finished(tmp_path / "one", catalog, 3)
    rows, turned = one.predictions("test").row, catalog.classes[::-1]
    other = finished(tmp_path / "other", catalog, 0, "stages.0.epochs=3", rows=rows, classes=turned)
    (pair,) = ta.compare([one, other]).differences
    assert pair.discordant == (0, 3)


def test_pictures_are_matched_by_content(catalog, tmp_path):
    """The same pictures under other names and in another order; the whole folder has moved."""
    one = finished(tmp_path / "one", catalog, 4)
    names = dict(zip(("circle", "b <script>", "triangle"), ("z", "a", "m"), strict=True))
    for row in range(len(catalog)):
        label = catalog.table["path"][row].split("/")[0]
        place = tmp_path / "moved" / label / f"{names[label]}{99 - row}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(catalog.path(row).read_bytes())
    moved = scan(tmp_path / "moved")
    tested = set(catalog.table["sha256"].gather(one.predictions("test").row).to_list())
    rows = np.array([i for i, content in enumerate(moved.table["sha256"].to_list()) if content in tested])
    other = finished(tmp_path / "other", moved, 0, "stages.0.epochs=3", rows=rows)
    (pair,) = ta.compare([one, other]).differences
    assert pair.discordant == (0, 4)


def test_seeds_of_one_recipe_are_put_together(catalog, tmp_path):
    runs = [finished(tmp_path / f"plain-{s}", catalog, w, FIXED, seed=s) for s, w in enumerate((6, 8, 10))]
    runs += [finished(tmp_path / f"other-{s}", catalog, w, FIXED, "augment=[]", seed=s) for s, w in enumerate((3, 4))]
    out = tmp_path / "compare.html"
    found = ta.compare(runs, out=out)
    assert [standing.name for standing in found.standings] == [
        f"{tmp_path}/plain-… (3 seeds)",
        f"{tmp_path}/other-… (2 seeds)",
    ]
    assert found.standings[0].value == pytest.approx(16 / 24)
    assert found.standings[0].deviation == pytest.approx(2 / 24)
    assert len(found.differences) == 1
    assert "± 8.3\u202f% over 3 seeds" in text(found, "test")
    page = out.read_text(encoding="utf-8")
    assert "0, 1, 2" in page  # the seeds
    assert "mean of their probabilities" in page
    with pytest.raises(UsageError, match="seeds of one recipe"):
        ta.compare(runs[:3])


def test_the_same_seed_twice_is_no_second_seed(catalog, tmp_path):
    runs = [finished(tmp_path / name, catalog, 3) for name in ("one", "again")]
    found = ta.compare(runs, out=tmp_path / "compare.html")
    assert len(found.standings) == 2
    assert "same recipe and seed" in (tmp_path / "compare.html").read_text(encoding="utf-8")


def test_other_test_pictures_are_refused_in_words(catalog, tmp_path):
    one, other = (finished(tmp_path / str(seed), catalog, 0, seed=seed) for seed in (0, 1))
    with pytest.raises(DataError, match=r"24 pictures and 24, 1\d of them in both; only in .*: \d+, such as") as error:
        ta.compare([one, other])
    assert "data.split_seed" in error.value.hint


def test_a_split_seed_keeps_the_parts(catalog, tmp_path):
    parts = [split(catalog, seed=load_recipe("scratch", [f"seed={s}", FIXED]).split_seed).test for s in (0, 5)]
    assert np.array_equal(*parts)
    assert load_recipe("scratch", ["seed=5"]).split_seed == 5


def test_other_labels_are_refused_in_words(catalog, tmp_path):
    one = finished(tmp_path / "one", catalog, 0)
    swapped = catalog.with_classes(("b <script>", "circle", "triangle"))
    relabelled = Catalog(
        swapped.table, ("circle", "b <script>", "triangle"), False, catalog.root
    )  # numbers kept, names changed
    other = finished(tmp_path / "other", relabelled, 0, rows=one.predictions("test").row)
    with pytest.raises(
        DataError, match=r"16 of 24 pictures have other labels in the second; for example .*/0\d\d\.png"
    ):
        ta.compare([one, other])


def test_other_classes_are_refused_in_words(catalog, tmp_path, picture_folder):
    one = finished(tmp_path / "one", catalog, 0)
    other = finished(tmp_path / "other", scan(picture_folder("more", classes=("circle", "oval"), n=8)), 0)
    with pytest.raises(DataError, match=r"only .*one knows b <script>, triangle, and only .*other knows oval"):
        ta.compare([one, other])


def test_what_else_cannot_be_compared(catalog, tmp_path):
    one = finished(tmp_path / "one", catalog, 0)
    other = finished(tmp_path / "other", catalog, 0, "augment=[]")
    with pytest.raises(UsageError, match="nothing to compare"):
        ta.compare([one])
    with pytest.raises(UsageError, match="named twice"):
        ta.compare([one, one.directory])
    with pytest.raises(UsageError, match="ends in"):
        ta.compare([one, other], out="compare.gif")
    with pytest.raises(UsageError, match="There is no score 'best'"):
        ta.compare([one, other], metric="best")
    with pytest.raises(RunError, match="has no validation part"):
        ta.compare([one, other], on="validation")
    with pytest.raises(RunError, match="not a run directory"):
        ta.compare([one, tmp_path])
    other.evaluation_file.unlink()
    with pytest.raises(RunError, match="has not finished"):
        ta.compare([one, other])


@pytest.mark.parametrize("form", ["png", "svg"])
def test_the_plot_alone(catalog, tmp_path, form):
    runs = [finished(tmp_path / "one", catalog, 9), finished(tmp_path / "other", catalog, 0, "augment=[]")]
    out = tmp_path / f"compare.{form}"
    ta.compare(runs, metric="log_loss", out=out)
    if form == "png":
        with Image.open(out) as picture:
            assert picture.width > 800
    else:
        assert "log loss" in out.read_text(encoding="utf-8")


def test_averages_and_cross_validations(catalog, tmp_path):
    one, other = finished(tmp_path / "one", catalog, 5), finished(tmp_path / "other", catalog, 0, "augment=[]")
    mean = finished(tmp_path / "mean", catalog, 1)
    mean.recipe_file.unlink()
    assert len(ta.compare([one, other, mean]).differences) == 3
    for name, run, wrong in (("folds-a", one, 8), ("folds-b", other, 1)):
        folds = tmp_path / name
        folds.mkdir()
        run.directory.rename(folds / "fold-1")
        rows = np.arange(len(catalog))
        target = catalog.target(rows)
        answer = np.where(rows < wrong, (target + 1) % 3, target)
        Predictions.of(rows, np.eye(3)[answer], target, catalog.classes).save(folds / "predictions.parquet")
        (folds / "cross_validation.json").write_text("{}")
    found = ta.compare([tmp_path / "folds-a", tmp_path / "folds-b"])
    assert (found.n, found.differences[0].discordant) == (48, (0, 7))
    with pytest.raises(UsageError, match="cannot be compared"):
        ta.compare([tmp_path / "folds-a", mean])


def test_several_labels_with_thresholds(tmp_path, picture_folder):
    """Temperatures and thresholds go by class, and a picture is gained where more of its labels are right."""
    one_label = scan(picture_folder(n=10))
    catalog = Catalog(one_label.table, one_label.classes, True, one_label.root)
    rows = np.arange(len(catalog))
    target = catalog.target(rows)
    turned = [2, 0, 1]
    runs = []
    for name, level, columns in (("one", 0.9, [0, 1, 2]), ("other", 0.5, turned)):
        run = Run(tmp_path / name)
        (run.directory / "predictions").mkdir(parents=True)
        classes = tuple(catalog.classes[c] for c in columns)
        catalog.with_classes(classes).save(run.catalog_file)
        recipe = load_recipe("scratch", [f"model.name={'tutorial-cnn' if name == 'one' else 'small-cnn'}"])
        run.recipe_file.write_text(recipe.to_toml(), encoding="utf-8")
        logits = np.where(target == 1, 1.0, -1.0)[:, columns]  # 0.73: below the one threshold, above the other
        predictions = Predictions.of(rows, logits, target[:, columns], classes)
        predictions.save(run.predictions_file("test"))
        limits = [level if c == 0 else 0.5 for c in columns]
        evaluation = evaluate_predictions(predictions, on="test", thresholds=limits, n_bootstrap=5)
        values = {"temperature": [1.0] * 3, "thresholds": limits, "evaluations": {"test": evaluation.as_dict()}}
        run.evaluation_file.write_text(json.dumps(values))
        runs.append(run)
    found = ta.compare(runs, out=tmp_path / "compare.html")
    (pair,) = found.differences
    assert (found.metric, pair.verdict, pair.discordant) == ("f1_micro", "better", (0, 10))
    page = (tmp_path / "compare.html").read_text(encoding="utf-8")
    assert "10 more labels right in B than in A" in page
    assert ta.compare(runs, metric="exact_match").differences[0].test == "McNemar, exact"


def test_the_commands(catalog, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    finished(Path("one"), catalog, 9)
    finished(Path("other"), catalog, 0, "augment=[]")
    said = CliRunner().invoke(app, ["compare", "one", "other"])
    assert said.exit_code == 0, said.output
    assert "B is better than A" in said.stdout
    assert "Page: compare.html" in said.stdout
    assert Path("compare.html").is_file()
    as_json = CliRunner().invoke(
        app, ["compare", "one", "other", "--json", "--out", "plot.svg", "--metric", "f1_macro"]
    )
    assert json.loads(as_json.stdout)["metric"] == "f1_macro"
    parts = CliRunner().invoke(app, ["slices", "one", "--by", "labels", "--smallest", "5", "--quiet"])
    assert "labels: circle" in parts.stdout


def scores_of(page: str) -> str:
    return page.partition('id="scores"')[2].partition("</section>")[0]


def test_only_what_is_proven_is_called_best(catalog, tmp_path):
    """A score that cannot be told from the highest one is as good, for all that is known."""
    runs = [
        finished(tmp_path / name, catalog, wrong, f"stages.0.epochs={epochs}")
        for name, wrong, epochs in (("a", 14, 3), ("b", 1, 4), ("c", 0, 5))
    ]
    out = tmp_path / "compare.html"
    for pair, leading, mark in (((0, 2), [1], ">best<"), ((1, 2), [0, 1], ""), ((0, 1, 2), [1, 2], ">among the best<")):
        assert ta.compare([runs[i] for i in pair], out=out).leading == leading
        scores = scores_of(out.read_text(encoding="utf-8"))
        assert scores.count(mark or ">best<") == (len(leading) if mark else 0)


def test_a_difference_that_the_correction_takes_away_says_so(catalog, tmp_path):
    wrong = (6, 0, 1, 2)
    runs = [finished(tmp_path / str(n), catalog, n, f"stages.0.epochs={n + 1}") for n in wrong]
    comparison = ta.compare(runs)
    pair = comparison.differences[0]
    assert (pair.p < 0.05 < pair.p_corrected, pair.verdict) == (True, "cannot tell")
    assert verdict(comparison, pair).startswith("Cannot tell B from A")
    assert f"but p is {pair.p_corrected:.2f} once corrected for 6 comparisons" in verdict(comparison, pair)


def test_settings_are_shown_as_they_are_in_effect(catalog, tmp_path):
    fixed = finished(tmp_path / "a", catalog, 3, FIXED)
    others = [
        finished(tmp_path / f"b{seed}", catalog, 4, "data.split_seed=0", "stages.0.patience=4", seed=seed)
        for seed in (0, 1)
    ]
    out = tmp_path / "compare.html"
    ta.compare([fixed, *others], out=out)
    settings = out.read_text(encoding="utf-8").partition('id="settings"')[2].partition("</section>")[0]
    cells = [re.sub("<[^>]*>", " ", row).split() for row in re.findall("<tr>.*?</tr>", settings, re.DOTALL)]
    assert ["seed", "0", "0,", "1"] in cells
    assert ["stages.0.patience", "none", "4"] in cells
    assert ["stages.0.stop_on", "–", "monitor"] in cells
    assert not any(row[0] == "data.split_seed" for row in cells)


def test_pictures_that_one_run_was_trained_on_are_left_out_for_all(catalog, tmp_path):
    runs = [finished(tmp_path / name, catalog, wrong, FIXED, f"stages.0.epochs={wrong}") for name, wrong in NAMES]
    for run in runs:
        split(catalog, test=0.5, seed=0).save(run.split_file)
    assert compare_runs(runs, "", "", None)[0].notes == ()
    test = runs[0].split.test
    leaking = replace(runs[1].split, train=test[:3], validation=test[:0], test=test[3:])
    leaking.save(runs[1].split_file)
    comparison, _ = compare_runs([Run(run.directory) for run in runs], "", "", None)
    assert comparison.n == len(test) - 3
    assert "other was trained on 3 of the 24 pictures." in text(comparison, "test")
    assert comparison.as_dict()["notes"][-1] == "All are compared on the 21 pictures that none was trained on."
