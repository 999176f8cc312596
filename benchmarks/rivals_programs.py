"""Whole trainings as others write them, with the same pictures, division, backbone and weights; run as a program.

python -m benchmarks.rivals_programs plain photos/ pictures.csv --model mobilenetv2_100

The table has the columns file_name, label and split. Two lines of JSON are printed: when the training has
ended, with the accuracy on validation; and the accuracy on the test.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

EPOCHS, BATCH = 3, 64
Listed = dict[str, list[tuple[str, int]]]


def read_table(root: Path, table: Path) -> tuple[Listed, list[str]]:
    """Pictures with class numbers, by part, and the classes' names."""
    with table.open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    classes = sorted({line["label"] for line in lines})
    parts: Listed = {"train": [], "validation": [], "test": []}
    for line in lines:
        parts[line["split"]].append((str(root / line["file_name"]), classes.index(line["label"])))
    return parts, classes


def plain(parts: Listed, n_classes: int, model: str, size: int, epochs: int, workers: int) -> Iterator[float]:
    """The plain torch loop: DataLoader, random resized crop and flip, AdamW at 1e-3 one-cycle on all layers, float32.

    Yields:
        Accuracy on validation, after the training; then on the test.
    """
    import torch
    from torch.utils.data import DataLoader
    from torchvision import transforms as T

    from benchmarks.row_data import Listed as Pictures
    from tellapart.training.runtime import default_device

    torch.manual_seed(0)
    network, device = _network(model, n_classes), default_device()
    how = network.preprocessing
    size = size or how.height
    last = [T.ToTensor(), T.Normalize(how.mean, how.std)]
    training = T.Compose([T.RandomResizedCrop(size), T.RandomHorizontalFlip(), *last])
    judging = T.Compose([T.Resize(round(size / 0.875)), T.CenterCrop(size), *last])
    net = torch.nn.Sequential(network.backbone, network.head).to(device).to(memory_format=torch.contiguous_format)
    loader: DataLoader[Any] = DataLoader(Pictures(parts["train"], training), BATCH, shuffle=True, num_workers=workers)
    optimizer = torch.optim.AdamW(net.parameters(), 1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, epochs=epochs, steps_per_epoch=len(loader))
    loss = torch.nn.CrossEntropyLoss()
    for _ in range(epochs):
        net.train()
        for pictures, target in loader:
            optimizer.zero_grad()
            loss(net(pictures.to(device)), target.to(device)).backward()
            optimizer.step()
            schedule.step()
    for part in ("validation", "test"):
        net.eval()
        right = 0
        with torch.no_grad():
            for pictures, target in DataLoader(Pictures(parts[part], judging), BATCH, num_workers=workers):
                right += int((net(pictures.to(device)).argmax(1).cpu() == target).sum())
        yield right / max(1, len(parts[part]))


def fastai(parts: Listed, classes: list[str], model: str, size: int, epochs: int, workers: int) -> Iterator[float]:
    """The `fine_tune` of fastai on its `vision_learner`, as its quick start has it.

    Yields:
        Accuracy on validation, after the training; then on the test.
    """
    import fastai.vision.all  # noqa: F401 (learners get fine_tune and no_bar by it)
    from fastai.data.block import CategoryBlock, DataBlock
    from fastai.data.transforms import IndexSplitter, Normalize
    from fastai.metrics import accuracy
    from fastai.torch_core import set_seed
    from fastai.vision.augment import Resize
    from fastai.vision.data import ImageBlock
    from fastai.vision.learner import vision_learner

    set_seed(0)
    network = _network(model, len(classes))
    how = network.preprocessing
    label_of = {path: classes[label] for rows in parts.values() for path, label in rows}

    def label(path: str) -> str:
        return label_of[path]

    items = [path for part in ("train", "validation") for path, _ in parts[part]]
    block = DataBlock(
        blocks=(ImageBlock, CategoryBlock(vocab=classes)),
        get_y=label,
        splitter=IndexSplitter(range(len(parts["train"]), len(items))),
        item_tfms=Resize(size or how.height),
        batch_tfms=Normalize.from_stats(how.mean, how.std),
    )
    loaders = block.dataloaders(items, bs=BATCH, num_workers=workers)
    learner = vision_learner(loaders, model, pretrained=False, metrics=accuracy)
    learner.model[0].model.load_state_dict(network.backbone.state_dict())
    with learner.no_bar(), learner.no_logging():
        learner.fine_tune(epochs)
        yield float(learner.recorder.values[-1][-1])  # the last epoch's own
        test = loaders.test_dl([path for path, _ in parts["test"]], with_labels=True)
        yield float(learner.validate(dl=test)[1])


def _network(model: str, n_classes: int) -> Any:
    """The backbone with the weights that Tellapart would take, and a new linear head."""
    from tellapart.models.create import create_network
    from tellapart.recipe.schema import Data, Model

    return create_network(Model(name=model), n_classes, Data())


def main() -> None:
    """Train one rival and print what it reached."""
    from tellapart.training.runtime import default_workers

    parser = argparse.ArgumentParser()
    parser.add_argument("rival", choices=("plain", "fastai"))
    parser.add_argument("root", type=Path)
    parser.add_argument("table", type=Path)
    parser.add_argument("--model", default="mobilenetv2_100")
    parser.add_argument("--size", type=int, default=0, help="side of the pictures; 0: as the weights were made")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    asked = parser.parse_args()
    parts, classes = read_table(asked.root, asked.table)
    more = (asked.model, asked.size, asked.epochs, default_workers())
    reached = plain(parts, len(classes), *more) if asked.rival == "plain" else fastai(parts, classes, *more)
    for part, accuracy in zip(("validation", "test"), reached, strict=True):
        print(json.dumps({"part": part, "accuracy": accuracy}), flush=True)


if __name__ == "__main__":
    main()
