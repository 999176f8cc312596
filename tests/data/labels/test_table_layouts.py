"""Tables of labels: every form is found by looking; errors say where and what to do."""

from __future__ import annotations

import json
import os
from pathlib import Path

import polars as pl
import pytest

from tellapart.data.labels import tables
from tests.data.labels.layouts import Draw, column, labels, layout_of, refused

CATS_AND_DOGS = {"img/1.png": ["cat"], "img/2.png": ["dog"], "img/3.png": ["cat"]}


def write_table(path: Path, rows: list[dict[str, object]]) -> None:
    if path.suffix == ".parquet":
        pl.DataFrame(rows).write_parquet(path)
    elif path.suffix in (".jsonl", ".ndjson"):
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        pl.DataFrame(rows).write_csv(path, separator="\t" if path.suffix == ".tsv" else ",")


@pytest.mark.parametrize("suffix", ["csv", "tsv", "parquet", "jsonl", "ndjson"])
@pytest.mark.parametrize("name", ["file_name", "filename", "File", "path", "image", "ID"])
def test_a_table_of_any_kind(draw: Draw, suffix: str, name: str) -> None:
    root = draw("img/1.png", "img/2.png", "img/3.png")
    rows = [{name: path, "label": label[0], "split": "train", "Group": "g"} for path, label in CATS_AND_DOGS.items()]
    write_table(root / f"labels.{suffix}", rows)
    for layout in (layout_of(root), layout_of(root / f"labels.{suffix}"), layout_of(root, layout="table")):
        assert labels(layout) == CATS_AND_DOGS
        assert not layout.multilabel
        assert set(column(layout, "split").values()) == {"train"}
        assert set(column(layout, "group").values()) == {"g"}
        assert layout.sentence.startswith(f"Table labels.{suffix}: 2 classes")


@pytest.mark.parametrize("suffix", ["csv", "tsv", "parquet", "jsonl"])
def test_names_of_columns_are_no_patterns(draw: Draw, suffix: str) -> None:
    """To polars, ^.*$ is every column, and ^a$ one that is called a."""
    root = draw("img/1.png", "img/2.png", "img/3.png")
    plain = [{"file_name": path, "label": name[0], "split": "train"} for path, name in CATS_AND_DOGS.items()]
    write_table(root / f"labels.{suffix}", [{f"^{k}$": v for k, v in row.items()} | {"*": "1.5"} for row in plain])
    assert labels(layout_of(root)) == CATS_AND_DOGS
    assert set(column(layout_of(root), "split").values()) == {"train"}
    guessed = [{"^a.*$": row["label"], "^b$": row["file_name"], "a": "1.5"} for row in plain]
    write_table(root / f"labels.{suffix}", guessed)
    assert labels(layout_of(root / f"labels.{suffix}")) == CATS_AND_DOGS
    flags = [{"file_name": row["file_name"], "^a.*$": str(int(row["label"] == "cat")), "a": "1"} for row in plain]
    write_table(root / f"labels.{suffix}", flags)
    assert labels(layout_of(root))["img/2.png"] == ["a"]
    assert set(layout_of(root).classes) == {"^a.*$", "a"}


def test_lists_in_columns_whose_names_look_like_patterns(draw: Draw, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "_CHUNK", 1)
    root = draw("img/1.png", "img/2.png", "img/3.png")
    rows = [{"file_name": "img/1.png", "^labels$": "cat"}, {"file_name": "img/2.png", "^labels$": ["cat", "dog"]}]
    write_table(root / "labels.jsonl", rows)
    assert labels(layout_of(root)) == {"img/1.png": ["cat"], "img/2.png": ["cat", "dog"]}
    write_table(root / "labels.jsonl", [*rows, {"file_name": "img/3.png", "^labels$": [{"a": 1}]}])
    assert "labels.jsonl, line 3" in refused(root)


def test_other_separators_and_line_ends_are_found(draw: Draw) -> None:
    root = draw("img/1.png", "img/2.png", "img/3.png")
    for text in (
        "file_name;label\r\nimg/1.png;cat\r\nimg/2.png;dog\r\nimg/3.png;cat\r\n",
        "file_name|label\nimg/1.png|cat\nimg/2.png|dog\n\nimg/3.png|cat",
        "\ufefffile_name,label\nimg/1.png,cat\nimg/2.png,dog\nimg/3.png,cat\n",
        'label,file_name\n cat ,"img/1.png"\ndog,img/2.png\ncat,img/3.png\n',
        "file_name\tlabel\nimg\\1.png\tcat\n.\\img\\2.png\tdog\n./img/x/../3.png\tcat\n",
    ):
        (root / "labels.csv").write_text(text, encoding="utf-8", newline="")
        assert labels(layout_of(root)) == CATS_AND_DOGS
    (root / "labels.csv").write_text("file_name,label\nimg/1.png,cat\nimg/2.png,dog\nimg/3.png,cat\n", "utf-16")
    assert labels(layout_of(root)) == CATS_AND_DOGS


def test_a_table_is_preferred_to_folders_unless_asked(draw: Draw) -> None:
    root = draw("a/1.png", "b/2.png")
    (root / "labels.csv").write_text("file_name,label\na/1.png,cat\nb/2.png,dog\n")
    layout = layout_of(root)
    assert layout.classes == ("cat", "dog")
    assert "folders not taken for classes (the layout 'folders' does)" in layout.sentence
    assert layout_of(root, layout="folders").classes == ("a", "b")


def test_tables_that_do_not_fit_are_told_and_folders_taken(draw: Draw) -> None:
    root = draw("a/1.png", "b/2.png")
    (root / "other.csv").write_text("name,label\nAnna,tall\nBob,small\n")
    (root / "broken.csv").write_bytes(b"file_name,label\nx\xff,y\n")
    (root / "numbers.csv").write_text("week,sales\n1,2\n")
    layout = layout_of(root)
    assert layout.classes == ("a", "b")
    assert "other.csv not used, as its files do not exist" in layout.sentence
    assert "broken.csv not used: broken.csv, line 2: this is not UTF-8 text" in layout.sentence
    assert "numbers.csv not used, as it has no column with pictures" in layout.sentence
    assert [name for name, _ in layout.unused_tables] == ["broken.csv", "numbers.csv", "other.csv"]


@pytest.mark.parametrize(
    ("cells", "expected", "said"),
    [
        (["cat;dog", "dog", ""], [["cat", "dog"], ["dog"], []], "labels divided at ;"),
        (["cat | dog", "dog", "cat"], [["cat", "dog"], ["dog"], ["cat"]], "labels divided at |"),
        (["cat dog", "dog", "cat"], [["cat", "dog"], ["dog"], ["cat"]], "labels divided at blanks"),
        (["big cat;dog", "dog, old", "cat"], [["big cat", "dog"], ["dog, old"], ["cat"]], "also hold ,"),
        (["basset hound", "afghan hound", "pug"], [["basset hound"], ["afghan hound"], ["pug"]], "as one label"),
    ],
)
def test_several_labels_in_a_cell(draw: Draw, cells: list[str], expected: list[list[str]], said: str) -> None:
    root = draw("1.png", "2.png", "3.png")
    rows = [{"file_name": f"{i}.png", "labels": cell} for i, cell in enumerate(cells, 1)]
    write_table(root / "labels.csv", rows)
    layout = layout_of(root)
    assert list(labels(layout).values()) == expected
    assert layout.multilabel == any(len(cell) != 1 for cell in expected)
    assert said in layout.sentence


def test_the_delimiter_can_be_given(draw: Draw) -> None:
    root = draw("1.png", "2.png")
    (root / "labels.csv").write_text("file_name,labels\n1.png,a+b\n2.png,b c\n")
    assert labels(layout_of(root, delimiter="+")) == {"1.png": ["a", "b"], "2.png": ["b c"]}
    assert labels(layout_of(root, delimiter="")) == {"1.png": ["a+b"], "2.png": ["b c"]}
    assert labels(layout_of(root, delimiter=" ")) == {"1.png": ["a+b"], "2.png": ["b", "c"]}


def test_lists_in_json_and_parquet_need_no_delimiter(draw: Draw) -> None:
    root = draw("1.png", "2.png", "3.png")
    rows: list[dict[str, object]] = [
        {"file_name": "1.png", "labels": ["a, b", "c"]},
        {"file_name": "2.png", "labels": []},
        {"file_name": "3.png", "labels": ["c", "c"]},
    ]
    for name in ("labels.jsonl", "labels.parquet"):
        write_table(root / name, rows)
        layout = layout_of(root)
        assert labels(layout) == {"1.png": ["a, b", "c"], "2.png": [], "3.png": ["c"]}
        assert layout.multilabel
        (root / name).unlink()


@pytest.mark.parametrize("yes_no", [("1", "0"), ("true", "false"), ("1.0", "0.0"), ("1", "-1")])
def test_one_column_a_label(draw: Draw, yes_no: tuple[str, str]) -> None:
    root = draw("1.png", "2.png", "3.png")
    yes, no = yes_no
    rows = [("1.png", yes, no, "900"), ("2.png", no, no, "800"), ("3.png", yes, yes, "700")]
    text = "\n".join(",".join(row) for row in [("file_name", "cat", "dog", "width"), *rows])
    (root / "labels.csv").write_text(text)
    layout = layout_of(root)
    assert labels(layout) == {"1.png": ["cat"], "2.png": [], "3.png": ["cat", "dog"]}
    assert layout.multilabel
    assert "one column a label; columns not used: width" in layout.sentence


def test_one_label_each_is_one_label_a_picture_whatever_the_form(draw: Draw) -> None:
    root = draw("1.png", "2.png")
    (root / "labels.csv").write_text("file_name,cat,dog\n1.png,1,0\n2.png,0,1\n")
    assert not layout_of(root).multilabel


def test_an_empty_label_is_no_label(draw: Draw) -> None:
    root = draw("1.png", "2.png", "3.png")
    (root / "labels.csv").write_text("file_name,label\n1.png,cat\n2.png,\n3.png,dog\n")
    layout = layout_of(root)
    assert labels(layout)["2.png"] == []
    assert not layout.multilabel


def test_pictures_in_hidden_folders_are_found_by_a_table(draw: Draw) -> None:
    root = draw(".pictures/1.png")
    (root / "labels.csv").write_text("file_name,label\n.pictures/1.png,a\n")
    assert labels(layout_of(root)) == {".pictures/1.png": ["a"]}


def test_pictures_that_a_table_does_not_name_are_left_out_and_told(draw: Draw) -> None:
    root = draw("img/1.png", "img/2.png", "spare/3.png")
    (root / "labels.csv").write_text("file_name,label\nimg/1.png,cat\nimg/2.png,dog\n")
    layout = layout_of(root)
    assert len(layout.table) == 2
    assert "1 picture that it does not name left out (spare/)" in layout.sentence


def test_integer_labels_take_their_names_from_a_class_file(draw: Draw) -> None:
    root = draw("1.png", "2.png", "3.png")
    (root / "labels.csv").write_text("file_name,label\n1.png,10\n2.png,2\n3.png,2\n")
    assert layout_of(root).classes == ("2", "10")
    for name, text in {
        "classes.csv": "Class Name (str),Class ID (int),Coarse Class Name (str)\nzebra,10,z\nant,2,a\nbee,1,b\n",
        "names.csv": "id,name\n2,ant\n10,zebra\n",
        "plain.csv": "2,ant\n10,zebra\n",
        "turned.csv": "ant,2\nzebra,10\n",
        "lines.txt": "\n".join(["x", "y", "ant", *map(str, range(7)), "zebra"]),
    }.items():
        (root / name).write_text(text)
        layout = layout_of(root, labels="labels.csv", class_file=name)
        assert labels(layout) == {"1.png": ["zebra"], "2.png": ["ant"], "3.png": ["ant"]}, name
        assert f"classes named by {name}" in layout.sentence
    assert layout_of(root, labels="labels.csv").classes == ("zebra", "ant")  # classes.csv is found, its order kept


def test_a_class_file_that_lacks_a_label_is_an_error(draw: Draw) -> None:
    root = draw("1.png", "2.png")
    (root / "labels.csv").write_text("file_name,label\n1.png,0\n2.png,7\n")
    (root / "kinds.txt").write_text("ant\nbee\n")
    assert "kinds.txt does not name these labels: 7" in refused(root, class_file="kinds.txt")
    (root / "kinds.txt").write_text("ant\nant\n")
    assert "the name 'ant' stands for 2 classes" in refused(root, class_file="kinds.txt")
    assert "there is no such file" in refused(root, class_file="nothing.txt")
    (root / "kinds.txt").write_bytes(b"ant\n\xff\xfe\n")
    assert "cannot be read as a list of class names" in refused(root, class_file="kinds.txt")
    (root / "kinds.csv").write_text("id,size\n0,3\n7,4\n")
    assert "kinds.csv" in refused(root, class_file="kinds.csv")


def test_a_class_file_may_hold_the_labels_themselves(draw: Draw) -> None:
    """Its order is that of the classes; an accent may be one sign or two."""
    root = draw("1.png", "2.png")
    (root / "labels.csv").write_text("file_name,label\n1.png,ant\n2.png,cafe\u0301\n", encoding="utf-8")
    (root / "kinds.txt").write_text("caf\u00e9\nant\n", encoding="utf-8")
    layout = layout_of(root, labels="labels.csv", class_file="kinds.txt")
    assert layout.classes == ("caf\u00e9", "ant")


def test_given_parts_by_a_column_or_by_the_tables_names(draw: Draw) -> None:
    root = draw("1.png", "2.png", "3.png", "4.png")
    (root / "labels.csv").write_text("file_name,label,split\n1.png,a,Train\n2.png,b,VAL\n3.png,a,testing\n4.png,b,\n")
    expected = {"1.png": "train", "2.png": "validation", "3.png": "test", "4.png": None}
    assert column(layout_of(root), "split") == expected
    (root / "labels.csv").unlink()
    (root / "train.csv").write_text("file_name,label\n1.png,a\n4.png,b\n")
    (root / "valid_list.csv").write_text("file_name,label\n2.png,b\n")
    (root / "testLabels.csv").write_text("file_name,label\n3.png,a\n")
    assert column(layout_of(root), "split") == {**expected, "4.png": "train"}


def test_repeated_rows_are_merged_and_told(draw: Draw) -> None:
    root = draw("1.png", "2.png")
    (root / "labels.csv").write_text("file_name,label\n1.png,a\n2.png,b\n1.png,a\n./1.png,a\n")
    layout = layout_of(root)
    assert labels(layout) == {"1.png": ["a"], "2.png": ["b"]}
    assert "2 repeated rows merged" in layout.sentence
    (root / "labels.csv").write_text("file_name,labels\n1.png,a\n2.png,b\n1.png,b\n")
    assert labels(layout_of(root)) == {"1.png": ["a", "b"], "2.png": ["b"]}


TROUBLE = {
    "contradiction": (
        "file_name,label\n1.png,a\n2.png,b\n1.png,b\n",
        "1.png has the label 'a' in labels.csv, line 2 and 'b' in labels.csv, line 4",
    ),
    "contradicting parts": (
        "file_name,label,split\n1.png,a,train\n1.png,a,test\n",
        "1.png has the part 'train' in labels.csv, line 2 and 'test' in labels.csv, line 3",
    ),
    "out, upwards": ("file_name,label\n1.png,a\n../x.png,b\n", "labels.csv, line 3: '../x.png' leads out of"),
    "out, hidden": ("file_name,label\n1.png,a\nb/../../x.png,b\n", "line 3: 'b/../../x.png' leads out of"),
    "out, absolute": ("file_name,label\n/etc/passwd,a\n", "line 2: '/etc/passwd' leads out of"),
    "out, Windows": ("file_name,label\n1.png,a\nC:\\x.png,a\n", "line 3: 'C:\\\\x.png' leads out of"),
    "out, backwards": ("file_name,label\n1.png,a\n..\\x.png,a\n", "line 3: '..\\\\x.png' leads out of"),
    "not there": (
        "file_name,label\n1.png,a\nx.png,b\ny.png,b\nz.png,b\nw.png,b\n",
        "labels.csv: 4 pictures do not exist below {root}: x.png (line 3), y.png (line 4), z.png (line 5) and 1 more",
    ),
    "ragged": ("file_name,label\n1.png,a\n2.png,b,c\n", "labels.csv, line 3: 3 fields where 2 are expected"),
    "quotes": ('file_name,label\n1.png,a\n"2.png,b\n', "labels.csv: this is not a table: line 3"),
    "header only": ("file_name,label\n", "labels.csv is empty"),
    "no label": ("file_name,width\n1.png,300\n", "labels.csv has no column with labels (it has: file_name, width)"),
    "no path": ("kind,label\na,b\n", "labels.csv has no column with the pictures' paths (it has: kind, label)"),
    "no file name": ("file_name,label\n1.png,a\n,b\n", "labels.csv, line 3: the column 'file_name' is empty"),
    "two columns": ("file_name,label,Label\n1.png,a,b\n", "labels.csv: two columns are called 'label'"),
    "two meanings": ("file_name,label,labels\n1.png,a,b\n", "which one holds the labels is not clear"),
    "unknown part": (
        "file_name,label,split\n1.png,a,train\n2.png,b,later\n",
        "labels.csv, line 3: 'later' in the column 'split' is not a part of the data",
    ),
}


@pytest.mark.parametrize("name", TROUBLE)
def test_trouble_in_a_table_is_told_with_its_line(draw: Draw, name: str) -> None:
    root = draw("1.png", "2.png")
    text, expected = TROUBLE[name]
    (root / "labels.csv").write_text(text)
    assert expected.format(root=root) in refused(root, labels="labels.csv")


def test_trouble_in_other_tables_is_told_with_its_row(draw: Draw) -> None:
    root = draw("1.png", "2.png")
    (root / "a.csv").write_bytes(b"file_name,label\n1.png,caf\xe9\n")
    assert "a.csv, line 2: this is not UTF-8 text" in refused(root / "a.csv")
    (root / "a.csv").write_bytes(b"")
    assert "a.csv is empty" in refused(root / "a.csv")
    (root / "a.jsonl").write_text('{"file_name": "1.png", "label": "x"}\n{"file_name": \n')
    assert "a.jsonl, line 2: this is not JSON" in refused(root / "a.jsonl")
    (root / "a.jsonl").write_text('{"file_name": "1.png", "label": "x"}\n\n[1]\n')
    assert "a.jsonl, line 3: an object is expected" in refused(root / "a.jsonl")
    (root / "a.jsonl").write_text("")
    assert "a.jsonl is empty" in refused(root / "a.jsonl")
    (root / "a.parquet").write_bytes(b"rubbish")
    assert "a.parquet cannot be read as Parquet" in refused(root / "a.parquet")
    pl.DataFrame({"file_name": ["1.png", "3.png"], "label": ["a", "b"]}).write_parquet(root / "a.parquet")
    assert "1 picture does not exist" in (message := refused(root / "a.parquet"))
    assert "3.png (row 2)" in message
    pl.DataFrame(schema={"file_name": pl.String, "label": pl.String}).write_parquet(root / "a.parquet")
    assert "a.parquet is empty" in refused(root / "a.parquet")


@pytest.mark.skipif(os.name == "nt", reason="links need rights on this system")
def test_a_link_out_of_the_root_is_refused_unless_asked(draw: Draw) -> None:
    root = draw("root/1.png", "outside.png") / "root"
    (root / "2.png").symlink_to("../outside.png")
    (root / "labels.csv").write_text("file_name,label\n1.png,a\n2.png,b\n")
    assert "labels.csv, line 3: '2.png' is a link that leads out" in refused(root)
    assert labels(layout_of(root, follow_links=True)) == {"1.png": ["a"], "2.png": ["b"]}


def test_files_that_are_named_may_be_hidden_or_without_suffix(draw: Draw) -> None:
    root = draw("1.png", ".hidden/2.png", "3.raw_picture")
    (root / "labels.csv").write_text("file_name,label\n1.png,a\n.hidden/2.png,b\n3.raw_picture,b\n")
    assert sorted(labels(layout_of(root))) == [".hidden/2.png", "1.png", "3.raw_picture"]


def test_the_competition_form(draw: Draw) -> None:
    root = draw(*(f"train/{i}.png" for i in (1, 2, 10)), *(f"test/{i}.png" for i in (1, 2, 3)))
    (root / "trainLabels.csv").write_text("id,label\n1,frog\n2,truck\n10,frog\n")
    (root / "sampleSubmission.csv").write_text("id,label\n1,cat\n2,cat\n3,cat\n")
    for layout in (layout_of(root), layout_of(root, layout="competition")):
        assert labels(layout) == {"train/1.png": ["frog"], "train/10.png": ["frog"], "train/2.png": ["truck"]}
        assert "names of files in train/" in layout.sentence
        assert "3 pictures that it does not name left out (test/)" in layout.sentence


def test_names_that_fit_several_folders_are_an_error(draw: Draw) -> None:
    root = draw("a/1.png", "b/1.png")
    (root / "labels.csv").write_text("id,label\n1,x\n")
    assert "fit the files of several folders: a/, b/" in refused(root)
