"""Trainings are really killed, at moments all over their time, and end as if they had never been."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

RECIPE = """
about = "Small, with all that a resumed training has to carry on."

[data]
size = 16

[[augment]]
transform = "random_resized_crop"
scale = { uniform = [0.5, 1.0] }

[model]
name = "cnn8"
pretrained = false

[[stages]]
train = "head"
views = [[], [{ transform = "horizontal_flip" }]]
epochs = 2
batch_size = 32
optimizer = "adamw"
lr = 2e-3

[[stages]]
epochs = 2
batch_size = 16
optimizer = "adamw"
lr = 2e-3
average = 0.9
schedule = "one_cycle"
"""
MANY = [(13, 2, 1), (12, 3, 2), (13, 2, 3), (12, 3, 4)]
LONGEST = 1500.0  # seconds for all of it; a machine may be busy


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.slow
@pytest.mark.parametrize(("n_kills", "n_stops", "seed"), MANY)
def test_killed_at_any_moment_the_same_command_ends_with_the_same_bits(
    n_kills: int,
    n_stops: int,
    seed: int,
    tmp_path: Path,
    picture_folder: Callable[..., Path],
    same_runs: Callable[[Path, Path], None],
) -> None:
    photos, recipe, folder = picture_folder(n=36, width=20, height=20), tmp_path / "recipe.toml", tmp_path / "runs"
    recipe.write_text(RECIPE, encoding="utf-8")
    words = map(str, (photos, recipe, folder, n_kills, n_stops, seed))
    program = [sys.executable, "-W", "ignore", str(Path(__file__).with_name("killing.py")), *words]
    alone = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"}
    environment = {**os.environ, **alone}
    done = subprocess.run(program, capture_output=True, text=True, check=False, env=environment, timeout=LONGEST)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert len(told["hit"]) == n_kills + n_stops
    for stage in ("0", "1", "-1"):  # -1 is what follows the training
        assert any(where.endswith(f" {stage}") for where in told["hit"]), told["hit"]
    for name in ("again", *map(str, range(told["runs"]))):
        same_runs(folder / name, folder / "unbroken")
        assert not list((folder / name).rglob("*.part"))
