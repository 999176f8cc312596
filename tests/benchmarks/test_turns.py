"""Contestants in turn: what is timed, what is not, and what the table says."""

from __future__ import annotations

import importlib
import json
import multiprocessing
import os
import signal
import time
from itertools import count

import pytest

from benchmarks.turns import ROUNDS, Figure, apart, in_turn
from tellapart.errors import TellapartError


class Clock:
    """Time that passes only when a contestant says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def worker(self, seconds: float, n: int, idle: float = 0.0):
        while True:
            self.now += idle
            yield 0
            self.now += seconds
            yield n


def finished(work):
    events = []
    while True:
        try:
            events.append(next(work))
        except StopIteration as end:
            return end.value, events


def test_rates_leave_out_what_is_not_training():
    clock = Clock()
    workers = {"quick": clock.worker(0.5, 10, idle=100.0), "slow": clock.worker(2.0, 10)}
    found, events = finished(in_turn("steps", workers, 1e9, clock))
    assert found == {"quick": [20.0] * ROUNDS, "slow": [5.0] * ROUNDS}
    assert events[-1].done == events[-1].total == 2 * (ROUNDS + 1)


def test_the_first_round_does_not_count_and_the_order_changes():
    clock, seen = Clock(), []

    def named(name: str):
        for turn in count():
            seen.append(name)
            clock.now += 100.0 if turn == 0 else 1.0
            yield 1

    found, _ = finished(in_turn("steps", {"a": named("a"), "b": named("b")}, 1e9, clock))
    assert set(found["a"]) == {1.0}
    assert seen[:8] == ["b", "a", "a", "b", "b", "a", "a", "b"]


def test_three_rounds_at_least():
    clock = Clock()
    found, _ = finished(in_turn("steps", {"a": clock.worker(1.0, 1)}, -1.0, clock))
    assert len(found["a"]) == 3


def test_a_contestant_must_not_end():
    with pytest.raises(ValueError, match="ended"):
        finished(in_turn("steps", {"a": iter([1, 1])}, 1e9))


@pytest.mark.parametrize(("unit", "ratio"), [("pictures/s", 0.25), ("s", 4.0)])
def test_ratios_say_how_many_times_faster_the_first_is(unit, ratio):
    figure = Figure("work", unit, {"ours": [10.0, 20.0, 30.0], "theirs": [40.0, 80.0, 120.0]}, "a note")
    assert figure.ratios == [ratio] * 3
    assert json.loads(json.dumps(figure.as_dict()))["times faster"] == ratio
    text = "\n".join(figure.lines())
    assert "20 " in text
    assert f"{ratio:.2f}" in text
    assert text.endswith("a note")


def test_a_lone_value_has_no_ratio():
    figure = Figure("work", "s", {"theirs": [40.0]})
    assert figure.as_dict()["times faster"] is None
    assert len(figure.lines()) == 2


MODULE = """
import os
import signal
from itertools import count

if os.getpid() != ASKS:
    os.kill(os.getpid(), signal.SIGINT)  # Ctrl-C at a terminal reaches whoever is still loading, too

def working(notes):
    for number in count(1):
        with open(notes, "a") as file:
            file.write(f"{os.getpid()} {number}\\n")
        yield number

def failing():
    raise OSError("no such thing")
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module that another process can load, too."""
    (tmp_path / "contestants_apart.py").write_text(f"ASKS = {os.getpid()}\n{MODULE}")
    monkeypatch.syspath_prepend(tmp_path)
    return importlib.import_module("contestants_apart")


def test_a_contestant_apart_works_in_its_own_turns_alone(module, tmp_path):
    """Whatever Ctrl-C says while it loads."""
    notes = tmp_path / "notes"
    contestant = apart(module.working, str(notes))
    for number in (1, 2, 3):
        assert next(contestant) == number
        time.sleep(0.2)
        lines = notes.read_text().splitlines()
        assert [line.split()[1] for line in lines] == [str(n) for n in range(1, number + 1)]
    assert {int(line.split()[0]) for line in lines} != {os.getpid()}
    contestant.close()
    assert not multiprocessing.active_children()


def test_a_contestant_apart_that_fails_is_named(module):
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(TellapartError, match="failing ended before its turn was over"):
        next(apart(module.failing))
    assert not multiprocessing.active_children()
    assert signal.getsignal(signal.SIGINT) is before
