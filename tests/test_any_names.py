"""A class or file name with any character of Unicode comes back from every table that is written, as it was."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tellapart.auditing.export_table import write_table
from tellapart.core.csv_text import csv_text
from tellapart.core.predictions import Predictions
from tellapart.data.augmentation.offline import _described, _labels
from tellapart.data.catalog import SCHEMA, Catalog
from tellapart.data.corrections import CorrectionLog, read_corrections, to_cell
from tellapart.data.labels.classes import read_class_file
from tellapart.data.labels.tables import read_table
from tellapart.deploy.answer import Answer
from tellapart.deploy.output_formats import write_answers
from tellapart.deploy.submission import write_submission
from tellapart.errors import DataError
from tellapart.evaluation.label_issues_table import LabelIssues, load_table

SHA = "0" * 64
# All of Unicode; surrogates are no characters. What line ends, quotes, formulas and escapes are made of comes often.
_TRICKY = st.text(st.sampled_from("\r\n\t\"',;|=+-@\\/\0\x0b\x0c\x1b\x85\u2028\u2029\ufeff\ud7ff\ue000\U0010ffffé́ a1"))
NAMES = st.one_of(_TRICKY, st.text(st.characters(exclude_categories=["Cs"]))).filter(bool)
TIDY = NAMES.map(str.strip).filter(bool)  # a table's reader takes blanks around a label away


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tables")


def rows_of(text: str) -> list[list[str]]:
    """Read by another reader, which goes by the standard strictly."""
    return list(csv.reader(io.StringIO(text, newline=""), strict=True))


def rows_in(path: Path) -> list[list[str]]:
    return rows_of(path.read_bytes().decode())


def unguarded(text: str) -> str:
    """Undo the quote that keeps spreadsheets from running a text."""
    return text[1:] if text.startswith("'") else text


def same(text: str, written: str) -> bool:
    return written == text or unguarded(written) == text


@given(st.lists(st.lists(NAMES, min_size=2, max_size=2), min_size=1))
def test_csv_text(rows: list[list[str]]) -> None:
    assert rows_of(csv_text(rows)) == rows


@given(NAMES, st.lists(NAMES, min_size=1, max_size=3), NAMES)
@example("a\rb.png", ["\r"], "\r")
@example('"\n', ['"\n"'], "\ue000\r")
def test_corrections(folder: Path, file: str, labels: list[str], by: str) -> None:
    path = folder / "corrections.csv"
    path.unlink(missing_ok=True)
    log = CorrectionLog(path)
    for multilabel in (False, True):
        cell = to_cell(labels if multilabel else labels[:1], multilabel)
        log.add(0, file, cell, cell, by, "relabel", SHA)
    assert [(c.file, c.by) for c in read_corrections(path)] == [(file, by)] * 2
    assert log.undo(by, {file}) is not None
    read = read_corrections(path)
    assert [c.after for c in read] == [to_cell(labels[:1], False), to_cell(labels, True), ""]
    assert rows_in(path)[1][2:4] == [file, labels[0]]


@given(st.lists(NAMES, min_size=1, max_size=3, unique=True), NAMES, NAMES)
def test_catalog_and_predictions(folder: Path, classes: list[str], file: str, layout: str) -> None:
    row = {"path": file, "labels": [0], "split": layout, "group": file}
    table = pl.DataFrame([{name: row.get(name) for name in SCHEMA}], schema=SCHEMA)
    catalog = Catalog(table, tuple(classes), False, Path("/x"), layout, (file,))
    catalog.save(folder / "catalog.parquet")
    read = Catalog.load(folder / "catalog.parquet")
    assert (read.classes, read.layout, read.columns) == (tuple(classes), layout, (file,))
    assert read.table.rows() == table.rows()
    logits = np.zeros((1, len(classes)), np.float32)
    Predictions.of(np.array([0]), logits, np.array([0]), tuple(classes)).save(folder / "predictions.parquet")
    assert Predictions.load(folder / "predictions.parquet").classes == tuple(classes)


@given(NAMES, NAMES)
def test_answers(folder: Path, file: str, name: str) -> None:
    answer = Answer(file, (name,), ((name, 0.75),), 0.75)
    for kind in ("csv", "jsonl", "parquet"):
        write_answers([answer], kind, 1, folder / f"answers.{kind}")
    header, row = rows_in(folder / "answers.csv")
    assert len(row) == len(header)
    assert same(file, row[0])
    assert same(name, row[1])
    (line,) = (folder / "answers.jsonl").read_bytes().decode().rstrip("\n").split("\n")
    assert list(json.loads(line).values())[:2] == [file, name]
    assert pl.read_parquet(folder / "answers.parquet").row(0)[:2] == (file, name)


@given(NAMES, NAMES)
def test_submission(folder: Path, file: str, name: str) -> None:
    write_submission([Answer(file, (name,), ((name, 1.0),), 1.0)], folder / "submission.csv", ("a", name))
    header, row = rows_in(folder / "submission.csv")
    assert header == ["a", name]
    assert row == [Path(file).stem, name]


@given(NAMES, NAMES, NAMES)
def test_label_issues(folder: Path, file: str, name: str, method: str) -> None:
    table = pl.DataFrame({"row": [0], "file": [file], "given": [[name]], "suggested": [[name]], "neighbours": [[0]]})
    predictions = Predictions.of(np.array([0]), np.zeros((1, 1), np.float32), np.array([0]), (name,))
    LabelIssues(table, predictions, method).save(folder)
    stored = load_table(folder)
    assert stored is not None
    assert stored[0].rows() == table.rows()
    assert stored[1] == method
    row = rows_in(folder / "label_issues.csv")[1]
    assert same(file, row[1])
    assert same(name, row[2])


@given(TIDY, TIDY)
def test_tables_of_labels(folder: Path, file: str, name: str) -> None:
    row = {"path": file, "labels": [0]}
    table = pl.DataFrame([{column: row.get(column) for column in SCHEMA}], schema=SCHEMA)
    catalog = Catalog(table, (name,), False, folder, "", ())
    for suffix in (".csv", ".parquet"):
        write_table(catalog, folder / f"labels{suffix}")
        read = read_table(folder / f"labels{suffix}")
        assert read.frame.select("file_name", "label").row(0) == (file, name)
    made = pl.DataFrame({"row": [0], "split": ["train"], "file_name": [file]})
    _described(catalog, _labels(catalog), made).write_csv(folder / "ahead.csv")
    assert read_table(folder / "ahead.csv").frame.select("file_name", "label").row(0) == (file, name)
    (folder / "lines.jsonl").write_text(json.dumps({"file_name": file, "label": name}) + "\n", encoding="utf-8")
    assert read_table(folder / "lines.jsonl").frame.select("file_name", "label").row(0) == (file, name)


# A line that begins with a number may be a number and a name.
UNNUMBERED = TIDY.filter(lambda name: not re.match(r"[0-9]+[\s:,;]", name) and not {"\n", "\r"} & set(name))


@given(st.lists(UNNUMBERED, min_size=1, unique=True))
@example(["a\x85b", "c\u2028d", "e\x0bf"])
def test_class_files(folder: Path, names: list[str]) -> None:
    path = folder / "classes.txt"
    path.write_text("\n".join(names), encoding="utf-8-sig")
    assert list(read_class_file(path)[0].values()) == names


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"file_name": "a.png", "label": "\\ud800"}', "not JSON"),
        (b'{"file_name": "a.png", "label": ' + b"[" * 100_000, "not JSON"),
        (b'{"file_name": "a.png", "label": ' + b"9" * 5_000 + b"}", "not JSON"),
    ],
)
def test_json_that_no_table_can_hold_is_refused(tmp_path: Path, line: bytes, reason: str) -> None:
    (tmp_path / "labels.jsonl").write_bytes(line)
    with pytest.raises(DataError, match=reason):
        read_table(tmp_path / "labels.jsonl")
