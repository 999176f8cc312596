"""Directories of results of several runs, an average or a cross-validation: predictions and scores, but no network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tellapart.core.plain_json import read_json_file
from tellapart.core.text import counted

AVERAGE = "average.json"
CROSS_VALIDATION = "cross_validation.json"


def describe_several(directory: Path) -> tuple[str, str] | None:
    """Message and hint for whoever needs the network of such a directory; None where it is none."""
    if (directory / AVERAGE).is_file():
        runs = _listed(directory / AVERAGE, "runs")
        return _texts(directory, f"an average of {counted(len(runs), 'run')}", runs)
    if (directory / CROSS_VALIDATION).is_file():
        folds = [directory / str(name) for name in _listed(directory / CROSS_VALIDATION, "folds")]
        return _texts(directory, f"a cross-validation of {counted(len(folds), 'fold')}", folds)
    return None


def _texts(directory: Path, kind: str, runs: list[Any]) -> tuple[str, str]:
    example = f", such as {runs[0]}" if runs else ""
    message = f"{directory} is {kind}: it has predictions and scores, but no network that answers."
    return message, f"Name one of its runs{example}."


def _listed(path: Path, key: str) -> list[Any]:
    try:
        values = read_json_file(path)
    except (OSError, ValueError):
        return []
    members = values.get(key) if isinstance(values, dict) else None
    return members if isinstance(members, list) else []
