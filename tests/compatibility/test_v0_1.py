"""Runs, a bundle, a cache and recipes that version 0.1 wrote are read, and mean what they meant. See make_v0_1.py."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tellapart as ta
from tellapart.core import events as kinds
from tellapart.recipe.load import read_recipe
from tellapart.recipe.schema import Model
from tellapart.runs.run import Run

pytestmark = pytest.mark.usefixtures("short_ends")

V0_1 = Path(__file__).parent / "v0_1"
RECIPES = json.loads((V0_1 / "recipes.json").read_text(encoding="utf-8"))
EXPECTED = json.loads((V0_1 / "expected.json").read_text(encoding="utf-8"))
PICTURES = {"plain": "pictures", "labels": "labelled"}
#: Keys of a recipe that have another name now, by their path without numbers.
RENAMED = {"stages.rate": "lr"}
#: Strengths that 0.1 tried for so many epochs of a stage with optimizer = "lbfgs".
STRENGTHS = {
    4: [3e-4, 3e-3, 3e-2, 3e-1],
    5: [3e-4, 1e-3, 1e-2, 1e-1, 3e-1],
    9: [1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0],
}
OF_STEPS = {
    *("epochs", "steps", "optimizer", "batch_size", "accumulate", "rate", "weight_decay", "momentum", "clip"),
    *("average", "schedule", "step_epochs", "step_factor", "cycle_length", "cycle_multiplier", "warmup"),
}

Command = Callable[..., Any]


@pytest.fixture
def v0_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of everything, in the folder that commands run in, with the cache of 0.1 as the user's.

    A training that was stopped goes on with the versions of libraries that it was begun with. Here they are those of
    the machine of the test.
    """
    for part in V0_1.iterdir():
        shutil.copytree(part, tmp_path / part.name) if part.is_dir() else shutil.copy(part, tmp_path)
    for path in tmp_path.glob("runs/*/environment.json"):
        environment = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps(environment | installed(environment)), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TELLAPART_CACHE", str(tmp_path / "cache"))
    return tmp_path


def installed(names: dict[str, object]) -> dict[str, str]:
    """The versions of those that are distributions."""
    torch = pytest.importorskip("torch")
    versions = {"tellapart": ta.__version__, "torch": str(torch.__version__)}
    for name in set(names) & {"torchvision", "timm", "numpy", "pillow", "simplejpeg", "onnxruntime"}:
        versions[name] = importlib.metadata.version(name)
    return versions


def train(here: Command, name: str) -> Any:
    """The very command that 0.1 was given."""
    words = json.loads(Path("runs", name, "environment.json").read_text(encoding="utf-8"))["command"].split()
    assert words[:2] == ["tellapart", "train"]
    return here(*(word.strip("'") for word in words[1:]))


@pytest.mark.parametrize("name", PICTURES)
def test_a_finished_run_is_not_trained_again_and_its_report_is_made(here, v0_1, name):
    run = v0_1 / "runs" / name
    events = (run / "events.jsonl").read_text(encoding="utf-8")
    done = train(here, name)
    assert done.returncode == 0, done.stderr
    assert (run / "report.html").is_file()
    assert list((run / "figures").glob("*.svg"))
    assert (run / "events.jsonl").read_text(encoding="utf-8") == events
    assert "'stages.0.rate' is now 'stages.0.lr'" in done.stderr
    assert Run(run).recipe == read_recipe(v0_1 / "recipes" / f"{name}.toml")[0]

    scores = json.loads(here("evaluate", f"runs/{name}", "--json").stdout)["metrics"]
    stored = json.loads((V0_1 / "runs" / name / "evaluation.json").read_text(encoding="utf-8"))
    metrics = stored["evaluations"]["test"]["metrics"]
    assert {name: score["value"] for name, score in scores.items()} == {
        name: pytest.approx(score["value"], abs=1e-6) for name, score in metrics.items()
    }


@pytest.mark.parametrize("name", [*PICTURES, "stopped"])
def test_the_event_log_is_read_under_the_names_of_today(name):
    run = Run(V0_1 / "runs" / name)
    lines = run.events_file.read_text(encoding="utf-8").splitlines()
    described = [event["plan"] for event in map(json.loads, lines) if event["event"] == "StageStarted"]
    events = [event for event in run.events() if event["event"] == "StageStarted"]
    assert described
    assert [event["description"] for event in events] == described
    for event in run.events():
        names = {field.name for field in dataclasses.fields(getattr(kinds, event["event"]))}
        assert event.keys() - {"event", "seconds"} <= names


@pytest.mark.parametrize("name", PICTURES)
def test_a_run_answers_as_it_did(here, v0_1, name):
    answered = here("predict", f"runs/{name}", PICTURES[name], "--top", "3", "--format", "jsonl")
    assert answered.returncode == 0, answered.stderr
    answers = [json.loads(line) for line in answered.stdout.splitlines()]
    for answer, expected in zip(answers, EXPECTED["answers"][name], strict=True):
        assert (answer["path"], answer["label"]) == (expected["path"], expected["label"])
        assert answer["certainty"] == pytest.approx(expected["certainty"], abs=1e-4)
        assert answer.get("ood_score") == pytest.approx(expected.get("strangeness"), abs=1e-3)


@pytest.mark.parametrize("name", PICTURES)
def test_a_bundle_answers_as_it_did(v0_1, name):
    bundle = shutil.move(v0_1 / "runs" / name / "bundle", v0_1 / "moved")
    shutil.rmtree(v0_1 / "runs")
    expected = EXPECTED["answers"][name]
    answers = ta.predict(bundle, [line["path"] for line in expected])
    for answer, line in zip(answers, expected, strict=True):
        assert answer.label == line["label"]
        assert answer.certainty == pytest.approx(line["certainty"], abs=1e-4)


def test_a_stopped_run_goes_on_to_where_an_unbroken_one_ended(here, v0_1):
    """Through the rest of its last stage, and the retraining of a solved head, a found rate and steps."""
    run = v0_1 / "runs" / "stopped"
    before = (run / "events.jsonl").read_text(encoding="utf-8").splitlines()
    done = train(here, "stopped")
    assert done.returncode == 0, done.stderr
    assert (run / "events.jsonl").read_text(encoding="utf-8").splitlines()[: len(before)] == before
    predictions = ta.Predictions.load(run / "predictions" / "test.parquet")
    assert predictions.row.tolist() == EXPECTED["unbroken"]["row"]
    assert predictions.logits == pytest.approx(np.array(EXPECTED["unbroken"]["logits"]), abs=0.01)
    assert train(here, "stopped").returncode == 0

    assert train(here, "plain").returncode == 0
    compared = here("compare", "runs/plain", "runs/stopped", "--out", "compare.html")
    assert compared.returncode == 0, compared.stderr
    assert (v0_1 / "compare.html").is_file()


def test_the_cache_is_listed_and_cleared(here, v0_1):
    listed = here("cache").stdout
    assert "activations" in listed
    assert here("cache", "clear").returncode == 0
    assert not list((v0_1 / "cache" / "activations").iterdir())


#: They leave the network to the default, which is another one today. Every run holds the name of its own.
WITHOUT_A_NETWORK = ("found.toml", "probe.toml")


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_a_recipe_means_what_it_meant(name):
    recipe, _ = read_recipe(V0_1 / "recipes" / name)
    said = recipe.model_dump(mode="json", exclude_defaults=True)
    before = RECIPES[name] | {"stages": [stage_of_today(stage) for stage in RECIPES[name]["stages"]]}
    if name in WITHOUT_A_NETWORK:
        before["model"] = before["model"] | {"name": Model().name}
    assert differences(before, recipe.model_dump(mode="json"), said) == []


def stage_of_today(stage: dict[str, Any]) -> dict[str, Any]:
    """A stage that solved a linear head is a linear probe, and knows nothing of steps."""
    if stage["optimizer"] != "lbfgs":
        return stage
    probe = {key: value for key, value in stage.items() if key not in OF_STEPS}
    return probe | {"solver": "lbfgs", "l2": STRENGTHS[stage["epochs"]]}


def test_every_recipe_of_0_1_is_among_them():
    assert sorted(RECIPES) == sorted(
        path.relative_to(V0_1 / "recipes").as_posix() for path in V0_1.glob("recipes/**/*.toml")
    )
    assert len(list(V0_1.glob("recipes/shipped/*.toml"))) == 14


def differences(before: Any, now: Any, said: Any, path: str = "") -> list[str]:
    """Where a recipe differs from what 0.1 made of it. Keys that are new since then must be at their default."""
    if isinstance(before, dict) and isinstance(now, dict):
        lines = []
        renamed = {RENAMED.get(f"{path}.{key}".lstrip("."), key): value for key, value in before.items()}
        for key, value in renamed.items():
            inner = said.get(key) if isinstance(said, dict) else None
            lines += differences(value, now.get(key, "gone"), inner, f"{path}.{key}".lstrip("."))
        new = set(said or ()) - set(renamed) if isinstance(said, dict) else set()
        return lines + [f"{path}.{key} is new" for key in sorted(new)]
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        inner = said if isinstance(said, list) else [None] * len(now)
        return [
            line
            for one, other, part in zip(before, now, inner, strict=True)
            for line in differences(one, other, part, path)
        ]
    return [] if before == now else [f"{path} was {before}, is {now}"]
