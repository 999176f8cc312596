"""A catalog in words and in JSON; a scan whose progress is shown."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from tellapart.core.text import json_text
from tellapart.data.scan import scan
from tellapart.workflows.progress import Console, JsonLines, ProgressSink
from tellapart.workflows.scan import scan as scan_shown
from tellapart.workflows.scan import summary, summary_text


@pytest.fixture
def folder(tmp_path):
    """Three classes; two formats, three sizes, one repeated picture, one unreadable."""
    root = tmp_path / "photos"
    for i, (path, size) in enumerate(
        {
            "ash/1.png": (8, 6),
            "ash/2.png": (8, 6),
            "ash/3.jpg": (6, 8),
            "beech/1.jpg": (8, 6),
            "yew/1.png": (5, 5),
        }.items()
    ):
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, (40 * i, 10, 10)).save(file)
    (root / "yew" / "again.png").write_bytes((root / "yew" / "1.png").read_bytes())
    (root / "yew" / "broken.png").write_bytes((root / "yew" / "1.png").read_bytes()[:40])
    return root


def test_what_is_counted(folder):
    facts = summary(scan(folder))
    unreadable = facts.pop("unreadable")
    assert [entry["path"] for entry in unreadable] == ["yew/broken.png"]
    assert unreadable[0]["reason"]
    layout = facts.pop("layout")
    assert layout
    assert facts == {
        "root": str(folder),
        "n": 7,
        "multilabel": False,
        "classes": {"ash": 3, "beech": 1, "yew": 3},
        "n_without_label": 0,
        "parts": {},
        "formats": {"PNG": 4, "JPEG": 2},
        "sizes": [
            {"width": 8, "height": 6, "n": 3},
            {"width": 5, "height": 5, "n": 2},
            {"width": 6, "height": 8, "n": 1},
        ],
        "n_duplicates": 1,
    }


def test_json_is_the_same_and_one_line(folder):
    catalog = scan(folder)
    text = json_text(summary(catalog), ascii=False)
    assert json.loads(text) == summary(catalog)
    assert "\n" not in text


def test_lines_for_a_terminal(folder):
    lines = summary_text(scan(folder)).splitlines()
    assert lines[0] == f"{folder}: 7 pictures; one label a picture"
    assert lines[1].startswith("Layout: ")
    assert lines[3:6] == ["  ash          3", "  beech        1", "  yew          3"]
    assert lines[6] == "Formats: 4 PNG, 2 JPEG"
    assert lines[7:11] == [
        "Sizes (width × height):",
        "      8 × 6           3",
        "      5 × 5           2",
        "      6 × 8           1",
    ]
    assert lines[11] == "Exact duplicates: 1 picture repeats another, byte for byte"
    assert lines[12] == "Unreadable: 1"
    assert lines[13].startswith("  yew/broken.png: ")
    assert len(lines) == 14


def table_of(folder, lines):
    (folder / "labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return scan(folder, labels=folder / "labels.csv", delimiter=";")


def test_several_labels_and_given_parts(folder):
    catalog = table_of(
        folder,
        [
            "path,labels,split",
            "ash/1.png,ash;old,train",
            "ash/2.png,,train",
            "beech/1.jpg,old,test",
            "yew/1.png,ash,validation",
        ],
    )
    facts = summary(catalog)
    assert facts["multilabel"]
    assert facts["classes"] == {"ash": 2, "old": 2}
    assert facts["n_without_label"] == 1
    assert list(facts["parts"].items()) == [("train", 2), ("test", 1), ("validation", 1)]  # ties by name
    lines = summary_text(catalog).splitlines()
    assert lines[0].endswith("none, one or more labels a picture")
    assert lines[3:6] == [
        "  ash               2",
        "  old               2",
        "  (no label)        1",
    ]
    assert "Given parts: 2 train, 1 test, 1 validation" in lines


def test_the_same_catalog_gives_the_same_words(folder):
    catalog = scan(folder)
    assert len({json_text(summary(catalog), ascii=False) for _ in range(20)}) == 1


def test_long_lists_are_cut_for_people_and_whole_in_json(tmp_path):
    root = tmp_path / "many"
    for i in range(50):
        (root / f"class {i:02}").mkdir(parents=True)
        Image.new("RGB", (i + 1, 3), (i, 0, 0)).save(root / f"class {i:02}" / "1.png")
        (root / f"class {i:02}" / "2.png").write_bytes(b"no picture")
    catalog = scan(root)
    facts = json.loads(json_text(summary(catalog), ascii=False))
    assert (len(facts["classes"]), len(facts["sizes"]), len(facts["unreadable"])) == (50, 50, 50)
    lines = summary_text(catalog).splitlines()
    assert "  … and 10 more classes" in lines
    assert any(line.split() == ["42", "other", "sizes", "42"] for line in lines)
    assert lines[-1] == "  … and 30 more (all with --json)"
    assert sum(line.startswith("  class ") and line.endswith(" 2") for line in lines) == 40


def test_names_of_every_script_stay_readable(tmp_path):
    (tmp_path / "Bäume").mkdir()
    (tmp_path / "猫").mkdir()
    for i, name in enumerate(("Bäume", "猫")):
        Image.new("RGB", (4, 4), (i, 0, 0)).save(tmp_path / name / "1.png")
    assert '"Bäume": 1' in json_text(summary(scan(tmp_path)), ascii=False)
    assert "  猫" in summary_text(scan(tmp_path))


# With progress


def test_a_scan_ends_in_one_line(capfd, picture_folder):
    catalog = scan_shown(picture_folder(n=2), Console())
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith(f"{len(catalog)} pictures, 3 classes (")
    assert err.count("\n") == 1
    assert "unreadable" not in err


def test_a_scan_says_how_many_are_unreadable(capfd, picture_folder):
    folder = picture_folder(n=2)
    (folder / "circle" / "000.png").write_bytes(b"no picture")
    scan_shown(folder, Console())
    assert ", 1 unreadable; " in capfd.readouterr().err


def test_a_quiet_scan(capfd, picture_folder):
    assert len(scan_shown(picture_folder(n=2), ProgressSink())) == 6
    assert len(scan_shown(picture_folder("more", n=2), JsonLines())) == 6
    assert capfd.readouterr() == ("", "")
