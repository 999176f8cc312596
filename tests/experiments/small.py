"""Small studies: a network of one convolution, pictures of 8 pixels, one epoch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from tellapart.experiments.read_study import read_study

RECIPE = """
[data]
size = 8
crop = 1.0

[model]
name = "blocks"
pretrained = false

[[model.blocks]]
block = "conv"
channels = 4

[[stages]]
epochs = 1
optimizer = "adam"
lr = 0.01
batch_size = 8
schedule = "constant"
"""

GRID = """
recipe = "small.toml"
design = "grid"
seeds = 2

[vary]
stages.0.lr = [0.01, 0.1]
stages.0.batch_size = [8, 16]
"""

#: Two cells, trained once each.
PAIR = """
recipe = "small.toml"
seeds = 1

[vary]
stages.0.lr = [0.01, 0.1]
"""

SEARCH = """
recipe = "small.toml"
design = "optuna"
seeds = 1
budget = { trials = 4 }

[vary]
stages.0.optimizer = ["adam", "sgd"]
stages.0.lr = { from = 1e-4, to = 1.0, log = true }
stages.0.momentum = { levels = [0.5, 0.8], when = { "stages.0.optimizer" = ["sgd"] } }
"""


def write(folder: Path, text: str = GRID, recipe: str = RECIPE) -> Path:
    """The file of a study beside its recipe."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "small.toml").write_text(recipe, encoding="utf-8")
    path = folder / "study.toml"
    path.write_text(text, encoding="utf-8")
    return path


def read(folder: Path, text: str, recipe: str = RECIPE) -> tuple[Any, Any]:
    return read_study(write(folder, text, recipe))


def start(*words: str | Path, **how: Any) -> subprocess.Popen[str]:
    """The command `tellapart study` in a process of its own."""
    command = [sys.executable, "-m", "tellapart", "study", *map(str, words), "--quiet"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **how)
