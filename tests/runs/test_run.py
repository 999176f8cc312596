"""A run directory: one process at a time, and a log that a kill cannot spoil."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tellapart.core.events import StageDone, StageStarted, Validated
from tellapart.core.predictions import Predictions
from tellapart.core.scores import Evaluation, Metric
from tellapart.errors import RunError
from tellapart.recipe.schema import Recipe
from tellapart.runs.run import EventLog, Run, locked

# The lock

HOLDING = """
import sys
from pathlib import Path
from tellapart.runs.run import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def another_process(directory: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lock until its input is closed."""
    command = [sys.executable, "-c", HOLDING, str(directory)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def take(directory: Path) -> None:
    with locked(directory):
        pass


def test_a_second_process_is_refused_with_the_number_of_the_first(tmp_path):
    with another_process(tmp_path / "run") as first:
        for _ in range(2):  # asking does not change the answer
            with pytest.raises(RunError, match=rf"run is in use by another process \(number {first.pid}\)") as caught:
                take(tmp_path / "run")
        assert "--out" in caught.value.hint
        first.communicate()  # closes its input: it leaves in peace
        assert first.returncode == 0
    take(tmp_path / "run")


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_the_lock_of_a_killed_process_is_taken_over(tmp_path):
    with another_process(tmp_path) as first:
        first.send_signal(signal.SIGKILL)
        assert first.wait(30) == -signal.SIGKILL
    with locked(tmp_path):
        assert (tmp_path / ".lock").read_text(encoding="utf-8") == str(os.getpid())


def test_a_lock_is_given_back_after_an_error_too(tmp_path):
    def fail() -> None:
        with locked(tmp_path):
            raise KeyError

    for _ in range(2):
        with pytest.raises(KeyError):
            fail()


def test_one_process_cannot_hold_a_directory_twice(tmp_path):
    with locked(tmp_path), pytest.raises(RunError, match=f"number {os.getpid()}"):
        take(tmp_path)


def test_directories_are_locked_apart(tmp_path):
    with locked(tmp_path / "a"), locked(tmp_path / "b"):
        pass


# The event log

STARTED = StageStarted(0, "head", "the head", 2, {"device": "cpu", "why": "asked for"})
VALIDATED = Validated(0, 1, 2, 0.5, None, 0.25, 0.875, (0.1, 0.2), True)
DONE = StageDone(0, 2, 1, "all epochs done")


def log_of(path: Path) -> EventLog:
    log = EventLog.continued(path, 0)
    log.add(STARTED, time="12:00")
    log.add(VALIDATED, seconds=1.5)
    log.add(DONE)
    return log


def test_events_are_read_back_in_order_with_what_stands_beside_them(tmp_path):
    run = Run(tmp_path)
    assert run.events() == []
    assert log_of(run.events_file).n_lines == 3
    started, validated, done = run.events()
    assert started["event"] == "StageStarted"
    assert started["time"] == "12:00"
    assert started["runtime"] == {"device": "cpu", "why": "asked for"}
    assert validated["lrs"] == [0.1, 0.2]
    assert validated["train_accuracy"] is None
    stage = {"event": "StageDone", "stage": 0, "epochs": 2, "best_epoch": 1, "reason": "all epochs done"}
    assert done == {**stage, "retraining": False}


@pytest.mark.parametrize("kept", [0, 1, 2, 3])
def test_what_came_after_the_checkpoint_is_dropped(tmp_path, kept):
    run = Run(tmp_path)
    log_of(run.events_file)
    before = run.events_file.read_bytes().splitlines(keepends=True)
    log = EventLog.continued(run.events_file, kept)
    assert log.n_lines == kept
    assert run.events_file.read_bytes() == b"".join(before[:kept])
    log.add(DONE)
    assert [event["event"] for event in run.events()] == [
        *["StageStarted", "Validated", "StageDone"][:kept],
        "StageDone",
    ]


def cut_off(path: Path) -> None:
    """As a kill in the middle of a line leaves it."""
    with path.open("a", encoding="utf-8") as file:
        file.write('{"event": "Valida')


def test_a_last_line_that_was_cut_off_is_left_out(tmp_path):
    run = Run(tmp_path)
    log_of(run.events_file)
    cut_off(run.events_file)
    assert [event["event"] for event in run.events()] == ["StageStarted", "Validated", "StageDone"]


@pytest.mark.parametrize("kept", [0, 2, 3])
def test_a_log_goes_on_after_a_line_that_was_cut_off(tmp_path, kept):
    run = Run(tmp_path)
    log_of(run.events_file)
    cut_off(run.events_file)
    EventLog.continued(run.events_file, kept).add(DONE)
    assert len(run.events()) == kept + 1
    assert run.events()[-1]["event"] == "StageDone"


def test_a_log_that_is_whole_is_not_touched(tmp_path):
    path = tmp_path / "events.jsonl"
    log_of(path)
    before = path.stat()
    EventLog.continued(path, 3)
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.parametrize("damage", [b'{"event": "Vali\n', b"[]\n", b"{}\n", b'{"event": "\xff"}\n', b"\x00\n"])
def test_a_damaged_line_is_an_error_for_people(tmp_path, damage):
    run = Run(tmp_path)
    log_of(run.events_file)
    lines = run.events_file.read_bytes().splitlines(keepends=True)
    run.events_file.write_bytes(lines[0] + damage + lines[2])
    for read in (run.events, lambda: EventLog.continued(run.events_file, 2)):
        with pytest.raises(RunError, match=r"events\.jsonl is damaged") as caught:
            read()
        assert "checkpoints" in caught.value.hint


@pytest.mark.parametrize("exists", [True, False])
def test_a_log_shorter_than_the_checkpoint_says(tmp_path, exists):
    path = tmp_path / "events.jsonl"
    if exists:
        log_of(path)
        cut_off(path)
    with pytest.raises(RunError, match=f"has {3 * exists} lines, but the checkpoint was made after 4") as caught:
        EventLog.continued(path, 4)
    assert "checkpoints" in caught.value.hint
    assert path.exists() == exists


# Its parts

PARTS = {
    "recipe": "recipe.toml",
    "catalog": "catalog.parquet",
    "split": "split.json",
    "environment": "environment.json",
    "evaluations": "evaluation.json",
}


@pytest.mark.parametrize("part", PARTS)
def test_a_folder_that_is_no_run_directory_says_so(tmp_path, part):
    run = Run(tmp_path)
    assert not run.started
    with pytest.raises(RunError, match=r"is not a run directory: it has no recipe\.toml") as caught:
        getattr(run, part)
    assert "--out" in caught.value.hint


@pytest.mark.parametrize("part", sorted(set(PARTS) - {"recipe"}))
def test_a_part_that_is_not_there_yet_is_named(tmp_path, part):
    run = Run(tmp_path)
    run.recipe_file.write_text(Recipe(seed=3).to_toml(), encoding="utf-8")
    assert run.started
    assert not run.finished
    assert run.recipe == Recipe(seed=3)
    with pytest.raises(RunError, match=f"has no {PARTS[part]} yet: its training has not finished") as caught:
        getattr(run, part)
    assert "same" in caught.value.hint


def test_predictions_that_are_not_there_yet(tmp_path):
    run = Run(tmp_path)
    run.recipe_file.touch()
    with pytest.raises(RunError, match=r"has no predictions.test.parquet yet"):
        run.predictions("test")
    Predictions.of([3], [[0.0, 1.0]], [1], ("a", "b")).save(run.predictions_file("test"))
    assert run.predictions("test").row.tolist() == [3]


def test_plain_values_are_read_back(tmp_path):
    run = Run(tmp_path)
    about = {"begun": "2026-01-01T12:00:00+00:00", "command": "tellapart train 'Bäume'"}
    run.write_json(run.environment_file, about)
    assert run.environment == about
    assert "Bäume" in run.environment_file.read_text(encoding="utf-8")
    assert run.skipped == []
    run.write_json(run.skipped_file, [{"path": "a.jpg", "reason": "cut off"}])
    assert run.skipped == [{"path": "a.jpg", "reason": "cut off"}]
    evaluation = Evaluation("test", False, 2, ("a", "b"), {"accuracy": Metric(0.5, 0.1, 0.9, 2)})
    values = {"temperature": 1.0, "thresholds": None, "evaluations": {"test": evaluation.as_dict()}}
    run.write_json(run.evaluation_file, values)
    assert run.evaluations == {"test": evaluation}
