"""Layouts of well-known data sets, and names of columns and folders that are met in them."""

from __future__ import annotations

import pytest

from tests.data.labels.layouts import Draw, column, labels, layout_of


def test_paths_that_begin_with_a_folder_of_another_name(draw: Draw) -> None:
    """CheXpert's tables name the folder of the download, whatever it is called here."""
    root = draw(*(f"{part}/patient{i}/study1/view1.png" for part in ("train", "valid") for i in range(2)))
    for part in ("train", "valid"):
        rows = "".join(f"CheXpert-v1.0-small/{part}/patient{i}/study1/view1.png,{i},{1 - i}\n" for i in range(2))
        (root / f"{part}.csv").write_text(f"Path,Edema,Pneumonia\n{rows}")
    layout = layout_of(root)
    assert layout.classes == ("Edema", "Pneumonia")
    assert labels(layout)["train/patient1/study1/view1.png"] == ["Edema"]
    assert set(column(layout, "split").values()) == {"train", "validation"}


def test_a_part_is_no_folder_to_leave_out(draw: Draw) -> None:
    root = draw("1.png", "2.png", "a/3.png")
    (root / "labels.csv").write_text("file_name,label\nx/test/a/3.png,cat\nx/test/a/4.png,dog\n")
    assert layout_of(root).unused_tables == (("labels.csv", "its files do not exist"),)


def test_a_person_is_a_label_beside_others_of_yes_and_no(draw: Draw) -> None:
    root = draw("1.png", "2.png")
    (root / "labels.csv").write_text("file_name,car,person,dog\n1.png,0,1,1\n2.png,1,0,0\n")
    layout = layout_of(root)
    assert labels(layout) == {"1.png": ["person", "dog"], "2.png": ["car"]}
    assert set(column(layout, "group").values()) == {None}


def test_numbers_of_rows_are_no_label(draw: Draw) -> None:
    root = draw("1.png", "2.png")
    (root / "labels.csv").write_text(",Unnamed: 0,Unnamed: 0.1,image,car,dog\n0,0,0,1.png,0,1\n1,1,1,2.png,1,0\n")
    assert layout_of(root).classes == ("car", "dog")


@pytest.mark.parametrize("header", ["train_val", "split_type", "purpose", "cv_fold", "Data Type"])
def test_a_column_of_parts_is_one_whatever_its_name(draw: Draw, header: str) -> None:
    root = draw("1.png", "2.png")
    (root / "labels.csv").write_text(f"file_name,label,{header}\n1.png,cat,Train\n2.png,dog,val\n")
    layout = layout_of(root)
    assert column(layout, "split") == {"1.png": "train", "2.png": "validation"}
    assert f"parts from the column {header!r}" in layout.sentence


def test_columns_of_yes_and_no_called_train_and_test(draw: Draw) -> None:
    root = draw("1.png", "2.png")
    (root / "labels.csv").write_text("file_name,car,dog,train,test\n1.png,1,0,1,0\n2.png,0,1,0,1\n")
    layout = layout_of(root)
    assert (layout.classes, column(layout, "split")) == (("car", "dog"), {"1.png": "train", "2.png": "test"})
    (root / "labels.csv").write_text("file_name,car,bus,train\n1.png,1,0,1\n2.png,0,1,0\n")
    assert layout_of(root).classes == ("bus", "car", "train")  # a vehicle


def test_numbers_of_folds_are_named_with_a_way_to_use_them(draw: Draw) -> None:
    root = draw("1.png", "2.png")
    (root / "labels.csv").write_text("file_name,label,kfold\n1.png,cat,0\n2.png,dog,1\n")
    layout = layout_of(root)
    assert layout.unused_columns == ("kfold",)
    assert "folds in 'kfold' are not used" in layout.sentence


def test_folders_that_differ_by_the_name_of_a_part(draw: Draw) -> None:
    """Intel's scenes: seg_train/seg_train/street, seg_test/seg_test/street, seg_pred/seg_pred."""
    files = [f"seg_{part}/seg_{part}/{kind}/{part}.png" for part in ("train", "test") for kind in ("sea", "street")]
    layout = layout_of(draw(*files, "seg_pred/seg_pred/1.png"))
    assert layout.classes == ("sea", "street")
    assert column(layout, "split") == {file: file.split("/")[3].removesuffix(".png") for file in files}
    assert "1 picture in seg_pred left out" in layout.sentence


def test_train_and_test_in_names_of_several_kinds_are_no_parts(draw: Draw) -> None:
    files = [f"{kind}_{part}/1.png" for kind in ("cat", "dog") for part in ("train", "test")]
    assert len(layout_of(draw(*files)).classes) == 4


def test_parts_below_a_wrapper_are_not_in_each_class(draw: Draw) -> None:
    layout = layout_of(draw("all/train/cat/1.png", "all/train/dog/2.png", "all/test/cat/3.png", "all/0.png"))
    assert "given parts: test/, train/;" in layout.sentence


def test_classes_of_a_table_that_differ_by_case_are_named(draw: Draw) -> None:
    root = draw("1.png", "2.png")
    (root / "labels.csv").write_text("file_name,label\n1.png,Cat\n2.png,cat\n")
    layout = layout_of(root)
    assert layout.classes == ("Cat", "cat")
    assert "classes that differ by case or blanks only: Cat and cat" in layout.sentence


def test_names_of_files_are_paths_before_numbers_are(draw: Draw) -> None:
    """Birds: class id, filepaths, labels, data set; and its test pictures are called 1.jpg, 2.jpg …"""
    root = draw("train/a/001.png", "train/b/002.png", "test/a/1.png", "test/b/2.png")
    rows = "1,train/a/001.png,a,train\n2,train/b/002.png,b,train\n1,test/a/1.png,a,test\n2,test/b/2.png,b,test\n"
    for header in ("class id,filepaths,labels,data set", "id,Bild,label,split"):
        (root / "birds.csv").write_text(f"{header}\n{rows}")
        layout = layout_of(root)
        assert labels(layout)["test/b/2.png"] == ["b"]
        assert column(layout, "split")["test/b/2.png"] == "test"
        assert layout.unused_columns == (header.split(",")[0],)


@pytest.mark.parametrize("blank", ["", "NaN", "nan", "N/A"])
def test_parts_and_groups_that_are_blank(draw: Draw, blank: str) -> None:
    root = draw("1.png", "2.png", "3.png")
    rows = f"1.png,cat,train,p1\n2.png,dog,{blank},{blank}\n3.png,dog,val,{blank}\n"
    (root / "labels.csv").write_text(f"file_name,label,split,patient_id\n{rows}")
    layout = layout_of(root)
    assert column(layout, "split") == {"1.png": "train", "2.png": None, "3.png": "validation"}
    assert column(layout, "group") == {"1.png": "p1", "2.png": None, "3.png": None}
