"""Everything that a command line can name becomes pictures, in order, as it comes."""

import io
import json
import os
import sys
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tellapart.deploy.inputs.lists import listed_pictures, name_of_line
from tellapart.deploy.inputs.sources import find_sources
from tellapart.deploy.predictor import answers
from tellapart.deploy.read_pictures import name_of
from tellapart.errors import DataError, UnreadableError, UsageError

NAMES = ["a b.png", "sub/c.PNG", "ä.jpg", "d, e.png"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    (tmp_path / "sub").mkdir()
    for name in NAMES:
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(*inputs, column=None):
    return [name_of(source) for source in find_sources(inputs, column)]


@pytest.mark.parametrize("line", ["{}\n", "{}\r\n", '"{}"\n', "\n  {}  \n", "{} 3 2\n", "{}\tcat\n"])
def test_a_plain_list_has_a_name_a_line(here, line):
    plain = [name for name in NAMES if "," not in name]
    Path("list.txt").write_text("".join(line.format(name) for name in plain), encoding="utf-8", newline="")
    assert names("list.txt") == plain


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet"])
@pytest.mark.parametrize("column", ["file_name", "where"])
def test_a_column_of_a_table(here, suffix, column):
    table = pl.DataFrame({"id": [1, 2, 3, 4], "text": ["x"] * 4, column: NAMES, "mask": NAMES})
    path = Path(f"table.{suffix}")
    if suffix == "jsonl":
        table.write_ndjson(path)
    elif suffix == "parquet":
        table.write_parquet(path)
    else:
        table.write_csv(path, separator="\t" if suffix == "tsv" else ",")
    assert names(str(path), column=column) == NAMES
    if column == "file_name":
        assert names(str(path)) == NAMES
    else:
        with pytest.raises(UsageError, match="does not say which column") as caught:
            names(str(path))
        assert "--column" in caught.value.hint
    with pytest.raises(UsageError, match="no column 'other'"):
        names(str(path), column="other")


def test_a_column_of_names_is_taken_before_one_of_numbers(here):
    Path("t.csv").write_text("id,where\n1,a b.png\n")
    Path("ids.csv").write_text("id,label\n1,cat\n")
    assert names("t.csv", "ids.csv") == ["a b.png", "1"]


def test_names_are_relative_to_the_table_or_else_to_the_current_folder(here):
    Path("sub/inner.csv").write_text("path\nc.PNG\n")
    Path("sub/outer.csv").write_text("path\nsub/c.PNG\n")
    assert names("sub/inner.csv", "sub/outer.csv") == [os.path.join("sub", "c.PNG")] * 2


def test_an_empty_cell_is_a_row_that_says_so(here):
    Path("t.csv").write_text('path,n\n"a b.png",1\n,2\nä.jpg,3\n', encoding="utf-8")
    sources = list(find_sources(["t.csv"]))
    assert [name_of(source) for source in sources] == ["a b.png", "t.csv, row 3", "ä.jpg"]
    with pytest.raises(UnreadableError, match="names no picture"):
        sources[1].read()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.txt", b""),
        ("empty.csv", b""),
        ("header.csv", b"path,label\n"),
        ("ragged.csv", b"path,label\na b.png\n"),
        ("latin.csv", b"path,label\n\xe4.png,x\n"),
        ("no.jsonl", b"[1]\n"),
        ("deep.jsonl", b"[" * 100_000 + b"\n"),
        ("no.parquet", b"PAR1"),
    ],
)
def test_tables_that_cannot_be_read_are_errors_for_people(here, name, content):
    Path(name).write_bytes(content)
    with pytest.raises(DataError) as caught:
        list(find_sources([name]))
    assert name in caught.value.message


def test_a_name_that_is_no_utf8_stays_what_it_is(here):
    Path("list.txt").write_bytes(b"caf\xe9.png\n")
    assert names("list.txt") == [os.fsdecode(b"caf\xe9.png")]


def test_a_long_table_is_read_as_it_is_asked_for(here):
    """What comes after the rows asked for may be garbled: it has not been looked at."""
    with open("long.csv", "w") as file:
        file.write("path\n" + "a b.png\n" * 50_000 + '"garbled\n')
    pictures = listed_pictures(Path("long.csv"))
    assert [next(pictures).name for _ in range(1000)] == ["a b.png"] * 1000
    with pytest.raises(DataError):
        list(pictures)


def test_parquet_is_read_in_pieces(here, monkeypatch):
    monkeypatch.setattr("tellapart.deploy.inputs.lists._CHUNK", 3)
    pl.DataFrame({"path": [f"{number}.png" for number in range(10)]}).write_parquet("t.parquet")
    assert names("t.parquet") == [f"{number}.png" for number in range(10)]


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters='\r\n\0"'), min_size=1).filter(str.strip))
def test_any_name_with_a_picture_s_suffix_is_taken_whole(stem):
    name = f"{stem.strip()}.jpg".strip()
    assert name_of_line(f"{name}\n") == name


# --- Standard input ------------------------------------------------------------------------------------------------


def through_standard_input(monkeypatch, content):
    class Stream:
        buffer = io.BufferedReader(io.BytesIO(content))

    monkeypatch.setattr(sys, "stdin", Stream)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\0"])
@pytest.mark.parametrize("last", [True, False])
def test_names_come_through_the_standard_input(here, monkeypatch, end, last):
    through_standard_input(monkeypatch, (end.join(NAMES) + (end if last else "")).encode())
    assert names("sub", "-") == [os.path.join("sub", "c.PNG"), *NAMES]


def test_many_names_come_through_the_standard_input(monkeypatch):
    many = [f"folder/{number}.jpg" for number in range(30_000)]
    for end in "\n\0":
        through_standard_input(monkeypatch, end.join(many).encode())
        assert names("-") == many


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "webp", "bmp", "tiff", "ppm", "ico", "jp2", "avif"])
def test_a_picture_comes_through_the_standard_input(bundle, plain, monkeypatch, suffix):
    from PIL import features

    if suffix == "avif" and not features.check("avif"):
        pytest.skip("this Pillow writes no AVIF")
    path = plain(f"a.{suffix}", "red", (32, 32))
    through_standard_input(monkeypatch, path.read_bytes())
    (answer,) = answers(bundle, find_sources(["-"]))
    assert (answer.path, answer.label) == ("-", "red")


def test_nothing_at_all_comes_through_the_standard_input(monkeypatch):
    through_standard_input(monkeypatch, b"")
    assert names("-") == []


def test_what_comes_through_the_standard_input_is_bounded(monkeypatch):
    monkeypatch.setattr("tellapart.deploy.inputs.sources._MOST", 1000)
    through_standard_input(monkeypatch, b"\xff\xd8" + bytes(1000))
    with pytest.raises(UsageError, match="picture of more than"):
        names("-")
    through_standard_input(monkeypatch, b"x" * 3_000_000)
    with pytest.raises(UsageError, match="name of more than"):
        names("-")


@pytest.mark.parametrize(
    ("inputs", "column", "message"),
    [
        (["-", "-"], None, "can be read once"),
        (["sub"], "path", "--column is for tables"),
        (["nothing.csv"], None, "exist"),
    ],
)
def test_what_cannot_be_asked_for(here, inputs, column, message):
    with pytest.raises(UsageError, match=message):
        find_sources(inputs, column)


def test_a_missing_file_of_a_list_is_an_answer_that_says_so(bundle, here):
    Path("list.txt").write_text("nothing.png\n")
    (answer,) = answers(bundle, find_sources(["list.txt"]))
    assert "no such file" in answer.problem.lower() or "not exist" in answer.problem
    assert json.loads(json.dumps(answer.to_dict()))["certainty"] is None
