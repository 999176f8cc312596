"""Tables as people, spreadsheets and other tools write them: read as they are meant, or refused with a reason."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import polars as pl
import pytest

from tellapart.data.labels.layout import find_layout
from tests.data.labels.layouts import Draw, column, labels, refused, unknown

CAT_AND_DOG = {"1.png": ["cat"], "2.png": ["dog"]}


@pytest.mark.parametrize(
    "text",
    [
        "file_name, label\n1.png, cat\n2.png, dog\n",
        'label, file_name\ncat, "1.png"\ndog, "2.png"\n',
        'label,file_name\ncat, "1.png"\ndog, "2.png"\n',
        "file_name,label\n1.png ,cat\n 2.png,dog\n",
        "sep=;\nfile_name;label\n1.png;cat\n2.png;dog\n",
        '"sep=,"\r\nfile_name,label\r\n1.png,cat\r\n2.png,dog\r\n',
        "file_name;label\n1.png;cat\n2.png;dog\n;\n;\n",
        "file_name,label,,\n1.png,cat,,\n2.png,dog,,\n",
        "file_name,label\n1.png,cat,\n2.png,dog,,\n",
        "\ufeff\n\nfile_name\tlabel\n1.png\tcat\n2.png\tdog\n",
        "file_name label\n1.png cat\n2.png dog\n",
        "File Name,Class\n1.PNG,cat\n2.PNG,dog\n",
        "photo,art\n1.png,cat\n2.png,dog\n1.png,cat\n",
        ",file_name,label\n0,1.png,cat\n1,2.png,dog\n",
        "id,image,label\n7,1.png,cat\n8,2.png,dog\n",
        "#,file_name,label\n1,1.png,cat\n2,2.png,dog\n",
    ],
)
def test_a_table_from_a_spreadsheet_or_a_script(two: Path, text: str) -> None:
    (two / "labels.csv").write_text(text, encoding="utf-8", newline="")
    assert labels(find_layout(two)) == CAT_AND_DOG


def test_paths_may_be_absolute_composed_otherwise_or_begin_with_the_folder(draw: Draw) -> None:
    root = draw("img/" + unicodedata.normalize("NFD", "é1.png"), "img/2.jpg")
    first, second = sorted(path.name for path in (root / "img").iterdir())
    wanted = {f"img/{second}": ["cat"], f"img/{first}": ["dog"]}
    for one, other in (
        ("img/é1.png", "img/2.jpg"),
        (f"{root}/img/é1.png", f"{root}/img/2.jpg"),
        (f"{root}/x/../img/é1.png", f"{root}//img/2.JPG"),
        ("IMG\\É1.PNG", "img\\2.JPG"),
        (f"{root.name}/img/é1.png", f"{root.name}/img/2.jpg"),
        ("é1.png", "2.jpg"),
        ("É1", "2"),
    ):
        (root / "labels.csv").write_text(f"file_name,label\n{one},cat\n{other},dog\n")
        if one == "É1":  # without suffix the case counts
            assert "does not exist" in refused(root)
        else:
            assert labels(find_layout(root)) == wanted, one


# ---------------------------------------------------------------- columns


@pytest.mark.parametrize(
    ("header", "cells"),
    [
        ("is_valid", ("False", "True")),
        ("isValid", ("0", "1")),
        ("set", ("train", "valid")),
        ("phase", ("Training", "val")),
        ("fold", ("train_set", "validation set")),
        ("is_valid,set", ("False,train", "True,valid")),
        ("is_train,is_test", ("yes,no", "no,no")),
        ("data_split", ("train2017", "val2017")),
    ],
)
def test_columns_that_decide_the_split(draw: Draw, header: str, cells: tuple[str, str]) -> None:
    root = draw("1.png", "2.png", "3.png", "4.png")
    expected = {"1.png": "train", "2.png": "validation", "3.png": "train", "4.png": "validation"}
    (root / "labels.csv").write_text(
        f"file_name,label,{header}\n" + "".join(f"{i + 1}.png,{'ab'[i // 2]},{cells[i % 2]}\n" for i in range(4))
    )
    layout = find_layout(root)
    assert (layout.classes, column(layout, "split")) == (("a", "b"), expected)
    assert "parts from" in layout.sentence
    assert layout.unused_columns == ()
    (root / "labels.csv").write_text(
        f"file_name,cat,dog,{header}\n"
        + "".join(f"{i + 1}.png,{i // 2},{1 - i // 2},{cells[i % 2]}\n" for i in range(4))
    )
    layout = find_layout(root)
    assert (layout.classes, column(layout, "split")) == (("cat", "dog"), expected)


def test_columns_of_parts_that_contradict_each_other_are_refused(two: Path) -> None:
    (two / "labels.csv").write_text("file_name,label,split,is_valid\n1.png,a,train,0\n2.png,b,train,1\n")
    assert "labels.csv, line 3: 'split' and 'is_valid' contradict each other" in refused(two)


@pytest.mark.parametrize("name", ["patient_id", "PatientID", "lesion_id", "subject", "Patient Id"])
def test_columns_of_what_belongs_together_are_groups(two: Path, name: str) -> None:
    (two / "labels.csv").write_text(f"file_name,label,{name},age\n1.png,a,7,30\n2.png,b,,40\n")
    layout = find_layout(two)
    assert column(layout, "group") == {"1.png": "7", "2.png": None}
    assert f"groups from {name!r}" in layout.sentence
    assert layout.unused_columns == ("age",)
    assert "columns not used: age" in layout.sentence


def test_pictures_that_share_any_of_several_groups_are_one(draw: Draw) -> None:
    root = draw("1.png", "2.png", "3.png", "4.png")
    (root / "labels.csv").write_text(
        "file_name,label,patient,scene\n1.png,a,p,x\n2.png,b,p,y\n3.png,a,q,y\n4.png,b,r,\n"
    )
    groups = column(find_layout(root), "group")
    assert groups["1.png"] == groups["2.png"] == groups["3.png"] != groups["4.png"]


def test_numbers_called_fold_or_set_are_no_labels_and_named(two: Path) -> None:
    (two / "labels.csv").write_text("file_name,cat,dog,fold,set,Unnamed: 0\n1.png,1,0,0,1,0\n2.png,0,1,1,0,1\n")
    layout = find_layout(two)
    assert layout.classes == ("cat", "dog")
    assert layout.unused_columns == ("fold", "set", "Unnamed: 0")


@pytest.mark.parametrize("header", ["Image,Id", "id,breed", "img,lbl", "file_name,rasse", "image_id,dx"])
def test_the_only_other_column_holds_the_labels(draw: Draw, header: str) -> None:
    root = draw(*(f"images/{i}.png" for i in range(4)))
    (root / "train.csv").write_text(f"{header}\n" + "".join(f"{i}.png,c{i % 2}\n" for i in range(4)))
    assert labels(find_layout(root)) == {f"images/{i}.png": [f"c{i % 2}"] for i in range(4)}


def test_a_table_whose_labels_are_not_clear_is_refused_or_named(draw: Draw) -> None:
    root = draw("a/1.png", "a/2.png", "a/3.png")
    text = "file_name,colour,place\na/1.png,red,here\na/2.png,red,there\na/3.png,blue,there\n"
    (root / "notes.csv").write_text(text)
    reason = "it has no column that is clearly the label (it has: file_name, colour, place)"
    assert f"notes.csv names the pictures, but {reason}" in refused(root)
    draw("b/4.png")  # class folders say it
    layout = find_layout(root)
    assert dict(layout.unused_tables)["notes.csv"] == f"{reason}."
    assert f"notes.csv not used, as {reason}" in layout.sentence
    assert "no column with labels" in refused(root, labels="notes.csv")


def test_yes_and_no(two: Path) -> None:
    (two / "labels.csv").write_text("file_name,cat,dog\n1.png,yes,No\n2.png,no,YES\n")
    assert labels(find_layout(two)) == CAT_AND_DOG


# ---------------------------------------------------------------- cells


@pytest.mark.parametrize(
    "cells",
    [
        ['["cat", "dog"]', '["dog"]', "[]"],
        ["['cat', 'dog']", "['dog']", "[]"],
        ["['cat' 'dog']", "['dog']", "[]"],
        ["('cat', 'dog')", "('dog',)", "()"],
        ["{'cat', 'dog'}", "{'dog'}", "set()"],
        ['["cat","dog"]', ' ["dog"] ', ""],
    ],
)
@pytest.mark.parametrize("name", ["labels", "label"])
def test_lists_in_cells(draw: Draw, cells: list[str], name: str) -> None:
    root = draw("0.png", "1.png", "2.png")
    pl.DataFrame({"file_name": [f"{i}.png" for i in range(3)], name: cells}).write_csv(root / "labels.csv")
    layout = find_layout(root)
    assert labels(layout) == {"0.png": ["cat", "dog"], "1.png": ["dog"], "2.png": []}
    assert layout.multilabel


def test_names_with_quotes_and_brackets_in_lists(two: Path) -> None:
    rows = {"1.png": ["o'hara", "[x]"], "2.png": ['say "a, b"']}
    for write in (json.dumps, str):
        frame = pl.DataFrame({"file_name": list(rows), "labels": [write(names) for names in rows.values()]})
        frame.write_csv(two / "labels.csv")
        assert labels(find_layout(two)) == rows


@pytest.mark.parametrize(
    "cell", ['{"cat": 1}', "{'cat': 1}", "{}", '[["cat"]]', '[{"name": "cat"}]', " { 'cat' : 0.5 }"]
)
def test_objects_and_nested_lists_are_no_labels(two: Path, cell: str) -> None:
    pl.DataFrame({"file_name": ["1.png", "2.png"], "label": ["dog", cell]}).write_csv(two / "labels.csv")
    assert "labels.csv, line 3: the column 'label' holds" in refused(two)


def test_objects_in_json_lines_are_no_labels(two: Path) -> None:
    for value in ({"a": 1}, [["a"]], [{"a": 1}]):
        rows = [{"file_name": "1.png", "label": "cat"}, {"file_name": "2.png", "label": value}]
        (two / "labels.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        assert "labels.jsonl, line 2: the column 'label' holds" in refused(two)


def test_a_list_beside_cells_that_are_none_is_refused(draw: Draw) -> None:
    root = draw("1.png", "2.png")
    pl.DataFrame({"file_name": ["1.png", "2.png"], "labels": ["['cat']", "dog"]}).write_csv(root / "labels.csv")
    assert "labels.csv, line 3: the column 'labels' holds lists such as ['cat'], but here 'dog'" in refused(root)


def test_a_class_whose_name_has_brackets_is_a_class(two: Path) -> None:
    (two / "labels.csv").write_text("file_name,label\n1.png,[old]\n2.png,(new)\n")
    assert find_layout(two).classes == ("(new)", "[old]")


# ---------------------------------------------------------------- what is not known


def test_blank_and_minus_one_are_not_known_beside_zero(draw: Draw) -> None:
    root = draw("1.png", "2.png", "3.png")
    for minus in ("-1", "-1.0", " -1 "):
        (root / "labels.csv").write_text(f"file_name,cat,dog\n1.png,1.0,0\n2.png,{minus},1\n3.png,0.0,\n")
        layout = find_layout(root)
        assert labels(layout) == {"1.png": ["cat"], "2.png": ["dog"], "3.png": []}
        assert unknown(layout) == {"1.png": [], "2.png": ["cat"], "3.png": ["dog"]}
        assert layout.multilabel
        assert "2 cells of 2 pictures not known" in layout.sentence


def test_minus_one_alone_is_no_and_so_is_a_blank_beside_ones_alone(draw: Draw) -> None:
    root = draw("1.png", "2.png", "3.png")
    (root / "labels.csv").write_text("file_name,cat,dog\n1.png,1,-1\n2.png,-1,1\n3.png,-1.0,1\n")
    layout = find_layout(root)
    assert sum(map(len, unknown(layout).values())) == 0
    assert "-1 means no, as there is no 0" in layout.sentence
    (root / "labels.csv").write_text("file_name,cat,dog\n1.png,1,\n2.png,,1\n3.png,,0\n")
    layout = find_layout(root)
    assert unknown(layout) == {"1.png": ["dog"], "2.png": [], "3.png": []}
    assert "an empty cell means no in cat" in layout.sentence


def test_a_null_in_a_list_of_labels_is_not_known_and_an_empty_list_is_none(draw: Draw) -> None:
    root = draw("1.png", "2.png", "3.png")
    rows = [("1.png", ["a", "b"]), ("2.png", []), ("3.png", None)]
    (root / "l.jsonl").write_text("".join(json.dumps({"file_name": f, "labels": names}) + "\n" for f, names in rows))
    layout = find_layout(root)
    assert unknown(layout) == {"1.png": [], "2.png": [], "3.png": ["a", "b"]}
    assert "of 1 picture the labels are not known" in layout.sentence
    assert "1 picture with none of the labels" in layout.sentence


def test_blank_nan_and_minus_one_leave_a_picture_without_its_one_label(draw: Draw) -> None:
    root = draw("1.png", "2.png", "3.png", "4.png")
    (root / "labels.csv").write_text("file_name,label\n1.png,0\n2.png,1\n3.png,-1.0\n4.png,\n")
    layout = find_layout(root)
    assert labels(layout) == {"1.png": ["0"], "2.png": ["1"], "3.png": [], "4.png": []}
    assert "2 pictures without a label in the column 'label' (1 of them with -1)" in layout.sentence
    (root / "labels.csv").write_text("file_name,label\n1.png,a\n2.png,b\n3.png,NaN\n4.png,\n")
    assert labels(find_layout(root)) == {"1.png": ["a"], "2.png": ["b"], "3.png": [], "4.png": []}


def test_a_label_that_another_table_has_a_column_for_is_not_known(two: Path) -> None:
    (two / "train.csv").write_text("file_name,cat,dog\n1.png,1,1\n")
    (two / "test.csv").write_text("file_name,cat,bird\n2.png,1,1\n")
    assert unknown(find_layout(two)) == {"1.png": ["bird"], "2.png": ["dog"]}


# ---------------------------------------------------------------- numbers and class files


@pytest.mark.parametrize(
    ("cells", "wanted", "said"),
    [
        (("0.0", "1.0", ""), ("cat", "dog"), "classes named by classes.txt"),
        (("00", "01", "02"), ("cat", "dog", "bird"), "classes named by classes.txt"),
        (("1", "2", "3"), ("cat", "dog", "bird"), "its names are counted from 1"),
        (("1", "2", "1"), ("dog", "bird"), "its names are counted from 0, though no label is 0"),
    ],
)
def test_numbers_are_named_by_a_class_file(
    draw: Draw, cells: tuple[str, ...], wanted: tuple[str, ...], said: str
) -> None:
    root = draw("0.png", "1.png", "2.png")
    (root / "classes.txt").write_text("cat\ndog\nbird\n")
    (root / "labels.csv").write_text("file_name,label\n" + "".join(f"{i}.png,{cell}\n" for i, cell in enumerate(cells)))
    layout = find_layout(root)
    assert layout.classes == wanted
    assert said in layout.sentence


def test_a_class_file_may_number_its_names_and_one_not_used_is_named(two: Path) -> None:
    (two / "labels.csv").write_text("file_name,label\n1.png,1\n2.png,2\n")
    (two / "classes.txt").write_text("1 001.cat\n2 002.dog\n")
    assert find_layout(two).classes == ("001.cat", "002.dog")
    (two / "labels.csv").write_text("file_name,label\n1.png,cat\n2.png,dog\n")
    assert "classes.txt not used, as the labels are names, not numbers" in find_layout(two).sentence
    (two / "labels.csv").write_text("file_name,label\n1.png,1\n2.png,9\n")
    assert "classes.txt not used: classes.txt does not name these labels: 9." in find_layout(two).sentence
