"""The JSON files of a run, each value changed to another type or left out: all are read, or refused in a sentence."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tellapart.core.events import BeginsFrom, LrFound, Retrained
from tellapart.errors import RunError
from tellapart.report.curves import curves
from tellapart.report.sections import calibration, epochs, explanations, lr_finder, network
from tellapart.runs.commands import training_command
from tellapart.runs.event_values import check_event
from tellapart.runs.run import EventLog, Run
from tellapart.training.runtime import Runtime

RUNS = Path(__file__).parents[1] / "compatibility" / "v0_1" / "runs"
SHAPE = {"depth": 0, "input": [3, 32, 32], "output": None}
METRIC = {"value": 0.5, "low": 0.25, "high": 0.75, "n": 8}
CARD = {"row": 0, "name": "a.png", "labels": [{"name": "a", "certainty": 0.5, "right": None}]}
#: Files that the runs of 0.1 do not have.
FILES: dict[str, Any] = {
    "network.json": {
        "layers": [{"name": "Network", "kind": "Network", **SHAPE, "parameters": 10}],
        **{"parameters": 10, "multiply_adds": 20, "batch_size": 8},
        "bytes": {"weights": 40, "activations": 50, "input": 60},
    },
    "skipped.json": [{"path": "a.png", "reason": "broken"}],
    "figures/explained.json": {
        **{"method": "Grad-CAM", "n_training": 4, "notes": ["a note"]},
        "checks": [{"method": "Grad-CAM", "agreement": 0.25, "n": 2}],
        "explained": [
            {
                **{"card": CARD, "seen": "1.jpg", "alike": [CARD]},
                "maps": [{"title": "a", "file": "1.jpg", "method": "Grad-CAM", "said": ""}],
            }
        ],
    },
}
OTHERS = (3, -1.5, "x", None, True, [], {}, [3], {"a": 3}, 10**400, float("nan"))
READERS: dict[str, Callable[[Run], Any]] = {
    "environment.json": lambda run: (training_command(run), run.environment.get("resumed", [])),
    "evaluation.json": lambda run: (run.evaluations, calibration.certainty(run)),
    "events.jsonl": lambda run: (curves(run.events()), epochs.epochs(run), lr_finder.lr_finder(run)),
    "network.json": network.network,
    "skipped.json": lambda run: [(entry["path"], entry["reason"]) for entry in run.skipped],
    "figures/explained.json": explanations.explained,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of 0.1, with the files and events that came later."""
    directory = tmp_path_factory.mktemp("changed") / "run"
    shutil.copytree(RUNS / "plain", directory)
    (directory / "figures").mkdir()
    (directory / "figures" / "1.jpg").write_bytes(b"jpeg")
    for name, values in FILES.items():
        (directory / name).write_text(json.dumps(values))
    run = Run(directory)
    values = json.loads(run.evaluation_file.read_text())
    for parts in (values["evaluations"], values["certainty"]):
        del parts["validation"]  # as "test"
    metrics = values["evaluations"]["test"]["metrics"]
    values["evaluations"]["test"]["metrics"] = {"accuracy": metrics["accuracy"]}
    run.write_json(run.evaluation_file, values)
    lines = run.events_file.read_text().splitlines()
    run.events_file.write_text("".join(f"{line}\n" for line in (*lines[:2], lines[-1])))
    log = EventLog.continued(run.events_file, 3)
    log.add(BeginsFrom(0, 1.0, 0.5))
    log.add(LrFound(0, 0.1, "valley", {"valley": 0.1}, (0.1, 0.2), (1.0, 2.0), (1.0, 2.0), True))
    log.add(Retrained(0, 1, 1, 0.5, None, (0.1,)))
    return run


def paths_in(values: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value, to the first one of a list."""
    yield before
    if isinstance(values, dict):
        for key, value in values.items():
            yield from paths_in(value, (*before, key))
    elif isinstance(values, list) and values:
        yield from paths_in(values[0], (*before, 0))


def changed(values: Any) -> Iterator[Any]:
    """The values with one of them replaced or left out."""
    for way in paths_in(values):
        if not way:
            yield from OTHERS
            continue
        for other in (*OTHERS, ...):
            copied = copy.deepcopy(values)
            inner = copied
            for step in way[:-1]:
                inner = inner[step]
            if other is ...:
                del inner[way[-1]]
            else:
                inner[way[-1]] = other
            yield copied


@pytest.mark.parametrize("name", READERS)
def test_a_changed_value_is_read_or_refused_in_a_sentence(run: Run, name: str) -> None:
    path = run.directory / name
    before = path.read_text()
    READERS[name](Run(run.directory))  # as it was written
    lines = before.splitlines()
    messages: list[str] = []
    try:
        for number, line in enumerate(lines if name.endswith("l") else [before]):
            for values in changed(json.loads(line)):
                text = json.dumps(values)
                others = [*lines[:number], text, *lines[number + 1 :]]
                path.write_text("".join(f"{line}\n" for line in others) if name.endswith("l") else text)
                try:
                    READERS[name](Run(run.directory))
                except RunError as error:
                    messages.append(error.message)
    finally:
        path.write_text(before)
    assert len(messages) > 10
    assert all(path.name in message for message in messages)


@pytest.mark.parametrize("begun", [3, None, "yesterday", ["2026"]])
def test_a_begin_that_is_no_time_names_file_and_key(tmp_path: Path, begun: Any) -> None:
    run = Run(tmp_path)
    run.write_json(run.environment_file, {"begun": begun, "command": ""})
    with pytest.raises(RunError, match=r"environment\.json is damaged: begun: "):
        _ = run.environment


def test_a_picture_of_an_explanation_that_is_gone_is_named(run: Run) -> None:
    picture = run.figures / "1.jpg"
    content = picture.read_bytes()
    picture.unlink()
    try:
        with pytest.raises(RunError, match=r"explained\.json names a picture that cannot be read: .*1\.jpg"):
            explanations.explained(run)
    finally:
        picture.write_bytes(content)


def test_a_runtime_of_today_and_one_with_more_fields_are_read() -> None:
    """A field that a runtime gains must not make the log of the training that wrote it unreadable."""
    started = {"event": "StageStarted", "stage": 0, "name": "", "description": "", "epochs": 1}
    runtime = Runtime("cpu").as_dict()
    check_event({**started, "runtime": runtime})
    check_event({**started, "runtime": {**runtime, "later": 3}})
    with pytest.raises(ValueError, match="later"):
        check_event({**started, "runtime": {**runtime, "later": [3]}})
