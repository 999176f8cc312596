"""Slices of a run: brightness against Pillow, planted weaknesses, names that could harm a page."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tellapart as ta
from tellapart.auditing.traits import names, traits
from tellapart.core.predictions import Predictions
from tellapart.data.scan import scan
from tellapart.errors import DataError, RunError, UsageError
from tellapart.evaluation.evaluate import evaluate_predictions
from tellapart.report.blocks import Page
from tellapart.report.page import write_page
from tellapart.report.sections.slices import section, slices_section
from tellapart.runs.run import Run
from tellapart.workflows.slices import text

GROUP = "<script>alert(1)</script> \n'a'"


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """80 pictures in two classes; the 24 dark ones are all answered wrongly. Half of all are in a group."""
    rng = np.random.default_rng(0)
    lines = ["file_name,label,group"]
    (tmp_path / "photos").mkdir()
    for i in range(80):
        level = 30 if i < 24 else 150
        pixels = rng.integers(level - 20, level + 20, (20, 20 if i % 2 else 30, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{i:02}.{'png' if i % 3 else 'bmp'}")
        quoted = GROUP.replace('"', '""') if i % 2 else str(i)
        lines.append(f'{i:02}.{"png" if i % 3 else "bmp"},{"ab"[i % 2]},"{quoted}"')
    (tmp_path / "photos" / "labels.csv").write_text("\n".join(lines))
    catalog = scan(tmp_path / "photos")
    made = Run(tmp_path / "run")
    (made.directory / "predictions").mkdir(parents=True)
    made.recipe_file.write_text("")
    catalog.save(made.catalog_file)
    rows = np.arange(80)
    target = catalog.target(rows)
    dark = np.array([path < "24" for path in catalog.table["path"].to_list()])
    answer = np.where(dark, 1 - target, target)
    predictions = Predictions.of(rows, np.eye(2)[answer], target, catalog.classes)
    predictions.save(made.predictions_file("test"))
    evaluation = evaluate_predictions(predictions, on="test", n_bootstrap=5)
    values = {"temperature": 1.0, "thresholds": None, "evaluations": {"test": evaluation.as_dict()}}
    made.evaluation_file.write_text(json.dumps(values))
    return made


def columns(run: Run, *wanted: str, most: int | None = None) -> dict:
    work = traits(run.catalog, np.arange(80), wanted, most)
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value


def test_traits_are_what_the_files_are(run):
    found = columns(run, "size", "shape", "brightness", "file type", "group", "labels", "width")
    for row in range(80):
        with Image.open(run.catalog.path(row)) as picture:
            assert found["size"][row] == min(picture.size)
            assert found["width"][row] == picture.width
            assert found["shape"][row] == ("wide" if picture.width == 30 else "square")
            assert found["file type"][row] == picture.format
            assert found["brightness"][row] == pytest.approx(np.asarray(picture.convert("L")).mean(), abs=1.5)
    assert set(found["labels"]) == {"a", "b"}
    with pytest.raises(UsageError, match="no such column"):
        columns(run, "colour")
    assert "brightness" in names()
    assert "path" not in names()


def test_brightness_is_left_out_where_it_would_take_long(run, monkeypatch, tmp_path):
    monkeypatch.setenv("TELLAPART_CACHE", str(tmp_path / "no-cache"))
    assert list(columns(run, "brightness", "size", most=79)) == ["size"]


def test_the_planted_weakness_stands_first(run):
    found = ta.slices(run)
    first = found.parts[0]
    assert (first.by, first.value, first.worse) == ("brightness", 0.0, True)
    assert all(part.by == "brightness" for part in found.worst)
    said = text(found)
    assert "! brightness" in said
    assert "proven to be harder than the rest" in said
    assert {part.by for part in ta.slices(run.directory, by=["labels"], smallest=5).parts} == {"labels"}


def test_the_section_holds_any_name(run, tmp_path):
    slice_name = slices_section(run)
    assert slice_name is not None
    assert slice_name.after == "errors"
    path = tmp_path / "page.html"
    write_page(Page("slices", [], [section(ta.slices(run), True)]), path, lambda row: b"")
    page = path.read_text(encoding="utf-8")
    assert "every label right" in page
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page


@pytest.mark.parametrize("how", ["{}".format, lambda name: name.rsplit(".", 1)[0]], ids=["path", "name"])
def test_columns_of_a_table_of_ones_own(run, tmp_path, how):
    """Numbers and text; pictures that the table lacks are left out."""
    names = run.catalog.table["path"].to_list()[:70]
    lines = [f"{how(name)},{'old' if name < '24' else 'new'},{i}" for i, name in enumerate(names)]
    table = tmp_path / "cameras.csv"
    table.write_text("file_name,camera,temperature\n" + "\n".join(lines))
    found = ta.slices(run, by=["file type"], table=table)
    parts = {(part.by, part.name): part for part in found.parts}
    assert (parts["camera", "old"].n, parts["camera", "old"].value) == (24, 0.0)
    assert parts["camera", "old"].worse
    assert parts["camera", "new"].n == 46
    assert not any(by == "temperature" for by, _ in parts)  # quarters of 70 are below 20
    by_number = ta.slices(run, by=["file type"], table=table, smallest=10)
    assert "0–17, lowest quarter" in {part.name for part in by_number.parts if part.by == "temperature"}


def test_a_table_of_other_pictures_is_refused(run, tmp_path):
    table = tmp_path / "cameras.csv"
    table.write_text("file_name,camera\nnowhere.png,old\n")
    with pytest.raises(DataError, match="none of these pictures"):
        ta.slices(run, table=table)
    table.write_text("file_name\n00.bmp\n")
    with pytest.raises(DataError, match="or no other"):
        ta.slices(run, table=table)


def test_too_few_pictures_have_no_parts(run):
    found = ta.slices(run, smallest=70)
    assert not found.parts
    assert "nothing to compare" in text(found)


def test_what_cannot_be_sliced(run, tmp_path):
    with pytest.raises(RunError, match="has no validation part"):
        ta.slices(run, on="validation")
    with pytest.raises(UsageError, match="at least 1"):
        ta.slices(run, smallest=0)
    with pytest.raises(RunError, match="not a run directory"):
        ta.slices(tmp_path)
