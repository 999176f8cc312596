"""A torch network's predictions on rows of a catalog."""

from __future__ import annotations

import copy
from collections.abc import Generator

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from tellapart.answering import Known
from tellapart.data.catalog import Catalog
from tellapart.data.decode import read_picture
from tellapart.data.loader import batches
from tellapart.models.folded import folded
from tellapart.models.network import Network
from tellapart.preprocess import Pixels
from tellapart.records import Computing, Floats, Predictions
from tellapart.runtime import Runtime

_BATCH = 64


def predict(
    network: Network, catalog: Catalog, rows: npt.NDArray[np.int64], runtime: Runtime, what: str
) -> Generator[Computing, None, Predictions]:
    """Run the network on pictures, each as the finished model will see it.

    Args:
        network: left as it is, but for device and memory format.
        catalog, rows: which pictures.
        runtime: device and precision; float32 gives what the exported model gives.
        what: name of these pictures, for the progress events.

    Yields:
        Computing, after every batch.
    """
    predictions, _ = yield from predict_with_distance(network, catalog, rows, runtime, what, None)
    return predictions


def predict_with_distance(
    network: Network,
    catalog: Catalog,
    rows: npt.NDArray[np.int64],
    runtime: Runtime,
    what: str,
    known: Known | None,
) -> Generator[Computing, None, tuple[Predictions, Floats]]:
    """As `predict`, and how far each picture lies from the known classes; in the order of the predictions.

    Features are kept for a batch only: of many pictures they would not fit into memory.

    Args:
        known: the classes' features; without it, all distances are 0.
    """

    def load(row: int) -> Pixels:
        return read_picture(catalog.path(row), network.preprocessing)

    rows = np.unique(rows)
    network.to(device=runtime.device, memory_format=runtime.memory_format)  # type: ignore[call-overload]
    fast: nn.Module | None = None
    head = copy.deepcopy(network.head).eval()
    logits = np.empty((len(rows), len(catalog.classes)), np.float32)
    distance = np.zeros(len(rows))
    done = 0
    with torch.inference_mode():
        for batch in batches(rows, _BATCH, load, runtime.workers):
            pictures = batch.image.to(runtime.device)
            inputs = network.normalise(pictures)
            fast = fast or folded(network.body, inputs)
            with runtime.autocast():
                features = fast(inputs)
                out = head(features)
            part = slice(done, done + len(out))
            logits[part] = out.float().cpu().numpy()
            if known is not None:
                distance[part] = known.distance(features.float().cpu().numpy())
            done += len(out)
            yield Computing(-1, what, done, len(rows))
    return Predictions.of(rows, logits, catalog.target(rows), catalog.classes), distance
