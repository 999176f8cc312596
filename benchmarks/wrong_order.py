"""Augmentation ahead of training in the wrong order and in the right one, on the fruit pictures.

The same pictures are kept aside for the test. Of the others, the wrong order makes eight versions and then draws a
fifth of the versions for validation; the right order draws a fifth of the pictures and makes eight versions of those
that are left. The same small network is trained on both. Compared is what validation promises with what the pictures
kept aside say.

TELLAPART_TEST_DATA=… python -m benchmarks.wrong_order --seeds 0 1
"""

from __future__ import annotations

import argparse
import os
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl

import tellapart as ta
from benchmarks import record
from tellapart.core.preprocess import Preprocessing
from tellapart.data.augmentation.offline import write_views
from tellapart.data.catalog import Catalog
from tellapart.data.splitting.split import Split
from tellapart.recipe.schema import Recipe
from tellapart.recipe.transforms import EIGHTFOLD
from tellapart.workflows.progress import Console

SIZE = 64
HOW = Preprocessing(SIZE, SIZE)


def plan(seed: int, epochs: int) -> Recipe:
    """The CNN of the CIFAR-10 tutorial, as the study of fruit used it: nothing random happens to pictures any more."""
    stage = {"epochs": epochs, "batch_size": 32, "optimizer": "adam", "lr": 1e-3, "weight_decay": 0.0}
    return Recipe.model_validate(
        {
            "seed": seed,
            "data": {"size": SIZE, "validation": 0.2},
            "model": {"name": "tutorial-cnn", "pretrained": False},
            "stages": [{**stage, "schedule": "constant", "monitor": "score"}],
        }
    )


def some_of(catalog: Catalog, n: int, seed: int) -> Catalog:
    """The first readable `n` pictures of each class in an order drawn by the seed."""
    rows = np.random.default_rng(seed).permutation(catalog.readable)
    target = catalog.target(rows)
    chosen = np.concatenate([rows[target == number][:n] for number in range(len(catalog.classes))])
    return catalog.without(np.setdiff1d(np.arange(len(catalog)), chosen))


def right(catalog: Catalog, parts: Split, folder: Path) -> Path:
    """Divided first; the training part alone is multiplied."""
    Console().watch(write_views(catalog, parts, EIGHTFOLD, HOW, folder))
    return folder


def wrong(catalog: Catalog, parts: Split, folder: Path) -> Path:
    """Multiplied first; then versions are drawn for validation as if each were a picture of its own."""
    together = np.union1d(parts.train, parts.validation)
    undivided = replace(parts, train=together, validation=together[:0])
    table = Console().watch(write_views(catalog, undivided, EIGHTFOLD, HOW, folder))
    only_test = pl.when(pl.col("split") == "test").then(pl.col("split"))
    pl.read_csv(table).with_columns(split=only_test).drop("group").write_csv(table)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pictures", type=int, default=400, help="of each class")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    given = parser.parse_args()
    everything = ta.scan(Path(os.environ["TELLAPART_TEST_DATA"]) / "fruit")
    scores: dict[str, list[float]] = {}
    for seed in given.seeds:
        catalog = some_of(everything, given.pictures, seed)
        parts = ta.split(catalog, validation=0.16, test=0.2, seed=seed)  # a fifth of what the test leaves
        for name, order in (("wrong", wrong), ("right", right)):
            with tempfile.TemporaryDirectory() as folder:
                pictures = order(catalog, parts, Path(folder) / name)
                run = ta.train(pictures, recipe=plan(seed, given.epochs), out=Path(folder) / "run")
                for on in ("validation", "test"):
                    accuracy = ta.evaluate(run, on).metrics["accuracy"]
                    scores.setdefault(f"{name}_{on}_accuracy", []).append(accuracy.value)
                    scores.setdefault(f"{name}_{on}_pictures", []).append(accuracy.n)
                print(
                    seed, name, {key: values[-1] for key, values in scores.items() if key.startswith(name)}, flush=True
                )
    for name in ("wrong", "right"):
        both = zip(scores[f"{name}_validation_accuracy"], scores[f"{name}_test_accuracy"], strict=True)
        scores[f"{name}_promised_too_much"] = [validation - test for validation, test in both]
    figures = {name: record.spread(values) for name, values in scores.items()}
    record.write(
        "wrong_order", {"pictures_a_class": given.pictures, "epochs": given.epochs, "seeds": given.seeds, **figures}
    )


if __name__ == "__main__":
    main()
