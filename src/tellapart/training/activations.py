"""What frozen layers make of each picture, computed once, stored, and read back in any order.

A frozen layer gives the same answer in every epoch. So the layers before the first trained one run once for each
view of each picture; training then starts from what they gave. Stored in the precision it was computed in, so nothing
is lost by storing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from tellapart.data.loader import batches
from tellapart.errors import TrainingError
from tellapart.files import cache_folder, write_text
from tellapart.preprocess import Pixels
from tellapart.records import Computing
from tellapart.runtime import Runtime

Rows = npt.NDArray[np.int64]
_BATCH = 32


@dataclass(frozen=True)
class Activations:
    """Stored activations of some rows.

    Attributes:
        values: [n_rows, n_views, ...], memory-mapped; pictures' maps with channels last.
        position: int64 [n_catalog_rows]: where a row lies in `values`, -1 where it is not stored.
    """

    values: Tensor
    position: Rows

    def gather(self, rows: Rows, views: Rows, device: str) -> Tensor:
        """The activations of rows in given views, channels first again (as a view on channels-last memory)."""
        index = torch.from_numpy(self.position[rows] * self.values.shape[1] + views)
        picked = self.values.flatten(0, 1).index_select(0, index).to(device)
        return picked.permute(0, 3, 1, 2) if picked.ndim == 4 else picked


def compute(
    stage: int,
    what: str,
    prefix: nn.Module,
    rows: Rows,
    n_views: int,
    load: Any,
    runtime: Runtime,
    key: dict[str, Any],
    n_rows: int,
) -> Generator[Computing, None, Activations]:
    """Run `prefix` on every view of every row, or find it done.

    Args:
        stage, what: for the progress events.
        prefix: uint8 [n, height, width, 3] → activations; in eval mode.
        rows: row numbers.
        n_views: views a picture.
        load: (row, view) → uint8 [height, width, 3].
        key: everything the result depends on besides the rows: weights' hash, contents' hash, views, versions.
        n_rows: number of rows of the catalog.

    Yields:
        Computing, after every batch.
    """
    name = hashlib.sha256(json.dumps({**key, "runtime": runtime.precision}, sort_keys=True).encode()).hexdigest()[:32]
    folder = cache_folder("activations")
    file, note = folder / f"{name}.bin", folder / f"{name}.json"
    position = np.full(n_rows, -1, np.int64)
    position[rows] = np.arange(len(rows))
    if note.is_file() and file.is_file():
        about = json.loads(note.read_text())
        return Activations(_map(file, about["shape"], about["dtype"]), position)

    def one(number: int) -> Pixels:
        pixels: Pixels = load(int(rows[number // n_views]), number % n_views)
        return pixels

    total = len(rows) * n_views
    folder.mkdir(parents=True, exist_ok=True)
    beside = file.with_suffix(".part")
    values: Tensor | None = None
    done = 0
    with torch.no_grad():
        for batch in batches(np.arange(total), _BATCH, one, runtime.workers):
            with runtime.autocast():
                out = prefix(batch.image.to(runtime.device))
            out = out.permute(0, 2, 3, 1) if out.ndim == 4 else out
            if values is None:
                shape = [len(rows), n_views, *out.shape[1:]]
                values = _map(beside, shape, str(out.dtype).removeprefix("torch."), create=True)
                flat = values.flatten(0, 1)
            flat[done : done + len(out)] = out.cpu()
            done += len(out)
            yield Computing(stage, what, done, total)
    if values is None:
        raise TrainingError("There are no pictures to compute activations of.")
    beside.replace(file)
    write_text(note, json.dumps({"shape": list(values.shape), "dtype": str(values.dtype).removeprefix("torch.")}))
    return Activations(values, position)


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
