"""Whether a linear probe on what frozen layers give in bfloat16 is as good as one on float32."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Generator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tellapart.core.cache import read_note, write_note
from tellapart.core.events import Computing
from tellapart.data.loading.loader import batches
from tellapart.models.network import Network
from tellapart.training.dataset import Dataset
from tellapart.training.fast.engines import full, inference_layers
from tellapart.training.fast.remembered import note_file
from tellapart.training.linear_probe import solutions
from tellapart.training.losses import build_loss
from tellapart.training.pixels import plain
from tellapart.training.runtime import Runtime

#: Pictures of the sample; a third of them is held out.
_SAMPLE = 240
_STRENGTH = 1e-2
_TASK = "comparing precisions"


def no_worse(
    layers: nn.Module, dataset: Dataset, network: Network, runtime: Runtime, key: dict[str, Any]
) -> Generator[Computing, None, bool]:
    """Whether a probe on what layers give under a runtime names as many held-out pictures right as one on float32.

    Both probes answer the same pictures, so only those count on which they differ (McNemar 1947): as many as chance
    may turn around are no proof that one is worse.

    Args:
        layers: from the input on; what they give as maps is averaged over each map.
        dataset: a sample of its training pictures is read.
        network: what the layers belong to.
        runtime: how the layers are run, other than by torch in float32.
        key: all that the layers' output depends on, for the memory of the answer.

    Yields:
        Computing, after every batch.
    """
    labelled = dataset.train[np.isin(dataset.train, dataset.catalog.labelled)]
    if not len(labelled):  # nothing shows that bfloat16 does no harm
        return False
    rows = np.random.default_rng(dataset.seed).permutation(labelled)[:_SAMPLE]
    labels = dataset.catalog.table["labels"].gather(rows).to_list()
    pictures = [content.hex() for content in dataset.catalog.table["sha256"].gather(rows)]
    way = [runtime.engine, runtime.frozen]
    file = note_file({**key, "probe": way, "classes": list(dataset.catalog.classes), "sample": [pictures, labels]})
    if (note := read_note(file)) is not None:
        return bool(note.get("no_worse"))
    ways = [inference_layers(layers, each) for each in (replace(runtime, engine="torch", frozen="float32"), runtime)]
    vectors: list[list[Tensor]] = [[], []]
    for batch in batches(rows, runtime.inference_batch, plain(dataset), runtime.workers, runtime.sequential):
        inputs = full(network.normalise(batch.image.to(network.scale.device)), runtime.inference_batch)
        for forward, own in zip(ways, vectors, strict=True):
            own.append(_as_vectors(forward(inputs))[: len(batch.row)].cpu())
        yield Computing(-1, _TASK, sum(map(len, vectors[0])), len(rows))
    first, second = (_right(torch.cat(own), dataset, rows) for own in vectors)
    lost, gained = int((first & ~second).sum()), int((~first & second).sum())
    answer = lost - gained <= math.sqrt(lost + gained)
    with contextlib.suppress(OSError):
        write_note(file, {"no_worse": answer})
    return answer


def _as_vectors(outputs: Tensor) -> Tensor:
    """One vector a picture, float32."""
    return (outputs.mean((2, 3)) if outputs.ndim == 4 else outputs.flatten(1)).float()


def _right(features: Tensor, dataset: Dataset, rows: np.ndarray) -> Tensor:
    """Which held-out pictures (or labels) a probe on these features names right: bool, for each of them.

    Labels that are not known take no part: they count as wrong for every probe.
    """
    catalog, n_fit = dataset.catalog, max(1, len(rows) * 2 // 3)
    target, unknown = torch.tensor(catalog.target(rows)), catalog.unknown(rows)
    wanted = target.float() if catalog.multilabel else target
    if unknown is not None:
        wanted[torch.from_numpy(unknown)] = math.nan
    # Without initial values: these would be drawn, and trainings depend on what is drawn.
    head: nn.Linear = nn.utils.skip_init(nn.Linear, features.shape[1], len(catalog.classes))  # type: ignore[no-untyped-call]
    loss = build_loss("auto", catalog.multilabel, masked=unknown is not None)
    list(solutions(features[:n_fit], wanted[:n_fit], head, loss, n_fit, (_STRENGTH,)))
    with torch.no_grad():
        logits, wanted = head(features[n_fit:]), wanted[n_fit:]
    if not catalog.multilabel:
        return torch.eq(logits.argmax(1), wanted)
    return torch.eq(logits > 0, wanted > 0) & ~wanted.isnan()
