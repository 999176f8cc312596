"""The whole job, as a user starts it: real processes on real pictures."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

import tellapart as ta
from tellapart.core.events import Note, SplitReady
from tellapart.core.text import percent
from tellapart.recipe.load import load_recipe
from tellapart.runs.run import Run
from tellapart.workflows.train import RunOptions, run
from tests.sharing import made_once

pytestmark = pytest.mark.usefixtures("short_ends")

QUICK = ["--recipe", "scratch", "--model", "cnn8", "--set", "data.size=16", "--runtime", "cpu,float32,channels-last"]
QUICK += ["--set", "evaluation.explain=false"]


Command = Callable[..., subprocess.CompletedProcess[str]]

# One thread: on a busy machine, two that wait for each other take many times as long for pictures this small.
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}


LONGEST = 900.0  # seconds for a command; a machine may be busy


def tellapart(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own."""
    command = [sys.executable, "-W", "error", "-m", "tellapart", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=ONE_THREAD, timeout=LONGEST)


@contextmanager
def followed(command: list[str | Path]) -> Iterator[tuple[subprocess.Popen[str], Iterator[dict[str, Any]]]]:
    """A command in a process of its own, and the events it prints. In the end, or after too long, it is killed."""
    program = [sys.executable, "-m", "tellapart", *map(str, command), "--json"]
    with subprocess.Popen(
        program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ONE_THREAD
    ) as process:
        assert process.stdout
        if sys.platform == "linux":  # it must not run far ahead of who reads
            import fcntl

            fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, 4096)
        timer = threading.Timer(LONGEST, process.kill)
        timer.start()
        try:
            yield process, map(json.loads, process.stdout)
        finally:
            timer.cancel()
            process.kill()


@pytest.fixture(scope="module")
def finished(digits: Path, common: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished training on digits, and what it printed in `printed.txt`. Each process has a copy of its own."""

    def make(folder: Path) -> None:
        words = [*QUICK, "--model", "tutorial-cnn", "--set", "stages.0.epochs=12", "--out", folder / "digits"]
        done = tellapart("train", digits, *words)
        assert done.returncode == 0, done.stderr
        (folder / "printed.txt").write_text(done.stdout)

    copy = shutil.copytree(made_once(common / "run", make), tmp_path_factory.mktemp("runs") / "copy")
    return Run(copy / "digits")


def test_one_command_from_pictures_to_a_report(finished: Run) -> None:
    names = {path.name for path in finished.directory.iterdir()}
    expected = "recipe.toml catalog.parquet split.json events.jsonl environment.json checkpoints predictions"
    assert names >= {*expected.split(), "evaluation.json", "figures", "report.html", "bundle"}
    accuracy = finished.evaluations["test"].metrics["accuracy"]
    assert accuracy.value > 0.85
    assert accuracy.low < accuracy.value <= accuracy.high
    printed = (finished.directory.parent / "printed.txt").read_text()
    assert percent(accuracy.value) in printed
    assert str(Path("digits") / finished.report.name) in printed
    assert "report" in (finished.directory / "report.html").read_text(encoding="utf-8").lower()
    assert not [name for name in names if name.endswith(".part")]
    assert not list(finished.directory.rglob("*.pkl")) + list(finished.directory.rglob("*.pt"))


def test_the_split_keeps_its_sides(finished: Run) -> None:
    split = finished.split
    rows = np.concatenate([split.train, split.validation, split.test])
    assert sorted(rows) == list(range(600))
    assert len(split.test) == pytest.approx(90, abs=3)


def test_the_score_is_that_of_the_bundle(finished: Run, digits: Path) -> None:
    """The bundle, asked about the test pictures, is right exactly as often as the evaluation says."""
    predictions = finished.predictions("test")
    paths = [finished.catalog.path(row) for row in predictions.row]
    answers = ta.load(finished.directory).predict(paths, unknown=False)
    given = [predictions.classes[t] for t in predictions.target]
    right = np.mean([answer.label == name for answer, name in zip(answers, given, strict=True)])
    assert right == finished.evaluations["test"].metrics["accuracy"].value


def test_evaluating_the_same_pictures_elsewhere_gives_the_same_score(
    finished: Run, tmp_path: Path, here: Command
) -> None:
    for row in finished.split.test:
        path = finished.catalog.path(row)
        copy = tmp_path / "elsewhere" / path.parent.name / path.name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    printed = here("evaluate", finished.directory, "--on", tmp_path / "elsewhere", "--json")
    assert printed.returncode == 0, printed.stderr
    there = json.loads(printed.stdout)["metrics"]["accuracy"]
    here = finished.evaluations["test"].metrics["accuracy"]
    assert (there["value"], there["n"]) == (here.value, here.n)
    assert there["low"] == pytest.approx(here.low)


def test_the_same_command_on_a_finished_run_says_so(finished: Run, digits: Path, here: Command) -> None:
    before = finished.checkpoint("best").stat().st_mtime_ns
    again = here(
        "train", digits, *QUICK, "--model", "tutorial-cnn", "--set", "stages.0.epochs=12", "--out", finished.directory
    )
    assert again.returncode == 0, again.stderr
    assert "finished already" in again.stderr
    assert finished.checkpoint("best").stat().st_mtime_ns == before


def test_another_recipe_in_the_same_directory_is_refused(finished: Run, digits: Path, here: Command) -> None:
    again = here("train", digits, *QUICK, "--out", finished.directory)
    assert again.returncode == 2
    assert "another recipe" in again.stderr
    assert "cnn8" in again.stderr
    assert "Traceback" not in again.stderr


def test_changed_pictures_are_refused_with_what_changed(
    finished: Run, digits: Path, tmp_path: Path, picture_folder: Callable[..., Path], here: Command
) -> None:
    photos = picture_folder(n=8)
    out = tmp_path / "run"
    command = ["train", photos, *QUICK, "--model", "mlp", "--set", "stages.0.epochs=1", "--out", out]
    first = here(*command)
    assert first.returncode == 0, first.stderr
    next(photos.glob("*/000.png")).unlink()
    again = here(*command)
    assert again.returncode == 2
    assert "other pictures" in again.stderr
    assert "000.png" in again.stderr


def test_what_certainty_rests_on_is_in_the_bundle_as_it_was_measured(finished: Run) -> None:
    told = json.loads(finished.evaluation_file.read_text())
    classifier = ta.load(finished.directory)
    bundle = classifier.bundle
    assert bundle.temperature == told["temperature"]
    assert {str(level): least for level, least in bundle.sets.items()} == told["sets"]
    assert set(bundle.sets) == {0.8, 0.9, 0.95, 0.98}  # 90 validation pictures: too few for 0.99
    predictions = finished.predictions("test")
    answers = classifier.predict([finished.catalog.path(row) for row in predictions.row], coverage=0.9, unknown=True)
    given = [predictions.classes[target] for target in predictions.target]
    measured = told["certainty"]["test"]
    inside = np.mean([name in answer.candidates for name, answer in zip(given, answers, strict=True)])
    assert inside == next(entry["covered"]["value"] for entry in measured["sets"] if entry["coverage"] == 0.9)
    accepted = np.mean([answer.label != "unknown" for answer in answers])
    assert accepted == measured["unknown"]["accepted"]["value"]
    assert measured["after"]["error"]["value"] < measured["before"]["error"]["value"]
    page = finished.report.read_text(encoding="utf-8")
    assert "Can its certainty be trusted?" in page
    assert (finished.figures / "reliability.png").is_file()


def test_copies_are_tried_on_the_test_pictures(finished: Run, here: Command) -> None:
    printed = here("evaluate", finished.directory, "--tta", "2", "--tta-mean", "probabilities")
    assert printed.returncode == 0, printed.stderr
    accuracy = finished.evaluations["test"].metrics["accuracy"].value
    assert f"accuracy {100 * accuracy:.1f}\u202f% → " in printed.stdout
    assert "probabilities averaged over each picture and 2 changed copies" in printed.stdout
    refused = here("evaluate", finished.directory, "--tta-mean", "probabilities")
    assert refused.returncode == 2
    assert "--tta" in refused.stderr


def test_a_rule_for_several_labels_is_refused_where_there_is_one(digits: Path, tmp_path: Path, here: Command) -> None:
    rule = ["--set", "evaluation.thresholds.recall=0.9"]
    refused = here("train", digits, *QUICK, *rule, "--out", tmp_path / "run")
    assert refused.returncode == 2
    assert "several labels" in refused.stderr
    assert not (tmp_path / "run").exists()


def test_another_size_than_the_one_trained_at_is_said(digits: Path, tmp_path: Path) -> None:
    catalog = ta.scan(digits)
    told, run_options = {}, RunOptions(runtime="cpu,float32")
    for size in (48, 64):
        changes = ["model.name='mobilenetv2_100'", "data.size=64", f"stages.0.size={size}"]
        events = run(load_recipe("scratch", changes), catalog, ta.split(catalog), tmp_path / str(size), run_options)
        first = takewhile(lambda event: isinstance(event, Note | SplitReady), events)
        told[size] = [event.text for event in first if isinstance(event, Note)]
    assert told[64] == []
    (note,) = told[48]
    assert "at 48 pixels" in note
    assert "at 64" in note
    assert "data.size = 48" in note


def test_predict_never_loads_torch(finished: Run, digits: Path) -> None:
    code = (
        "import sys\n"
        "from tellapart.cli.main import app\n"
        "app(sys.argv[1:], standalone_mode=False)\n"
        "loaded = {'torch', 'torchvision', 'timm', 'polars', 'sklearn', 'matplotlib'} & set(sys.modules)\n"
        "assert not loaded, loaded\n"
    )
    picture = next(digits.glob("3/*.png"))
    done = subprocess.run(
        [sys.executable, "-c", code, "predict", str(finished.directory), str(picture)],
        capture_output=True,
        text=True,
        check=False,
        timeout=LONGEST,
    )
    assert done.returncode == 0, done.stderr
    assert " %" in done.stdout


def test_answers_of_the_readable_although_some_are_not(
    finished: Run, digits: Path, tmp_path: Path, here: Command
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(next(digits.glob("3/*.png")).read_bytes()[:60])
    good = next(digits.glob("4/*.png"))
    done = here("predict", finished.directory, broken, good, "--format", "jsonl")
    assert done.returncode == 3
    assert "broken.png" in done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [Path(line["path"]).name for line in lines] == ["broken.png", good.name]


def scores(run: Path) -> object:
    return json.loads((run / "evaluation.json").read_text())


def events(run: Path) -> list[dict[str, object]]:
    """The event log without times."""
    return [{k: v for k, v in event.items() if k not in ("seconds", "preparation")} for event in Run(run).events()]


@pytest.fixture(scope="module")
def again(digits: Path, finished: Run) -> list[str | Path]:
    """A command that trains, and then once more on everything, from the weights of `finished`."""
    changes = [
        "retrain=true",
        "stages.0.epochs=2",
        "stages.0.batch_size=16",
        "stages.0.lr={find='valley',otherwise=1e-3}",
    ]
    options = [part for change in changes for part in ("--set", change)]
    return ["train", digits, *QUICK, "--model", "tutorial-cnn", *options, "--weights", finished.directory]


@pytest.mark.slow  # its small siblings are in training/test_retraining.py
def test_trained_again_on_everything(again: list[str | Path], finished: Run, tmp_path: Path, here: Command) -> None:
    """What is judged, and by what, is said."""
    out = tmp_path / "run"
    done = here(*again, "--out", out)
    assert done.returncode == 0, done.stderr
    assert "once more, on training and validation pictures" in done.stderr
    one = load_file(out / "checkpoints" / "initial.safetensors")
    other = load_file(finished.checkpoint("initial"))
    assert all(np.array_equal(one[key], other[key]) for key in other)
    assert sum(event["event"] == "LrFound" for event in events(out)) == 1
    run = Run(out)
    assert run.evaluations["validation"].on == "validation, before retraining"
    test = run.evaluations["test"]
    answers = ta.load(out).predict([run.catalog.path(row) for row in run.predictions("test").row])
    given = [test.classes[t] for t in run.predictions("test").target]
    right = np.mean([answer.label == name for answer, name in zip(answers, given, strict=True)])
    assert right == test.metrics["accuracy"].value
    page = run.report.read_text(encoding="utf-8")
    assert "So it has no validation score" in page
    bundle = json.loads((out / "bundle" / "bundle.json").read_text())
    assert f"{len(run.split.train) + len(run.split.validation)} pictures" in json.dumps(bundle)


@pytest.mark.slow
def test_killed_in_the_retraining_it_goes_on_to_the_same_weights(
    again: list[str | Path], tmp_path: Path, here: Command, one_thread: None
) -> None:
    whole, out = tmp_path / "whole", tmp_path / "killed"
    assert here(*again, "--out", whole).returncode == 0
    with followed([*again, "--out", out]) as (process, printed):
        next(e for e in printed if e["event"] == "Progress" and e["retraining"] and e["step"] == 5)
        process.kill()
    resumed = here(*again, "--out", out)
    assert resumed.returncode == 0, resumed.stderr
    for name in ("best", "validated"):
        one, other = (load_file(run / "checkpoints" / f"{name}.safetensors") for run in (whole, out))
        assert one.keys() == other.keys()
        assert all(np.array_equal(one[key], other[key]) for key in one)
    assert events(whole) == events(out)
