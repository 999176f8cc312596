"""The suffix of a file decides on its format; what is none of the formats is refused before any work."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from tellapart.deploy.answer import Answer
from tellapart.deploy.output_formats import FORMATS, SUFFIXES, format_of, write_answers
from tellapart.errors import UsageError

COMMANDS = {
    "predict": (["predict", "no-run", "no-picture", "--out"], "--out"),
    "predict --format": (["predict", "no-run", "no-picture", "--format", "csv", "--out"], "--out"),
    "predict --submission": (["predict", "no-run", "no-picture", "--submission"], "--submission"),
    "find-lr": (["find-lr", "no-folder", "--out"], "--out"),
    "augment": (["augment", "no-folder", "--out"], "--out"),
    "audit": (["audit", "no-folder", "--exclude", "leak", "--write-table"], "--write-table"),
    "explain": (["explain", "no-run", "--out"], "--out"),
    "compare": (["compare", "no-run", "no-other", "--out"], "--out"),
    "curves": (["curves", "no-run", "--out"], "--out"),
}


@pytest.mark.parametrize("file", ["x.xlsx", "x", "x.gif", "x.png.bak"])
@pytest.mark.parametrize("name", COMMANDS)
def test_other_suffixes_are_refused_first(here: Callable, tmp_path: Path, name: str, file: str) -> None:
    words, option = COMMANDS[name]
    done = here(*words, tmp_path / file)
    assert done.returncode == 2
    assert f"{option} {tmp_path / file}: expected a file that ends in ." in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_format_that_is_not_the_suffixs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--format table does not go with --out .*csv"):
        format_of(tmp_path / "x.csv", "table")


def test_a_submission_is_one_file(here: Callable, tmp_path: Path) -> None:
    done = here("predict", "no-run", "x.png", "--submission", tmp_path / "s.csv", "--out", tmp_path / "a.csv")
    assert "Leave --out and --format out" in done.stderr


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".CSV"])
def test_the_suffix_decides(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x{suffix}"
    form = format_of(path, None)
    assert form == format_of(path, form)
    answers = [Answer(f"{i}.png", ("cat",), (("cat", 0.75), ("dog", 0.25)), 0.75) for i in range(3)]
    write_answers(answers, form, 1, path)
    match form:
        case "csv":
            frame = pl.read_csv(path)
        case "jsonl":
            frame = pl.read_ndjson(path)
        case "json":
            frame = pl.DataFrame(json.loads(path.read_text("utf-8")))
        case "parquet":
            frame = pl.read_parquet(path)
        case _:
            assert "0.png  cat" in path.read_text("utf-8")
            return
    assert frame.select("path", "label", "certainty").rows() == [(f"{i}.png", "cat", 0.75) for i in range(3)]


def test_every_format_has_a_suffix_and_goes_to_a_terminal_or_device() -> None:
    assert set(SUFFIXES.values()) == set(FORMATS)
    assert format_of(None, None) == "table"
    assert format_of(None, "csv") == "csv"
    assert format_of(Path("/dev/null"), "csv") == "csv"


def test_no_answer_is_an_empty_array() -> None:
    stream = io.StringIO()
    write_answers([], "json", 1, stream)
    assert json.loads(stream.getvalue()) == []
