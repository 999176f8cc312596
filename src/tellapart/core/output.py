"""The one way out to a terminal or pipe: texts are cleaned, and written in letters that the stream has."""

from __future__ import annotations

import codecs
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from typing import Any, TextIO, cast

from tellapart.core.text import json_text, visible, without_controls

_ERRORS = "tellapart.plain"
#: What our own texts are set with, for streams that lack it (ASCII, Latin-1, a Windows code page).
_PLAIN = {
    **{"−": "-", "–": "-", "→": "->", "←": "<-", "…": "...", "“": '"', "”": '"', "‘": "'", "’": "'"},
    **{"×": "x", "·": "-", "±": "+/-", "½": "1/2", "\u202f": " ", "\xa0": " ", "²": "^2", "√": "sqrt", "∞": "inf"},
    **{
        "━": "-",
        "─": "-",
        "│": "|",
        "├": "+",
        "└": "+",
        "█": "#",
        "▉": "#",
        "▊": "#",
        "▋": "#",
        "▌": "#",
        "▍": " ",
        "▎": " ",
        "▏": " ",
    },
}


def print_out(*texts: str, end: str = "\n", flush: bool = False) -> None:
    """Print texts on standard output, a line each, cleaned by `visible`."""
    for text in texts:
        print(visible(text), end=end)
    if flush:
        sys.stdout.flush()


def print_err(*texts: str) -> None:
    """Print texts on standard error, a line each, cleaned by `visible`; at once."""
    for text in texts:
        print(visible(text), file=sys.stderr, flush=True)


def print_json(value: Any) -> None:
    """Print a value as one line of JSON on standard output, at once."""
    print(json_text(value, ascii=not is_utf8(sys.stdout)), flush=True)


def is_utf8(stream: TextIO) -> bool:
    """Whether any letter can be written to a stream as it is."""
    return (stream.encoding or "utf-8").lower().replace("-", "") == "utf8"


def guard_output() -> None:
    """Clean whatever is printed from now on, and write letters that a stream's encoding lacks in others.

    For a program's beginning. What libraries print, such as warnings that name a file, is cleaned too.
    """
    sys.stdout, sys.stderr = _guarded(sys.stdout), _guarded(sys.stderr)


@contextmanager
def escaping(stream: TextIO) -> Iterator[TextIO]:
    """Give the stream behind a guard for data, whose letters are not changed: those it lacks are written as escapes."""
    target = unguarded(stream)
    if not isinstance(target, TextIOWrapper):
        yield target
        return
    errors = target.errors
    target.reconfigure(errors="backslashreplace")
    try:
        yield target
    finally:
        target.reconfigure(errors=errors)


def unguarded(stream: TextIO) -> TextIO:
    """The stream behind a guard: for what steers a terminal on purpose, after its texts have been cleaned."""
    return cast(TextIO, getattr(stream, "unguarded", stream))


class _Guard:
    """A text stream that cleans what is written to it.

    It has no `buffer`: libraries that look for one would write past it.
    """

    def __init__(self, stream: TextIO) -> None:
        self.unguarded = stream

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"a text is expected, not {type(text).__name__}")
        self.unguarded.write(without_controls(text))
        return len(text)

    def writelines(self, texts: Any) -> None:
        for text in texts:
            self.write(text)

    def __getattr__(self, name: str) -> Any:
        if name == "buffer":
            raise AttributeError(name)
        return getattr(self.unguarded, name)


def _guarded(stream: TextIO) -> TextIO:
    if stream is None or isinstance(stream, _Guard):  # None: the process began with this stream closed
        return stream
    if isinstance(stream, TextIOWrapper):
        codecs.register_error(_ERRORS, _plainly)
        stream.reconfigure(errors=_ERRORS)
    return cast(TextIO, _Guard(stream))


def _plainly(error: UnicodeError) -> tuple[str, int]:
    """Replace letters that an encoding lacks by plain ones, or by escapes."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    missing = error.object[error.start : error.end]
    return "".join(_PLAIN.get(c) or c.encode("ascii", "backslashreplace").decode() for c in missing), error.end
