"""A run that ends before its time leaves whole rows, and the next one goes on: nothing twice, nothing lost."""

import csv
import io
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tellapart.deploy import parquet_parts
from tellapart.deploy.answer import Answer
from tellapart.deploy.resumable import RESUMABLE, partial_folder, write_resumable
from tellapart.errors import UsageError

NAMES = [
    "a.png",
    "b,c.png",
    "=1.png",
    'quo"te.png',
    "line\nbreak.png",
    "ä.png",
    "bad.png",
    *(f"{i}.png" for i in range(20)),
]
ABOUT = {"network": "x"}


def said(picture):
    name = str(picture)
    if name.startswith("bad"):
        return Answer(name, (), (), float("nan"), "the file is empty")
    return Answer(name, ("cat",), (("cat", 0.75), ("dog", 0.25)), 0.75)


def answering(stop=None, asked=None):
    """Answers pictures, notes which, and breaks off before one of them."""

    def answer(pictures):
        for number, picture in enumerate(pictures):
            if number == stop:
                raise KeyboardInterrupt
            if asked is not None:
                asked.append(str(picture))
            yield said(picture)

    return answer


def write(out, format, resume=False, names=NAMES, about=ABOUT, **how):
    return write_resumable(map(Path, names), answering(**how), out, format, 2, ("ood_score",), about, resume)


def rows(out, format):
    if format == "csv":
        return list(csv.DictReader(io.StringIO(out.read_bytes().decode(), newline="")))
    if format == "parquet":
        return pl.read_parquet(out).to_dicts()
    return (
        json.loads(out.read_text()) if format == "json" else [json.loads(line) for line in out.read_text().splitlines()]
    )


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr(parquet_parts, "_ROWS", 3)


@pytest.mark.parametrize("format", RESUMABLE)
def test_what_is_resumed_is_what_is_written_at_once(tmp_path, format, small_parts):
    whole, out = tmp_path / "whole", tmp_path / "out"
    expected = write(whole, format)
    assert (expected.n_answered, expected.n_unreadable) == (len(NAMES) - 1, 1)
    asked: list[str] = []
    for stop in (0, 5, 3, 1, 9):
        with pytest.raises(KeyboardInterrupt):
            write(out, format, resume=True, stop=stop, asked=asked)
        assert not out.exists()
    assert write(out, format, resume=True, asked=asked) == expected
    assert rows(out, format) == rows(whole, format)
    assert format == "parquet" or out.read_bytes() == whole.read_bytes()
    assert asked == NAMES
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "whole"]


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(format=st.sampled_from(["csv", "jsonl"]), cut=st.integers(0, 400), rest=st.binary(max_size=9))
def test_a_last_row_that_was_cut_off_anywhere_is_written_again(tmp_path, format, cut, rest):
    out, whole = tmp_path / f"out.{format}", tmp_path / "whole"
    write(whole, format)
    with pytest.raises(KeyboardInterrupt):
        write(out, format, stop=9)
    path = partial_folder(out) / f"rows.{format}"
    content = path.read_bytes()[:cut]
    path.write_bytes(content + rest.replace(b"\n", b"") if not content.endswith(b"\n") else content)
    write(out, format, resume=True)
    assert out.read_bytes() == whole.read_bytes()


def test_a_part_that_is_damaged_is_written_again(tmp_path, small_parts):
    out = tmp_path / "out.parquet"
    with pytest.raises(KeyboardInterrupt):
        write(out, "parquet", stop=10)
    parts = sorted(partial_folder(out).glob("*.parquet"))
    assert len(parts) == 4
    parts[1].write_bytes(b"PAR1")
    write(out, "parquet", resume=True)
    assert [row["path"] for row in rows(out, "parquet")] == NAMES


@pytest.mark.parametrize("format", RESUMABLE)
def test_rows_of_another_model_or_other_pictures_are_not_gone_on_with(tmp_path, format):
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        write(out, format, stop=5)
    with pytest.raises(UsageError, match="another model or other options"):
        write(out, format, resume=True, about={"network": "y"})
    for names in (NAMES[1:], NAMES[:3]):
        with pytest.raises(UsageError, match=r"Row [14] of the answers so far"):
            write(out, format, resume=True, names=names)
    write(out, format, resume=True)
    assert [row["path"].lstrip("'") for row in rows(out, format)] == NAMES


@pytest.mark.parametrize("format", RESUMABLE)
def test_without_resume_it_begins_anew_and_the_older_file_stays_until_then(tmp_path, format):
    out = tmp_path / "out"
    out.write_text("older")
    with pytest.raises(KeyboardInterrupt):
        write(out, format, stop=5)
    assert out.read_text() == "older"
    asked: list[str] = []
    write(out, format, asked=asked)
    assert asked == NAMES


@pytest.mark.parametrize("format", RESUMABLE)
def test_no_pictures_at_all(tmp_path, format):
    assert write(tmp_path / "out", format, names=[]).n_answered == 0
    assert rows(tmp_path / "out", format) == []
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_file_that_another_process_writes(tmp_path):
    def inner(pictures):
        with pytest.raises(UsageError, match="Another process"):
            write(tmp_path / "out", "csv", resume=True)
        yield from map(said, pictures)

    write_resumable(map(Path, NAMES), inner, tmp_path / "out", "csv", 2, (), ABOUT, False)


def test_places_that_cannot_be_written_to(tmp_path):
    (tmp_path / "file").touch()
    for out in (tmp_path, tmp_path / "file" / "out"):
        with pytest.raises(UsageError):
            write(out, "csv")


# --- A real process, really killed ---------------------------------------------------------------------------------

PREDICT = """
import sys, time
from tellapart.deploy import output_formats, parquet_parts, predictor
parquet_parts._ROWS = 7
answers = predictor._answers
def slowly(*arguments):
    for answer in answers(*arguments):
        time.sleep(0.004)
        yield answer
predictor._answers = slowly
from tellapart.cli.main import main
main()
"""


def n_bytes(folder):
    """Of the rows so far; files come and go at the same time."""
    try:
        return sum(path.stat().st_size for path in folder.iterdir())
    except FileNotFoundError:
        return 0


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
@pytest.mark.parametrize("format", RESUMABLE)
def test_killed_again_and_again_it_ends_with_each_picture_once(bundle_folder, plain, tmp_path, format):
    names = [plain(f"pictures/{number:03}.png", (number % 256, 99, 0)).name for number in range(300)]
    dice, out = random.Random(format), tmp_path / f"out.{format}"
    command = [sys.executable, "-c", PREDICT, "predict", str(bundle_folder), str(tmp_path / "pictures")]
    command += ["--out", str(out), "--resume"]
    n_kills, goes_on = 0, 0
    for _ in range(40):
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        before = n_bytes(partial_folder(out))
        end = time.monotonic() + 60
        while child.poll() is None and time.monotonic() < end:  # until it has gone on, then a little
            if n_bytes(partial_folder(out)) > before and n_kills < 6:
                time.sleep(dice.random() * 0.2)
                child.send_signal(signal.SIGKILL)
                n_kills += 1
                break
            time.sleep(0.005)
        if child.wait(60) == 0:
            break
        goes_on += 1
    assert child.returncode == 0
    assert goes_on == n_kills >= 3
    assert [Path(row["path"]).name for row in rows(out, format)] == names
    assert sorted(path.name for path in tmp_path.iterdir()) == [out.name, "pictures"]
