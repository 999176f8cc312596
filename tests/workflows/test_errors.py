"""The errors command on real files: planted wrong labels are found, pages and tables are written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tellapart.core.predictions import Predictions
from tellapart.data.scan import scan
from tellapart.errors import DataError, UsageError
from tellapart.evaluation.label_issues_table import LabelIssues, load_table
from tellapart.workflows.errors import errors_of_pictures
from tellapart.workflows.progress import ProgressSink

QUIET = ProgressSink()
MODEL = "tf_mobilenetv3_small_100"


@pytest.fixture(scope="module")
def planted(test_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 pictures each of tomato and strawberry in hostile class folders, three of each in the other's."""
    root = tmp_path_factory.mktemp("planted") / "photos"
    for source, name, other in (("strawberry", "<script>fraise", "томат 1"), ("tomato", "томат 1", "<script>fraise")):
        (root / name).mkdir(parents=True, exist_ok=True)
        (root / other).mkdir(exist_ok=True)
        for i, path in enumerate(sorted((test_data / "fruit" / source).iterdir())[:40]):
            folder = other if i % 13 == 5 else name
            shutil.copy(path, root / folder / f"{'swapped' if folder == other else 'good'} '{source}' {i}.jpg")
    return root


def test_planted_labels_are_found_without_a_training(planted: Path, weights: Path, tmp_path: Path) -> None:
    before = sorted((path, path.stat().st_mtime_ns) for path in planted.rglob("*"))
    found = errors_of_pictures(scan(planted), tmp_path, MODEL, None, QUIET)
    assert sorted((path, path.stat().st_mtime_ns) for path in planted.rglob("*")) == before
    stored = load_table(tmp_path)
    assert stored is not None
    table, how = stored
    assert MODEL in how
    assert table["score"].is_sorted()
    first = table.head(6)["file"].str.contains("swapped").sum()
    assert first >= 4
    assert table.filter(pl.col("suspicious"))["file"].str.contains("swapped").sum() >= 4
    assert table.filter(pl.col("suspicious")).height <= 20
    top = table.row(0, named=True)
    assert "nearest pictures" in top["reason"]
    assert top["given"] != top["suggested"]
    flat = pl.read_csv(tmp_path / "label_issues.csv")
    assert flat["file"].to_list() == table["file"].to_list()
    assert flat["given"].to_list() == [name for (name,) in table["given"].to_list()]
    page = found.page.read_text(encoding="utf-8")
    assert "&lt;script&gt;fraise" in page
    assert "<script>fraise" not in page
    assert "томат 1" in page
    assert "file:///" in page
    assert "%3Cscript%3Efraise" in page
    assert "swapped" in found.text


def test_one_class_alone(picture_folder, weights: Path, tmp_path: Path) -> None:
    catalog = scan(picture_folder(classes=("fraise", "томат 1"), n=6))
    found = errors_of_pictures(catalog, tmp_path, MODEL, "томат 1", QUIET)
    assert "given томат 1" in found.page.read_text(encoding="utf-8")
    with pytest.raises(UsageError, match="no such class"):
        errors_of_pictures(catalog, tmp_path, MODEL, "tomato", QUIET)


def test_several_labels(test_data: Path, weights: Path, tmp_path: Path) -> None:
    rows = pl.read_csv(test_data / "animals" / "labels.csv")
    root = tmp_path / "pictures"
    root.mkdir()
    for name in rows["file_name"][::8]:
        source = next(p for p in ((test_data / "animals" / name), (test_data / "animals/images" / name)) if p.is_file())
        shutil.copy(source, root / Path(name).name)
    kept = rows[::8].with_columns(pl.col("file_name").str.split("/").list.last())
    # One is given everything that it is not.
    labels = kept["labels"].to_list()
    labels[0] = " ".join(sorted({"cat", "dog", "bunny"} - set(labels[0].split())))
    kept.with_columns(labels=pl.Series(labels)).write_csv(root / "labels.csv")
    found = errors_of_pictures(scan(root), tmp_path, MODEL, None, QUIET)
    table, _ = load_table(tmp_path) or pytest.fail("no table")
    assert len(table) == len(kept)
    place = np.flatnonzero((table["file"] == kept["file_name"][0]).to_numpy())[0]
    assert place < len(table) // 4
    flat = pl.read_csv(tmp_path / "label_issues.csv")
    assert [json.loads(cell) for cell in flat["given"]] == table["given"].to_list()
    page = found.page.read_text(encoding="utf-8")
    for title in ("How many labels of a picture are wrong", "Labels that may be missing", "Wrong labels by label"):
        assert title in page


def test_pictures_that_cannot_be_compared(picture_folder, weights: Path, tmp_path: Path) -> None:
    catalog = scan(picture_folder(n=2))
    with pytest.raises(DataError, match="comparing classes"):
        errors_of_pictures(catalog, tmp_path, MODEL, None, QUIET)


def test_a_class_has_a_page_and_suspects_of_its_own(picture_folder, tmp_path: Path, monkeypatch) -> None:
    catalog = scan(picture_folder(classes=("cat", "big dog"), n=6))
    target = catalog.target()
    predictions = Predictions.of(np.arange(12), np.eye(2)[1 - target], target, catalog.classes)
    given = [[catalog.classes[k]] for k in target]
    table = pl.DataFrame(
        {"row": range(12), "file": catalog.table["path"], "given": given, "suggested": given}
    ).with_columns(
        pl.lit(True).alias("suspicious"), pl.lit("a reason").alias("reason"), pl.lit([0]).alias("neighbours")
    )
    issues = LabelIssues(table, predictions, "By a test.")
    monkeypatch.setattr("tellapart.workflows.label_issues.issues_of_pictures", lambda *_: issues)
    whole = errors_of_pictures(catalog, tmp_path / "out", None, None, QUIET)
    before = whole.page.read_bytes()
    own = errors_of_pictures(catalog, tmp_path / "out", None, "cat", QUIET)
    spaced = errors_of_pictures(catalog, tmp_path / "out", None, "big dog", QUIET)
    assert "12 pictures with a label that may be wrong." in whole.text
    assert "6 pictures with the label cat that may be wrong." in own.text
    assert "big dog/" not in own.text
    assert own.page.name == "errors-cat.html"
    assert spaced.page.name.startswith("errors-big_dog-")
    assert whole.page.read_bytes() == before
    assert load_table(tmp_path / "out")[0].height == 12  # type: ignore[index]
