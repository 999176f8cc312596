"""Submissions: one row a picture, read back by another reader."""

from __future__ import annotations

import csv
import math

import pytest
from PIL import Image

from tellapart.data.catalog import Catalog
from tellapart.data.scan import scan
from tellapart.deploy.answer import Answer
from tellapart.deploy.submission import write_submission
from tellapart.errors import UsageError


def answer(path: str, *chosen: str, problem: str | None = None) -> Answer:
    return Answer(path, chosen, tuple((name, 0.9) for name in chosen), 0.9 if chosen else math.nan, problem)


def read(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_numbers_are_in_their_order_and_texts_as_they_are(tmp_path):
    given = [answer("test/10.png", "cat"), answer("test/b.png", '=a, "b"'), answer("test/9.png", "dog")]
    summary = write_submission(given, tmp_path / "submission.csv", ("image", "target"))
    assert read(tmp_path / "submission.csv") == [["image", "target"], ["9", "dog"], ["10", "cat"], ["b", '=a, "b"']]
    assert summary.n_answered == 3


def test_several_labels_none_and_unreadable(tmp_path):
    given = [answer("3.png", "cat", "dog"), answer("1.png"), answer("2.png", problem="truncated")]
    summary = write_submission(given, tmp_path / "submission.csv")
    assert read(tmp_path / "submission.csv") == [["id", "label"], ["1", ""], ["2", ""], ["3", "cat dog"]]
    assert summary.unreadable == [("2.png", "truncated")]


def test_two_pictures_of_one_name_are_refused(tmp_path):
    with pytest.raises(UsageError, match=r"a/1\.png and b/1\.jpg"):
        write_submission([answer("a/1.png", "cat"), answer("b/1.jpg", "dog")], tmp_path / "submission.csv")
    assert not (tmp_path / "submission.csv").exists()


def test_the_training_tables_columns_are_known_to_the_catalog_and_come_back(tmp_path):
    """A competition's form: numbers without suffix, an example of the answer, pictures without labels beside."""
    for part, n in (("train", 4), ("test", 2)):
        (tmp_path / "photos" / part).mkdir(parents=True)
        for number in range(1, n + 1):
            Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / "photos" / part / f"{number}.png")
    (tmp_path / "photos" / "trainLabels.csv").write_text("ID,Class\n1,cat\n2,dog\n3,cat\n4,dog\n")
    (tmp_path / "photos" / "sampleSubmission.csv").write_text("ID,Class\n1,cat\n2,cat\n")
    catalog = scan(tmp_path / "photos")
    assert catalog.table["path"].to_list() == [f"train/{n}.png" for n in range(1, 5)]
    assert "2 pictures that it does not name left out (test/)" in catalog.layout
    catalog.save(tmp_path / "catalog.parquet")
    assert Catalog.load(tmp_path / "catalog.parquet").columns == catalog.columns == ("ID", "Class")
