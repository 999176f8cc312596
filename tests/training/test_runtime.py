"""How a network is run: as asked for, and what the environment says of it."""

from __future__ import annotations

import json

import pytest
import torch

from tellapart.errors import UsageError
from tellapart.training import runtime
from tellapart.training.runtime import (
    Runtime,
    default_device,
    default_workers,
    environment,
    parse,
)

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
