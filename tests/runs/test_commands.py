"""The command that trains a run again."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from tellapart.runs.commands import training_command
from tellapart.runs.run import Run


def begun(folder: Path, *command: str) -> Run:
    run = Run(folder)
    folder.mkdir()
    run.environment_file.write_text(json.dumps({"begun": "2026-11-28", "command": shlex.join(command)}))
    return run


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--recipe", "fast", "--minutes", "3", "--out", "elsewhere"],
        ["--recipe=mine.toml", "--set", "seed=3", "--set=stages.0.lr=0.1", "--out=elsewhere", "--json"],
        ["--model", "resnet34", "--weights", "w.safetensors", "--seed", "4", "--resume-anyway", "--quiet"],
        ["-r", "mine.toml", "-s", "seed=3", "-sseed=4", "-m", "resnet34", "-o", "elsewhere", "-qv", "--verbose"],
    ],
)
def test_it_names_the_runs_own_recipe_in_place_of_what_led_to_it(tmp_path: Path, options: list[str]) -> None:
    run = begun(tmp_path / "my run", "tellapart", "train", "my photos", "--labels", "a.csv", *options)
    own = ["--recipe", str(run.recipe_file), "--out", str(tmp_path / "my run-again")]
    assert shlex.split(training_command(run)) == ["tellapart", "train", "my photos", "--labels", "a.csv", *own]


def test_corrections_take_the_place_of_those_before(tmp_path: Path) -> None:
    run = begun(tmp_path / "run", "tellapart", "train", "photos", "--corrections", "old.csv", "--recipe", "fast")
    assert "--corrections old.csv" in training_command(run)
    words = shlex.split(training_command(run, tmp_path / "next", Path("new.csv")))
    own = ["--corrections", "new.csv", "--recipe", str(run.recipe_file), "--out", str(tmp_path / "next")]
    assert words == ["tellapart", "train", "photos", *own]


def test_a_fold_is_repeated_with_the_whole(tmp_path: Path) -> None:
    command = ["tellapart", "cross-validate", "photos", "--recipe", "transfer"]
    assert shlex.split(training_command(begun(tmp_path / "fold-1", *command))) == command
