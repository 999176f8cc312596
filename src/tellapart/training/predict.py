"""A torch network's predictions on rows of a catalog."""

from __future__ import annotations

import copy
from collections.abc import Generator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from tellapart.core.events import Computing
from tellapart.core.predictions import Floats, Mean, Predictions, average_logits
from tellapart.core.preprocess import Pixels
from tellapart.data.augmentation.tta import copies
from tellapart.data.catalog import Catalog
from tellapart.data.decoding.decode import read_picture
from tellapart.data.loading.loader import batches
from tellapart.evaluation.open_set import KnownClasses
from tellapart.models.network import Network
from tellapart.training.fast.fuse_batchnorm import folded
from tellapart.training.parallel.answers import everyones
from tellapart.training.parallel.workers import Workers
from tellapart.training.runtime import Runtime


def predict(
    network: Network, catalog: Catalog, rows: npt.NDArray[np.int64], runtime: Runtime, task: str
) -> Generator[Computing, None, Predictions]:
    """Run the network on pictures, each as the finished model will see it.

    Args:
        network: left as it is, but for device and memory format.
        catalog, rows: which pictures.
        runtime: device and precision; float32 gives what the exported model gives.
        task: name of these pictures, for the progress events.

    Yields:
        Computing, after every batch.
    """
    answered = yield from predict_fully(network, catalog, rows, runtime, task)
    return answered.predictions


@dataclass(frozen=True)
class Answered:
    """What a network says of some pictures, and what that rests on.

    Attributes:
        predictions: averaged over each picture and its changed copies.
        plain: those of the pictures alone; the same where there are no copies.
        distance: float64 [n], from each picture to the known classes, in the order of the predictions.
    """

    predictions: Predictions
    plain: Predictions
    distance: Floats


def predict_fully(
    network: Network,
    catalog: Catalog,
    rows: npt.NDArray[np.int64],
    runtime: Runtime,
    task: str,
    known: KnownClasses | None = None,
    n_copies: int = 0,
    flip: bool = False,
    mean: Mean = "logits",
    workers: Workers | None = None,
) -> Generator[Computing, None, Answered]:
    """As `predict`, with test-time augmentation, and how far each picture lies from the known classes.

    Features are kept for a batch only: of many pictures they would not fit into memory.

    Args:
        network, catalog, rows, runtime, task: see `predict`.
        known: the classes' features; without it, all distances are 0.
        n_copies, flip: changed copies of each picture, and whether they may be mirrored; see `copies`.
        mean: what is averaged over them, see `average_logits`.
        workers: the processes that share the pictures, all of which call this; each returns all answers.
    """
    rows = np.unique(rows)
    if workers and workers.n > 1:
        own = rows[workers.share(len(rows), runtime.inference_batch)]
        with workers.together():
            share = yield from predict_fully(network, catalog, own, runtime, task, known, n_copies, flip, mean)
        return _brought_together(workers, share, catalog, len(rows), runtime.inference_batch)
    preprocessing = network.preprocessing

    def load(row: int) -> Pixels:
        return read_picture(catalog.path(row), preprocessing)

    network.to(device=runtime.device, memory_format=runtime.memory_format)  # type: ignore[call-overload]
    fast: nn.Module | None = None
    head = copy.deepcopy(network.head).eval()
    plain = np.empty((len(rows), len(catalog.classes)), np.float32)
    averaged = np.empty(plain.shape)
    distance = np.zeros(len(rows))
    done = 0
    with torch.inference_mode():
        for batch in batches(rows, runtime.inference_batch, load, runtime.workers, runtime.sequential):
            part = slice(done, done + len(batch.row))
            versions = []
            for pixels in copies(batch.image.numpy(), n_copies, flip, preprocessing.interpolation):
                inputs = network.normalise(torch.from_numpy(pixels).to(runtime.device))
                fast = fast or folded(network.backbone, inputs)
                with runtime.autocast():
                    features = fast(inputs)
                    versions.append(head(features).float().cpu().numpy())
                if len(versions) == 1 and known is not None:
                    distance[part] = known.distance(features.float().cpu().numpy())
            plain[part] = versions[0]
            averaged[part] = average_logits(versions, catalog.multilabel, mean)
            done = part.stop
            yield Computing(-1, task, done, len(rows))
    target = catalog.target(rows)
    unknown = catalog.unknown(rows)
    alone = Predictions.of(rows, plain, target, catalog.classes, unknown)
    together = Predictions.of(rows, averaged, target, catalog.classes, unknown) if n_copies else alone
    return Answered(together, alone, distance)


def _brought_together(workers: Workers, share: Answered, catalog: Catalog, n: int, size: int) -> Answered:
    """The answers of all workers to n pictures, one a row."""
    parts = (share.predictions.logits, share.plain.logits, share.distance[:, None])
    table = torch.from_numpy(np.concatenate(parts, axis=1, dtype=np.float64))
    values, rows = everyones(workers, table, share.predictions.row, n, size)
    n_classes, target, unknown = len(catalog.classes), catalog.target(rows), catalog.unknown(rows)
    logits, plain, distance = values[:, :n_classes], values[:, n_classes:-1], values[:, -1]
    together = Predictions.of(rows, logits, target, catalog.classes, unknown)
    alone = Predictions.of(rows, plain, target, catalog.classes, unknown)
    first = np.unique(rows, return_index=True)[1]
    return Answered(together, alone if share.plain is not share.predictions else together, distance[first].numpy())
