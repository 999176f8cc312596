"""Answers as a table, CSV, JSON lines and Parquet: whole, in order, at once, and harmless."""

import csv
import io
import json
import os
import re
import threading

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tellapart.core.files import guarded
from tellapart.deploy.answer import Answer
from tellapart.deploy.find_pictures import find_pictures
from tellapart.deploy.output_formats import FORMATS, columns, csv_cell, write_answers
from tellapart.deploy.predictor import answers
from tellapart.errors import UsageError


def answer(path="a.png", label="Beagle", certainty=0.98, others=(("Basset", 0.0123456789), ("Pug", 1e-9))):
    return Answer(path, (label,), ((label, certainty), *others), certainty)


def unreadable(path="bad.png", problem="the file is empty"):
    return Answer(path, (), (), float("nan"), problem)


NONE = Answer("n.png", (), (("cat", 0.25), ("dog", 0.125)), 0.75)
TWO = Answer("t.png", ("cat", "dog"), (("cat", 0.9), ("bird", 0.8), ("dog", 0.7)), 0.7)


def text(format, given, top=1):
    stream = io.StringIO()
    write_answers(given, format, top, stream)
    return stream.getvalue()


def rows(content):
    return list(csv.reader(io.StringIO(content)))


# --- All formats -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", FORMATS)
def test_the_summary_counts(format, tmp_path):
    given = [answer(), unreadable(), answer("b.png"), answer("c.png", "Pug"), unreadable("worse.png", "gone")]
    summary = write_answers(given, format, 1, tmp_path / "out")
    assert (summary.n_answered, summary.n_unreadable) == (3, 2)
    assert summary.unreadable == [("bad.png", "the file is empty"), ("worse.png", "gone")]
    assert summary.counts == {"Beagle": 2, "Pug": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("format", FORMATS)
def test_no_answers_at_all(format, tmp_path):
    assert write_answers([], format, 2, tmp_path / "out").n_answered == 0
    assert (tmp_path / "out").exists()


@pytest.mark.parametrize("format", FORMATS)
def test_a_stream_that_fails_leaves_the_older_file(format, tmp_path):
    def failing():
        yield answer()
        raise KeyboardInterrupt

    (tmp_path / "out").write_text("older")
    with pytest.raises(KeyboardInterrupt):
        write_answers(failing(), format, 1, tmp_path / "out")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["older"]


@pytest.mark.parametrize("format", ["csv", "jsonl"])
def test_rows_leave_as_they_come(format):
    class Flushed(io.StringIO):
        seen = ""

        def flush(self):
            self.seen = self.getvalue()

    stream = Flushed()

    def given():
        for i in range(50):
            if i:
                assert f"{i - 1}.png" in stream.seen
            yield answer(f"{i}.png")

    write_answers(given(), format, 1, stream)


def test_a_table_waits_for_the_first_batch_only():
    stream = io.StringIO()

    def given():
        for i in range(50):
            if i > 16:
                assert f"{i - 1}.png" in stream.getvalue()
            yield answer(f"{i}.png")

    write_answers(given(), "table", 1, stream)


def test_the_standard_output_is_the_default(capsys):
    write_answers([answer()], "csv")
    assert capsys.readouterr().out == "path,label,certainty,problem\na.png,Beagle,0.98,\n"


def test_columns_for_several_labels_a_row():
    assert columns(1) == ["path", "label", "certainty", "problem"]
    assert columns(3) == ["path", "label", "certainty", "label_2", "certainty_2", "label_3", "certainty_3", "problem"]


def test_other_columns_hold_what_was_not_chosen():
    expected = [
        ["a.png", "Beagle", "0.98", "Basset", "0.012346", "Pug", "0.0", ""],
        ["bad.png", "", "", "", "", "", "", "the file is empty"],
        ["n.png", "none", "0.75", "cat", "0.25", "dog", "0.125", ""],
        ["t.png", "cat, dog", "0.7", "bird", "0.8", "", "", ""],
    ]
    assert rows(text("csv", [answer(), unreadable(), NONE, TWO], top=3))[1:] == expected


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("xml", 1, None), "'xml' is unknown"),
        (("csv", 0, None), "At least one"),
        (("parquet", 1, None), "terminal or pipe"),
        (("parquet", 1, io.StringIO()), "terminal or pipe"),
    ],
)
def test_what_cannot_be_written(arguments, told):
    with pytest.raises(UsageError, match=told) as caught:
        write_answers([], *arguments)
    assert caught.value.message


@pytest.mark.parametrize("format", FORMATS)
def test_places_that_cannot_be_written_to(format, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UsageError, match="is a folder"):
        write_answers([], format, 1, tmp_path)
    with pytest.raises(UsageError, match="cannot be written"):
        write_answers([], format, 1, tmp_path / "file" / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_written_to_not_replaced(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    got = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_text()))
    reader.start()
    write_answers([answer()], "csv", 1, pipe)
    reader.join(timeout=10)
    assert "a.png,Beagle" in got[0]
    assert pipe.is_fifo()


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "real")
    write_answers([answer()], "csv", 1, tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert "Beagle" in (tmp_path / "real").read_text()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
@pytest.mark.parametrize("format", FORMATS)
def test_names_that_are_no_utf8(format, tmp_path):
    name = os.fsdecode(b"caf\xe9.png")
    summary = write_answers([answer(name, name), unreadable(name)], format, 1, tmp_path / "out")
    assert b"caf\\udce9.png" in (tmp_path / "out").read_bytes().replace(b"\\\\", b"\\")
    assert summary.unreadable == [("caf\\udce9.png", "the file is empty")]


@pytest.mark.parametrize("format", ["table", "csv", "jsonl"])
def test_a_console_that_lacks_a_letter(format):
    content = io.BytesIO()
    with io.TextIOWrapper(content, encoding="cp1252", newline="") as stream:
        write_answers([answer("ä.png", "猫")], format, 1, stream)
        written = content.getvalue().decode("cp1252")
    assert "\\u732b" in written
    if format == "jsonl":
        assert json.loads(written)["label"] == "猫"


def unguarded(cell):
    """The inverse of `files.guarded`: a quote goes if it is one that the guard would have put there."""
    return cell[1:] if cell.startswith("'") and guarded(cell[1:]) == cell else cell


# --- CSV ---------------------------------------------------------------------------------------------------------

FORMULAS = ["=1+1", "+1", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "\n=1", " =1", "'=1", "''@x", "=cmd|'/C calc'!A0"]
EVIL = re.compile(r"\s*[=+\-@\t\r\n]")


@pytest.mark.parametrize("value", FORMULAS)
def test_formulas_are_guarded_and_come_back(value):
    (cell,) = next(csv.reader(io.StringIO(csv_cell(value), newline="")))
    assert cell == f"'{value}"
    assert unguarded(cell) == value


@pytest.mark.parametrize("value", ["Beagle", "a-b", "1.jpg", "x=1", "'quoted'", "'", "", "Ærø", "3 - 4"])
def test_other_texts_are_left_alone(value):
    assert csv_cell(value) == value
    assert unguarded(value) == value


@pytest.mark.parametrize(("value", "cell"), [(-0.5, "-0.5"), (0.25, "0.25"), (1e-6, "1e-06"), (None, "")])
def test_numbers_are_not_changed(value, cell):
    assert csv_cell(value) == cell


# Letters that matter are drawn often; the rest is anything that a file name or class could hold.
TEXTS = st.text(st.sampled_from("=+-@\t\r\n '\",;a0") | st.characters(exclude_categories=["Cs"]), max_size=8)


@given(st.lists(TEXTS, min_size=1, max_size=4))
def test_any_cells_come_back_and_none_is_a_formula(values):
    # A reader takes an empty line for no row at all; our rows are never that short.
    line = ",".join(map(csv_cell, ["path", *values])) + "\n"
    (row,) = csv.reader(io.StringIO(line, newline=""), strict=True)
    assert [unguarded(cell) for cell in row] == ["path", *values]
    assert not any(EVIL.match(cell) for cell in row)


@given(TEXTS, st.sampled_from(";\t"))
def test_other_separators_do_not_break_a_cell_open(value, separator):
    """A spreadsheet that parts cells by semicolon or tab sees no cell that begins with a formula either."""
    (row,) = csv.reader(
        io.StringIO(csv_cell(value) + separator + "end\n", newline=""), delimiter=separator, strict=True
    )
    assert len(row) == 2
    assert not EVIL.match(row[0])


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
def test_real_files_with_dangerous_names(bundle, plain, tmp_path, monkeypatch):
    names = ["=1+1.png", "-2.png", "@x.png", "a,b;c.png", 'quo"te.png', "line\nbreak.png", "ordinary.png"]
    for name in names:
        plain(name)
    (tmp_path / "+bad.png").write_text("no picture")
    monkeypatch.chdir(tmp_path)
    found = list(find_pictures(sorted([*names, "+bad.png"])))
    summary = write_answers(answers(bundle, found), "csv", 2, tmp_path / "out.csv")
    header, *backbone = rows((tmp_path / "out.csv").read_bytes().decode())
    assert header == columns(2)
    assert [unguarded(row[0]) for row in backbone] == sorted([*names, "+bad.png"])
    assert not any(EVIL.match(cell) for row in backbone for cell in row)
    assert [row[1] for row in backbone] == ["" if row[0] == "'+bad.png" else "red" for row in backbone]
    assert summary.n_unreadable == 1
    assert pl.read_csv(tmp_path / "out.csv").schema["certainty"] == pl.Float64


# --- JSON lines, Parquet -----------------------------------------------------------------------------------------


def test_json_lines():
    lines = text("jsonl", [answer("ä\n.png"), unreadable()], top=2).splitlines()
    assert [json.loads(line) for line in lines] == [
        {
            "path": "ä\n.png",
            "label": "Beagle",
            "certainty": 0.98,
            "label_2": "Basset",
            "certainty_2": 0.012346,
            "problem": None,
        },
        dict.fromkeys(columns(2)) | {"path": "bad.png", "problem": "the file is empty"},
    ]


def test_parquet(tmp_path):
    given = [answer(f"{i}.png") if i % 5 else unreadable(f"{i}.png") for i in range(25_000)]
    write_answers(given, "parquet", 2, tmp_path / "out.parquet")
    table = pl.read_parquet(tmp_path / "out.parquet")
    assert table.columns == columns(2)
    assert table.dtypes == [pl.String, pl.String, pl.Float64, pl.String, pl.Float64, pl.String]
    assert table["path"].to_list() == [a.path for a in given]
    assert table["certainty"].null_count() == table["label"].null_count() == 5_000
    assert table["problem"].null_count() == 20_000


# --- Table -------------------------------------------------------------------------------------------------------


def test_a_table_in_a_file_is_aligned_plain_and_whole():
    long = "very/long/" * 30 + "name.png"
    lines = text("table", [answer(), answer("猫.png", "Pug", 0.5), unreadable(), answer(long)], top=2).splitlines()
    assert lines[0].rstrip() == f"a.png{' ' * (len(long) - 5)}  Beagle     98 %  Basset 1 %"
    assert lines[1].startswith("猫.png" + " " * (len(long) - 6) + "  Pug        50 %")
    assert lines[2].endswith("  unreadable")
    assert lines[3].startswith(long)
    assert lines[4:] == [
        "",
        "3 pictures answered: 2 × Beagle, 1 × Pug",
        "",
        "1 could not be read:",
        "  bad.png: the file is empty",
    ]


def test_one_picture_needs_no_totals():
    assert text("table", [answer()]) == "a.png  Beagle     98 %\n"


def test_a_table_of_many_labels_names_the_most_frequent():
    given = [answer(f"{i}.png", f"class {i % 30:02}") for i in range(1000)]
    assert "1,000 pictures answered: 34 × class 00, 34 × class 01" in text("table", given)
    assert "and 25 more labels" in text("table", given)


def test_names_cannot_steer_the_terminal():
    shown = text("table", [answer("\x1b[2Jx\u202e.png", "a\x07b"), unreadable("\x1b[31m\n", "\x1b")])
    assert not set(shown) & set("\x1b\x07\u202e")
    assert "\\x1b[2Jx\\u202e.png" in shown


class Terminal(io.StringIO):
    """A terminal of 60 columns that understands colours."""

    encoding = "utf-8"

    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    for name, value in {"TERM": "xterm-256color", "COLUMNS": "60", "LINES": "25"}.items():
        monkeypatch.setenv(name, value)
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    return Terminal()


COLOUR = re.compile(r"\x1b\[[\d;]*m")


def test_a_table_on_a_terminal_has_colours_bars_and_short_paths(terminal):
    given = [answer("a/long/way/" * 9 + "end.png", "[bold]Beagle"), answer("b.png", "Pug", 0.5), unreadable()]
    write_answers(given, "table", 1, terminal)
    shown = COLOUR.sub("", terminal.getvalue())
    assert shown != terminal.getvalue()
    first, second, third, *_ = shown.splitlines()
    assert first.startswith("…")
    assert "way/end.png  [bold]Beagle     98 %  █████████▊" in first
    assert second.endswith("50 %  █████")
    assert "unreadable" in third
    assert max(map(len, shown.splitlines())) <= 60
    assert "bad.png: the file is empty" in shown


def test_no_colours_where_none_are_wanted(terminal, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    write_answers([answer()], "table", 1, terminal)
    assert not re.search(r"\x1b\[[\d;]*3\d", terminal.getvalue())


@given(st.integers(1, 200), st.lists(st.tuples(TEXTS, TEXTS), max_size=5))
def test_no_name_breaks_a_table(width, names):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", str(width))
        patch.setenv("TERM", "xterm")
        for stream in (Terminal(), io.StringIO()):
            write_answers([answer(path, label or "x") for path, label in names], "table", 3, stream)
            assert len(stream.getvalue().splitlines()) >= len(names)


def test_a_path_to_write_to_gets_its_folders(tmp_path):
    write_answers([answer()], "jsonl", 1, tmp_path / "new" / "out.jsonl")
    assert json.loads((tmp_path / "new" / "out.jsonl").read_text())["label"] == "Beagle"


def test_of_very_many_unreadable_pictures_the_first_are_named_and_the_others_counted():
    summary = write_answers((unreadable(f"{i}.png") for i in range(1_234)), "jsonl", 1, io.StringIO())
    lines = list(summary.problems())
    assert len(lines) == 1_001
    assert lines[0] == "0.png: the file is empty"
    assert lines[-1].startswith("and 234 more")
