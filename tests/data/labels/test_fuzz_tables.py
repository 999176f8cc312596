"""Random tables and folders: each is read, or refused with a reason; what was read says what the table says."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tellapart.data.labels.layout import Layout, find_layout
from tellapart.data.labels.names import GROUP, IS_PART, LABEL, LABELS, MAYBE_SPLIT, PATHS, SPLIT
from tellapart.errors import TellapartError

FILES = ("train/1.png", "train/2.png", "test/1.png", "a/b/3.JPG", "é.png", "x y.png", "4.webp")
_PATHS = st.sampled_from(
    [*FILES, "1.png", "3", "./4.webp", "a\\b\\3.jpg", "/etc/passwd", "../1.png", "é.png", " ", "?"]
)
_CELLS = st.one_of(
    st.sampled_from(
        ["", "0", "1", "-1", "1.0", "-1.0", "nan", "yes", "no", "True", "cat", "dog", "cat dog", "cat;dog"]
    ),
    st.sampled_from(['["cat", "dog"]', "['cat']", "[]", "{}", '{"a": 1}', "[[1]]", "('a',)", "set()", '["', "[1, 2]"]),
    st.sampled_from(
        ["train", "val", "test_set", "later", "sep=;", "'", '"', "\t", "\r", "\u2028", "\0", "00", "9" * 30]
    ),
    st.text(max_size=6),
)
_NAMES = st.one_of(
    st.sampled_from(
        [
            *PATHS,
            *LABEL,
            *LABELS,
            *SPLIT,
            *MAYBE_SPLIT,
            *IS_PART,
            *GROUP,
            "cat",
            "dog",
            "",
            "#",
            "width",
            "^a$",
            "^.*$",
            "*",
        ]
    ),
    st.text(max_size=8),
)


@st.composite
def texts(draw: st.DrawFn) -> str:
    """A text file that is a table, or nearly so: separators, quotes, blanks, line ends, missing and surplus cells."""
    names = draw(st.lists(_NAMES, min_size=1, max_size=5))
    separator = draw(st.sampled_from([",", ";", "\t", "|", ", ", " "]))
    end = draw(st.sampled_from(["\n", "\r\n", "\r", "\n\n"]))
    rows = [names] if draw(st.booleans()) else [["file_name", "label", *names[2:]]]
    paths, surplus = (st.sampled_from(FILES), st.just(0)) if draw(st.booleans()) else (_PATHS, st.integers(-1, 1))
    for _ in range(draw(st.integers(0, 5))):
        n = max(1, len(rows[0]) + draw(surplus))
        rows.append([draw(paths), *(draw(_CELLS) for _ in range(n - 1))])
    quoted = draw(st.booleans())
    lines = [separator.join(json.dumps(cell, ensure_ascii=False) if quoted else cell for cell in row) for row in rows]
    start = draw(st.sampled_from(["", "", "", "\ufeff", "sep=;\n", "\n"]))
    return start + end.join(lines) + draw(st.sampled_from(["", end, end + separator + end]))


_VALUES = st.one_of(_CELLS, st.none(), st.booleans(), st.integers(-2, 3), st.floats(), st.lists(_CELLS, max_size=3))
_OBJECTS = st.lists(
    st.dictionaries(_NAMES, _VALUES | st.dictionaries(_CELLS, _CELLS, max_size=2), max_size=4), max_size=5
)


@st.composite
def contents(draw: st.DrawFn) -> tuple[str, bytes]:
    """Name and content of a table file."""
    stem = draw(st.sampled_from(["labels", "train", "testLabels", "answers", "classes", "submission"]))
    if draw(st.booleans()):
        rows = [{"file_name": draw(_PATHS), **row} for row in draw(_OBJECTS)]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        return f"{stem}.jsonl", text.encode()
    suffix = draw(st.sampled_from([".csv", ".tsv", ".txt"]))
    encoding = draw(st.sampled_from(["utf-8", "utf-8", "utf-8", "utf-16", "latin-1"]))
    return stem + suffix, draw(texts()).encode(encoding, "replace")


def outcome(files: list[tuple[str, bytes]], folders: bool) -> Layout | str:
    """The layout of a folder with these tables, or the message that refuses it; any other error is a fault."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        for file in (*FILES, *(("cat/1.png", "dog/2.png") if folders else ())):
            (root / file).parent.mkdir(parents=True, exist_ok=True)
            (root / file).write_bytes(b"")
        for table, content in files:
            (root / table).write_bytes(content)
        try:
            return find_layout(root)
        except TellapartError as error:
            return str(error)


def check(layout: Layout | str, tables: list[tuple[str, bytes]]) -> None:
    """What holds of every layout."""
    if isinstance(layout, str):
        assert layout.strip()
        return
    rows: list[dict[str, Any]] = layout.table.to_dicts()
    assert len({row["path"] for row in rows}) == len(rows)
    n = len(layout.classes)
    assert len(set(layout.classes)) == n
    for row in rows:
        assert not row["path"].startswith(("/", "..")), row
        assert all(0 <= i < n for i in (*row["labels"], *row["unknown"]))
        assert not set(row["labels"]) & set(row["unknown"])
        assert layout.multilabel or len(row["labels"]) <= 1
        assert row["split"] in (None, "train", "validation", "test")
    names = {name for name, _ in layout.unused_tables}
    for name, _ in tables:  # a text that is no list may go without a word
        assert name in layout.sentence or name in names or name.endswith(".txt")


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(contents(), min_size=1, max_size=2, unique_by=lambda table: table[0]), st.booleans())
def test_any_table_is_read_or_refused(tables: list[tuple[str, bytes]], folders: bool) -> None:
    check(outcome(tables, folders), tables)


@pytest.mark.slow
@settings(max_examples=1000, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(contents(), min_size=1, max_size=2, unique_by=lambda table: table[0]), st.booleans())
def test_a_thousand_tables_are_read_or_refused(tables: list[tuple[str, bytes]], folders: bool) -> None:
    check(outcome(tables, folders), tables)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.sampled_from(["1", "0", "-1", "", "?"]), min_size=8, max_size=8))
def test_a_cell_is_yes_no_or_not_known_whatever_is_around_it(cells: list[str]) -> None:
    names = ["train/1.png", "train/2.png", "test/1.png", "x y.png"]
    frame = pl.DataFrame({"file_name": names, "cat": cells[:4], "dog": cells[4:], "fox": ["1", "0", "1", "0"]})
    layout = outcome([("labels.csv", frame.write_csv().encode())], folders=False)
    assert not isinstance(layout, str), layout
    by_path = {row["path"]: row for row in layout.table.to_dicts()}
    for label, column in (("cat", cells[:4]), ("dog", cells[4:])):
        if label not in layout.classes:
            assert "1" not in column
            continue
        number, has_no = layout.classes.index(label), "0" in column
        for name, cell in zip(names, column, strict=True):
            assert (number in by_path[name]["labels"]) == (cell == "1")
            assert (number in by_path[name]["unknown"]) == (cell in ("-1", "?") or (cell == "" and has_no))
