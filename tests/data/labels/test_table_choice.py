"""Which of several tables holds the labels, and which folder it is about."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from tellapart.data.labels.layout import find_layout
from tests.data.labels.layouts import Draw, column, labels, refused

CAT_AND_DOG = {"1.png": ["cat"], "2.png": ["dog"]}


def test_a_table_of_names_is_tied_by_its_own_name(draw: Draw) -> None:
    root = draw(*(f"{part}/{i}.png" for part in ("train", "test") for i in (1, 2)))
    (root / "testLabels.csv").write_text("id,label\n1,cat\n2,dog\n")
    assert labels(find_layout(root / "testLabels.csv")) == {"test/1.png": ["cat"], "test/2.png": ["dog"]}
    (root / "test" / "2.png").unlink()  # the training folder still has both
    assert "2 (line 3)" in refused(root / "testLabels.csv")


def test_names_that_fit_several_folders_go_by_the_rows_part_or_are_refused(draw: Draw) -> None:
    root = draw(*(f"{part}/{i}.png" for part in ("train", "test") for i in (1, 2)))
    (root / "labels.csv").write_text("id,label\n1,cat\n2,dog\n")
    assert "fit the files of several folders: test/, train/" in refused(root)
    (root / "labels.csv").write_text("id,label,split\n1,cat,train\n2,dog,train\n1,dog,test\n2,cat,test\n")
    assert labels(find_layout(root)) == {
        "test/1.png": ["dog"],
        "test/2.png": ["cat"],
        "train/1.png": ["cat"],
        "train/2.png": ["dog"],
    }


def test_names_spread_over_folders_are_found_where_each_is_alone(draw: Draw) -> None:
    root = draw("part_1/a.jpg", "part_2/b.jpg")
    (root / "meta.csv").write_text("image_id,dx,age\na,nv,1\nb,mel,2\n")
    assert labels(find_layout(root)) == {"part_1/a.jpg": ["nv"], "part_2/b.jpg": ["mel"]}


def test_tables_in_the_parts_folders(draw: Draw) -> None:
    root = draw("train/1.png", "train/2.png", "valid/1.png")
    (root / "train" / "_classes.csv").write_text("filename, cat, dog\n1.png, 1, 0\n2.png, 0, 1\n")
    (root / "valid" / "_classes.csv").write_text("filename, cat, dog\n1.png, 0, 1\n")
    layout = find_layout(root)
    assert labels(layout) == {"train/1.png": ["cat"], "train/2.png": ["dog"], "valid/1.png": ["dog"]}
    assert set(column(layout, "split").values()) == {"train", "validation"}


OWN = {
    "answers.csv": "path,label,certainty,problem\na/1.png,b,0.9,\nb/2.png,b,0.8,\n",
    "top.csv": "path,label,certainty,label_2,certainty_2,problem\na/1.png,b,0.9,a,0.1,\n",
    "findings.csv": "kind,severity,detail,row,path,labels,other,other_path,other_labels,score\nx,y,z,0,a/1.png,b,,,,\n",
    "corrections.csv": "when,row,file,from,to,by,decision,sha256\nnow,0,a/1.png,a,b,me,relabel,0\n",
    "submission.csv": "id,label\n1,b\n2,b\n",
}


@pytest.mark.parametrize("name", OWN)
def test_tables_that_this_tool_wrote_are_passed_over_and_named(draw: Draw, name: str) -> None:
    root = draw("a/1.png", "b/2.png")
    (root / name).write_text(OWN[name])
    layout = find_layout(root)
    assert labels(layout) == {"a/1.png": ["a"], "b/2.png": ["b"]}
    assert f"{name} not used, as " in layout.sentence
    assert [table for table, _ in layout.unused_tables] == [name]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "file_name,label\na/1.png,b\nb/1.png,b\na/2.png,a\nb/2.png,b\n",
            "gives a/1.png the label 'b', its folder 'a'",
        ),
        ("file_name,label\na/1.png,a\nb/1.png,b\n", "labels 2 of the 4 pictures in folders"),
        ("file_name,label\na/1.png,x\n", "labels 1 of the 4 pictures in folders"),
        ("file_name,a,b\na/1.png,0,1\na/2.png,1,0\nb/1.png,0,1\nb/2.png,0,1\n", "gives a/1.png the label 'b'"),
    ],
)
def test_a_table_and_folders_that_disagree_are_left_to_the_user(draw: Draw, text: str, reason: str) -> None:
    root = draw("a/1.png", "a/2.png", "b/1.png", "b/2.png")
    (root / "labels.csv").write_text(text)
    message = refused(root)
    assert reason in message
    assert "--labels labels.csv" in message
    assert "--layout folders" in message
    assert find_layout(root, layout="folders").classes == ("a", "b")
    assert len(find_layout(root, labels="labels.csv").table) == len(text.splitlines()) - 1


def test_a_table_that_agrees_with_the_folders_is_taken(draw: Draw) -> None:
    root = draw("x/a/1.png", "x/b/1.png", "y/a/2.png")
    (root / "labels.csv").write_text("file_name,label,group\nx/a/1.png,a,1\nx/b/1.png,b,1\ny/a/2.png,a,2\n")
    assert find_layout(root).classes == ("a", "b")


def test_tables_that_are_not_read_are_named(draw: Draw) -> None:
    root = draw("a/1.png", "b/2.png", "b/extra/3.png")
    (root / "labels.xlsx").write_bytes(b"PK")
    (root / "annotations.json").write_text("{}")
    (root / "b" / "notes.csv").write_text("x,y\n1,2\n")
    (root / "list.txt").write_text("gone/1.png cat\n")
    names = [name for name, _ in find_layout(root).unused_tables]
    assert names == ["annotations.json", "b/notes.csv", "labels.xlsx", "list.txt"]


def test_columns_that_hold_no_text_are_named(two: Path) -> None:
    frame = pl.DataFrame(
        {"file_name": ["1.png", "2.png"], "label": ["a", "b"], "image": [{"bytes": b"x"}, {"bytes": b"y"}]}
    )
    frame.write_parquet(two / "labels.parquet")
    assert find_layout(two).unused_columns == ("image",)
