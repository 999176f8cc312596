"""What frozen layers make of each picture, computed once, stored, and read back in any order.

A frozen layer gives the same answer in every epoch. So the layers before the first trained one run once for each
view of each picture; training then starts from what they gave. It is stored in the precision it was computed in, so
nothing is lost by storing; in float32 the result is that of a training from pictures, up to the order of sums.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from tellapart.errors import TrainingError
from tellapart.files import cache_folder, write_text
from tellapart.models.folded import folded
from tellapart.records import Computing
from tellapart.runtime import Runtime

Rows = npt.NDArray[np.int64]
BATCH = 64


@dataclass(frozen=True)
class Activations:
    """Stored activations of some rows, or of some items where a picture has several versions.

    Attributes:
        values: [n_rows, n_views, ...], memory-mapped; pictures' maps with channels last.
        position: int64, by row or item: where it lies in `values`, -1 where it is not stored.
    """

    values: Tensor
    position: Rows

    def gather(self, rows: Rows, views: Rows, device: str) -> Tensor:
        """The activations of rows in given views, float32, channels first again (on channels-last memory)."""
        index = torch.from_numpy(self.position[rows] * self.values.shape[1] + views)
        return _channels_first(self.values.flatten(0, 1).index_select(0, index).to(device, torch.float32))

    def in_order(self, device: str) -> Iterator[Tensor]:
        """All of them, row after row and view after view, in batches."""
        for part in torch.split(self.values.flatten(0, 1), BATCH):
            yield _channels_first(part.to(device))


def compute(
    stage: int,
    what: str,
    layers: Callable[[Tensor], Tensor],
    inputs: Callable[[], Iterator[Tensor]],
    rows: Rows,
    n_views: int,
    runtime: Runtime,
    key: dict[str, Any],
    n_rows: int,
) -> Generator[Computing, None, Activations]:
    """Run layers on every view of every row, or find it done.

    Args:
        stage, what: for the progress events.
        layers: inputs → activations.
        inputs: gives batches of inputs, row after row and view after view; called only if needed.
        rows: numbers of rows or items.
        n_views: views a picture.
        runtime: how to run the layers.
        key: everything the result depends on besides runtime: weights, pictures, views, versions.
        n_rows: above the highest of them that there is.

    Yields:
        Computing, after every batch.
    """
    name = hashlib.sha256(json.dumps({**key, "precision": runtime.frozen}, sort_keys=True).encode()).hexdigest()[:32]
    folder = cache_folder("activations")
    file, note = folder / f"{name}.bin", folder / f"{name}.json"
    position = np.full(n_rows, -1, np.int64)
    position[rows] = np.arange(len(rows))
    if note.is_file() and file.is_file():
        about = json.loads(note.read_text())
        return Activations(_map(file, about["shape"], about["dtype"]), position)
    folder.mkdir(parents=True, exist_ok=True)
    # A name of its own: two processes may compute the same at once, and the first to finish is as good as the other.
    beside = file.with_name(f"{name}.{os.getpid()}.part")
    values: Tensor | None = None
    done, total = 0, len(rows) * n_views
    try:
        for batch in inputs():
            out = layers(batch)
            out = out.permute(0, 2, 3, 1) if out.ndim == 4 else out
            if values is None:
                shape = [len(rows), n_views, *out.shape[1:]]
                values = _map(beside, shape, str(out.dtype).removeprefix("torch."), create=True)
            values.flatten(0, 1)[done : done + len(out)] = out.cpu()
            done += len(out)
            yield Computing(stage, what, done, total)
        if values is None:
            raise TrainingError("There are no pictures to compute activations of.")
        beside.replace(file)
    finally:
        beside.unlink(missing_ok=True)
    write_text(note, json.dumps({"shape": list(values.shape), "dtype": str(values.dtype).removeprefix("torch.")}))
    return Activations(values, position)


def _channels_first(values: Tensor) -> Tensor:
    return values.permute(0, 3, 1, 2) if values.ndim == 4 else values


def answering(layers: nn.Module, runtime: Runtime) -> Callable[[Tensor], Tensor]:
    """Layers made fast for answering: folded, in the runtime's precision for frozen layers. They are left as they are.

    "bfloat16" has the weights in it too, so its result differs a little from training's "bfloat16" as from float32.
    """
    dtype = torch.bfloat16 if runtime.frozen == "bfloat16" else torch.float32
    fast: list[nn.Module] = []

    def run(inputs: Tensor) -> Tensor:
        with torch.no_grad():
            if not fast:
                made = folded(layers, inputs.float())
                fast.append(made.to(dtype=dtype, memory_format=runtime.memory_format))  # type: ignore[call-overload]
            result: Tensor = fast[0](inputs.to(dtype))
            return result

    return run


def weights_hash(module: nn.Module) -> str:
    """SHA-256 over the names, types and values of a module's tensors."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        data = tensor.detach().cpu().contiguous()
        digest.update(f"{name}{data.dtype}{list(data.shape)}".encode())
        digest.update(data.flatten().view(torch.uint8).numpy().tobytes() if data.ndim else str(data.item()).encode())
    return digest.hexdigest()


def _map(file: Path, shape: list[int], dtype: str, create: bool = False) -> Tensor:
    """A tensor in a file, mapped into memory: pages are read when they are needed and given back under pressure."""
    n = int(np.prod(shape))
    kind = getattr(torch, dtype)
    if create:
        with file.open("wb") as handle:
            handle.truncate(n * kind.itemsize)
    return torch.from_file(str(file), shared=create, size=n, dtype=kind).view(shape)
