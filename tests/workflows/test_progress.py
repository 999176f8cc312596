"""What a person sees of a training: plain lines, JSON, nothing, or a live line at a terminal."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import pytest

from tellapart.core.events import (
    BeginsFrom,
    Computing,
    LrFound,
    Note,
    Progress,
    Retrained,
    SplitReady,
    StageDone,
    StageStarted,
    Validated,
)
from tellapart.recipe.schema import Recipe, Stage
from tellapart.workflows import progress
from tellapart.workflows.progress import Console, JsonLines, ProgressSink

RUNTIME = {"why": "a training step takes 3 ms in float32 contiguous"}
EVENTS = [
    Computing(0, "features", 1, 2),
    Computing(0, "features", 2, 2),
    StageStarted(0, "linear head", "the head, from what is stored", 2, RUNTIME),
    Progress(0, 1, 2, 1, 2, 0.75, 0.1, 8),
    Progress(0, 1, 2, 2, 2, 0.5, 0.1, 8),
    Validated(0, 1, 2, 0.5, None, 0.25, 0.875, (0.1, 0.1), True),
    Progress(0, 2, 2, 1, 2, 0.25, 0.1, 8),
    Progress(0, 2, 2, 2, 2, 0.125, 0.1, 8),
    Validated(0, 2, 2, 0.125, 1.0, 0.5, 0.75, (0.1, 0.1), False),
    StageDone(0, 2, 1, "all epochs done"),
]


def follow(shown: ProgressSink, n_stages: int = 1) -> None:
    shown.follow(iter(EVENTS), Recipe(stages=[Stage()] * n_stages))


def test_a_later_stage_shows_what_it_begins_from_and_that_it_is_kept(capfd):
    useless = [
        BeginsFrom(1, 0.25, 0.875),
        Validated(1, 1, 1, 0.5, None, 0.375, 0.75, (0.1,), False),
        StageDone(1, 1, 0, "1 epoch done; none was better than what the stage began from"),
    ]
    Console().follow(iter(useless), Recipe(stages=[Stage()] * 2))
    before, epoch, done = capfd.readouterr().err.splitlines()
    assert before.split() == ["before", "–", "0.2500", "87.5", "%", "best", "so", "far"]
    assert "best" not in epoch
    assert done == "  1 epoch done; none was better than what the stage began from; that is kept"


def test_plain_lines_when_not_at_a_terminal(capfd):
    follow(Console(), n_stages=2)
    out, err = capfd.readouterr()
    assert out == ""
    assert "\x1b" not in err
    assert "\r" not in err
    assert [" ".join(line.split()) for line in err.splitlines()] == [
        "stage 1, linear head: the head, from what is stored",
        "as measured here (--verbose tells more)",
        "epoch train loss val. loss val. accuracy",
        "1/2 0.5000 0.2500 87.5 % best so far",
        "2/2 0.1250 0.5000 75.0 %",
        "all epochs done; epoch 1 is kept",
    ]


def test_how_the_machine_runs_it_is_said_once_for_stages_alike(capfd):
    measured = {**RUNTIME, "device": "cpu", "precision": "float32", "frozen": "float32", "engine": "openvino"}
    other = {**measured, "precision": "bfloat16", "engine": "torch", "why": "asked for"}
    stages = [StageStarted(i, "", "all", 1, runtime) for i, runtime in enumerate([measured, measured, other])]
    Console(verbose=True).follow(stages, Recipe(stages=[Stage()] * 3))
    said = capfd.readouterr().err
    assert (said.count(RUNTIME["why"]), said.count(other["why"])) == (1, 1)
    Console().follow(stages, Recipe(stages=[Stage()] * 3))
    said = capfd.readouterr().err
    assert RUNTIME["why"] not in said
    short = "  on cpu in float32 (frozen layers: openvino, float32) as measured here (--verbose tells more)\n"
    assert said.count(short) == 1
    assert said.count("  on cpu in bfloat16 (frozen layers: torch, float32) as asked for\n") == 1


def test_a_piped_task_ends_with_its_last_step(monkeypatch, capfd):
    clock = iter(range(0, 10_000, 4))
    monkeypatch.setattr("tellapart.workflows.progress.time.monotonic", lambda: float(next(clock)))
    work = [Computing(-1, "slow", n, 7) for n in range(1, 8)] + [Computing(-1, "quick", n, 2) for n in (1, 2)]
    with Console().steps() as show:
        for each in work:
            show(each.task, each.done, each.total)
    lines = capfd.readouterr().err.splitlines()
    assert lines[0].startswith("  slow: ")
    assert "  slow: 7 of 7" in lines
    assert len(lines) == len(set(lines)) < 7


def test_columns_stand_below_their_headings(capfd):
    follow(Console())
    _, _, heading, first, second, _ = capfd.readouterr().err.splitlines()
    assert first.removesuffix("  best so far")[-1] == "%"
    assert len(heading) == len(first.removesuffix("  best so far")) == len(second)


def test_a_single_stage_without_a_name_has_no_number(capfd):
    Console().follow([StageStarted(0, "", "all layers", 1, RUNTIME)], Recipe())
    assert capfd.readouterr().err.startswith("training: all layers\n")


def test_progress_is_told_in_lines_now_and_then(capfd, monkeypatch):
    monkeypatch.setattr(progress, "_PLAIN_EVERY", -1.0)
    follow(Console())
    lines = capfd.readouterr().err.splitlines()
    assert lines[:3] == ["  loading the libraries: 0 of 1", "  features: 1 of 2", "  features: 2 of 2"]
    steps = [line for line in lines if " of " in line and "epoch " in line]
    assert len(steps) == 4
    assert steps[0] == "  epoch 1/2  loss 0.7500: 1 of 2"  # no speed before there is one
    assert "pictures/s" in steps[1]


def test_little_is_told_when_it_is_soon_done(capfd):
    Console().follow([Computing(0, "features", i, 500) for i in range(500)], Recipe())
    assert capfd.readouterr().err == ""


def test_quiet_shows_nothing_and_takes_every_event(capfd):
    left = iter(EVENTS)
    ProgressSink().follow(left, Recipe())
    assert list(left) == []
    ProgressSink().say("hello")
    assert capfd.readouterr() == ("", "")


def test_json_is_one_object_an_event_and_nothing_else(capfd):
    shown = JsonLines()
    follow(shown)
    shown.say("hello")
    out, err = capfd.readouterr()
    assert err == ""
    values = [json.loads(line) for line in out.splitlines()]
    assert [value["event"] for value in values] == [type(event).__name__ for event in EVENTS]
    assert values[2]["runtime"] == RUNTIME
    assert values[5] == {
        "event": "Validated",
        "stage": 0,
        "epoch": 1,
        "epochs": 2,
        "train_loss": 0.5,
        "train_accuracy": None,
        "validation_loss": 0.25,
        "validation_accuracy": 0.875,
        "lrs": [0.1, 0.1],
        "best": True,
    }


LEAK = "Leak: 4 pictures for the test are exact copies of training pictures."
SPLIT = SplitReady(70, 15, 15, f"Validation drawn by class. {LEAK}", (LEAK, "Without a picture for the test: z."))


@pytest.mark.parametrize("shown", [Console(), ProgressSink(), JsonLines()])
def test_what_the_split_found_is_shown_once_also_where_progress_is_not(shown, capfd):
    shown.follow([SPLIT], Recipe())
    out, err = capfd.readouterr()
    if isinstance(shown, JsonLines):
        assert json.loads(out)["warnings"] == list(SPLIT.warnings)
        return
    assert [err.count(warning) for warning in SPLIT.warnings] == [1, 1]
    assert ("70 training, 15 validation, 15 test pictures" in err) == isinstance(shown, Console)


def test_events_are_shown_as_they_come(capfd):
    """Line by line, not at the end: a training takes hours."""

    def events():
        yield EVENTS[2]
        assert "linear head" in capfd.readouterr().err
        yield EVENTS[5]
        assert "87.5\u202f%" in capfd.readouterr().err

    Console().follow(events(), Recipe())


@pytest.mark.parametrize("shown", [Console(), ProgressSink(), JsonLines()])
def test_an_error_of_the_training_comes_through(shown):
    def events():
        yield EVENTS[2]
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        shown.follow(events(), Recipe())


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00"), (0.6, "0:01"), (59.6, "1:00"), (61, "1:01"), (3600, "1:00:00"), (36061, "10:01:01")],
)
def test_times_are_those_of_a_clock(seconds, text):
    assert progress.clock_text(seconds) == text


# At a terminal

AT_A_TERMINAL = """
import sys, time
from tellapart.workflows.progress import Console
from tellapart.recipe.schema import Recipe
from tellapart.core.events import Computing, Progress, StageDone, StageStarted, Validated

def events():
    yield Computing(0, "features", 1, 2)
    time.sleep(0.3)
    yield StageStarted(0, "", "all [layers] and /tmp/[x]", 1, {"why": "asked for"})
    for step in range(1, 4):
        yield Progress(0, 1, 1, step, 3, 0.5, 0.1, 8)
        time.sleep(0.3)
    yield Validated(0, 1, 1, 0.5, None, 0.25, 0.875, (0.1,), True)
    if "--fail" in sys.argv:
        raise SystemExit(7)
    yield StageDone(0, 1, 1, "all epochs done")

console = Console()
assert sys.stderr.isatty()
console.follow(events(), Recipe())
print("answer")
"""


def at_a_terminal(*arguments: str, terminal: str = "xterm-256color") -> tuple[int, str, str]:
    """Exit code, standard output and what a terminal behind standard error was sent."""
    pty = pytest.importorskip("pty", reason="needs pseudo-terminals")
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": terminal, "COLUMNS": "100", "LINES": "24"}
    with subprocess.Popen(
        [sys.executable, "-c", AT_A_TERMINAL, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=theirs,
        env=environment,
    ) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                read = os.read(ours, 65536)
            except OSError:  # as Linux says that the other end was closed
                break
            if not read:
                break
            shown += read
        out = process.stdout.read().decode()
    os.close(ours)
    return process.returncode, out, shown.decode()


def test_a_live_line_at_a_terminal():
    code, out, shown = at_a_terminal()
    assert (code, out) == (0, "answer\n"), shown
    assert "\x1b[" in shown
    for words in (
        "features",
        "epoch 1/1  loss 0.5000",
        "2/3",
        "pictures/s",
        "87.5\u202f%",
        "best so far",
        "epoch 1 is kept",
    ):
        assert words in shown
    assert "training: all [layers] and /tmp/[x]" in shown  # nothing in it is taken for markup
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")  # the cursor is back


def test_the_terminal_is_left_in_order_after_an_error():
    code, out, shown = at_a_terminal("--fail")
    assert (code, out) == (7, "")
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")


def test_a_terminal_that_can_do_nothing():
    code, out, shown = at_a_terminal(terminal="dumb")
    assert (code, out) == (0, "answer\n"), shown
    assert "87.5\u202f%" in shown


def test_speed_is_a_running_mean_that_leaves_out_validation(monkeypatch):
    times = iter([0.0, 2.0, 4.0, 104.0, 106.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(times) + 1000)
    meter = progress._Meter()
    steps = [Progress(0, epoch, 2, step, 3, 0.5, 0.1, 8) for epoch, step in [(1, 1), (1, 2), (1, 3), (2, 1), (2, 2)]]
    assert [meter.add(step) for step in steps] == [0.0, 4.0, 4.0, 4.0, 4.0]


def test_accuracy_of_several_labels_is_called_what_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    Console().follow([StageStarted(0, "", "all layers", 1, RUNTIME, multilabel=True)], Recipe())
    said = capsys.readouterr().err
    assert "labels right" in said
    assert "val. accuracy" not in said


def test_found_rates_retraining_and_notes_are_lines_and_json(capfd):
    curve = {"lrs": (0.1,), "losses": (1.0,), "smoothed": (1.0,), "rose": False, "setting": "stages.0.lr=0.0028"}
    events = [
        LrFound(0, 0.0028, "steepest", {"steepest": 0.0028}, **curve),
        LrFound(0, 0.0028, "otherwise", {}, **curve),
        Retrained(0, 1, 3, 0.5, None, (0.1,)),
        Note("one damaged file was made again"),
    ]
    Console().follow(iter(events), Recipe(stages=[Stage()]))
    found, otherwise, retrained, note = capfd.readouterr().err.splitlines()
    assert "0.0028 (steepest); without a test: --set stages.0.lr=0.0028" in found
    assert "the loss did not fall" in otherwise
    assert retrained.split() == ["1/3", "0.5000", "–", "–"]
    assert note == "one damaged file was made again"
    JsonLines().follow(iter(events), Recipe(stages=[Stage()]))
    JsonLines().note("and another")
    lines = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [line["event"] for line in lines] == ["LrFound", "LrFound", "Retrained", "Note", "Note"]
    assert lines[-1]["text"] == "and another"


def test_a_pipe_ends_with_the_last_step_though_steps_are_said_as_they_begin(monkeypatch):
    """As a study's trainings are: one ends, and the next one begins with as many done."""
    monkeypatch.setattr(progress, "_PLAIN_EVERY", -1.0)
    said: list[str] = []
    show = progress._plain_lines(said.append)
    show("seed 1", 1, 3)
    monkeypatch.setattr(progress, "_PLAIN_EVERY", 1e9)
    for text, done in (("seed 2", 1), ("seed 2", 2), ("seed 3", 2), ("seed 3", 3)):
        show(text, done, 3)
    assert said == ["  seed 1: 1 of 3", "  seed 3: 3 of 3"]
