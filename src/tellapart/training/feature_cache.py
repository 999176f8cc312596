"""The feature cache: what frozen layers make of each picture, computed once and read in any order.

A frozen layer gives the same output in every epoch. So the layers before the first trained one run once for each view
of each picture, and training starts from their output. It is stored in the precision it was computed in, so storing
loses nothing; in float32 the result is that of a training from pictures, up to the order of sums.

Why keys are contents. The store's name digests all that the output depends on besides the picture: weights, cut,
preprocessing, precision, engine, machine, versions (`about_layers`). In it, an item's key digests the picture's file
and its view (`Dataset.keys`). So stages, runs, folds and the audit share items, a renamed picture keeps its own, and a
changed one cannot get that of its old self. Nothing has to be invalidated: what is stale is never asked for.

Why a batch is always full. How sums are ordered depends on a batch's size. With one size, a picture's output does not
depend on the others, so an item that is added later, or made again, has the same bits.

Why a kill is safe. The note `about.json` is written before the first item, whole or not at all. Items are written
before the index names them, and all three carry checksums (see `array_store`). A damaged item counts as missing and is
computed again: a training on wrong features would go unnoticed. So is all of a store that cannot be used at all.
"""

from __future__ import annotations

import contextlib
import errno
import math
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from tellapart.core import cache
from tellapart.core.array_store import Keys, MappedValues, Store, name_of, set_aside
from tellapart.core.events import Computing
from tellapart.core.files import cache_folder
from tellapart.core.preprocess import Preprocessing
from tellapart.errors import CacheError, LostCacheError, TrainingError
from tellapart.models.network import Network
from tellapart.training.fast.engines import full, version, weights_hash
from tellapart.training.runtime import Runtime

Rows = npt.NDArray[np.int64]
#: What has been computed is written when it is so old or so large: a kill loses no more than that.
_WRITE_SECONDS, _WRITE_BYTES = 15.0, 1 << 26
#: So often a store is made again, where something damages or removes it while it is made.
_ATTEMPTS = 3


@dataclass(frozen=True)
class Activations:
    """Stored activations of some items; an item is one view of one picture.

    Attributes:
        store: kept open, so that nobody removes it.
        mapped: the memory of `values`.
        values: [n_stored, ...]; maps of pictures with channels last.
        index: int64 [n_items]: where an item lies in `values`.
    """

    store: Store
    mapped: MappedValues
    values: Tensor
    index: Rows

    def gather(self, items: Rows, device: str) -> Tensor:
        """The activations of items, float32, channels first again (on channels-last memory)."""
        return _channels_first(self._pick(items).to(device, torch.float32))

    def in_order(self, items: Rows, device: str, batch_size: int) -> Iterator[Tensor]:
        """Those of items as they are stored, in batches."""
        for start in range(0, len(items), batch_size):
            yield _channels_first(self._pick(items[start : start + batch_size]).to(device))

    def _pick(self, items: Rows) -> Tensor:
        if not self.mapped.is_whole:
            raise LostCacheError(f"{self.store.values_file} was cut off while it was read.")
        picked = self.values.index_select(0, torch.from_numpy(self.index[items]))
        self.mapped.count(picked.nbytes)
        return picked


def compute(
    stage: int,
    task: str,
    layers: Callable[[Tensor], Tensor],
    inputs: Callable[[Rows], Iterator[Tensor]],
    keys: Keys,
    about: dict[str, Any],
    batch_size: int,
) -> Generator[Computing, None, Activations]:
    """Run layers on those items that are not stored yet, and store them.

    Args:
        stage, task: for the progress events.
        layers: inputs → activations.
        inputs: gives batches of the inputs of items, by their rows in `keys`, in that order;
            each of `batch_size`, but for the last.
        keys: one an item: what tells it from all others that these layers see; see `Dataset.keys`.
        about: everything the result depends on besides the item: see `about_layers`.
        batch_size: size of the batches, see `Runtime.inference_batch`.

    Yields:
        Computing, after every batch.

    Raises:
        CacheError: they cannot be stored.
        TrainingError: there are no items.
    """
    if not len(keys):
        raise TrainingError("There are no pictures to compute activations of.")
    folder = cache_folder("activations") / name_of(about)
    for attempt in range(1, _ATTEMPTS + 1):
        store = None
        try:
            store = Store(folder)
            return (yield from _compute(stage, task, layers, inputs, keys, about, batch_size, store))
        except OSError as error:
            removed = store is not None and not store.hold.in_place
            if attempt == _ATTEMPTS or not (removed or set_aside(folder, error)):
                raise _explained(error) from error
    raise AssertionError("the last attempt returns or raises")


def _compute(
    stage: int,
    task: str,
    layers: Callable[[Tensor], Tensor],
    inputs: Callable[[Rows], Iterator[Tensor]],
    keys: Keys,
    about: dict[str, Any],
    batch_size: int,
    store: Store,
) -> Generator[Computing, None, Activations]:
    """As `compute`, in one store.

    Raises:
        OSError: the store cannot be used.
    """
    missing = _missing(store, keys)
    writer = _Writer(store, keys[missing])
    try:
        for batch in inputs(missing) if len(missing) else ():
            out = layers(full(batch, batch_size))[: len(batch)].cpu()
            out = (out.permute(0, 2, 3, 1) if out.ndim == 4 else out).contiguous()
            if not writer.n_added:
                dtype = str(out.dtype).removeprefix("torch.")
                store.describe({"shape": list(out.shape[1:]), "dtype": dtype, "of": about})
                cache.check_disk(len(missing) * out[0].nbytes)
            writer.add(out)
            yield Computing(stage, task, len(keys) - len(missing) + writer.n_added, len(keys))
    except BaseException:  # also where the training is stopped: what has been computed need not be computed again
        with contextlib.suppress(OSError):
            writer.write()
        raise
    writer.write()
    return _open(store, keys)


def _missing(store: Store, keys: Keys) -> Rows:
    """Rows of the items that have to be computed; of equal ones (a picture that is there twice) the first."""
    # Without its note, a store does not say what shape its items have.
    rows = np.flatnonzero(store.find(keys)["offset"] < 0) if store.note() else np.arange(len(keys))
    first = np.unique(keys[rows], return_index=True)[1]
    missing: Rows = np.sort(rows[first])
    return missing


class _Writer:
    """Items on their way to a store, written a portion at a time."""

    def __init__(self, store: Store, keys: Keys) -> None:
        self.store, self.keys = store, keys
        self.n_added = self.n_written = self.n_bytes = 0
        self.unwritten: list[npt.NDArray[np.uint8]] = []
        self.since = time.monotonic()

    def add(self, batch: Tensor) -> None:
        """Take the next items, in the order of the keys."""
        self.unwritten += list(batch.flatten(1).view(torch.uint8).numpy())
        self.n_added += len(batch)
        self.n_bytes += batch.nbytes
        if time.monotonic() - self.since > _WRITE_SECONDS or self.n_bytes > _WRITE_BYTES:
            self.write()

    def write(self) -> None:
        """Write what has not been written yet."""
        items, self.unwritten, self.n_bytes = self.unwritten, [], 0
        if items:
            self.store.append(self.keys[self.n_written : self.n_added], items)
            cache.make_room()
        self.n_written, self.since = self.n_added, time.monotonic()


def _open(store: Store, keys: Keys) -> Activations:
    about, offset = store.note(), store.find(keys)["offset"]
    if about is None or (offset < 0).any():
        raise OSError(f"what was just stored in {store.folder} cannot be read back")
    mapped, dtype, shape = MappedValues(store), getattr(torch, about["dtype"]), about["shape"]
    n_bytes = math.prod(shape) * dtype.itemsize
    # All items have one size, so an offset is a row. Bytes behind the last whole item belong to a killed writer.
    values = torch.frombuffer(mapped.data, dtype=torch.uint8)[: len(mapped.data) // n_bytes * n_bytes]
    return Activations(store, mapped, values.view(dtype).view(-1, *shape), offset // n_bytes)


def _explained(error: OSError) -> CacheError:
    folder = cache_folder("activations")
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return CacheError(
            f"The disk is full: what frozen layers give cannot be stored in {folder}. Nothing is lost.",
            "Make room (tellapart cache clear), or set TELLAPART_CACHE to a folder on another disk; then repeat.",
        )
    if (file := next((path for path in (folder, folder.parent) if path.is_file()), None)) is not None:
        return CacheError(
            f"{file} is a file; what frozen layers give would be stored in a folder there.",
            "Move it elsewhere, or set TELLAPART_CACHE to a folder that may be written to.",
        )
    return CacheError(
        f"What frozen layers give cannot be stored in {folder}: {error.strerror or error}.",
        "Set TELLAPART_CACHE to a folder that may be written to.",
    )


def about_layers(
    network: Network, layers: nn.Module, until: str, preprocessing: Preprocessing, runtime: Runtime
) -> dict[str, Any]:
    """All that the output of a network's first layers depends on, besides the picture.

    Args:
        network: what the layers belong to; its head and its classes do not matter.
        layers: from the input on.
        until: name of the layer before which they end.
        preprocessing: how a picture becomes their input.
        runtime: how they are run.
    """
    architecture = network.architecture.as_dict()
    for name in ("head", "n_classes", "preprocessing"):
        del architecture[name]
    return {
        "architecture": architecture,
        "until": until,
        "weights": weights_hash(layers),
        "preprocessing": preprocessing.as_dict(),
        "precision": runtime.frozen,
        **({} if runtime.engine == "torch" else {"engine": [runtime.engine, version(runtime.engine)]}),
        "machine": [runtime.device, torch.backends.cpu.get_cpu_capability(), torch.get_num_threads()],
        "versions": {**cache.versions(), "torch": torch.__version__},
    }


def _channels_first(values: Tensor) -> Tensor:
    return values.permute(0, 3, 1, 2) if values.ndim == 4 else values
