"""The command `audit`: console, page, tables, exit code; hostile names, broken files, nothing at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image, ImageOps
from typer.testing import CliRunner

import tellapart as ta
from tellapart.cli.main import app
from tellapart.errors import DataError, TellapartError, UsageError

Scene = Callable[..., Image.Image]
run = CliRunner()


@pytest.fixture
def photos(tmp_path: Path, scene: Scene) -> Path:
    """Three classes of twelve; one picture copied into another class, one mirrored."""
    root = tmp_path / "photos"
    for number, name in enumerate(("circle", "square", "triangle")):
        (root / name).mkdir(parents=True)
        for i in range(12):
            scene(100 * number + i, 64, 64).save(root / name / f"{i:03}.png")
    Image.open(root / "circle/000.png").save(root / "square/wrong.png")
    ImageOps.mirror(Image.open(root / "circle/001.png")).save(root / "circle/mirrored.png")
    return root


def audit(*arguments: object) -> str:
    result = run.invoke(app, ["audit", *map(str, arguments)])
    if isinstance(result.exception, TellapartError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def test_console_page_and_findings(photos: Path, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in photos.rglob("*")}
    said = audit(photos, "--out", tmp_path / "out")
    assert "Sizes: smallest 64 × 64, largest 64 × 64" in said
    assert "contradiction" in said
    assert "near-duplicate" in said
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"audit.html", "findings.csv", "findings.parquet"}
    table = pl.read_parquet(tmp_path / "out/findings.parquet")
    assert (
        table["kind", "path", "other_path"].rows()
        == pl.read_csv(tmp_path / "out/findings.csv")["kind", "path", "other_path"].rows()
    )
    page = (tmp_path / "out/audit.html").read_text()
    assert "with different labels" in page
    assert {path: path.stat().st_mtime_ns for path in photos.rglob("*")} == before


def test_pictures_with_none_of_the_labels_are_shown(photos: Path, tmp_path: Path) -> None:
    names = sorted(path.relative_to(photos).as_posix() for path in photos.rglob("0*.png"))
    labels = ["round;red", "round", "red", ""]
    table = pl.DataFrame({"file_name": names, "labels": [labels[i % 4] for i in range(len(names))]})
    table.write_csv(photos / "labels.csv")
    out = tmp_path / "out"
    assert "With none of the labels" in audit(photos / "labels.csv", "--out", out, "--fail-on", "note,small-class")
    page = (out / "audit.html").read_text(encoding="utf-8")
    assert "With none of the labels (9)" in page
    assert "none of the labels · 64 × 64" in page
    named = run.invoke(app, ["audit", str(photos / "labels.csv"), "--out", str(out), "--fail-on", "no-labels"])
    assert named.exit_code == 4
    assert "9 findings" in named.stdout


def test_what_is_excluded_is_not_in_the_table_that_train_reads(photos: Path, tmp_path: Path) -> None:
    said = audit(photos, "--out", tmp_path / "out", "--exclude", "contradiction,near-duplicate", "--group-duplicates")
    assert "--labels" in said
    catalog = ta.scan(photos, labels=tmp_path / "out/pictures.csv")
    assert len(catalog) == 36 + 2 - 3
    assert catalog.classes == ("circle", "square", "triangle")
    beside = tmp_path / "kept.csv"
    assert f"tellapart train {beside}" in audit(
        photos, "--out", tmp_path / "out", "--exclude", "blank", "--write-table", beside
    )
    assert len(ta.scan(beside)) == 38


def test_groups_in_the_table(photos: Path, tmp_path: Path) -> None:
    audit(photos, "--out", tmp_path / "out", "--group-duplicates", "--write-table", tmp_path / "tied.parquet")
    catalog = ta.scan(tmp_path / "tied.parquet")
    assert catalog.table["group"].drop_nulls().value_counts()["count"].to_list() == [2, 2]


@pytest.mark.parametrize(
    ("wanted", "code"),
    [("contradiction", 4), ("error", 4), ("note", 4), ("warning", 4), ("blank", 0), ("dark,tiny", 0)],
)
def test_exit_code_for_use_in_checks(photos: Path, tmp_path: Path, wanted: str, code: int) -> None:
    result = run.invoke(app, ["audit", str(photos), "--out", str(tmp_path / "out"), "--fail-on", wanted, "--quiet"])
    assert result.exit_code == code


@pytest.mark.parametrize("option", [["--exclude", "blury"], ["--fail-on", "errors"], ["--write-table", "x.csv"]])
def test_mistakes_show_before_any_work(tmp_path: Path, option: list[str]) -> None:
    with pytest.raises(UsageError):
        audit(tmp_path / "there is no such folder", *option)


def test_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no pictures"):
        audit(tmp_path)


def test_hostile_names(picture_folder, tmp_path: Path) -> None:
    root = picture_folder(classes=("<script>alert(1)</script>", "a \"b\" 'c'", "naïve 語"), n=4)
    picture = Image.open(root / "naïve 語/000.png")
    for name in ("<img src=x onerror=alert(1)>.png", "line\nbreak.png", "per%20cent#1.png", "'quoted\".png"):
        picture.save(root / "naïve 語" / name)
    audit(root, "--out", tmp_path / "out", "--exclude", "duplicate")
    page = (tmp_path / "out/audit.html").read_text()
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert len(ta.scan(root, labels=tmp_path / "out/pictures.csv")) == 12


def test_broken_and_unusual_files_survive(test_data: Path, tmp_path: Path) -> None:
    audit(test_data / "nasty", "--layout", "folders", "--out", tmp_path / "out", "--quiet")
    found = pl.read_parquet(tmp_path / "out/findings.parquet")
    catalog = ta.scan(test_data / "nasty", layout="folders")
    assert found.filter(kind="unreadable").height == len(catalog) - len(catalog.readable)
    turned = catalog.table.filter(pl.col("orientation") > 1, pl.col("problem").is_null())["path"]
    assert set(found.filter(kind="rotated")["path"]) == set(turned)


def test_a_table_of_unreadable_pictures_only(tmp_path: Path) -> None:
    (tmp_path / "photos/a").mkdir(parents=True)
    (tmp_path / "photos/a/1.jpg").write_bytes(b"")
    audit(tmp_path / "photos", "--out", tmp_path / "out")
    assert pl.read_parquet(tmp_path / "out/findings.parquet")["kind"].to_list() == ["unreadable", "small-class"]


def test_features_of_a_pretrained_network_are_used(photos: Path) -> None:
    catalog = ta.scan(photos)
    features = np.zeros((len(catalog), 4), np.float32)
    features[:, 0] = 1
    assert len(ta.audit(catalog, features=features).findings) >= len(ta.audit(catalog).findings)
    with pytest.raises(UsageError, match="features of 3 pictures"):
        ta.audit(catalog, features=features[:3])
