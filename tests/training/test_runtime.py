"""How a network is run: asked for, measured, remembered."""

from __future__ import annotations

import json
import time

import pytest
import torch

from tellapart.errors import UsageError
from tellapart.training import runtime
from tellapart.training.runtime import (
    Runtime,
    candidates,
    default_device,
    default_workers,
    environment,
    for_inference,
    for_training,
    numbers_of_workers,
    parse,
)


@pytest.fixture(autouse=True)
def _own_memory(tmp_path, monkeypatch):
    monkeypatch.setenv("TELLAPART_CACHE", str(tmp_path / "cache"))


def remembered(tmp_path):
    return list((tmp_path / "cache" / "runtime").glob("*.json"))


# Asked for


def test_auto_leaves_the_choice():
    assert parse("auto") is None


@pytest.mark.parametrize(
    ("text", "precision", "channels_last"),
    [
        ("cpu", "float32", True),
        ("cpu,bfloat16", "bfloat16", True),
        (" cpu , contiguous ", "float32", False),
        ("contiguous,cpu,bfloat16", "bfloat16", False),
        ("channels-last,float32,cpu", "float32", True),
    ],
)
def test_words_in_any_order(text, precision, channels_last):
    asked = parse(text)
    assert asked == Runtime("cpu", precision, precision, channels_last, default_workers(), "asked for")


def test_what_is_not_said_is_taken_from_the_machine():
    asked = parse("bfloat16")
    assert asked is not None
    assert asked.device == default_device()


@pytest.mark.parametrize("text", ["gpu", "", "cpu,", "CPU", "auto,cpu", "cpu;bfloat16", "float16", "cpu bfloat16"])
def test_unknown_words(text):
    with pytest.raises(UsageError, match="is unknown") as caught:
        parse(text)
    assert f"--runtime {text}:" in caught.value.message
    assert "bfloat16" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("cuda,cpu", "'cpu' and 'cuda'"),
        ("cpu,bfloat16,float32", "'float32' and 'bfloat16'"),
        ("contiguous,channels-last", "'channels-last' and 'contiguous'"),
    ],
)
def test_words_that_exclude_each_other(text, words):
    with pytest.raises(UsageError, match=f"{words} exclude each other"):
        parse(text)


def test_a_device_that_this_machine_lacks(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    for device in ("cuda", "mps"):
        with pytest.raises(UsageError, match=f"no device '{device}'") as caught:
            parse(f"{device},float32")
        assert caught.value.hint == "Here: cpu."


# What it means


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_products_are_computed_in_the_precision(precision):
    layer = torch.nn.Linear(4, 4)
    with Runtime("cpu", precision).autocast():
        assert layer(torch.ones(1, 4)).dtype == getattr(torch, precision)
    assert layer.weight.dtype == torch.float32


def test_memory_formats():
    assert Runtime("cpu").memory_format == torch.channels_last
    assert Runtime("cpu", channels_last=False).memory_format == torch.contiguous_format


def test_plain_values_make_an_equal_one():
    made = Runtime("cpu", "bfloat16", "float32", False, 3, "measured")
    assert Runtime(**json.loads(json.dumps(made.as_dict()))) == made


def test_candidates_differ_and_begin_with_the_plainest():
    found = candidates(False)
    assert len(set(found)) == len(found)
    assert (found[0].precision, found[0].frozen, found[0].channels_last) == ("float32", "float32", False)
    assert {each.device for each in found} == {default_device()}


# Measured


BASE = Runtime("cpu", frozen="bfloat16", workers=3)


def instant(way: Runtime) -> None:
    pass


class Step:
    """Work that sleeps as long as a table says, and counts how often it ran under each runtime."""

    def __init__(self, by: str, seconds: dict[object, float]) -> None:
        self.by, self.seconds, self.ran = by, seconds, []

    def __call__(self, way: Runtime) -> None:
        self.ran.append(way)
        time.sleep(self.seconds[getattr(way, self.by)])


@pytest.mark.parametrize("fast", ["float32", "bfloat16"])
def test_the_fastest_precision_is_taken(fast):
    step = Step("precision", {"float32": 0.06, "bfloat16": 0.06, fast: 0.002})
    chosen = for_training({"network": fast}, BASE, step, False)
    assert chosen.precision == fast
    assert set(step.ran) == set(candidates(False))
    taken, others = chosen.why.removeprefix("a training step takes ").split(", instead of ")
    assert f" ms in {fast} " in taken
    assert others.count(" ms in ") == len(candidates(False)) - 1


@pytest.mark.parametrize("fast", [True, False])
def test_the_fastest_memory_format_is_taken(fast):
    assert for_training({}, BASE, Step("channels_last", {fast: 0.002, not fast: 0.06}), False).channels_last is fast


@pytest.mark.parametrize("fast", ["float32", "bfloat16"])
def test_layers_that_only_answer_have_their_own_precision(fast):
    slow = {"float32": "bfloat16", "bfloat16": "float32"}[fast]
    frozen = Step("frozen", {fast: 0.002, slow: 0.06})
    base = for_inference({}, frozen, instant)
    assert base.frozen == fast
    assert base.why.startswith("the frozen layers take ")
    chosen = for_training({}, base, Step("precision", {slow: 0.002, fast: 0.06}), False)
    assert (chosen.precision, chosen.frozen) == (slow, fast)


def test_what_was_found_for_layers_that_only_answer_is_kept():
    chosen = for_training({}, BASE, instant, False)
    assert (chosen.frozen, chosen.workers) == ("bfloat16", 3)
    other = for_training({}, Runtime("cpu", frozen="float32", workers=1), never, False)
    assert (other.frozen, other.workers) == ("float32", 1)  # remembered is how steps are run, nothing else


def test_a_slow_first_step_does_not_count():
    ran = set()

    def step(way: Runtime) -> None:
        first = way not in ran
        ran.add(way)
        time.sleep(0.1 if way.precision == "bfloat16" and first else 0.03 if way.precision == "float32" else 0.002)

    assert for_training({}, BASE, step, False).precision == "bfloat16"


def test_a_few_pictures_at_once_only_where_they_do_not_depend_on_each_other(monkeypatch):
    monkeypatch.setattr("tellapart.training.runtime.default_device", lambda: "cpu")
    step = Step("at_once", {0: 0.03, 8: 0.002})
    chosen = for_training({"network": "apart"}, BASE, step, True)
    assert chosen.at_once == 8
    assert " with 8 pictures at once" in chosen.why
    assert for_training({"network": "apart"}, BASE, step, False).at_once == 0
    monkeypatch.setattr("tellapart.training.runtime.default_device", lambda: "cuda")
    assert {way.at_once for way in candidates(True)} == {0}


@pytest.mark.parametrize("fast", [2, 4, 16])
def test_the_number_of_threads_that_load_fastest_is_taken(fast, monkeypatch):
    monkeypatch.setattr("tellapart.training.runtime.n_processors", lambda: 24)
    load = Step("workers", {2: 0.04, 4: 0.04, 8: 0.04, 16: 0.04} | {fast: 0.002})
    chosen = for_inference({"network": "threads"}, None, load)
    assert chosen.workers == fast
    assert {way.workers for way in load.ran} == {2, 4, 8, 16}
    assert f" ms in {fast} threads, instead of " in chosen.why


@pytest.mark.parametrize(("n", "expected"), [(1, [1]), (2, [2]), (3, [2, 3]), (6, [2, 4, 6]), (64, [2, 4, 8, 16])])
def test_numbers_of_threads_worth_timing(n, expected, monkeypatch):
    monkeypatch.setattr("tellapart.training.runtime.n_processors", lambda: n)
    assert numbers_of_workers() == expected


def test_one_number_of_threads_needs_no_timing(monkeypatch):
    monkeypatch.setattr("tellapart.training.runtime.n_processors", lambda: 2)
    assert for_inference({"network": "two"}, None, never).workers == 2


# Remembered


def never(way: Runtime) -> None:
    pytest.fail("measured again")


def test_a_choice_is_remembered(tmp_path):
    base = for_inference({"network": "a", "size": 64}, instant, instant)
    first = for_training({"network": "a", "size": 64}, base, instant, False)
    assert for_inference({"size": 64, "network": "a"}, never, never) == base
    assert for_training({"size": 64, "network": "a"}, base, never, False) == first
    assert len(remembered(tmp_path)) == 2


def test_other_work_is_measured_anew(tmp_path):
    for key in ({"size": 64}, {"size": 65}, {"size": "64"}):
        for_training(key, BASE, instant, False)
    assert len(remembered(tmp_path)) == 3


def test_another_number_of_threads_is_measured_anew(tmp_path, monkeypatch):
    for_training({}, BASE, instant, False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 99)
    for_training({}, BASE, instant, False)
    assert len(remembered(tmp_path)) == 2


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"3", b"null", b"{}", b'{"device": "cpu", "colour": "red"}', b"\xff\xfe"]
)
def test_a_corrupted_memory_is_ignored_and_mended(tmp_path, content):
    for_training({}, BASE, instant, False)
    (memory,) = remembered(tmp_path)
    memory.write_bytes(content)
    again = for_training({}, BASE, instant, False)
    assert again.why
    assert for_training({}, BASE, never, False) == again


def test_a_memory_that_cannot_be_written_costs_time_only(tmp_path):
    (tmp_path / "cache").write_text("not a folder", encoding="utf-8")
    assert for_training({}, BASE, instant, False).why


def test_an_error_of_a_step_comes_through_and_is_not_remembered(tmp_path):
    def fail(way: Runtime) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        for_training({}, BASE, fail, False)
    assert remembered(tmp_path) == []


# The machine


def test_default_workers_are_those_this_process_may_use():
    assert 1 <= default_workers() <= 8


def test_the_environment_says_what_a_result_depends_on():
    values = environment()
    assert json.loads(json.dumps(values)) == values
    assert {"tellapart", "python", "torch", "torchvision", "platform", "threads", "processor"} <= set(values)
    assert "node" not in values
    assert torch.__version__.startswith(values["torch"])  # without the build's name


def test_devices_are_picked_by_speed(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert runtime.default_device() == "mps"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert runtime.default_device() == "cuda"
