"""Scores on pictures that a run was trained on: counted, left out first, and said."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

import tellapart as ta
from tellapart.evaluation.calibration_summary import Certainty
from tellapart.runs.run import Run
from tellapart.workflows.finalize import _evaluated

Command = Callable[..., "subprocess.CompletedProcess[str]"]

TINY = ["model.name=mlp", "data.size=16", "stages.0.epochs=1", "evaluation.explain=false"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, pictures_at: Callable[..., Path], short_ends: None) -> Run:
    """A short training."""
    root = pictures_at(tmp_path_factory.mktemp("trained") / "photos", n=14, width=20, height=16)
    return ta.train(root, None, "scratch", root.parent / "run", changes=TINY, runtime="cpu")


def test_pictures_it_was_trained_on_are_counted_and_left_out_first(
    finished: Run, tmp_path: Path, here: Command
) -> None:
    catalog, parts = finished.catalog, finished.split
    chosen = {"train": parts.train[:5], "validation": parts.validation[:3], "test": parts.test[:6]}
    for part, rows in chosen.items():
        for row in rows:  # under other names
            copy = tmp_path / "new" / catalog.path(row).parent.name / f"{part}-{row}.png"
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(catalog.path(row), copy)
    scored = json.loads(here("evaluate", finished.directory, "--on", tmp_path / "new", "--json").stdout)
    sentence = (
        "8 of 14 pictures are ones it was trained on (5) or validated on (3): they are left out of the score above."
    )
    assert scored["notes"][0] == sentence
    assert (scored["n"], scored["with_trained"]["n"]) == (6, 14)
    printed = here("evaluate", finished.directory, "--on", tmp_path / "new").stdout
    assert sentence in printed
    assert printed.index("6 pictures") < printed.index("With those it was trained or validated on, 14 pictures")
    for picture in (tmp_path / "new").rglob("test-*.png"):
        picture.unlink()
    assert ta.evaluate(finished, tmp_path / "new").notes[0].endswith("the score says nothing about new pictures.")
    assert "not known" in ta.evaluate(finished.bundle, tmp_path / "new").notes[0]


def test_a_score_on_copies_of_training_pictures_comes_with_the_one_without(
    finished: Run, tmp_path: Path, here: Command
) -> None:
    leaking = Run(shutil.copytree(finished.directory, tmp_path / "run"))
    parts = leaking.split
    catalog = leaking.catalog
    content = catalog.table["sha256"].to_list()
    for i in range(4):
        content[parts.test[i]] = content[parts.train[i]]
    table = catalog.table.with_columns(sha256=pl.Series(content, dtype=pl.Binary))
    replace(catalog, table=table).save(leaking.catalog_file)
    leaking = Run(leaking.directory)
    answers = leaking.predictions("test")
    evaluation = _evaluated(leaking, answers, "test", "test", Certainty())
    assert evaluation.notes[0].startswith(f"4 of {len(answers)} pictures are ones it was trained on; without them: acc")
    assert f"4 of {len(answers)}" in here("errors", leaking.directory, "--out", tmp_path / "errors").stdout
