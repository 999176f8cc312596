"""Labels in the files that people and tools hand on: JSON, COCO, spreadsheets, columns of any name, odd paths."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
import pytest
from PIL import Image

from tellapart.data.decoding.decode import examine
from tellapart.data.labels.layout import find_layout
from tellapart.data.scan import scan
from tellapart.errors import UsageError
from tests.data.labels.layouts import Draw, column, labels, layout_of, refused

CAT_AND_DOG = {"1.png": ["cat"], "2.png": ["dog"]}
_CATEGORIES = [{"id": 7, "name": "cat"}, {"id": 9, "name": "dog"}]


# ---------------------------------------------------------------- JSON


@pytest.mark.parametrize(
    "content",
    [
        {"1.png": "cat", "2.png": "dog"},
        {"1.png": {"label": "cat", "age": 3}, "2.png": {"label": "dog", "age": 4}},
        {"cat": ["1.png"], "dog": ["2.png"]},
        [{"file": "1.png", "label": "cat"}, {"file": "2.png", "label": "dog"}],
        {"version": 3, "items": [{"file": "1.png", "label": "cat"}, {"file": "2.png", "label": "dog"}]},
        {"labels": [["1.png", "cat"], ["2.png", "dog"]]},
        {"file": ["1.png", "2.png"], "label": ["cat", "dog"]},
        {"file": {"0": "1.png", "1": "2.png"}, "label": {"0": "cat", "1": "dog"}},
        {
            "images": [{"id": 1, "file_name": "1.png"}, {"id": 2, "file_name": "2.png"}],
            "categories": _CATEGORIES,
            "annotations": [{"image_id": 1, "category_id": 7}, {"image_id": 2, "category_id": 9}],
        },
    ],
)
def test_json(two: Path, content: Any) -> None:
    (two / "labels.json").write_text(json.dumps(content))
    layout = find_layout(two)
    assert labels(layout) == CAT_AND_DOG
    assert not layout.multilabel
    assert "Table labels.json" in layout.sentence


def test_json_of_names_without_suffix(draw: Draw) -> None:
    root = draw("imgs/a1.png", "imgs/a2.png")
    (root / "truth.json").write_text('{"a1": "cat", "a2": 3}')
    assert labels(find_layout(root)) == {"imgs/a1.png": ["cat"], "imgs/a2.png": ["3"]}


def test_coco_with_several_categories_in_each_part(draw: Draw) -> None:
    root = draw("train/1.png", "train/2.png", "valid/1.png")
    for part, boxes in (("train", [(1, 7), (1, 9), (2, 9), (2, 9)]), ("valid", [(1, 7)])):
        content = {
            "images": [{"id": i, "file_name": f"{i}.png"} for i in (1, 2) if (root / part / f"{i}.png").exists()],
            "categories": _CATEGORIES,
            "annotations": [{"image_id": i, "category_id": k, "bbox": [0, 0, 1, 1]} for i, k in boxes],
        }
        (root / part / "_annotations.coco.json").write_text(json.dumps(content))
    layout = find_layout(root)
    assert labels(layout) == {"train/1.png": ["cat", "dog"], "train/2.png": ["dog"], "valid/1.png": ["cat"]}
    assert set(column(layout, "split").values()) == {"train", "validation"}
    assert "other file" not in layout.sentence  # the annotations themselves are none


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "this is not JSON"),
        ("[" * 100_000, "this is not JSON: it is nested too deeply"),
        ('{"a":' * 900 + "[1]" + "}" * 900, "holds no labels of pictures in a form that is known"),
        ("[1, 2]", "holds no labels of pictures in a form that is known"),
        ('{"images": [], "annotations": [{"image_id": 1}]}', "but not their categories"),
        ('{"images": [{"id": [], "file_name": 1}], "annotations": []}', "but not their categories"),
    ],
)
def test_json_that_cannot_be_used_is_named_with_the_reason(draw: Draw, content: str, reason: str) -> None:
    root = draw("a/1.png", "b/2.png")
    (root / "labels.json").write_text(content)
    assert reason in dict(find_layout(root).unused_tables)["labels.json"]
    assert reason in refused(root, labels="labels.json")


# ---------------------------------------------------------------- spreadsheets


def _write_sheets(path: Path, sheets: Sequence[list[list[str]]]) -> None:
    """The least that a spreadsheet of text cells is."""
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    relation = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    package = "http://schemas.openxmlformats.org/package/2006"
    numbers = range(1, len(sheets) + 1)
    sheet = "".join(f'<sheet name="s{i}" sheetId="{i}" r:id="r{i}"/>' for i in numbers)
    link = "".join(f'<Relationship Id="r{i}" Type="{relation}/worksheet" Target="s{i}.xml"/>' for i in numbers)
    top = f'<Relationship Id="r" Type="{relation}/officeDocument" Target="xl/workbook.xml"/>'
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("[Content_Types].xml", f'<Types xmlns="{package}/content-types"/>')
        file.writestr("_rels/.rels", f'<Relationships xmlns="{package}/relationships">{top}</Relationships>')
        file.writestr(
            "xl/workbook.xml", f'<workbook xmlns="{main}" xmlns:r="{relation}"><sheets>{sheet}</sheets></workbook>'
        )
        file.writestr(
            "xl/_rels/workbook.xml.rels", f'<Relationships xmlns="{package}/relationships">{link}</Relationships>'
        )
        for i, rows in enumerate(sheets, start=1):
            cells = ["".join(f'<c t="inlineStr"><is><t>{escape(text)}</t></is></c>' for text in row) for row in rows]
            text = "".join(f'<row r="{n}">{row}</row>' for n, row in enumerate(cells, start=1))
            file.writestr(f"xl/s{i}.xml", f'<worksheet xmlns="{main}"><sheetData>{text}</sheetData></worksheet>')


def test_a_spreadsheet(two: Path) -> None:
    rows = [["file", "label"], ["1.png", "cat"], ["", ""], [" 2.png ", "dog"]]
    _write_sheets(two / "labels.xlsx", [rows, []])
    assert labels(find_layout(two)) == CAT_AND_DOG
    _write_sheets(two / "labels.xlsx", [[*rows, ["3.png", "dog"]]])
    assert "3.png (row 5)" in refused(two)


def test_a_spreadsheet_that_cannot_be_used(draw: Draw, monkeypatch: pytest.MonkeyPatch) -> None:
    root = draw("a/1.png", "b/2.png")
    rows = [["file", "label"], ["a/1.png", "cat"]]
    _write_sheets(root / "labels.xlsx", [rows, rows])
    assert "several sheets with rows: s1, s2" in dict(find_layout(root).unused_tables)["labels.xlsx"]
    (root / "labels.xlsx").write_bytes(b"PK\x03\x04 no zip")
    assert "cannot be read as a spreadsheet" in refused(root, labels="labels.xlsx")
    _write_sheets(root / "labels.xlsx", [rows])
    content = bytearray((root / "labels.xlsx").read_bytes())
    content[-6] ^= 0xFF  # where its directory begins
    (root / "labels.xlsx").write_bytes(content)
    assert "cannot be read as a spreadsheet" in refused(root, labels="labels.xlsx")
    with zipfile.ZipFile(root / "labels.xlsx", "w", zipfile.ZIP_DEFLATED) as file, file.open("a", "w") as part:
        part.write(bytes(2 << 20))
    monkeypatch.setattr("tellapart.data.labels.spreadsheets.MOST_UNPACKED", 1 << 20)
    assert "holds too much" in refused(root, labels="labels.xlsx")


# ---------------------------------------------------------------- columns


def test_columns_that_the_user_names(draw: Draw) -> None:
    root = draw("imgs/1.png", "imgs/2.png", "imgs/3.png")
    (root / "notes.csv").write_text("foo,bar,Baz Type,other\n1.png,a;b,x,9.png\n2.png,b,y,9.png\n3.png,b,y,9.png\n")
    assert "Name the column: --label-column NAME" in refused(root)
    assert labels(layout_of(root, label_column="bar"))["imgs/1.png"] == ["a;b"]
    assert labels(layout_of(root, label_column="bar", delimiter=";"))["imgs/1.png"] == ["a", "b"]
    assert labels(layout_of(root, image_column="foo", label_column="baz_type"))["imgs/2.png"] == ["y"]
    assert "no column 'nope' (it has: foo, bar, Baz Type, other)" in refused(root, label_column="nope")
    assert "no column 'nope'" in refused(root, labels="notes.csv", image_column="nope")
    assert "9.png (line 2)" in refused(root, labels="notes.csv", image_column="other", label_column="bar")
    assert "has no columns" in refused(root, UsageError, layout="folders", label_column="bar")


def test_a_named_column_decides_between_two_and_against_class_folders(draw: Draw) -> None:
    root = draw("a/1.png", "b/2.png")
    (root / "x.csv").write_text("image,label,labels,patient\na/1.png,cat,p;q,eve\nb/2.png,dog,q,adam\n")
    assert "--label-column label or --label-column labels" in refused(root, layout="table")
    assert labels(layout_of(root, label_column="label")) == {"a/1.png": ["cat"], "b/2.png": ["dog"]}
    assert layout_of(root, label_column="labels").multilabel
    layout = layout_of(root, label_column="patient")
    assert labels(layout) == {"a/1.png": ["eve"], "b/2.png": ["adam"]}
    assert set(column(layout, "group").values()) == {None}


# ---------------------------------------------------------------- paths


def test_absolute_paths_of_another_machine_count_from_the_folder_that_is_here(draw: Draw) -> None:
    root = draw("imgs/1.png", "imgs/2.png", "1.png")
    for above in ("/mnt/no-such-disk/photos/", "D:\\eve\\photos\\"):
        lines = [f"{above}{name}".replace("/", above[-1]) for name in ("imgs/1.png", "imgs/2.png")]
        (root / "labels.csv").write_text(f"file,label\n{lines[0]},cat\n{lines[1]},dog\n")
        layout = find_layout(root)
        assert labels(layout) == {"imgs/1.png": ["cat"], "imgs/2.png": ["dog"]}
        assert "paths taken from below" in layout.sentence
    (root / "labels.csv").write_text("file,label\n/nowhere/test/1.png,cat\n/nowhere/test/2.png,dog\n")
    assert "leads out of the folder" in refused(root, labels="labels.csv")  # a part's folder is not left out


def test_absolute_paths_through_a_link_to_the_root(draw: Draw, tmp_path_factory: pytest.TempPathFactory) -> None:
    root = draw("imgs/1.png", "imgs/2.png")
    link = tmp_path_factory.mktemp("link") / "photos"
    os.symlink(root, link)
    (root / "labels.csv").write_text(f"file,label\n{link}/imgs/1.png,cat\n{link}/imgs/2.png,dog\n")
    assert labels(find_layout(root)) == {"imgs/1.png": ["cat"], "imgs/2.png": ["dog"]}


def test_blank_rows_and_blanks_around_names_in_a_folder(draw: Draw) -> None:
    root = draw("imgs/1.png", "imgs/2.png")
    (root / "labels.csv").write_text("file,label\n\n 1.png ,cat\n,\n  2.png, dog \n,,\n")
    assert labels(find_layout(root)) == {"imgs/1.png": ["cat"], "imgs/2.png": ["dog"]}


def test_class_folders_that_are_links(draw: Draw, tmp_path_factory: pytest.TempPathFactory) -> None:
    draw("pool/cat/1.png", "pool/dog/2.png")
    pool = draw("other/3.png") / "pool"
    root = tmp_path_factory.mktemp("linked")
    for name in ("cat", "dog"):
        os.symlink(pool / name, root / name)
    assert "With --follow-links they are followed" in refused(root)
    (root / "fox").mkdir()
    Image.new("RGB", (4, 4)).save(root / "fox" / "1.png")
    assert "not followed (--follow-links does): cat, dog" in find_layout(root).sentence
    assert find_layout(root, follow_links=True).classes == ("cat", "dog", "fox")


# ---------------------------------------------------------------- names of classes


_SYNSETS = {"n01440764": "tench, Tinca tinca", "n02012849": "crane", "n03126707": "crane, hoist"}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("words.txt", "".join(f"{key}\t{text}\n" for key, text in _SYNSETS.items()) + "n09999999\tcrane\n"),
        ("LOC_synset_mapping.txt", "".join(f"{key} {text}\n" for key, text in _SYNSETS.items())),
        ("map_clsloc.txt", "".join(f"{key} {i} {text}\n" for i, (key, text) in enumerate(_SYNSETS.items()))),
        ("Labels.json", json.dumps(_SYNSETS)),
        ("imagenet_class_index.json", json.dumps({f"{i}": pair for i, pair in enumerate(_SYNSETS.items())})),
        ("synsets.csv", "id,name\n" + "".join(f'{key},"{text}"\n' for key, text in _SYNSETS.items())),
    ],
)
def test_synsets_get_their_names(draw: Draw, name: str, text: str) -> None:
    root = draw(*(f"{key}/{i}.png" for i, key in enumerate(_SYNSETS)))
    (root / name).write_text(text)
    layout = find_layout(root)
    assert sorted(layout.classes) == ["crane", "crane, hoist", "tench"]
    assert f"classes named by {name}" in layout.sentence
    assert labels(layout)["n03126707/2.png"] == ["crane, hoist"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("cat_to_name.json", '{"1": "cat", "02": "dog", "3": "fox"}'),
        ("class_to_idx.json", '{"cat": 1, "dog": 2}'),
        ("signs.csv", "ClassId,SignName\n1,cat\n2,dog\n"),
    ],
)
def test_numbers_get_their_names(draw: Draw, name: str, text: str) -> None:
    root = draw("01/a.png", "2/b.png")
    (root / name).write_text(text)
    assert labels(find_layout(root)) == {"01/a.png": ["cat"], "2/b.png": ["dog"]}
    assert labels(layout_of(root, class_file=name)) == {"01/a.png": ["cat"], "2/b.png": ["dog"]}


def test_a_map_that_lacks_a_label_is_not_taken(draw: Draw) -> None:
    root = draw("1/a.png", "2/b.png")
    (root / "names.json").write_text('{"1": "cat"}')
    assert find_layout(root).classes == ("1", "2")
    assert "names.json does not name all labels" in refused(root, class_file="names.json")


def test_labels_that_are_one_number_are_named(two: Path) -> None:
    (two / "labels.csv").write_text("file,label\n1.png,0\n2.png,00\n")
    assert "classes that are one number, taken as two: 0 and 00" in find_layout(two).sentence
    (two / "labels.csv").write_text("file,label\n1.png,0.0\n2.png,1\n")
    assert find_layout(two).classes == ("0", "1")


# ---------------------------------------------------------------- the rest


def test_other_files_of_the_folder_are_named(draw: Draw) -> None:
    root = draw("a/1.png", "b/2.png")
    (root / "README").write_text("hello")
    (root / "images.txt").write_text("some words\n")
    assert "2 other files beside the folders: README, images.txt" in find_layout(root).sentence


def test_12_bits_in_16_are_told(tmp_path: Path) -> None:
    for most, name in ((4095, "a/1.png"), (4095, "b/2.png")):
        (tmp_path / name).parent.mkdir()
        values = np.linspace(0, most, 64).astype(np.uint16).reshape(8, 8)
        Image.fromarray(values).save(tmp_path / name)
    assert examine(tmp_path / "a/1.png").brightest == 16
    assert "2 pictures of 16 bits use 12 of them and look almost black" in scan(tmp_path).layout
    Image.fromarray(np.full((8, 8), 5000, np.uint16)).save(tmp_path / "b/2.png")
    assert "12 of them" not in scan(tmp_path).layout
