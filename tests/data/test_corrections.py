"""Corrections: a table that survives anything, and a catalog with them applied; refusals in plain words."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tellapart.data.corrections import (
    Correction,
    CorrectionLog,
    corrected,
    of_cell,
    read_corrections,
    standing,
    to_cell,
)
from tellapart.data.scan import scan
from tellapart.data.splitting.split import left_out
from tellapart.errors import DataError

HOSTILE = ["<script>alert(1)</script>", "two\nlines", 'a "quoted" one', "томат, 1", "=SUM(A1)", " blank "]
SHA = "0" * 64


def sha(catalog, row: int) -> str:
    return catalog.table["sha256"][row].hex()


def note(log: CorrectionLog, catalog, row: int, decision: str, to: str = "") -> None:
    before = "".join(catalog.classes[i] for i in catalog.table["labels"][row])
    log.add(row, catalog.table["path"][row], before, to, "me", decision, sha(catalog, row))


def test_hostile_names_come_back_as_they_were(tmp_path: Path) -> None:
    log = CorrectionLog(tmp_path / "corrections.csv")
    for name in HOSTILE:
        log.add(3, f"{name}/a.png", name, f"not {name}", name, "relabel", SHA)
    corrections = read_corrections(log.path)
    assert [(c.file, c.before, c.after, c.by) for c in corrections] == [
        (f"{n}/a.png", n, f"not {n}", n) for n in HOSTILE
    ]
    with log.path.open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert list(lines[0]) == ["when", "row", "file", "from", "to", "by", "decision", "sha256"]
    assert [line["from"] for line in lines] == HOSTILE


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r"), min_size=1)), st.booleans())
def test_cells(labels: list[str], multilabel: bool) -> None:
    labels = labels if multilabel else labels[:1]
    assert of_cell(to_cell(labels, multilabel), multilabel) == labels


def test_every_decision_is_on_disk_at_once_and_other_writers_are_seen(tmp_path: Path) -> None:
    one, two = CorrectionLog(tmp_path / "c.csv"), CorrectionLog(tmp_path / "c.csv")
    one.add(0, "a", "x", "y", "me", "relabel", SHA)
    assert len(two.read()) == 1
    two.add(1, "b", "x", "", "you", "exclude", SHA)
    assert [c.file for c in one.read()] == ["a", "b"]


def test_undo_takes_back_one_after_the_other(tmp_path: Path) -> None:
    log = CorrectionLog(tmp_path / "c.csv")
    assert log.undo("me", {"a", "b", "c", "x"}) is None
    log.add(0, "a", "x", "y", "me", "relabel", SHA)
    log.add(1, "b", "x", "", "me", "exclude", SHA)
    log.add(0, "a", "x", "z", "me", "relabel", SHA)
    assert standing(log.read())["a"].after == "z"
    assert log.undo("me", {"a", "b", "c", "x"}).after == "z"
    assert standing(log.read())["a"].after == "y"
    assert log.undo("me", {"a", "b", "c", "x"}).file == "b"
    assert log.undo("me", {"a", "b", "c", "x"}).file == "a"
    assert standing(log.read()) == {}
    assert log.undo("me", {"a", "b", "c", "x"}) is None
    assert len(log.read()) == 6  # nothing is ever taken out


def test_nobody_takes_back_what_others_decided_or_what_they_do_not_see(tmp_path: Path) -> None:
    log = CorrectionLog(tmp_path / "c.csv")
    log.add(0, "a", "x", "y", "me", "relabel", SHA)
    log.add(1, "b", "x", "", "you", "exclude", SHA)
    log.add(2, "c", "x", "z", "me", "relabel", SHA)
    assert log.undo("me", {"a", "b"}).file == "a"  # c is in no review of mine now
    assert log.undo("me", {"a", "b"}) is None
    log.add(1, "b", "x", "z", "me", "relabel", SHA)
    log.add(1, "b", "x", "", "you", "exclude", SHA)
    assert log.undo("me", {"b"}) is None  # on b somebody else had the last word


@pytest.mark.parametrize("cut", [1, 10, 70, 100])
def test_a_line_cut_off_by_a_kill_is_dropped_and_the_rest_goes_on(tmp_path: Path, cut: int) -> None:
    log = CorrectionLog(tmp_path / "c.csv")
    for number in range(3):
        log.add(number, f"{number}.png", "x", "y", "me", "relabel", SHA)
    whole = log.path.read_bytes()
    log.path.write_bytes(whole[:-cut])
    again = CorrectionLog(log.path)
    n = 3 if cut == 1 else 2  # only the end of the line was missing
    assert len(again.read()) == n
    again.add(9, "9.png", "x", "y", "me", "relabel", SHA)
    assert [c.file for c in read_corrections(log.path)] == [*[f"{i}.png" for i in range(n)], "9.png"]


def test_a_table_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.csv"
    path.write_text("file,label\na.png,x\n")
    with pytest.raises(DataError, match="not a table of corrections"):
        read_corrections(path)
    with pytest.raises(DataError, match="cannot be read"):
        read_corrections(tmp_path / "none.csv")
    log = CorrectionLog(tmp_path / "c.csv")
    log.add(0, "a", "x", "y", "me", "relabel", SHA)
    log.path.write_text(log.path.read_text().replace("relabel", "change"))
    with pytest.raises(DataError, match="decision 1"):
        read_corrections(log.path)


def test_corrections_are_applied_before_anything_else(picture_folder, tmp_path: Path) -> None:
    folder = picture_folder(n=4)
    before = sorted((path, path.read_bytes()) for path in folder.rglob("*.png"))
    catalog = scan(folder)
    log = CorrectionLog(tmp_path / "c.csv")
    note(log, catalog, 0, "relabel", "square")
    note(log, catalog, 1, "exclude")
    note(log, catalog, 2, "keep")
    note(log, catalog, 5, "unsure")
    note(log, catalog, 6, "relabel", "triangle")
    log.undo("me", set(catalog.table["path"]))
    after, applied = corrected(catalog, log.path)
    assert (applied.relabelled, applied.excluded, applied.left) == (1, 1, 2)
    assert len(after) == len(catalog) - 1
    assert after.target([0]).tolist() == [catalog.classes.index("square")]
    assert after.target(np.arange(1, len(after))).tolist() == catalog.target(np.arange(2, len(catalog))).tolist()
    assert "1 picture relabelled, 1 excluded" in after.layout
    assert after.digest != catalog.digest
    assert sorted((path, path.read_bytes()) for path in folder.rglob("*.png")) == before


def test_what_is_mended_already_is_left(picture_folder, tmp_path: Path) -> None:
    catalog = scan(picture_folder(n=4))
    log = CorrectionLog(tmp_path / "c.csv")
    log.add(0, catalog.table["path"][0], "square", catalog.classes[0], "me", "relabel", sha(catalog, 0))
    after, applied = corrected(catalog, log.path)
    assert (applied.relabelled, applied.left) == (0, 1)
    assert after.digest == catalog.digest


def test_several_labels_and_none(picture_folder, tmp_path: Path) -> None:
    folder = picture_folder(n=2)
    (folder / "labels.csv").write_text(
        "file_name,labels\n" + "".join(f"{p.relative_to(folder)},sea;tree\n" for p in sorted(folder.rglob("*.png")))
    )
    catalog = scan(folder)
    assert catalog.multilabel
    log = CorrectionLog(tmp_path / "c.csv")
    path = catalog.table["path"]
    log.add(0, path[0], '["sea", "tree"]', '["tree"]', "me", "relabel", sha(catalog, 0))
    log.add(1, path[1], '["tree", "sea"]', "[]", "me", "relabel", sha(catalog, 1))
    after, _ = corrected(catalog, log.path)
    assert after.target([0, 1, 2]).tolist() == [[0, 1], [0, 0], [1, 1]]
    log.add(2, path[2], '["sea", "tree"]', "tree", "me", "relabel", sha(catalog, 2))
    with pytest.raises(DataError, match="cannot be read"):
        corrected(catalog, log.path)


def test_unlabelled_pictures_get_their_classes_from_the_corrections(picture_folder, tmp_path: Path) -> None:
    folder = picture_folder(n=2, classes=("a",))
    for path in folder.rglob("*.png"):
        path.rename(folder / path.name)
    catalog = scan(folder)
    assert catalog.classes == ()
    log = CorrectionLog(tmp_path / "c.csv")
    for row, name in enumerate(("tomato", "cherry")):
        note(log, catalog, row, "relabel", name)
    after, _ = corrected(catalog, log.path)
    assert after.classes == ("cherry", "tomato")
    assert after.target().tolist() == [1, 0]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"file": "circle/none.png"}, "no such picture"),
        ({"sha256": SHA}, "another one now"),
        ({"before": "square", "after": "triangle"}, "is given circle"),
        ({"after": "squaer"}, "not a class"),
    ],
)
def test_what_does_not_belong_is_refused(picture_folder, tmp_path: Path, change: dict, why: str) -> None:
    catalog = scan(picture_folder(n=2))
    good = Correction("now", 0, catalog.table["path"][0], "circle", "square", "me", "relabel", sha(catalog, 0))
    bad = replace(good, **change)
    log = CorrectionLog(tmp_path / "c.csv")
    log.add(bad.row, bad.file, bad.before, bad.after, bad.by, bad.decision, bad.sha256)
    with pytest.raises(DataError, match=why) as error:
        corrected(catalog, log.path)
    assert error.value.hint


def test_a_log_of_version_0_1_with_bare_carriage_returns_is_read(tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    header = "when,row,file,from,to,by,decision,sha256\n"
    path.write_bytes(f"{header}now,3,a\rb.png,x\r,\ry,me,relabel,{SHA}\n".encode())
    (correction,) = read_corrections(path)
    assert (correction.file, correction.before, correction.after) == ("a\rb.png", "x\r", "\ry")
    path.write_bytes(f"{header}now,3,a.png,x,y,me,relabel,{SHA}\n".replace("\n", "\r\n").encode())  # saved by Excel
    assert read_corrections(path)[0].sha256 == SHA


def test_a_line_cut_off_at_any_byte_loses_that_line_alone(tmp_path: Path) -> None:
    """Also within quotes, where a line feed ends no line."""
    log = CorrectionLog(tmp_path / "c.csv")
    log.add(0, "a.png", "x", "y", "me", "relabel", SHA)
    n_first = log.path.stat().st_size
    log.add(1, 'two\nlines "quoted"\n', "é\r", "y\n", "me", "relabel", SHA)
    whole = log.path.read_bytes()
    for n_bytes in range(len(whole) - 1):
        log.path.write_bytes(whole[:n_bytes])
        CorrectionLog(log.path).add(2, "b.png", "x", "", "me", "exclude", SHA)
        first = ["a.png"] if n_bytes >= n_first - 1 else []  # the line feed alone may be missing
        assert [c.file for c in read_corrections(log.path)] == [*first, "b.png"]


_ADD = """
import sys, time
from pathlib import Path
from tellapart.data.corrections import CorrectionLog
log, name, n = CorrectionLog(Path(sys.argv[1])), sys.argv[2], int(sys.argv[3])
print("ready", flush=True)
sys.stdin.readline()
for i in range(n):
    log.add(i, name + "\\n.png", "x" * 200, "y", name, "relabel", "0" * 64)
"""


def test_processes_that_write_at_the_same_time_leave_one_header_and_whole_lines(tmp_path: Path) -> None:
    path, n = tmp_path / "c.csv", 12
    command = [sys.executable, "-c", _ADD, str(path)]
    writers = [
        subprocess.Popen([*command, name, str(n)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for name in "abc"
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    for writer in writers:
        writer.communicate()
        assert writer.returncode == 0
    assert path.read_bytes().count(b"when,row") == 1
    corrections = read_corrections(path)
    for name in "abc":
        assert [c.row for c in corrections if c.by == name] == list(range(n))


def test_a_cell_of_lists_in_lists_is_refused(tmp_path: Path, picture_folder) -> None:
    catalog = scan(picture_folder(n=1))
    log = CorrectionLog(tmp_path / "c.csv")
    log.add(0, catalog.table["path"][0], "[" * 50_000, "[]", "me", "relabel", sha(catalog, 0))
    with pytest.raises(DataError, match="cannot be read"):
        corrected(replace(catalog, multilabel=True), log.path)


def test_a_correction_makes_labels_known_and_a_split_counts_the_others(picture_folder, tmp_path: Path) -> None:
    folder = picture_folder(n=4)
    rows = [f"{path.relative_to(folder)},{i % 2},{-1 if i < 2 else 1}" for i, path in enumerate(folder.rglob("*.png"))]
    (folder / "labels.csv").write_text("\n".join(["file_name,sea,tree", *rows]) + "\n")
    catalog = scan(folder)
    assert "2 labels of 2 pictures" in " ".join(left_out(catalog, catalog.readable))
    log = CorrectionLog(tmp_path / "c.csv")
    row = int(np.flatnonzero(catalog.unknown(catalog.readable).any(axis=1))[0])
    before = [catalog.classes[i] for i in catalog.table["labels"][row]]
    log.add(row, catalog.table["path"][row], json.dumps(before), '["sea", "tree"]', "me", "relabel", sha(catalog, row))
    after, _ = corrected(catalog, log.path)
    assert "1 label of 1 picture." in " ".join(left_out(after, after.readable))
    assert after.target([row]).tolist() == [[1, 1]]
