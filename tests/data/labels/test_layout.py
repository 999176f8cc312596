"""Every layout is found by looking, said in a sentence, and can be overridden; errors say where and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from tellapart.errors import UsageError
from tests.data.labels.layouts import Draw, column, labels, layout_of, refused

# ---------------------------------------------------------------- folders


def test_one_folder_a_class(draw: Draw) -> None:
    layout = layout_of(draw("dog/1.png", "cat/1.png", "cat/2.png"))
    assert labels(layout) == {"cat/1.png": ["cat"], "cat/2.png": ["cat"], "dog/1.png": ["dog"]}
    assert (layout.classes, layout.multilabel) == (("cat", "dog"), False)
    assert layout.sentence == "One folder a class: 2 classes."


@pytest.mark.parametrize(
    ("depth", "classes"),
    [
        (None, ("Fruit/Apple/Gala", "Fruit/Apple/Pink-Lady", "Fruit/Banana", "Leek")),
        (1, ("Fruit", "Leek")),
        (2, ("Fruit/Apple", "Fruit/Banana", "Leek")),
        (9, ("Fruit/Apple/Gala", "Fruit/Apple/Pink-Lady", "Fruit/Banana", "Leek")),
        (-1, ("Banana", "Gala", "Leek", "Pink-Lady")),
        (-2, ("Apple/Gala", "Apple/Pink-Lady", "Fruit/Banana", "Leek")),
    ],
)
def test_nested_classes_are_named_by_their_path_or_some_of_it(
    draw: Draw, depth: int | None, classes: tuple[str, ...]
) -> None:
    root = draw("Fruit/Apple/Pink-Lady/1.png", "Fruit/Apple/Gala/1.png", "Fruit/Banana/1.png", "Leek/1.png")
    layout = layout_of(root, label_depth=depth)
    assert layout.classes == classes
    assert layout.sentence.startswith("Nested folders, a class named by ")


@pytest.mark.parametrize("names", [("train", "val", "test"), ("Training", "VALIDATION", "Testing"), ("train", "valid")])
def test_given_parts_are_taken_from_folders(draw: Draw, names: tuple[str, ...]) -> None:
    root = draw(*(f"{name}/{kind}/1.png" for name in names for kind in ("cat", "dog")))
    layout = layout_of(root)
    assert layout.classes == ("cat", "dog")
    expected = dict(zip(names, ("train", "validation", "test"), strict=False))
    assert column(layout, "split") == {f"{n}/{kind}/1.png": expected[n] for n in names for kind in ("cat", "dog")}
    assert "given parts: " in layout.sentence


def test_one_part_alone_is_no_division(draw: Draw) -> None:
    layout = layout_of(draw("train/cat/1.png", "train/dog/1.png"))
    assert layout.classes == ("cat", "dog")
    assert set(column(layout, "split").values()) == {None}
    assert "all of it in train/" in layout.sentence


def test_classes_that_are_called_like_parts_are_classes(draw: Draw) -> None:
    layout = layout_of(draw("train/1.png", "bus/1.png", "car/1.png"))
    assert layout.classes == ("bus", "car", "train")


def test_unlabelled_test_pictures_are_left_out_and_told(draw: Draw) -> None:
    layout = layout_of(draw("train/cat/1.png", "train/dog/1.png", "test/1.png", "test/2.png"))
    assert sorted(labels(layout)) == ["train/cat/1.png", "train/dog/1.png"]
    assert "test/ without class folders left out (2 pictures)" in layout.sentence


def test_other_folders_beside_parts_are_left_out_and_told(draw: Draw) -> None:
    layout = layout_of(draw("train/cat/1.png", "val/cat/1.png", "extra/1.png", "0.png"))
    assert sorted(labels(layout)) == ["train/cat/1.png", "val/cat/1.png"]
    assert "1 picture in extra left out" in layout.sentence
    assert "1 picture in no folder left out" in layout.sentence


def test_pictures_beside_class_folders_have_no_label(draw: Draw) -> None:
    layout = layout_of(draw("cat/1.png", "dog/1.png", "0.png"))
    assert labels(layout)["0.png"] == []
    assert "1 picture in no class folder without a label" in layout.sentence


def test_pictures_without_any_labels_are_listed(draw: Draw) -> None:
    layout = layout_of(draw("1.png", "2.png"))
    assert labels(layout) == {"1.png": [], "2.png": []}
    assert layout.classes == ()
    assert layout.sentence == "Pictures without labels."


def test_what_is_not_taken_is_told(draw: Draw) -> None:
    root = draw("cat/1.png", "dog/1.png")
    (root / "empty").mkdir()
    (root / "cat" / "1.xml").write_text("<a/>")
    sentence = layout_of(root).sentence
    assert "without pictures: empty/" in sentence
    assert "1 other file (.xml)" in sentence


def test_folders_named_by_integers_are_in_numeric_order_and_named_by_a_class_file(draw: Draw) -> None:
    root = draw("10/1.png", "2/1.png", "0/1.png")
    assert layout_of(root).classes == ("0", "2", "10")
    (root / "classes.txt").write_text("\n".join(f"kind {i}" for i in range(11)))
    layout = layout_of(root)
    assert layout.classes == ("kind 0", "kind 2", "kind 10")
    assert "classes named by classes.txt" in layout.sentence


def test_a_folder_without_pictures_says_what_was_looked_for(tmp_path: Path) -> None:
    message = refused(tmp_path)
    assert "holds no pictures" in message
    assert ".jpg" in message or ".apng" in message


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    assert "there is no such folder" in refused(tmp_path / "nothing")
    (tmp_path / "a.png").write_bytes(b"x")
    assert "neither a folder nor a table" in refused(tmp_path / "a.png")


# ---------------------------------------------------------------- competitions and lists


def test_a_name_without_suffix_that_two_files_have_is_an_error(draw: Draw) -> None:
    root = draw("train/1.png", "train/1.jpg")
    (root / "labels.csv").write_text("id,label\n1,x\n")
    assert "Several files have a name of the table: train/1.jpg, train/1.png" in refused(root)


@pytest.mark.parametrize("separator", [", ", ",", "\t", " ", ";"])
def test_a_list(draw: Draw, separator: str) -> None:
    root = draw("img/a 1.png", "img/2.png")
    (root / "list.txt").write_text(f"img/a 1.png{separator}7\nimg/2.png{separator}3\n")
    layout = layout_of(root)
    assert labels(layout) == {"img/2.png": ["3"], "img/a 1.png": ["7"]}
    assert layout.sentence.startswith("List list.txt: 2 classes")


def test_two_lists_are_given_parts_and_the_first_label_counts(draw: Draw) -> None:
    root = draw("train/x/1.png", "train/y/2.png", "val/x/3.png")
    (root / "train.txt").write_text("train/x/1.png, 0, 5\ntrain/y/2.png, 1, 5\n")
    (root / "val.txt").write_text("val/x/3.png, 0, 5\n")
    (root / "classes.csv").write_text("Class Name (str),Class ID (int)\nx-ray,0\nyacht,1\n")
    layout = layout_of(root)
    assert layout.classes == ("x", "y")
    assert "train.txt, val.txt not used (the layout 'list' does)" in layout.sentence
    layout = layout_of(root, layout="list")
    assert labels(layout) == {"train/x/1.png": ["x-ray"], "train/y/2.png": ["yacht"], "val/x/3.png": ["x-ray"]}
    assert set(column(layout, "split").values()) == {"train", "validation"}
    assert "of 2 labels in a line the first was taken" in layout.sentence
    alone = layout_of(root, labels="val.txt")
    assert list(labels(alone)) == ["val/x/3.png"]
    assert set(column(alone, "split").values()) == {None}


def test_text_files_that_are_no_lists_are_named_and_passed_over(draw: Draw) -> None:
    root = draw("cat/1.png", "dog/1.png")
    (root / "README.txt").write_text("Photos of cats, and dogs.\n")
    (root / "LICENSE.txt").write_bytes(b"\xff\xfe\xfa not text")
    named = "2 other files beside the folders: LICENSE.txt, README.txt"
    assert layout_of(root).sentence == f"One folder a class: 2 classes; {named}."


def test_several_files_that_could_hold_the_labels_are_an_error(draw: Draw) -> None:
    root = draw("1.png", "2.png")
    for name in ("old.csv", "new.csv"):
        (root / name).write_text("file_name,label\n1.png,a\n2.png,b\n")
    assert "Several files could hold the labels: new.csv, old.csv" in refused(root)
    assert labels(layout_of(root, labels="new.csv")) == {"1.png": ["a"], "2.png": ["b"]}
    assert labels(layout_of(root, labels=root / "old.csv")) == {"1.png": ["a"], "2.png": ["b"]}


def test_a_picture_in_two_lists_is_an_error(draw: Draw) -> None:
    root = draw("1.png", "2.png")
    (root / "train.txt").write_text("1.png 0\n2.png 1\n")
    (root / "val.txt").write_text("2.png 1\n")
    assert "2.png has the part 'train' in train.txt, line 2 and 'validation' in val.txt, line 1" in refused(root)


# ---------------------------------------------------------------- arguments


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"layout": "magic"}, "There is no layout 'magic'."),
        ({"layout": "folders", "labels": "labels.csv"}, "The layout 'folders' takes labels from folders"),
        ({"label_depth": 0}, "The label depth is a number of folder levels"),
        ({"label_depth": 1}, "The label depth counts folders, but the labels come from a table"),
        ({"delimiter": ";"}, "A delimiter divides the cells of a column 'labels'"),
        ({"delimiter": ";", "layout": "folders"}, "A delimiter divides labels in a table"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(draw: Draw, options: dict[str, object], expected: str) -> None:
    root = draw("a/1.png", "b/2.png")
    (root / "labels.csv").write_text("file_name,label\na/1.png,x\nb/2.png,y\n")
    assert expected in refused(root, UsageError, **options)


def test_a_layout_that_is_not_there_is_an_error(draw: Draw) -> None:
    root = draw("a/1.png", "b/2.png")
    assert "There is no table with file_name and label columns" in refused(root, layout="table")
    assert "There is no list" in refused(root, layout="list")
    assert "there is no such file" in refused(root, labels="labels.csv")


@pytest.mark.parametrize(
    ("folder", "options", "n", "n_classes", "said"),
    [
        ("fruit", {}, 3607, 3, "One folder a class: 3 classes."),
        ("breeds", {}, 295, 37, "One folder a class: 37 classes."),
        ("grocery", {}, 2936, 81, "given parts: train/, val/; train.txt, val.txt not used"),
        ("grocery", {"layout": "list"}, 2936, 81, "classes named by classes.csv"),
        ("grocery", {"label_depth": 1}, 2936, 3, "a class named by the first level"),
        ("grocery/train.txt", {}, 2640, 81, "296 pictures that it does not name left out (val/)"),
        ("animals", {}, 551, 3, "labels divided at blanks"),
    ],
)
def test_real_folders(
    folder: str, options: dict[str, object], n: int, n_classes: int, said: str, test_data: Path
) -> None:
    layout = layout_of(test_data / folder, **options)
    assert (layout.table.height, len(layout.classes)) == (n, n_classes)
    assert said in layout.sentence


def test_lists_and_folders_of_real_groceries_agree(test_data: Path) -> None:
    by_folder, by_list = layout_of(test_data / "grocery"), layout_of(test_data / "grocery", layout="list")
    names = {path: label[0].rsplit("/", 1)[-1] for path, label in labels(by_folder).items()}
    assert names == {path: label[0] for path, label in labels(by_list).items()}
    assert column(by_folder, "split") == column(by_list, "split")
