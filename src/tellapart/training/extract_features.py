"""Features of pictures, as a network's backbone gives them: one vector each, to compare pictures with."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from functools import partial

import numpy as np
import numpy.typing as npt
from torch import Tensor

from tellapart.core.events import Computing, Note
from tellapart.data.catalog import Catalog
from tellapart.models.network import Network
from tellapart.training.dataset import Dataset
from tellapart.training.fast.choose_engine import FrozenWork, choose_engine
from tellapart.training.fast.engines import EngineError, inference_layers
from tellapart.training.feature_cache import about_layers, compute
from tellapart.training.inputs import picture_inputs
from tellapart.training.parallel.features import fill_together
from tellapart.training.parallel.workers import Workers
from tellapart.training.pixels import plain
from tellapart.training.runtime import Runtime, plain_runtime

Rows = npt.NDArray[np.int64]
#: Timing engines takes as long as about a hundred pictures: it does not pay for much fewer than these.
_MANY = 256


def features_by_fastest(
    network: Network, catalog: Catalog, rows: Rows, task: str
) -> Generator[Computing | Note, None, npt.NDArray[np.float32]]:
    """As `features`, by the engine that is fastest here for so many pictures: one that trainings choose as well.

    So a training and a look at the same pictures share what is stored. For comparisons between pictures alone: what
    an exported model answers is compared with torch in float32.
    """
    runtime = plain_runtime()
    if len(rows) >= _MANY:
        network.to(device=runtime.device, memory_format=runtime.memory_format)  # type: ignore[call-overload]
        dataset = Dataset(catalog, rows, rows[:0], network.preprocessing, (), 0)
        work = FrozenWork(network, network.backbone, "head", dataset, len(rows))
        runtime = (yield from choose_engine(work, runtime)).runtime
    return (yield from features(network, catalog, rows, runtime, task))


def features(
    network: Network, catalog: Catalog, rows: Rows, runtime: Runtime, task: str, workers: Workers | None = None
) -> Generator[Computing | Note, None, npt.NDArray[np.float32]]:
    """The backbone's features of pictures as validation sees them; computed once and stored.

    Args:
        network: left as it is, but for device and memory format.
        catalog, rows: which pictures.
        runtime: how to run the backbone: its engine, in the precision of frozen layers. Where that engine cannot run
            it, torch does, in float32.
        task: name of these pictures, for the progress events.
        workers: the processes that share the work, all of which call this.

    Yields:
        Computing, after every batch; Note, where another engine took over.

    Returns:
        float32 [n_rows, n_features], in the order of the rows.
    """
    try:
        return (yield from _features(network, catalog, rows, runtime, task, workers))
    except EngineError as error:
        yield Note(f"{error}: torch runs them instead, in float32.")
        return (yield from _features(network, catalog, rows, runtime.with_plain_frozen, task, workers))


def _features(
    network: Network, catalog: Catalog, rows: Rows, runtime: Runtime, task: str, workers: Workers | None
) -> Generator[Computing, None, npt.NDArray[np.float32]]:
    """As `features`.

    Raises:
        EngineError: the runtime's engine cannot run the backbone.
    """
    network.to(device=runtime.device, memory_format=runtime.memory_format)  # type: ignore[call-overload]
    dataset = Dataset(catalog, rows, rows[:0], network.preprocessing, (), 0)
    about = about_layers(network, network.backbone, "head", dataset.preprocessing, runtime)
    backbone = inference_layers(network.backbone, runtime)
    pictures = picture_inputs(network, dataset.preprocessing, plain(dataset), backbone, runtime)

    def inputs(items: Rows) -> Iterator[Tensor]:
        return pictures(rows[items])

    keys = dataset.keys([[]])
    filled = partial(fill_together, workers) if workers else compute
    stored = yield from filled(-1, task, backbone, inputs, keys, about, runtime.inference_batch)
    result: npt.NDArray[np.float32] = stored.gather(np.arange(len(rows)), "cpu").numpy()
    return result
