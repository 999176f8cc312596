"""A hundred heads on one backbone: its features are computed once, so that a head costs a second or so.

36 linear heads are solved exactly: 9 strengths of the penalty x 4 degrees of label smoothing. 64 are trained for the
same epochs: hidden layers (none, 128, 256, 512) x losses (cross entropy, focal) x dropout (0, 0.2, 0.5, 0.7) x weight
decay (0.01, 1). All on the same training, validation and test pictures; the seconds count from an empty cache.

TELLAPART_TEST_DATA=… TELLAPART_WEIGHTS=… python -m benchmarks.heads [--pictures 3607]
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import tellapart as ta
from benchmarks import record
from tellapart.models.create import create_network
from tellapart.models.heads import build_head
from tellapart.recipe.schema import L2, Data, Head, Model
from tellapart.training.dataset import Dataset
from tellapart.training.extract_features import features
from tellapart.training.fast.choose_engine import FrozenWork, choose_engine
from tellapart.training.linear_probe import solutions
from tellapart.training.losses import build_loss
from tellapart.training.runtime import plain_runtime
from tellapart.workflows.progress import Console

EPOCHS, BATCH, RATE = 15, 256, 1e-3


@dataclass(frozen=True)
class Part:
    """Features and classes of some pictures."""

    x: Tensor
    y: Tensor


def solved(train: Part, n_classes: int) -> Iterator[tuple[str, nn.Module]]:
    for smoothing in (0.0, 0.05, 0.1, 0.2):
        head = nn.Linear(train.x.shape[1], n_classes)
        loss = build_loss("auto", False, label_smoothing=smoothing)
        for strength, _ in zip(L2, solutions(train.x, train.y, head, loss, len(train.y)), strict=True):
            yield f"linear, solved, strength {strength:g}, label smoothing {smoothing:g}", head


def trained(train: Part, n_classes: int) -> Iterator[tuple[str, nn.Module]]:
    sizes, losses = ([], [128], [256], [512]), ("cross_entropy", "focal")
    for hidden, name, dropout, decay in product(sizes, losses, (0.0, 0.2, 0.5, 0.7), (0.01, 1.0)):
        torch.manual_seed(0)
        head = build_head(train.x.shape[1], n_classes, Head(hidden=hidden, dropout=dropout))
        loss = build_loss(name, False)
        optimizer = torch.optim.AdamW(head.parameters(), RATE, weight_decay=decay)
        head.train()
        for _ in range(EPOCHS):
            for rows in torch.randperm(len(train.y)).split(BATCH):
                optimizer.zero_grad()
                loss(head(train.x[rows]), train.y[rows]).backward()
                optimizer.step()
        layers = "linear" if not hidden else f"hidden {hidden[0]}"
        yield f"{layers}, {name}, dropout {dropout:g}, weight decay {decay:g}", head


@torch.no_grad()
def accuracy(head: nn.Module, part: Part) -> float:
    return float((head.eval()(part.x).argmax(1) == part.y).float().mean())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pictures", type=int, help="at most so many a part; all by default")
    parser.add_argument("--model", default="mobilenetv2_100")
    asked = parser.parse_args()
    start = time.perf_counter()
    catalog = ta.scan(Path(os.environ["TELLAPART_TEST_DATA"]) / "fruit")
    divided = ta.split(catalog)
    network = create_network(Model(name=asked.model), len(catalog.classes), Data())
    parts = {}
    with tempfile.TemporaryDirectory() as cache:
        os.environ["TELLAPART_CACHE"] = cache
        # In the engine that trainings would measure to be fastest; the measurement is a part of the time.
        dataset = Dataset(catalog, divided.train, divided.validation, network.preprocessing, (), 0)
        work = FrozenWork(network, network.backbone, "head", dataset, asked.pictures or len(catalog))
        runtime = Console().watch(choose_engine(work, plain_runtime())).runtime
        for name in ("train", "validation", "test"):
            rows = getattr(divided, name)
            rows = rows[np.linspace(0, len(rows) - 1, min(asked.pictures or len(rows), len(rows))).astype(int)]
            x = torch.from_numpy(Console().watch(features(network, catalog, rows, runtime, f"features, {name}")))
            parts[name] = Part(x, torch.tensor(catalog.target(rows)))
    mean, deviation = parts["train"].x.mean(0), parts["train"].x.std(0) + 1e-6
    parts = {name: Part((part.x - mean) / deviation, part.y) for name, part in parts.items()}
    with_features = time.perf_counter() - start
    found = []
    n_classes = len(catalog.classes)
    for ways in (solved, trained):
        for name, head in ways(parts["train"], n_classes):
            found.append((name, accuracy(head, parts["validation"]), accuracy(head, parts["test"])))
    seconds = time.perf_counter() - start
    found.sort(key=lambda line: -line[1])
    for name, validation, test in found[:10]:
        print(f"{validation:.2%}  {test:.2%}  {name}")
    record.write(
        "heads",
        {
            "heads": len(found),
            "runtime": runtime.why,
            "seconds": seconds,
            "of which features": with_features,
            "best on validation": found[0],
            "all, best on validation first (head, validation, test)": found,
        },
        asked.model,
    )


if __name__ == "__main__":
    main()
