"""Features of pictures, as a network's backbone gives them: one vector each, to compare pictures with."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import numpy as np
import numpy.typing as npt
from torch import Tensor

from tellapart.core.events import Computing
from tellapart.data.catalog import Catalog
from tellapart.data.loading.loader import batches
from tellapart.models.network import Network
from tellapart.training.dataset import Dataset
from tellapart.training.feature_cache import about_layers, compute, inference_layers
from tellapart.training.inputs import network_input
from tellapart.training.pixels import plain
from tellapart.training.runtime import Runtime

Rows = npt.NDArray[np.int64]


def features(
    network: Network, catalog: Catalog, rows: Rows, runtime: Runtime, task: str
) -> Generator[Computing, None, npt.NDArray[np.float32]]:
    """The backbone's features of pictures as validation sees them; computed once and stored.

    Args:
        network: left as it is, but for device and memory format.
        catalog, rows: which pictures.
        runtime: how to run the backbone, in the precision of frozen layers.
        task: name of these pictures, for the progress events.

    Yields:
        Computing, after every batch.

    Returns:
        float32 [n_rows, n_features], in the order of the rows.
    """
    network.to(device=runtime.device, memory_format=runtime.memory_format)  # type: ignore[call-overload]
    dataset = Dataset(catalog, rows, rows[:0], network.preprocessing, (), 0)
    batch_size = runtime.inference_batch

    def pictures(items: Rows) -> Iterator[Tensor]:
        for batch in batches(rows[items], batch_size, plain(dataset), runtime.workers, runtime.sequential):
            yield network_input(network, batch.image, runtime)

    about = about_layers(network, network.backbone, "head", dataset.preprocessing, runtime)
    backbone = inference_layers(network.backbone, runtime)
    stored = yield from compute(-1, task, backbone, pictures, dataset.keys([[]]), about, batch_size)
    result: npt.NDArray[np.float32] = stored.gather(np.arange(len(rows)), "cpu").numpy()
    return result
