"""A student on a teacher's answers beside the same student on the labels alone: paired, seed by seed.

TELLAPART_TEST_DATA=… TELLAPART_WEIGHTS=… python -m benchmarks.distill --seeds 3

The fruit photographs, divided once: few with labels, more without, and a test. The teacher is a pretrained network with
a solved linear head, the student a small network from scratch. Each seed trains three students: on the labels alone, on
the labels and the teacher's answers to the same pictures, and with its answers to the pictures without labels too.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import tellapart as ta
from benchmarks import record
from tellapart.core.text import counted
from tellapart.data.catalog import Catalog
from tellapart.data.splitting.split import Split
from tellapart.evaluation.compare import compare
from tellapart.evaluation.comparison import Contender
from tellapart.report.run_answers import answered
from tellapart.runs.run import Run

ALONE, TAUGHT, FURTHER = "labels alone", "taught", "taught, further pictures too"


def divided(root: Path, n_labelled: int, n_test: int) -> tuple[Catalog, Split, list[str]]:
    """A catalog of the labelled and the test pictures with its split, and the files of all others."""
    whole = ta.scan(root)
    split = ta.split(whole, validation=n_labelled // 4, test=n_test)
    random = np.random.default_rng(0)
    labelled = random.permutation(split.train)[: n_labelled - len(split.validation)]
    others = np.setdiff1d(split.train, labelled)
    contents = whole.table["sha256"]
    inside = np.concatenate([labelled, split.validation, split.test])
    # Copies of a labelled picture are no further pictures; `distill` would leave them out with a line.
    known = set(contents.gather(inside).to_list())
    files = [str(whole.path(int(row))) for row in others if contents[int(row)] not in known]
    catalog = whole.without(np.setdiff1d(np.arange(len(whole)), inside))
    number = np.full(len(whole), -1)
    number[np.sort(inside)] = np.arange(len(inside))
    parts = [np.sort(number[part]) for part in (labelled, split.validation, split.test)]
    return catalog, replace(split, train=parts[0], validation=parts[1], test=parts[2], digest=catalog.digest), files


def students(teacher: Run, files: list[str], folder: Path, seed: int, options: argparse.Namespace) -> dict[str, Run]:
    """The three students of one seed."""
    changes = [f"seed={seed}", f"data.size={options.size}", f"stages.0.epochs={options.epochs}"]
    recipe = ta.load_recipe("scratch", [f"model.name={options.student}", *changes])
    how: dict[str, Any] = {"recipe": recipe, "temperature": options.temperature, "progress": True}
    taught = ta.distill(teacher, options.student, out=folder / f"taught-{seed}", **how)
    further = ta.distill(teacher, options.student, files, out=folder / f"further-{seed}", alone=False, **how)
    return {ALONE: Run(taught.directory / "labels-alone"), TAUGHT: taught, FURTHER: further}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--labelled", type=int, default=600)
    parser.add_argument("--test", type=int, default=1200)
    parser.add_argument("--further", type=int, default=2000, help="at most so many pictures without labels")
    parser.add_argument("--teacher", default="mobilenetv2_100")
    parser.add_argument("--student", default="cnn8")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--temperature", type=float, default=2.0)
    options = parser.parse_args()
    catalog, split, files = divided(Path(os.environ["TELLAPART_TEST_DATA"]) / "fruit", options.labelled, options.test)
    files = files[:: max(1, len(files) // options.further)][: options.further]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        head = {"name": options.teacher}
        stage = {"train": "head", "solver": "lbfgs", "views": [[]]}
        recipe = ta.Recipe.model_validate({"model": head, "stages": [stage]})
        teacher = ta.train(catalog, split, recipe, folder / "teacher", progress=True)
        seeds = [students(teacher, files, folder, seed, options) for seed in range(options.seeds)]
        contenders = [
            Contender(kind, tuple(answered(each[kind], each[kind].predictions("test")) for each in seeds))
            for kind in (ALONE, TAUGHT, FURTHER)
        ]
        compared = compare(contenders)
        figures = {
            "pictures": f"{counted(len(split.train), 'labelled picture')}, {len(split.validation)} validation, "
            f"{len(split.test)} test, {len(files)} without labels",
            "teacher": {"network": options.teacher, "accuracy": teacher.evaluations["test"].metrics["accuracy"].value},
            "student": f"{options.student}, {options.size} pixels, {options.epochs} epochs",
            "temperature": options.temperature,
            "accuracy": {each.name: record.spread(list(each.scores)) for each in compared.standings},
            "differences": [
                {
                    "of": f"{contenders[each.second].name} less {contenders[each.first].name}",
                    **{key: getattr(each, key) for key in ("value", "low", "high", "p_corrected", "verdict")},
                }
                for each in compared.differences
            ],
        }
    record.write("distill", figures, options.teacher)


if __name__ == "__main__":
    main()
