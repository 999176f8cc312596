"""Scanning: every file is looked at once, in threads, and the catalog says what was found."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
import string
import tempfile
import threading
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tellapart.data import scan as scanning
from tellapart.data.catalog import SCHEMA, Catalog
from tellapart.data.labels.tables import read_table
from tellapart.data.labels.walk import BAD_NAME
from tellapart.data.scan import scan
from tellapart.errors import DataError, UsageError

Draw = Callable[..., Path]


def test_the_catalog_holds_the_facts_of_every_file(draw: Draw) -> None:
    root = draw("cat/1.png", "cat/2.jpg", "dog/3.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("L", (30, 20)).save(root / "dog" / "4.jpg", exif=exif)
    (root / "dog" / "5.png").write_bytes(b"no picture at all, just text")
    catalog = scan(root)
    assert dict(catalog.table.schema) == SCHEMA
    assert catalog.root == root
    assert (catalog.classes, catalog.multilabel) == (("cat", "dog"), False)
    rows = {row["path"]: row for row in catalog.table.iter_rows(named=True)}
    assert list(rows) == ["cat/1.png", "cat/2.jpg", "dog/3.png", "dog/4.jpg", "dog/5.png"]
    turned = rows["dog/4.jpg"]
    assert (turned["width"], turned["height"], turned["mode"]) == (20, 30, "L")
    assert (turned["format"], turned["orientation"], turned["problem"]) == ("JPEG", 6, None)
    for path, row in rows.items():
        content = (root / path).read_bytes()
        assert row["bytes"] == len(content)
        assert row["sha256"] == hashlib.sha256(content).digest()
    assert rows["dog/5.png"]["problem"] == "not a picture: it starts like text"
    assert rows["dog/5.png"]["width"] is None
    assert catalog.readable.tolist() == [0, 1, 2, 3]
    assert catalog.counts() == {"cat": 2, "dog": 3}


def test_any_number_of_workers_gives_the_same_catalog(draw: Draw) -> None:
    root = draw(*(f"{kind}/{i}.png" for kind in ("a", "b") for i in range(70)))
    digests = {scan(root, workers=n).digest for n in (1, 2, 5)}
    assert len(digests) == 1
    with pytest.raises(UsageError, match="workers"):
        scan(root, workers=-1)


def test_a_catalog_is_the_same_after_it_was_stored(draw: Draw, tmp_path: Path) -> None:
    root = draw("photos/cat/1.png", "photos/dog/2.png") / "photos"
    catalog = scan(root)
    catalog.save(tmp_path / "catalog.parquet")
    again = Catalog.load(tmp_path / "catalog.parquet")
    assert again.digest == catalog.digest
    assert again.table.equals(catalog.table)
    assert (again.classes, again.root, again.layout) == (catalog.classes, catalog.root, catalog.layout)


def test_progress_rises_to_the_total(draw: Draw) -> None:
    root = draw(*(f"a/{i}.png" for i in range(100)))
    seen: list[tuple[int, int]] = []
    scan(root, progress=lambda done, total: seen.append((done, total)))
    assert [total for _, total in seen] == [100] * len(seen)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1] == (100, 100)
    assert len(seen) > 1


def test_large_files_are_hashed_and_read_too(draw: Draw) -> None:
    root = draw("a/1.png", "b/2.png")
    noise = np.random.default_rng(0).integers(0, 256, (1300, 1300, 3), np.uint8)
    Image.fromarray(noise).save(root / "b" / "large.png")
    Image.fromarray(noise).resize((3000, 3000)).save(root / "b" / "large.jpg", quality=98)
    content = (root / "b" / "large.png").read_bytes()
    assert len(content) > 4_000_000
    rows = {row["path"]: row for row in scan(root).table.iter_rows(named=True)}
    assert rows["b/large.png"]["sha256"] == hashlib.sha256(content).digest()
    assert [rows[f"b/large.{kind}"]["problem"] for kind in ("png", "jpg")] == [None, None]
    (root / "b" / "large.png").write_bytes(content[:-1000])
    catalog = scan(root)
    problems = dict(catalog.table.select("path", "problem").iter_rows())
    assert problems["b/large.png"] == "the file ends too early: it is truncated"


def test_files_that_cannot_be_had_are_rows_with_a_reason(draw: Draw) -> None:
    root = draw("a/1.png", "b/2.png")
    if os.name == "nt":
        pytest.skip("links need rights on this system")
    (root / "a" / "gone.png").symlink_to("nothing.png")
    try:
        (root / "a" / os.fsdecode(b"\xe9.png")).write_bytes(b"x")
    except OSError:
        pytest.skip("the file system takes no such names")
    problems = dict(scan(root).table.select("path", "problem").iter_rows())
    assert problems["a/gone.png"] == "the file does not exist, or is a link to one that does not"
    assert problems["a/\\xe9.png"] == BAD_NAME


def test_an_interrupted_scan_ends_at_once(draw: Draw) -> None:
    root = draw(*(f"a/{i}.png" for i in range(100)))

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        scan(root, workers=2, progress=interrupt)
    assert not [t for t in threading.enumerate() if t.name.startswith("tellapart-scan")]


def test_few_files_are_under_way_at_a_time(draw: Draw, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is looked at and not yet taken up must not grow with the folder."""
    root = draw("a/1.png")
    rows = pl.DataFrame({"path": ["a/1.png"] * 20_000, "problem": [None] * 20_000})
    begun = 0
    examine = scanning.examine

    def counting(path: str) -> object:
        nonlocal begun
        begun += 1
        return examine(path)

    monkeypatch.setattr(scanning, "examine", counting)
    batches = scanning.look_in_threads(2, root, rows, None)
    next(batches)
    assert begun < 2000
    batches.close()
    assert begun < 2000


def test_catalogs_know_classes_by_name(draw: Draw) -> None:
    catalog = scan(draw("b/1.png", "a/2.png", "c/3.png"))
    wider = catalog.with_classes(["c", "b", "x", "a"])
    assert [wider.classes[i] for i in wider.target()] == [catalog.classes[i] for i in catalog.target()]
    with pytest.raises(DataError, match="'a'"):
        catalog.with_classes(["b", "c"])


def test_rows_can_be_left_out_of_a_catalog(draw: Draw) -> None:
    catalog = scan(draw("a/1.png", "a/2.png", "b/3.png"))
    fewer = catalog.without([1])
    assert fewer.table["path"].to_list() == ["a/1.png", "b/3.png"]
    assert fewer.digest != catalog.digest


# ---------------------------------------------------------------- what is written is found again

_SUFFIXES = st.sampled_from([".png", ".PNG", ".jpg", ".jpeg"])
_LETTERS = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zl", "Zp"), exclude_characters="/\\\0"),
    min_size=1,
    max_size=12,
)
_NAMES = st.builds("{}{}".format, _LETTERS, _SUFFIXES).filter(
    lambda name: not name.startswith((".", " ")) and name == name.strip() and ":" not in name[1:2]
)
_LABELS = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zl", "Zp", "Zs")), min_size=1, max_size=8
).filter(
    # Lists, objects, what is not known, 1.0 for 1 and letters composed otherwise do not come back as they are written.
    lambda label: (
        label == label.strip() == unicodedata.normalize("NFC", label)
        and label.lower() not in ("nan", "?")
        and label[0] not in "[{(-"
        and not re.fullmatch(r"[0-9]*\.[0-9]*", label)
    )
)


@given(
    rows=st.dictionaries(_NAMES, _LABELS, min_size=1, max_size=6),
    suffix=st.sampled_from([".csv", ".tsv", ".jsonl", ".parquet"]),
    folder=st.sampled_from(["", "pictures/"]),
)
def test_tables_with_any_names_and_labels_come_back(rows: dict[str, str], suffix: str, folder: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        (root / folder).mkdir(exist_ok=True)
        paths = {f"{folder}{file}": label for file, label in rows.items()}
        try:
            for path in paths:
                Image.new("RGB", (2, 2)).save(root / path, "PNG")
        except OSError:  # a name that this file system does not take
            return
        if len(list((root / folder).glob("*.*"))) < len(rows):  # one that ignores case
            return
        write(root / f"labels{suffix}", paths)
        catalog = scan(root, labels=f"labels{suffix}", workers=1)
        labels = dict(zip(catalog.table["path"], (catalog.classes[i] for i in catalog.target()), strict=True))
        assert labels == paths
        assert catalog.table["problem"].null_count() == len(rows)


def write(path: Path, rows: dict[str, str]) -> None:
    columns = {"file_name": list(rows), "label": list(rows.values())}
    if path.suffix == ".parquet":
        pl.DataFrame(columns).write_parquet(path)
    elif path.suffix == ".jsonl":
        lines = [json.dumps({"file_name": file, "label": label}) for file, label in rows.items()]
        path.write_text("\n".join(lines), encoding="utf-8")
    else:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writerows([("file_name", "label"), *rows.items()])


@given(
    st.lists(st.lists(st.sampled_from("abcde"), unique=True), min_size=2, max_size=8),
    st.sampled_from([";", "|", ","]),
)
def test_several_labels_in_a_cell_come_back(cells: list[list[str]], delimiter: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        paths = [f"{i}.png" for i in range(len(cells))]
        for path in paths:
            Image.new("RGB", (2, 2)).save(root / path)
        write_labels(root / "labels.csv", paths, [delimiter.join(cell) for cell in cells])
        catalog = scan(root, workers=1)
        labels = [{catalog.classes[i] for i in numbers} for numbers in catalog.table["labels"]]
        assert labels == [set(cell) for cell in cells]


def write_labels(path: Path, names: list[str], cells: list[str]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("file_name", "labels"), *zip(names, cells, strict=True)])


def table_or_message(path: Path) -> bool:
    """A table with rows, or an error that names the file."""
    try:
        return read_table(path).frame.height > 0
    except DataError as error:
        return path.name in error.message


@given(st.text(st.sampled_from(string.printable), max_size=200), st.sampled_from([".csv", ".tsv", ".txt", ".jsonl"]))
def test_any_text_is_a_table_or_an_error_in_words(text: str, suffix: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / f"x{suffix}"
        path.write_text(text, newline="")
        assert table_or_message(path)


@given(st.binary(max_size=200), st.sampled_from([".csv", ".tsv", ".txt", ".jsonl", ".parquet"]))
def test_any_bytes_are_a_table_or_an_error_in_words(content: bytes, suffix: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / f"x{suffix}"
        path.write_bytes(content)
        assert table_or_message(path)
