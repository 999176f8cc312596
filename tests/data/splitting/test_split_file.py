"""A stored split: it comes back as it was, and says which pictures have changed since."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tellapart.data.scan import scan
from tellapart.data.splitting.split import Split, explain_change, split
from tellapart.errors import RunError
from tests.data.splitting.test_split import catalog_of, classes, parts


def test_a_split_comes_back_from_its_file(tmp_path: Path) -> None:
    divided = split(catalog_of(classes(20, 20)), seed=7)
    divided.save(tmp_path / "run" / "split.json")
    again = Split.load(tmp_path / "run" / "split.json")
    assert parts(again) == parts(divided)
    assert (again.digest, again.seed, again.description) == (divided.digest, 7, divided.description)
    assert [file.name for file in (tmp_path / "run").iterdir()] == ["split.json"]


@pytest.mark.parametrize(
    "content", ["", "{}", "[]", '{"version": 1}', '{"version": 99}', "\x00", '{"version": 1, "train": "abc"}']
)
def test_a_damaged_split_is_an_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "split.json").write_text(content)
    with pytest.raises(RunError, match=r"split\.json cannot be read"):
        Split.load(tmp_path / "split.json")


def test_a_row_that_stands_in_two_parts_is_an_error(tmp_path: Path) -> None:
    divided = split(catalog_of(classes(20, 20)))
    divided.save(tmp_path / "split.json")
    values = json.loads((tmp_path / "split.json").read_text())
    values["test"][0] = values["train"][0]
    (tmp_path / "split.json").write_text(json.dumps(values))
    with pytest.raises(RunError, match="twice"):
        Split.load(tmp_path / "split.json")


def test_a_missing_split_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RunError):
        Split.load(tmp_path / "split.json")


def test_changed_pictures_are_refused_with_what_changed(tmp_path: Path) -> None:
    from PIL import Image

    for number, kind in enumerate(("cat", "dog")):
        (tmp_path / kind).mkdir()
        for i in range(8):
            Image.new("RGB", (4, 4), (number, i, 0)).save(tmp_path / kind / f"{i}.png")
    old = scan(tmp_path)
    divided = split(old)
    divided.check(scan(tmp_path))

    (tmp_path / "cat" / "0.png").unlink()
    Image.new("RGB", (4, 4), "white").save(tmp_path / "cat" / "1.png")
    Image.new("RGB", (4, 4), "red").save(tmp_path / "cat" / "new.png")
    (tmp_path / "dog" / "7.png").write_bytes(b"")
    new = scan(tmp_path)
    with pytest.raises(RunError) as caught:
        divided.check(new, old)
    message = caught.value.message
    assert "1 added (cat/new.png)" in message
    assert "1 removed (cat/0.png)" in message
    assert "2 with other content (cat/1.png, dog/7.png)" in message
    assert "1 readable before and not now, or the other way round (dog/7.png)" in message
    with pytest.raises(RunError, match="have changed"):
        divided.check(new)


def test_changes_of_labels_parts_groups_and_classes_are_told() -> None:
    old = catalog_of(classes(2, 2))
    relabelled = catalog_of([[0], [0], [1], [0]])
    assert explain_change(old, relabelled) == "1 with other labels (00003.png)."
    moved = catalog_of(classes(2, 2), part=["train", None, None, None], group=[None, "a", None, None])
    said = explain_change(old, moved)
    assert "1 in another given part (00000.png)" in said
    assert "1 in another group (00001.png)" in said
    renamed = catalog_of(classes(2, 2), classes=["class 0", "kind 1"])
    assert "2 with other labels" in (said := explain_change(old, renamed))
    assert "classes gone: class 1; new classes: kind 1" in said
    turned = catalog_of([[1], [1], [0], [0]], classes=["class 1", "class 0"])
    assert explain_change(old, turned) == "classes in another order."
    assert explain_change(old, catalog_of(classes(2, 2))) == "nothing has changed."
    multilabel = catalog_of(classes(2, 2), multilabel=True)
    assert "any number of labels" in explain_change(old, multilabel)
