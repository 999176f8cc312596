"""What may have changed when a training goes on, and what is said of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tellapart as ta
from tellapart.core.events import StageStarted
from tellapart.errors import RunError
from tellapart.runs.resume import begin, check_run_directory, divide
from tellapart.runs.run import EventLog, Run

ABOUT = {"command": "tellapart train", "tellapart": "1", "torch": "2", "python": "3.11", "threads": 2}
TWO_STAGES = """
[model]
name = "mlp"
pretrained = false
[[stages]]
epochs = 1
[[stages]]
epochs = 2
"""

Start = Callable[..., tuple[Any, ...]]


@pytest.fixture
def begun(tmp_path: Path, picture_folder: Callable[..., Path]) -> tuple[Run, Path, Path]:
    """A training of which the first stage has begun, its pictures and its recipe."""
    photos, recipe, run = picture_folder(n=8), tmp_path / "mine.toml", Run(tmp_path / "run")
    recipe.write_text(TWO_STAGES, encoding="utf-8")
    assert again(run, photos, recipe) == []
    EventLog.continued(run.events_file, 0).add(StageStarted(0, "", "all layers", 1, {"device": "cpu"}))
    run.checkpoint("last").parent.mkdir()
    run.checkpoint("last").touch()
    return Run(run.directory), photos, recipe


def again(run: Run, photos: Path, recipe: Path, *changes: str, anyway: bool = False, **about: object) -> list[str]:
    """What a call on a directory says has changed."""
    fresh = Run(run.directory)
    check_run_directory(fresh)
    plan, catalog = ta.load_recipe(recipe, list(changes)), ta.scan(photos)
    divided = divide(catalog, plan, run.directory)
    return begin(fresh, plan, catalog, divided, {**ABOUT, **about}, may_break=False, anyway=anyway)[2]


def test_nothing_has_changed(begun):
    before = {path: path.read_bytes() for path in begun[0].directory.rglob("*.*") if path.is_file()}
    assert again(*begun) == []
    assert {path: path.read_bytes() for path in before} == before


def test_other_versions_are_refused_unless_asked_for_and_then_recorded(begun):
    with pytest.raises(RunError, match=r"begun with other versions: torch 2 is now 3\.") as raised:
        again(*begun, torch="3")
    assert "--resume-anyway" in raised.value.hint
    assert again(*begun, torch="3", anyway=True) == ["It went on with other versions: torch 2 is now 3."]
    environment = begun[0].environment
    assert environment["torch"] == "3"
    assert environment["resumed"][0].endswith("It went on with other versions: torch 2 is now 3.")
    assert again(*begun, torch="3") == []


def test_another_machine_is_said(begun):
    (said,) = again(*begun, threads=4)
    assert "threads 2 is now 4" in said
    assert "last digits" in said
    assert "resumed" not in begun[0].environment


def test_a_stage_not_begun_may_change_if_asked_for(begun):
    with pytest.raises(RunError, match=r"another recipe.*epochs = 2.*epochs = 5") as raised:
        again(*begun, "stages.1.epochs=5")
    assert "--resume-anyway" in raised.value.hint
    assert "epochs = 5" in again(*begun, "stages.1.epochs=5", anyway=True)[0]
    assert Run(begun[0].directory).recipe.stages[1].epochs == 5
    assert again(*begun, "stages.1.epochs=5") == []


@pytest.mark.parametrize("change", ["stages.0.epochs=5", "seed=3", "data.size=32", 'model.name="cnn8"'])
def test_what_has_begun_may_not_change(begun, change):
    for anyway in (False, True):
        with pytest.raises(RunError, match="another recipe") as raised:
            again(*begun, change, anyway=anyway)
        assert "--resume-anyway" not in raised.value.hint


def test_other_contents_of_the_same_files_keep_their_division(begun):
    run, photos, _ = begun
    one, other = sorted((photos / "circle").iterdir())[:2]
    one.write_bytes((photos / "square" / "000.png").read_bytes())
    with pytest.raises(RunError, match="other pictures") as raised:
        again(*begun)
    assert "--resume-anyway" in raised.value.hint
    (said,) = again(*begun, anyway=True)
    assert one.name in said
    now = Run(run.directory)
    assert now.split.digest == now.catalog.digest == ta.scan(photos).digest
    assert np.array_equal(now.split.train, run.split.train)
    assert again(*begun) == []
    other.unlink()
    for anyway in (False, True):  # row numbers would mean other pictures: some of the test may have been trained on
        with pytest.raises(RunError, match="other pictures") as raised:
            again(*begun, anyway=anyway)
        assert "--resume-anyway" not in raised.value.hint


@pytest.mark.parametrize("name", ["recipe.toml", "catalog.parquet", "split.json", "environment.json"])
def test_a_file_that_is_lost_is_named_with_what_to_do(begun, name):
    (begun[0].directory / name).unlink()
    with pytest.raises(RunError, match=f"lost {name}") as raised:
        again(*begun)
    assert raised.value.hint == "Put that file back, or train again with another --out."


@pytest.mark.parametrize("name", ["recipe.toml", "catalog.parquet", "split.json", "environment.json", "events.jsonl"])
@pytest.mark.parametrize("damage", [b"\x00", b"\xff\xfe", b"{}", b"[1, 2"])
def test_a_file_that_is_damaged_is_named(begun, name, damage):
    path = begun[0].directory / name
    path.write_bytes(damage)
    changes = []
    if name == "events.jsonl":
        path.write_bytes(damage + b"\n")  # cut off where a kill may cut it, it is not damaged but short
        changes = ["stages.1.epochs=5"]
    with pytest.raises(ta.TellapartError, match=name):
        again(*begun, *changes)
