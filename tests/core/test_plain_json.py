"""JSON from anybody: every fault is a ValueError."""

from __future__ import annotations

from pathlib import Path

import pytest

from tellapart.core import plain_json
from tellapart.core.plain_json import parse_json, read_json_file
from tellapart.errors import RunError
from tellapart.runs.json_files import Environment, read_checked
from tellapart.runs.run import Run

BAD = ["[" * 200_000, '{"a":' * 200_000, "9" * 5_000, "", "{", "nul"]


@pytest.mark.parametrize("text", BAD, ids=lambda text: text[:5])
def test_what_is_no_json_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        parse_json(text)


def test_a_file_has_a_largest_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain_json, "MOST", 1 << 20)
    path = tmp_path / "x.json"
    path.write_bytes(b" " * ((1 << 20) - 1) + b"1")
    assert read_json_file(path) == 1
    path.write_bytes(b" " * (1 << 20) + b"1")
    with pytest.raises(ValueError, match="larger than 1 MiB"):
        read_json_file(path)


@pytest.mark.parametrize("text", BAD, ids=lambda text: text[:5])
def test_files_of_a_run_are_read_so(tmp_path: Path, text: str) -> None:
    run = Run(tmp_path)
    run.events_file.write_text(text + "\n", encoding="utf-8")
    with pytest.raises(RunError, match="line 1"):
        run.events()
    with pytest.raises(RunError, match="damaged"):
        read_checked(run.events_file, Environment)
