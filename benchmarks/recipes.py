"""Every shipped recipe of the five systems, run for real on the pictures that it is for, from the command line.

TELLAPART_TEST_DATA=… TELLAPART_WEIGHTS=… python -m benchmarks.recipes study-cnn breeds-transfer --seeds 0
python -m benchmarks.recipes labels-transfer --set balance.sampler=rarest --name balanced
python -m benchmarks.recipes study-cnn --finished runs/fruit
python -m benchmarks.recipes cifar-mobile --finished runs/cifar --made pictures

Writes benchmarks/results/recipe_NAME.json: scores on pictures not trained on, seconds, seeds. Folders of pictures that
have to be made are written into a temporary folder; the cache is empty at the beginning of each run.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import cifar_competition

from benchmarks import record
from tellapart.recipe.load import load_recipe

DATA = Path(os.environ["TELLAPART_TEST_DATA"])
#: Which pictures each recipe is for.
PICTURES = {
    "eight-step": "grocery",
    "transfer": "grocery",
    "fast": "fruit",
    "study-mlp": "fruit",
    "study-cnn": "fruit",
    "study-transfer": "fruit",
    "cifar-cnn": "cifar",
    "cifar-mobile": "cifar",
    "labels-transfer": "labels",
    "labels-ensemble": "labels",
    "labels-blocks": "labels",
    "breeds-cnn": "breeds",
    "breeds-transfer": "breeds",
}
N_UNLABELLED = 150


def tellapart(*arguments: str | Path, environment: dict[str, str]) -> float:
    """Run a command; the seconds that it took."""
    start = time.monotonic()
    subprocess.run([sys.executable, "-m", "tellapart", *map(str, arguments)], check=True, env=environment)
    return round(time.monotonic() - start, 1)


def labels_folder(folder: Path) -> Path:
    """The animals, and pictures with no label: groceries, every 17th in the order of their names."""
    table = list(csv.DictReader((DATA / "animals" / "labels.csv").open(newline="", encoding="utf-8")))
    groceries = sorted((DATA / "grocery" / "train").rglob("*.jpg"))[::17][:N_UNLABELLED]
    images = folder / "images"
    images.mkdir(parents=True)
    for picture in sorted((DATA / "animals" / "images").iterdir()):
        shutil.copy(picture, images)
    for number, picture in enumerate(groceries):
        shutil.copy(picture, images / f"none {number}.jpg")
        table.append({"file_name": f"images/none {number}.jpg", "labels": ""})
    with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["file_name", "labels"])
        writer.writeheader()
        writer.writerows(table)
    return folder


def scores(evaluation: dict[str, Any]) -> dict[str, float]:
    return {name: round(metric["value"], 4) for name, metric in evaluation["metrics"].items()}


def parts_of(out: Path) -> dict[str, Any]:
    """The scores of a finished run, by part."""
    evaluations = json.loads((out / "evaluation.json").read_text())["evaluations"]
    return {part: {**scores(value), "n": value["n"]} for part, value in evaluations.items()}


def backbone_of(out: Path) -> dict[str, str]:
    """The pretrained network of a run, or of the first fold; nothing of one from scratch. A plan's choice counts."""
    name = record.backbone(load_recipe(next(out.rglob("recipe.toml"))))
    return {"backbone": name} if name else {}


def submitted(out: Path, folder: Path, environment: dict[str, str]) -> float:
    """The score of a run's answers to the competition's test pictures, which lie in a folder with their solution."""
    answers = folder / "submission.csv"
    tellapart("predict", out, folder / "cifar" / "test", "--submission", answers, environment=environment)
    return cifar_competition.score(answers, folder / "solution.csv")


def finished(recipe: str, out: Path, folder: Path | None) -> dict[str, Any]:
    """The scores of a run that was trained before, if it was trained with the recipe as it is.

    Args:
        folder: where the pictures were made that it was trained on; only for a competition.
    """
    theirs, ours = load_recipe(out / "recipe.toml"), load_recipe(recipe)
    if theirs.model_copy(update={"about": "", "seed": 0}) != ours.model_copy(update={"about": "", "seed": 0}):
        raise SystemExit(f"{out} is no run of {recipe} as it is.")
    score = {"submission": submitted(out, folder, {**os.environ})} if folder else {}
    return {"seed": theirs.seed, **backbone_of(out), **parts_of(out), **score}


def one(recipe: str, seed: int, changes: list[str], folder: Path) -> dict[str, Any]:
    """Run a recipe once."""
    out = folder / "run"
    kind = PICTURES[recipe]
    if kind == "cifar":
        pictures = folder / "cifar"
        cifar_competition.make(pictures, folder / "solution.csv", None)
    elif kind == "labels":
        pictures = labels_folder(folder / "animals")
    else:
        pictures = DATA / kind
    environment = {**os.environ, "TELLAPART_CACHE": str(folder / "cache")}
    command = "cross-validate" if kind == "breeds" else "train"
    options = [part for change in changes for part in ("--set", change)]
    took = tellapart(
        command, pictures, "--recipe", recipe, "--out", out, "--seed", str(seed), *options, environment=environment
    )
    if kind == "breeds":
        result = json.loads((out / "cross_validation.json").read_text())
        pooled = {"all folds": scores(result["pooled"]), "n": result["pooled"]["n"]}
        return {"seconds": took, **backbone_of(out), **pooled}
    found: dict[str, Any] = {"seconds": took, **backbone_of(out), **parts_of(out)}
    if kind == "cifar":
        found["submission"] = submitted(out, folder, environment)
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("recipes", nargs="+", choices=PICTURES)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--set", action="append", default=[], help="a change to the recipe")
    parser.add_argument("--finished", type=Path, help="a run that was trained before: only its scores")
    parser.add_argument("--made", type=Path, help="with --finished: where its cifar/ and solution.csv lie")
    parser.add_argument("--name", default="", help="of the variant, for the result's name")
    given = parser.parse_args()
    for recipe in given.recipes:
        runs = [finished(recipe, given.finished, given.made)] if given.finished else []
        for seed in given.seeds if not given.finished else ():
            with tempfile.TemporaryDirectory() as folder:
                runs.append({"seed": seed, **one(recipe, seed, given.set, Path(folder))})
        name = "_".join(filter(None, ["recipe", recipe, given.name]))
        backbone = " or ".join(sorted({run["backbone"] for run in runs if "backbone" in run}))
        record.write(name, {"pictures": PICTURES[recipe], "set": given.set, "runs": runs}, backbone)


if __name__ == "__main__":
    main()
