"""Texts for people are clean; data keep every letter; streams of any encoding take both."""

from __future__ import annotations

import io
import json
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from tellapart.core import output
from tellapart.core.text import Lines, as_lines, json_text, visible, without_controls

STEERING = "\x1b\r\x08\x7f\x9b\xad\u200b\u200e\u2028\u202e\u2066\ufeff\ufffe\udcff\U000e0041"
SHOWN = "käse 猫 95\u202f% − 👩\u200d🔬 می\u200cخواهم"


def test_what_steers_becomes_an_escape_and_the_rest_stays() -> None:
    assert visible(f"a\n\t{SHOWN}") == f"a\\n\\t{SHOWN}"
    assert visible("\x1b[31m\u202e\udcff") == r"\x1b[31m\u202e\udcff"
    assert not set(visible(STEERING)) & set(STEERING)
    assert without_controls("a\n\tb\r") == "a\n\tb\\r"


def test_lines_are_cleaned_once_and_keep_their_breaks() -> None:
    text = as_lines(["a\nb", as_lines(["c", "d\r"])])
    assert text == "a\\nb\nc\nd\\r"
    assert visible(text) == text
    assert isinstance(text, Lines)


@given(st.text() | st.text(STEERING))
def test_json_says_the_same_and_steers_nothing(text: str) -> None:
    for plain in (True, False):
        written = json_text({text: text}, ascii=plain)
        assert json.loads(written) == {text: text}
        assert visible(written) == written
        assert not plain or written.isascii()


def test_json_has_finite_numbers() -> None:
    assert json_text({"a": [float("nan"), (float("inf"), 1.5)], "b": 2}) == '{"a": [null, [null, 1.5]], "b": 2}'


def guarded(monkeypatch: pytest.MonkeyPatch, encoding: str) -> io.BytesIO:
    content = io.BytesIO()
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, io.TextIOWrapper(content, encoding=encoding, write_through=True, newline="\n"))
    output.guard_output()
    return content


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "cp437", "utf-8", "utf-16"])
def test_every_encoding_takes_every_text(monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    content = guarded(monkeypatch, encoding)
    output.print_out(SHOWN, STEERING)
    output.print_err(SHOWN)
    output.print_json({"name": SHOWN + STEERING})
    print(SHOWN + STEERING)  # as libraries do
    lines = content.getvalue().decode(encoding).split("\n")
    assert not set("".join(lines)) & (set(STEERING) - {"\ufeff"})  # which begins a text in UTF-16
    assert json.loads(lines[3]) == {"name": SHOWN + STEERING}


def test_letters_that_are_missing_have_plain_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    content = guarded(monkeypatch, "latin-1")
    output.print_out("“−0.3” → 95\u202f% × …", "käse 猫")
    assert content.getvalue().decode("latin-1") == '"-0.3" -> 95 % × ...\nkäse \\u732b\n'


def test_a_bar_is_drawn_on_any_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    content = guarded(monkeypatch, "ascii")
    console = Console(file=output.unguarded(sys.stderr), force_terminal=True, width=40)
    console.print("━━━ ├─ █", style="red")
    assert content.getvalue().startswith(b"\x1b[31m")
    assert b"--- +- #" in content.getvalue()


def test_a_guard_is_set_once_and_where_there_is_a_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    guarded(monkeypatch, "utf-8")
    first: Any = sys.stdout
    monkeypatch.setattr(sys, "stderr", None)
    output.guard_output()
    assert sys.stdout is first
    assert sys.stderr is None
    assert not hasattr(first, "buffer")
    with pytest.raises(TypeError):
        first.write(b"")
