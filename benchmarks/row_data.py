"""Pictures from disk to batches, from the second epoch on: random resized crop and flip, for each core."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.turns import Contestant, Figure, in_turn
from tellapart.core.events import Computing
from tellapart.core.hardware import keep_freed
from tellapart.core.preprocess import Preprocessing
from tellapart.data.catalog import Catalog
from tellapart.data.loading.loader import batches
from tellapart.recipe.transforms import HorizontalFlip, RandomResizedCrop
from tellapart.training.dataset import Dataset
from tellapart.training.pixels import augmented, from_cache

Rows = npt.NDArray[np.int64]
SIDE, BATCH = 224, 64
OURS, THEIRS = "Tellapart", "ImageFolder + DataLoader"


def data(catalog: Catalog, rows: Rows, seconds: float) -> Generator[Computing, None, Figure]:
    """Ours and torchvision's in turn, in pictures a second of processor time: other programs do not count."""
    contestants = {OURS: kept_crops(catalog, rows), THEIRS: image_folder(catalog, rows)}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        found = yield from in_turn("data", contestants, seconds, time.process_time)
    finally:
        torch.set_num_threads(threads)
    what = f"data from the second epoch, {SIDE} pixels: random resized crop and flip, each core"
    return Figure(what, "pictures/s", found, f"{len(rows)} pictures; the first epoch, which decodes, is left out")


def kept_crops(catalog: Catalog, rows: Rows, workers: int = 1) -> Contestant:
    """An epoch a step through Tellapart's own pictures kept on disk, made by so many threads."""
    keep_freed()  # as trainings do; here it helps the rival as well
    preprocessing = Preprocessing(SIDE, SIDE, interpolation="bilinear")  # torchvision's default too
    transforms = [RandomResizedCrop(), HorizontalFlip(probability=0.5)]
    dataset = Dataset(catalog, rows, rows[:1], preprocessing, transforms, 0)
    reader = from_cache(dataset)
    epoch = 0
    while True:
        order = np.random.default_rng(epoch).permutation(rows)
        for _ in batches(order, BATCH, augmented(dataset, epoch, reader), workers):
            pass
        reader.flush()
        yield len(rows)
        epoch += 1


def image_folder(catalog: Catalog, rows: Rows, workers: int = 0) -> Contestant:
    """An epoch a step through torchvision's way with the same transforms, in so many processes, or in this one."""
    from torchvision import transforms as T

    steps = T.Compose([T.RandomResizedCrop(SIDE), T.RandomHorizontalFlip(), T.PILToTensor()])
    listed = [(str(catalog.path(int(row))), 0) for row in rows]
    loader: torch.utils.data.DataLoader[Any] = torch.utils.data.DataLoader(
        Listed(listed, steps), BATCH, shuffle=True, num_workers=workers, persistent_workers=workers > 0
    )
    while True:
        for _ in loader:
            pass
        yield len(rows)


class Listed(torch.utils.data.Dataset[tuple[Any, int]]):
    """What torchvision's `ImageFolder` does (Pillow decodes, then the transforms), for pictures in a list."""

    def __init__(self, listed: Sequence[tuple[str, int]], transform: Any) -> None:
        self.listed, self.transform = listed, transform

    def __len__(self) -> int:
        return len(self.listed)

    def __getitem__(self, place: int) -> tuple[Any, int]:
        from torchvision.datasets.folder import default_loader

        path, label = self.listed[place]
        return self.transform(default_loader(path)), label
