"""The learning-rate finder on four sets of pictures of several sizes, beside fastai's valley on the same curves.

TELLAPART_TEST_DATA=… TELLAPART_WEIGHTS=… python -m benchmarks.lr_finder --kept /tmp/curves

The tests are those of the recipe eight-step's first stage (the head) and last stage (all layers, from the pretrained
weights), at a small size. Then eight-step is trained on the small sets, with the rates that it finds. Each curve and
each training is kept as a file in `--kept`: a run that was broken off goes on. `--figure` draws the smallest sets.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from benchmarks import record
from tellapart.core.events import LrFound, StageDone, Validated
from tellapart.core.palette import LIGHT
from tellapart.data.catalog import Catalog
from tellapart.data.splitting.split import split
from tellapart.errors import TrainingError
from tellapart.models.create import create_network
from tellapart.recipe.load import load_recipe
from tellapart.report.figures import new_figure, style
from tellapart.training.dataset import Dataset
from tellapart.training.lr_finder import raise_lr
from tellapart.training.lr_suggestions import running_mean, smooth, suggest
from tellapart.training.prepare import stage_from_pictures
from tellapart.training.runtime import plain_runtime
from tellapart.workflows.progress import Console
from tellapart.workflows.scan import scan
from tellapart.workflows.train import RunOptions, run

SETS = {"fruit": "fruit", "breeds": "breeds", "grocery": "grocery/train", "animals": "animals"}
STAGES = {0: "head", 2: "all layers"}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kept", type=Path, required=True, help="folder for curves and trainings")
    parser.add_argument("--n", type=int, nargs="+", default=[50, 200, 2600])
    parser.add_argument("--train", type=int, nargs="*", default=[50, 200], help="sizes of sets that are trained on")
    parser.add_argument("--size", type=int, default=64, help="side of the pictures in pixels")
    parser.add_argument("--only-kept", action="store_true", help="leave out what is not there yet")
    parser.add_argument("--figure", type=Path)
    options = parser.parse_args()
    options.kept.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    folder = Path(os.environ["TELLAPART_TEST_DATA"])
    rows, trainings = [], []
    for name, inner in SETS.items():
        catalog = scan(folder / inner, Console())
        for n in options.n:
            part = sample(catalog, n)
            if len(part) < n and n != max(options.n) and len(part) < 0.9 * n:
                continue
            for stage, trains in STAGES.items():
                kept = options.kept / f"{stage}_{name}_{n}.json"
                curve = _kept(kept, lambda part=part, stage=stage: _curve(part, stage, options.size), options.only_kept)
                if curve:
                    rows.append({"pictures": name, "n": len(part), "trains": trains, **_read(curve)})
            if n in options.train:
                kept = options.kept / f"train_{name}_{n}.json"
                out = kept.with_suffix("")
                course = _kept(kept, lambda part=part, out=out: _training(part, out, options.size), options.only_kept)
                if course:
                    trainings.append({"pictures": name, "n": len(part), **course})
    if options.figure:
        draw(options.kept, min(options.n), options.figure)
    figures = {"recipe": "eight-step", "size": options.size, "tests": rows, "trainings": trainings}
    record.write(
        "lr_finder", {**figures, "valley_over_fastai": record.spread([row["ratio"] for row in rows if "ratio" in row])}
    )


def sample(catalog: Catalog, n: int) -> Catalog:
    """Draw n pictures at random; where each has one label, of no more classes than have eight of them."""
    random = np.random.default_rng(0)
    rows = random.permutation(np.intersect1d(catalog.readable, catalog.labelled))
    if catalog.multilabel or n >= len(rows):
        return _only(catalog, rows[:n])
    target = catalog.target()[rows]
    counts = np.bincount(target, minlength=len(catalog.classes))
    able = np.flatnonzero(counts >= min(8, counts.max()))
    classes = np.sort(random.permutation(able)[: max(2, n // 8)])
    each = -(-n // len(classes))
    keep = np.concatenate([rows[target == number][:each] for number in classes])
    rest = np.setdiff1d(rows[np.isin(target, classes)], keep)  # fills up small classes
    part = _only(catalog, np.concatenate([keep, random.permutation(rest)])[:n])
    numbers = pl.element().replace_strict(classes.tolist(), list(range(len(classes))), return_dtype=pl.UInt32)
    labels = part.table["labels"].list.eval(numbers)
    names = tuple(catalog.classes[number] for number in classes)
    return replace(part, classes=names, table=part.table.with_columns(labels=labels))


def _only(catalog: Catalog, rows: np.ndarray) -> Catalog:
    return catalog.without(np.setdiff1d(np.arange(len(catalog)), rows))


def _kept(file: Path, make: Callable[[], dict[str, Any]], only: bool = False) -> dict[str, Any] | None:
    """What a file keeps; made now if it is not there, or None with `only`."""
    if not file.is_file():
        if only:
            return None
        file.write_text(json.dumps(make()))
    values: dict[str, Any] = json.loads(file.read_text())
    return values


def _curve(catalog: Catalog, stage: int, size: int) -> dict[str, Any]:
    """Rates and losses of a test at the beginning of a stage, from the pretrained weights."""
    recipe = load_recipe("eight-step", [f"data.size={size}"])
    parts = split(catalog, validation=0.15, test=0, seed=0)
    torch.manual_seed(0)
    network = create_network(recipe.model, len(catalog.classes), recipe.data)
    dataset = Dataset(catalog, parts.train, parts.validation, network.preprocessing, recipe.augment, 0, ())
    target = torch.tensor(catalog.target())
    prepared = stage_from_pictures(network, recipe, stage, dataset, target, plain_runtime())
    lrs, losses = Console().watch(raise_lr(prepared))
    return {"lrs": lrs, "losses": losses}


def _read(curve: dict[str, Any]) -> dict[str, Any]:
    """The suggestions of a curve, and fastai's."""
    fastai = fastai_valley(curve["lrs"], curve["losses"])
    try:
        test = suggest(curve["lrs"], curve["losses"])
    except TrainingError as error:
        return {"steps": len(curve["lrs"]), "fastai_valley": fastai, "error": error.message}
    rates = {**test.by_rule, "diverges": test.diverges, "fastai_valley": fastai, "ratio": test.valley / fastai}
    rates["highest_falling_0_1"] = highest_falling_0_1(curve["lrs"], curve["losses"])
    return {"steps": len(curve["lrs"]), **rates, "losses": [round(loss, 4) for loss in curve["losses"]]}


def fastai_valley(lrs: list[float], losses: list[float]) -> float:
    """The rule of fastai's `lr_find`, as published: its default suggestion.

    On the running mean of the losses, without the first ten and the last five of its hundred steps: the longest falling
    subsequence, and of its span the point after one third and half of another.
    """
    x, y = np.asarray(lrs)[10:-5], running_mean(losses)[10:-5]
    usable = int(np.argmax(np.isnan(y))) if np.isnan(y).any() else len(y)
    length = np.ones(usable, int)
    for i in range(1, usable):
        length[i] += length[:i][y[:i] > y[i]].max(initial=0)
    end = int(length.argmax())
    start = end - int(length[end])
    third = (end - start) / 3
    return float(x[start + int(third) + int(third / 2)])


def highest_falling_0_1(lrs: list[float], losses: list[float]) -> float:
    """What version 0.1 called "highest falling": read from the running mean, with its lag."""
    x, y = np.asarray(lrs)[len(lrs) // 10 :], running_mean(losses)[len(lrs) // 10 :]
    slope = np.gradient(y, np.log(x))[: int(y.argmin()) + 1]
    return float(x[np.flatnonzero(slope <= slope.min() / 4)[-1]])


def table(rows: list[dict[str, Any]]) -> str:
    """The tests as a table for the docs."""
    lines = ['| pictures | trains | valley | fastai\'s valley | diverges at | "highest falling" | in 0.1 |']
    lines.append("|---" * 7 + "|")
    for row in rows:
        rates = [
            row.get(name) for name in ("valley", "fastai_valley", "diverges", "highest_falling", "highest_falling_0_1")
        ]
        cells = [f"{row['pictures']}, {row['n']:,}", row["trains"], *(f"{lr:.2g}" if lr else "–" for lr in rates)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _training(catalog: Catalog, out: Path, size: int) -> dict[str, Any]:
    """The course of a training of eight-step, up to its evaluation: rates that were found, losses of each epoch."""
    recipe = load_recipe("eight-step", [f"data.size={size}"])
    parts = split(catalog, validation=0.15, test=0, seed=0)
    epochs, tests = list[Validated](), list[LrFound]()
    for event in run(recipe, catalog, parts, out, RunOptions(runtime="cpu")):
        if isinstance(event, Validated):
            epochs.append(event)
        elif isinstance(event, LrFound):
            tests.append(event)
        elif isinstance(event, StageDone) and event.stage == len(recipe.stages) - 1:
            break
    return {
        "lr": {test.stage: test.lr for test in tests},
        "first_loss": round(tests[0].losses[0], 4),
        "stage": [event.stage for event in epochs],
        "train_loss": [round(event.train_loss, 4) for event in epochs],
        "validation_loss": [round(event.validation_loss, 4) for event in epochs],
        "validation_accuracy": [round(event.validation_accuracy, 4) for event in epochs],
    }


def draw(kept: Path, n: int, path: Path) -> None:
    """The curves of the head on the sets of n pictures, with both suggestions."""
    with style():
        figure, panels = new_figure(11, 2.8, len(SETS))
        for axes, name in zip(panels, SETS, strict=True):
            curve = json.loads((kept / f"0_{name}_{n}.json").read_text())
            x, y = np.array(curve["lrs"]), np.array(curve["losses"])
            test, mean, fastai = suggest(x, y), running_mean(y), fastai_valley(curve["lrs"], curve["losses"])
            axes.plot(x, y, color="#dddad4", lw=1, label="loss")
            axes.plot(x, mean, color=LIGHT["quiet-line"], lw=1.2, ls="--", label="running mean")
            axes.plot(x, smooth(y), color=LIGHT["accent"], lw=1.8, label="smoothed")
            axes.plot(test.valley, np.interp(test.valley, x, smooth(y)), "o", color=LIGHT["accent"], label="valley")
            axes.plot(fastai, np.interp(fastai, x, mean), "x", color="#1b1d20", label="fastai's valley")
            axes.axvspan(test.diverges / 10, test.diverges, color="#dddad4", alpha=0.4, lw=0, label="last decade")
            axes.set(xscale="log", title=f"{name}, {n} pictures", xlabel="learning rate", ylim=(0, 1.4 * y[0]))
            axes.set_xticks([1e-6, 1e-4, 1e-2, 1], ["1e-6", "1e-4", "1e-2", "1"])
            axes.set_xticks([], minor=True)
        panels[0].legend(frameon=False, fontsize=7)
        figure.savefig(path, bbox_inches="tight", dpi=110)


if __name__ == "__main__":
    main()
