"""From the command to the accuracy that others end with: Tellapart, fastai's fine_tune(3) and a plain torch loop.

Each trains in a process of its own, one after the other, on the fruit pictures with the same backbone, weights and
division (MobileNetV2, those of TELLAPART_WEIGHTS): fastai at 160 pixels, the plain loop at the weights' own size.
Seconds from the command to the end, accuracy on validation and test; Tellapart's seconds to what each rival reached.

fastai is no dependency of Tellapart. It can have an environment of its own:

    uv venv rivals && uv pip install --python rivals/bin/python fastai 'tellapart[train]'
    TELLAPART_TEST_DATA=… TELLAPART_WEIGHTS=… python -m benchmarks.rivals --fastai rivals/bin/python

Rivals that cannot be imported are left out, and said so. Keras is not among them: with its own weights, layers and
loader it would be another backbone, not another way to train the same.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import tellapart as ta
from benchmarks import record, row_accuracy


def has_fastai(python: str) -> bool:
    return subprocess.run([python, "-c", "import fastai.vision.learner"], capture_output=True).returncode == 0


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pictures", type=int, help="at most so many; all by default")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--recipes", nargs="+", default=["transfer"])
    parser.add_argument("--rivals", nargs="+", choices=["fastai", "plain"], default=["fastai", "plain"])
    parser.add_argument("--fastai", default=sys.executable, help="the Python of an environment with fastai")
    asked = parser.parse_args()
    catalog = ta.scan(Path(os.environ["TELLAPART_TEST_DATA"]) / "fruit")
    known = {"fastai": (160, asked.fastai), "plain": (0, sys.executable)}
    rivals = {name: known[name] for name in asked.rivals}
    left_out = [f"{name} was not asked for" for name in known if name not in rivals]
    if "fastai" in rivals and not has_fastai(asked.fastai):
        left_out.append("fastai cannot be imported")
        del rivals["fastai"]
    courses: dict[str, list[row_accuracy.Course]] = {}
    for seed in range(asked.rounds):
        with tempfile.TemporaryDirectory() as folder:
            table = Path(folder) / "pictures.csv"
            n_train = row_accuracy.write_table(catalog, ta.split(catalog, seed=seed), table, asked.pictures)
            ways = [
                partial(row_accuracy.tellapart, catalog.root, table, Path(folder), recipe) for recipe in asked.recipes
            ]
            for name, (size, python) in rivals.items():
                ways.append(partial(row_accuracy.rival, name, catalog.root, table, size, python=python))
            for way in ways:
                course = way()
                print(course, flush=True)
                courses.setdefault(course.name, []).append(course)
    own = [name for name in courses if name not in rivals]
    figures = {name: figures_of(found) for name, found in courses.items()}
    for name in own:
        for other in rivals:
            figures[f"{name}, to what {other} reached"] = times(courses[name], courses[other])
    record.write("rivals", {"training pictures": n_train, "left out": left_out, **figures}, row_accuracy.MODEL)


def figures_of(courses: list[row_accuracy.Course]) -> dict[str, object]:
    return {
        "seconds": record.spread([course.seconds for course in courses]),
        "validation_accuracy": record.spread([max(value for _, value in course.validated) for course in courses]),
        "test_accuracy": record.spread([course.test for course in courses]),
        "validated": [course.validated for course in courses],
    }


def times(ours: list[row_accuracy.Course], theirs: list[row_accuracy.Course]) -> dict[str, object]:
    """Seconds, and how many times faster; None where it was not reached."""
    seconds = [own.until(other.validated[-1][1]) for own, other in zip(ours, theirs, strict=True)]
    if None in seconds:
        return {"seconds": seconds}
    ratios = [other.validated[-1][0] / took for other, took in zip(theirs, seconds, strict=True) if took]
    return {"seconds": record.spread([took for took in seconds if took]), "times_faster": record.spread(ratios)}


if __name__ == "__main__":
    main()
