"""Paths of this machine, taken out of what is passed on: of each the last part is left."""

from __future__ import annotations

import re
import shlex
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

#: The folders of an absolute path within a text; an address such as https://… is none.
FOLDERS = re.compile(r"(?<![\w:/.])(?:/|[A-Za-z]:[\\/])(?:[^\s/\\'\"]+[/\\])+")


def without_folders(value: Any) -> Any:
    """Plain values whose paths are their last part: what a bundle says of its origin names folders of its maker."""
    if isinstance(value, dict):
        return {key: _command(each) if key == "command" else without_folders(each) for key, each in value.items()}
    if isinstance(value, list):
        return [without_folders(each) for each in value]
    return FOLDERS.sub("", _last_part(value)) if isinstance(value, str) else value


def _command(text: Any) -> Any:
    """A command whose paths, also those with blanks in them, are their last part."""
    try:
        words = shlex.split(str(text))
    except ValueError:
        return ""
    return shlex.join(map(_last_part, words))


def _last_part(word: str) -> str:
    key, sign, value = word.rpartition("=")
    value = value.strip("'\"") if sign else value
    for kind in (PurePosixPath, PureWindowsPath):
        if kind(value).is_absolute():
            return f"{key}{sign}{kind(value).name}"
    return word
