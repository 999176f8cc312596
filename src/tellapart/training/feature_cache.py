"""What frozen layers make of each picture, computed once, stored by the picture's content, and read in any order.

A frozen layer gives the same answer in every epoch. So the layers before the first trained one run once for each
view of each picture; training then starts from what they gave. It is stored in the precision it was computed in, so
nothing is lost by storing; in float32 the result is that of a training from pictures, up to the order of sums.

What is stored belongs to layers and picture, not to a run: stages, runs, folds and the audit share it, and what is
missing is added. Layers always see full batches, so that what they make of a picture does not depend on the others.
"""

from __future__ import annotations

import errno
import hashlib
import json
import mmap
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from tellapart.core import cache
from tellapart.core.array_store import Keys, Store
from tellapart.core.events import Computing
from tellapart.core.files import cache_folder, write_text
from tellapart.core.preprocess import Preprocessing
from tellapart.errors import CacheError, TrainingError
from tellapart.models.network import Network
from tellapart.training.fast.fuse_batchnorm import folded
from tellapart.training.runtime import Runtime

Rows = npt.NDArray[np.int64]
#: What has been computed is written when it is so old or so large: a kill loses no more than that.
_SECONDS, _BYTES = 15.0, 1 << 26
#: Bytes that may be read before the pages of the file are given back; else all of it would count as memory in use.
_RELEASE = 1 << 28


@dataclass
class Activations:
    """Stored activations of some items; an item is one view of one picture.

    Attributes:
        store: kept open, so that nobody removes it.
        values: [n_stored, ...], memory-mapped; pictures' maps with channels last.
        index: int64 [n_items]: where an item lies in `values`.
    """

    store: Store
    values: Tensor
    index: Rows
    _pages: mmap.mmap
    _touched: int = field(default=0)

    def gather(self, items: Rows, device: str) -> Tensor:
        """The activations of items, float32, channels first again (on channels-last memory)."""
        return _channels_first(self._pick(items).to(device, torch.float32))

    def in_order(self, items: Rows, device: str, at_once: int) -> Iterator[Tensor]:
        """Those of items as they are stored, in batches."""
        for start in range(0, len(items), at_once):
            yield _channels_first(self._pick(items[start : start + at_once]).to(device))

    def _pick(self, items: Rows) -> Tensor:
        if self._touched > _RELEASE and hasattr(mmap, "MADV_DONTNEED"):
            self._pages.madvise(mmap.MADV_DONTNEED)  # the system keeps them as long as memory is not short
            self._touched = 0
        picked = self.values.index_select(0, torch.from_numpy(self.index[items]))
        self._touched += picked.nbytes
        return picked


def compute(
    stage: int,
    what: str,
    layers: Callable[[Tensor], Tensor],
    inputs: Callable[[Rows], Iterator[Tensor]],
    keys: Keys,
    about: dict[str, Any],
    at_once: int,
) -> Generator[Computing, None, Activations]:
    """Run layers on those items that are not stored yet, and store them.

    Args:
        stage, what: for the progress events.
        layers: inputs → activations.
        inputs: gives batches of the inputs of items, by their places in `keys`, in that order; each `at_once`, but for
            the last.
        keys: one an item: what tells it from all others that these layers see; see `Dataset.keys`.
        about: everything the result depends on besides the item: see `about_layers`.
        at_once: size of the batches, see `Runtime.answers_at_once`.

    Yields:
        Computing, after every batch.

    Raises:
        CacheError: they cannot be stored.
        TrainingError: there are no items.
    """
    if not len(keys):
        raise TrainingError("There are no pictures to compute activations of.")
    name = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:32]
    try:
        store = Store(cache_folder("activations") / name)
        missing = _missing(store, keys)
        yield from _add(stage, what, layers, inputs, keys, missing, store, about, at_once)
        return _opened(store, keys)
    except OSError as error:
        raise _explained(error) from error


def _missing(store: Store, keys: Keys) -> Rows:
    """Places of the items that have to be computed; of equal ones (a picture that is there twice) the first."""
    # Without its note, a store does not say what form its items have.
    known = (store.folder / "about.json").is_file()
    places = np.flatnonzero(store.find(keys)["offset"] < 0) if known else np.arange(len(keys))
    first = np.unique(keys[places], return_index=True)[1]
    missing: Rows = np.sort(places[first])
    return missing


def _add(
    stage: int,
    what: str,
    layers: Callable[[Tensor], Tensor],
    inputs: Callable[[Rows], Iterator[Tensor]],
    keys: Keys,
    missing: Rows,
    store: Store,
    about: dict[str, Any],
    at_once: int,
) -> Generator[Computing, None, None]:
    waiting: list[npt.NDArray[np.uint8]] = []
    done = written = 0
    since = time.monotonic()

    def write() -> None:
        nonlocal waiting, written, since
        items, waiting = [item for part in waiting for item in part], []
        if items:
            store.append(keys[missing[written : written + len(items)]], items)
            cache.make_room()
        written, since = written + len(items), time.monotonic()

    try:
        for batch in inputs(missing) if len(missing) else ():
            out = layers(_full(batch, at_once))[: len(batch)].cpu()
            out = (out.permute(0, 2, 3, 1) if out.ndim == 4 else out).contiguous()
            if not done:
                _describe(store, out[0], about)
                cache.check_disk(len(missing) * out[0].nbytes)
            waiting.append(out.flatten(1).view(torch.uint8).numpy())
            done += len(out)
            if time.monotonic() - since > _SECONDS or sum(part.nbytes for part in waiting) > _BYTES:
                write()
            yield Computing(stage, what, len(keys) - len(missing) + done, len(keys))
    finally:
        write()  # also where the training is stopped: what has been computed need not be computed again


def _full(batch: Tensor, size: int) -> Tensor:
    """A whole batch: how sums are ordered depends on a batch's size, so a smaller one is filled up."""
    n = len(batch)
    return batch if n == size else batch.index_select(0, torch.arange(size, device=batch.device).clamp(max=n - 1))


def _describe(store: Store, item: Tensor, about: dict[str, Any]) -> None:
    """Write down what lies in a store, for people and for `_opened`."""
    note = store.folder / "about.json"
    if not note.is_file():
        form = {"shape": list(item.shape), "dtype": str(item.dtype).removeprefix("torch.")}
        write_text(note, json.dumps({**form, "of": about}, indent=1))


def _opened(store: Store, keys: Keys) -> Activations:
    about = json.loads((store.folder / "about.json").read_text(encoding="utf-8"))
    offset = store.find(keys)["offset"]
    if (offset < 0).any():
        raise CacheError(
            f"What was just stored in {store.folder} cannot be read back.",
            "Is the disk damaged? Try another: set TELLAPART_CACHE to a folder on it.",
        )
    kind = getattr(torch, about["dtype"])
    with store.values_file.open("rb") as file:
        # Private: torch wants memory that may be written to, and nothing of it must reach the file.
        pages = mmap.mmap(file.fileno(), store.n_bytes, access=mmap.ACCESS_COPY)
    values = torch.frombuffer(pages, dtype=kind).view(-1, *about["shape"])
    return Activations(store, values, offset // values[0].nbytes, pages)


def _explained(error: OSError) -> CacheError:
    place = cache_folder("activations")
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return CacheError(
            f"The disk is full: what frozen layers give cannot be stored in {place}. Nothing is lost.",
            "Make room (tellapart cache clear), or set TELLAPART_CACHE to a folder on another disk; then repeat.",
        )
    return CacheError(
        f"What frozen layers give cannot be stored in {place}: {error.strerror or error}.",
        "Set TELLAPART_CACHE to a folder that may be written to.",
    )


def about_layers(
    network: Network, layers: nn.Module, until: str, how: Preprocessing, runtime: Runtime
) -> dict[str, Any]:
    """All that the output of a network's first layers depends on, besides the picture.

    Args:
        network: what the layers belong to; its head and its classes do not matter.
        layers: from the input on.
        until: name of the layer before which they end.
        how: how a picture becomes their input.
        runtime: how they are run.
    """
    architecture = network.architecture.as_dict()
    for name in ("head", "n_classes", "preprocessing"):
        del architecture[name]
    return {
        "architecture": architecture,
        "until": until,
        "weights": weights_hash(layers),
        "preprocessing": how.as_dict(),
        "precision": runtime.frozen,
        "machine": [runtime.device, torch.backends.cpu.get_cpu_capability(), torch.get_num_threads()],
        "versions": {**cache.versions(), "torch": torch.__version__},
    }


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
                fast.append(made.to(dtype=dtype, memory_format=torch.channels_last))  # type: ignore[call-overload]
            inputs = inputs.contiguous(memory_format=torch.channels_last) if inputs.ndim == 4 else inputs
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


def _channels_first(values: Tensor) -> Tensor:
    return values.permute(0, 3, 1, 2) if values.ndim == 4 else values
