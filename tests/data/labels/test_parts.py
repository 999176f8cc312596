"""Names of parts: in folders at any one level, above or below the class, within wrappers, in longer names."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from unicodedata import normalize

import pytest

from tellapart.data.labels.layout import Layout, find_layout
from tellapart.data.labels.parts import part_of, part_of_file
from tellapart.errors import DataError

Draw = Callable[..., Path]


@pytest.mark.parametrize(
    ("name", "part"),
    [
        *((name, "train") for name in ("train", "Training", "TRAIN", "train_images", "images-train", "Training Set")),
        *((name, "train") for name in ("trainset", "train2017", "trainImages", "entraînement", "imgs_train")),
        ("Validierung", "validation"),
        *((name, "validation") for name in ("val", "valid", "validation", "dev", "val_data", "valset", "eval")),
        *((name, "test") for name in ("test", "testing", "tst", "Test Images", "test_set", "evaluation")),
        *((name, None) for name in ("train_station", "test_tube", "training_shoes", "images", "retest", "contest")),
        *((name, None) for name in ("traintest", "train_val", "", "trains", "valley", "data", "unlabelled", "latest")),
    ],
)
def test_names_of_parts(name: str, part: str | None) -> None:
    assert part_of(name) == part


@pytest.mark.parametrize(
    ("stem", "part"), [("trainLabels", "train"), ("val_list", "validation"), ("my_test_v2", "test")]
)
def test_tables_named_after_a_part(stem: str, part: str) -> None:
    assert part_of_file(stem) == part


def labels(layout: Layout) -> dict[str, tuple[str, str | None]]:
    rows = layout.table.select("path", "labels", "split").iter_rows()
    return {path: ("".join(layout.classes[i] for i in numbers), part) for path, numbers, part in rows}


@pytest.mark.parametrize(
    "form",
    [
        "{part}/{kind}",
        "archive/{part}/{kind}",
        "a/b/c/{part}/{kind}",
        "images/{part}/{kind}",
        "{kind}/{part}",
        "archive/{kind}/{part}",
        "{part}_images/{kind}",
        "{part}/images/{kind}",
        "{part}/{part}/{kind}",
        "Data Set/{part} set/{part}/all/{kind}",
    ],
)
@pytest.mark.parametrize("parts", [("train", "test"), ("Training", "Validation"), ("train", "valid")])
def test_parts_and_classes_in_any_order(draw: Draw, form: str, parts: tuple[str, str]) -> None:
    files = {
        f"{form.format(part=part, kind=kind)}/{i}.png": (kind, part_of(part))
        for i, (part, kind) in enumerate((p, k) for p in parts for k in ("cat", "dog"))
    }
    layout = find_layout(draw(*files))
    assert labels(layout) == files
    assert "given parts: " in layout.sentence
    assert layout.sentence.startswith("One folder a class: 2 classes")


def test_wrappers_without_parts_are_dropped_and_said(draw: Draw) -> None:
    layout = find_layout(draw("photos/raw/cat/1.png", "photos/raw/dog/2.png", "0.png"))
    assert layout.classes == ("cat", "dog")
    assert "not part of the class: photos/, raw/" in layout.sentence


def test_a_folder_with_pictures_of_its_own_is_no_wrapper(draw: Draw) -> None:
    assert find_layout(draw("pets/0.png", "pets/cat/1.png", "pets/dog/2.png")).classes == (
        "pets",
        "pets/cat",
        "pets/dog",
    )


def test_a_class_called_train_below_another_folder_is_a_class(draw: Draw) -> None:
    layout = find_layout(draw("vehicle/train/1.png", "vehicle/bus/1.png", "animal/cat/1.png"))
    assert layout.classes == ("animal/cat", "vehicle/bus", "vehicle/train")
    assert set(layout.table["split"]) == {None}
    assert "class names that hold the name of a part: vehicle/train" in layout.sentence
    layout = find_layout(draw("exam/test/1.png"))
    assert "exam/test" in layout.classes


def test_pictures_in_no_part_are_left_out_and_said(draw: Draw) -> None:
    layout = find_layout(draw("a/train/cat/1.png", "a/test/cat/2.png", "docs/3.png", "4.png"))
    assert sorted(layout.table["path"]) == ["a/test/cat/2.png", "a/train/cat/1.png"]
    assert "2 pictures in no part left out" in layout.sentence


def test_two_spellings_of_a_class_are_one_and_said(draw: Draw) -> None:
    files = [f"{part}/{normalize(form, 'café')}/{part}.png" for part, form in (("train", "NFC"), ("val", "NFD"))]
    layout = find_layout(draw(*files, "train/thé/1.png"))
    assert layout.classes == ("café", "thé")
    assert set(layout.table["path"]) == {*files, "train/thé/1.png"}
    assert "spelled in two ways and taken as one class: café" in layout.sentence


def test_a_class_in_one_spelling_keeps_it(draw: Draw) -> None:
    name = normalize("NFD", "café")
    assert find_layout(draw(f"{name}/1.png", "b/2.png")).classes == ("b", name)


def test_classes_that_differ_by_case_or_blanks_are_named(draw: Draw) -> None:
    layout = find_layout(draw("train/Cat/1.png", "train/dog/2.png", "val/cat/1.png", "val/dog /2.png"))
    assert "classes that differ by case or blanks only: Cat and cat, dog and dog " in layout.sentence


@pytest.mark.skipif(os.name == "nt", reason="links need rights on this system")
def test_a_folder_of_links_says_that_they_lead_out(draw: Draw) -> None:
    root = draw("real/a/1.png") / "links"
    root.mkdir()
    (root / "a").symlink_to(root.parent / "real" / "a")
    with pytest.raises(DataError, match="only links that lead out of it: a") as caught:
        find_layout(root)
    assert "--follow-links" in str(caught.value)
    assert find_layout(root, follow_links=True).classes == ("a",)
