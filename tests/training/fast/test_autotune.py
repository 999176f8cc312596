"""The fastest runtime is chosen by one table of candidates, explained, and remembered."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tellapart.training.fast import autotune
from tellapart.training.fast.autotune import (
    Measurement,
    choose,
    in_words,
    step_candidates,
    worker_candidates,
)
from tellapart.training.runtime import Runtime, default_device, default_workers

BASE = Runtime("cpu", frozen="bfloat16", workers=3)
Work = Callable[[Runtime], None]


class Clock:
    """A clock that only work moves on, so that no choice depends on how busy the machine is."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def perf_counter(self) -> float:
        return self.seconds


@pytest.fixture(autouse=True)
def clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clock:
    monkeypatch.setenv("TELLAPART_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(autotune, "multiplies_bfloat16", lambda device: True)
    made = Clock()
    monkeypatch.setattr(autotune, "time", made)
    return made


class Timed:
    """Work that takes as long as a table says, and counts how often it ran under each runtime."""

    def __init__(self, clock: Clock, field: str, seconds: dict[Any, float]) -> None:
        self.clock, self.field, self.seconds = clock, field, seconds
        self.ran: list[Runtime] = []

    def __call__(self, runtime: Runtime) -> None:
        self.ran.append(runtime)
        self.clock.seconds += self.seconds[getattr(runtime, self.field)]


def instant(runtime: Runtime) -> None:
    pass


def never(runtime: Runtime) -> None:
    pytest.fail("measured again")


def remembered(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "cache" / "runtime").glob("*.json"))


def for_steps(key: dict[str, Any], base: Runtime, step: Work, independent: bool = False) -> Runtime:
    return choose(
        {**key, "times": "steps"}, base, [Measurement("a training step takes", step_candidates(independent), step)]
    )


def for_reading(key: dict[str, Any], load: Work) -> Runtime:
    measurements = [Measurement("reading pictures takes", worker_candidates(), load)]
    return choose({**key, "times": "reading"}, Runtime(default_device(), workers=default_workers()), measurements)


# Candidates


def test_candidates_differ_and_begin_with_the_plainest() -> None:
    candidates = step_candidates(True)
    assert len({tuple(candidate.items()) for candidate in candidates}) == len(candidates)
    assert candidates[0] == {"precision": "float32", "channels_last": False, "micro_batch": 0}
    assert len({tuple(candidate) for candidate in candidates}) == 1, "each decides the same fields"


def test_micro_batches_only_on_a_processor_and_where_pictures_do_not_depend_on_each_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(autotune, "default_device", lambda: "cpu")
    assert {candidate["micro_batch"] for candidate in step_candidates(True)} == {0, 8}
    assert {candidate["micro_batch"] for candidate in step_candidates(False)} == {0}
    monkeypatch.setattr(autotune, "default_device", lambda: "cuda")
    assert {candidate["micro_batch"] for candidate in step_candidates(True)} == {0}


def test_bfloat16_is_not_timed_where_torch_computes_it_number_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autotune, "multiplies_bfloat16", lambda device: False)
    assert {candidate["precision"] for candidate in step_candidates(True)} == {"float32"}


@pytest.mark.parametrize(("n", "expected"), [(1, [1]), (2, [2]), (3, [2, 3]), (6, [2, 4, 6]), (64, [2, 4, 8, 16])])
def test_numbers_of_threads_worth_timing(n: int, expected: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autotune, "n_processors", lambda: n)
    assert [candidate["workers"] for candidate in worker_candidates()] == expected


# Measured


@pytest.mark.parametrize("fast", ["float32", "bfloat16"])
def test_the_fastest_precision_is_taken(fast: str, clock: Clock) -> None:
    step = Timed(clock, "precision", {"float32": 0.06, "bfloat16": 0.06, fast: 0.002})
    chosen = for_steps({"network": fast}, BASE, step)
    assert chosen.precision == fast
    assert set(step.ran) == {replace(BASE, **candidate) for candidate in step_candidates(False)}
    first, others = chosen.why.removeprefix("a training step takes ").split(", instead of ")
    assert first.startswith(f"2 ms in {fast} ")
    assert others.count(" ms in ") == len(step_candidates(False)) - 1


def test_a_tail_that_trains_slower_in_bfloat16_trains_in_float32(clock: Clock) -> None:
    """As Lite2's did on a processor with AMX, though its frozen layers were faster in bfloat16."""
    base = replace(BASE, frozen="bfloat16", engine="openvino")
    chosen = for_steps({}, base, Timed(clock, "precision", {"float32": 0.922, "bfloat16": 1.709}), independent=True)
    assert (chosen.precision, chosen.frozen, chosen.engine) == ("float32", "bfloat16", "openvino")
    assert "1709 ms in bfloat16" in chosen.why


@pytest.mark.parametrize("fast", [True, False])
def test_the_fastest_memory_format_is_taken(fast: bool, clock: Clock) -> None:
    assert for_steps({}, BASE, Timed(clock, "channels_last", {fast: 0.002, not fast: 0.06})).channels_last is fast


def test_a_micro_batch_is_taken_where_it_is_faster(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autotune, "default_device", lambda: "cpu")
    step = Timed(clock, "micro_batch", {0: 0.03, 8: 0.002})
    chosen = for_steps({"network": "apart"}, BASE, step, independent=True)
    assert chosen.micro_batch == 8
    assert " with 8 pictures at once" in chosen.why
    assert in_words(chosen) == "float32 channels-last with 8 pictures at once"


def test_of_equally_fast_ones_the_plainest_is_taken() -> None:
    chosen = for_steps({}, BASE, instant, independent=True)
    assert (chosen.precision, chosen.channels_last, chosen.micro_batch) == ("float32", False, 0)


def test_fields_without_candidates_are_those_of_the_base() -> None:
    chosen = for_steps({}, BASE, instant)
    assert (chosen.frozen, chosen.workers) == ("bfloat16", 3)
    other = for_steps({}, Runtime("cpu", frozen="float32", workers=1), never)
    assert (other.frozen, other.workers) == ("float32", 1)  # remembered is how steps are run, nothing else


def test_a_slow_first_step_does_not_count(clock: Clock) -> None:
    ran = set()

    def step(runtime: Runtime) -> None:
        first = runtime not in ran
        ran.add(runtime)
        slow = 0.1 if first else 0.002
        clock.seconds += slow if runtime.precision == "bfloat16" else 0.03

    assert for_steps({}, BASE, step).precision == "bfloat16"


def test_a_candidate_far_slower_than_the_fastest_is_timed_once(clock: Clock) -> None:
    step = Timed(clock, "channels_last", {False: 0.002, True: 0.06})
    for_steps({}, BASE, step)
    times = [step.ran.count(replace(BASE, **candidate)) for candidate in step_candidates(False)]
    assert times == [3, 2, 2]  # one of them to warm up


@pytest.mark.parametrize("fast", [2, 4, 16])
def test_the_number_of_threads_that_load_fastest_is_taken(
    fast: int, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(autotune, "n_processors", lambda: 24)
    load = Timed(clock, "workers", {2: 0.04, 4: 0.04, 8: 0.04, 16: 0.04} | {fast: 0.002})
    chosen = for_reading({"network": "threads"}, load)
    assert chosen.workers == fast
    assert {runtime.workers for runtime in load.ran} == {2, 4, 8, 16}
    assert f"reading pictures takes 2 ms in {fast} threads, instead of " in chosen.why


# Remembered


def test_a_choice_is_remembered(tmp_path: Path) -> None:
    base = for_reading({"network": "a", "size": 64}, instant)
    first = for_steps({"network": "a", "size": 64}, base, instant)
    assert for_reading({"size": 64, "network": "a"}, never) == base
    assert for_steps({"size": 64, "network": "a"}, base, never) == first
    assert len(remembered(tmp_path)) == 2


def test_other_work_is_measured_anew(tmp_path: Path) -> None:
    for key in ({"size": 64}, {"size": 65}, {"size": "64"}):
        for_steps(key, BASE, instant)
    assert len(remembered(tmp_path)) == 3


def test_another_number_of_threads_is_measured_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for_steps({}, BASE, instant)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 99)
    for_steps({}, BASE, instant)
    assert len(remembered(tmp_path)) == 2


def test_a_choice_that_0_1_remembered_is_taken(tmp_path: Path) -> None:
    for_steps({}, BASE, instant)
    (memory,) = remembered(tmp_path)
    old = {"device": "cpu", "precision": "bfloat16", "frozen": "float32", "channels_last": True, "workers": 1}
    memory.write_text(json.dumps(old | {"why": "a training step takes 1 ms", "at_once": 8}), encoding="utf-8")
    expected = replace(BASE, precision="bfloat16", micro_batch=8, why="a training step takes 1 ms")
    assert for_steps({}, BASE, never) == expected


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"3", b"null", b"{}", b'{"device": "cpu", "colour": "red"}', b"\xff\xfe", b"[" * 100_000],
)
def test_a_damaged_memory_is_ignored_and_written_again(tmp_path: Path, content: bytes) -> None:
    for_steps({}, BASE, instant)
    (memory,) = remembered(tmp_path)
    memory.write_bytes(content)
    again = for_steps({}, BASE, instant)
    assert again.why
    assert for_steps({}, BASE, never) == again


def test_a_flipped_bit_of_a_memory_is_noticed(tmp_path: Path) -> None:
    for_steps({}, BASE, instant)
    (memory,) = remembered(tmp_path)
    whole, remembered_one = memory.read_bytes(), autotune._recall(memory)
    for at in range(len(whole)):
        memory.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert autotune._recall(memory) in (None, remembered_one), at  # some bits only change a blank


def test_a_memory_that_cannot_be_written_costs_time_only(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("not a folder", encoding="utf-8")
    assert for_steps({}, BASE, instant).why


def test_an_error_of_a_step_comes_through_and_is_not_remembered(tmp_path: Path) -> None:
    def fail(runtime: Runtime) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        for_steps({}, BASE, fail)
    assert remembered(tmp_path) == []
