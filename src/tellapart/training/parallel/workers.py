"""The processes that train one network together, and all that they say to each other.

Every process follows the same training and takes a share of each step's pictures. This is the only module that knows
of torch.distributed: torchrun or Ray starts the processes, `join` makes a group of them.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import platform
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from tellapart.core.processes import launched
from tellapart.errors import LostCacheError, LostWorkerError, TellapartError, UnreadableError, WorkerError

#: A worker that says nothing for so long is lost: its node may be cut off, with its connection still open.
SILENCE = datetime.timedelta(minutes=30)


@dataclass
class Workers:
    """The group, as one of its processes sees it.

    Attributes:
        rank: of this process, from 0. The first one leads: it alone writes the run directory.
        n: number of processes.
        stop: numbers of stop signals, of this process or, after `agree`, of another one.
        seconds: of each worker: what its share of the latest step took, without waiting for others.
        between: seconds between the latest two meetings.
        nodes: each worker's machine.
    """

    rank: int = 0
    n: int = 1
    stop: list[int] = field(default_factory=list)
    seconds: tuple[float, ...] = ()
    nodes: tuple[str, ...] = ()
    between: float = 0.0
    met: float = field(default_factory=time.monotonic)

    @property
    def slowest(self) -> str:
        """The worker that the others waited for in the latest step, by number and node."""
        worker = max(range(len(self.seconds)), key=self.seconds.__getitem__)
        return f"worker {worker + 1} on {self.nodes[worker]}" if self.nodes else f"worker {worker + 1}"

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def gathered(self, values: Tensor) -> Tensor:
        """Tensors of one shape, of all workers: [...] → [n, ...], the same for everyone."""
        if self.n == 1:
            return values[None]
        out = values.new_empty((self.n * values.numel(),))
        with _noticing():
            dist.all_gather_into_tensor(out, values.contiguous().flatten())
        return out.view(self.n, *values.shape)

    def ordered_sum(self, rows: Tensor) -> Tensor:
        """The sum of all workers' rows, added in the order of worker and row: float [k, p] → [p].

        So it has the same bits however many workers share the rows. Each worker adds a slice of every row, and
        receives the other slices of the sum. With one row a worker as many bytes move as in an all-reduce.
        """
        if self.n == 1:
            return added(rows)
        k, p = rows.shape
        size = -(-p // self.n)
        sent = rows.new_zeros((self.n, k, size))
        for worker in range(self.n):
            part = rows[:, worker * size : (worker + 1) * size]
            sent[worker, :, : part.shape[1]] = part
        received, total = torch.empty_like(sent), rows.new_empty((self.n * size,))
        with _noticing():
            dist.all_to_all_single(received.flatten(), sent.flatten())
            dist.all_gather_into_tensor(total, added(received.view(self.n * k, size)))
        return total[:p]

    def quick_sum(self, row: Tensor) -> Tensor:
        """The sum of the workers' tensors, in whatever order is fastest; changed in place."""
        if self.n > 1:
            with _noticing():
                dist.all_reduce(row)
        return row

    def meet(self) -> None:
        """Wait until all are here."""
        self.gathered(torch.zeros(1))

    def agree(self, error: BaseException | None = None, seconds: float = 0.0) -> None:
        """Meet the others: an error of one is an error of all, and so is a wish to stop.

        Raises:
            WorkerError: one has failed; the message names its node. An error that all can act upon comes as it is.
        """
        now = time.monotonic()
        self.between, self.met = now - self.met, now
        if self.n == 1:
            if error:
                raise error
            self.seconds = (seconds,)
            return
        flags = torch.tensor([error is not None, self.stop[0] if self.stop else 0, seconds], dtype=torch.float64)
        flags = self.gathered(flags)
        if flags[:, 0].any():
            texts = self.texts(_as_text(error))
            if error is not None and not isinstance(error, Exception):
                raise error
            raise next(filter(None, (_from_text(text, rank, self.nodes) for rank, text in enumerate(texts))))
        if flags[:, 1].any() and not self.stop:
            self.stop.append(int(flags[:, 1].max()))
        self.seconds = tuple(flags[:, 2].tolist())

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Work of each worker alone, at whose end all meet; see `agree`."""
        start = time.perf_counter()
        try:
            yield
        except (LostWorkerError, KeyboardInterrupt, GeneratorExit):
            raise
        except Exception as error:  # whatever it is, the others wait
            self.agree(error)
            raise
        self.agree(None, time.perf_counter() - start)

    def texts(self, text: str) -> list[str]:
        """A short text of each worker."""
        data = text.encode()
        sizes = self.gathered(torch.tensor([len(data)]))[:, 0].tolist()
        padded = torch.frombuffer(bytearray(data.ljust(max(1, *sizes), b"\0")), dtype=torch.uint8)
        rows = self.gathered(padded).numpy()
        return [row[:size].tobytes().decode() for row, size in zip(rows, sizes, strict=True)]

    def from_leader(self, data: bytes | None = None) -> bytes:
        """What the leader gives, at all workers."""
        if self.n == 1:
            return data or b""
        size = torch.tensor([len(data) if data is not None else 0])
        with _noticing():
            dist.broadcast(size, 0)
            values = torch.empty(int(size), dtype=torch.uint8)
            if data:
                values = torch.frombuffer(bytearray(data), dtype=torch.uint8)
            if len(values):
                dist.broadcast(values, 0)
        return values.numpy().tobytes()

    def leaders(self, values: Tensor) -> Tensor:
        """A tensor as the leader has it; changed in place."""
        if self.n > 1:
            with _noticing():
                dist.broadcast(values, 0)
        return values

    def json_from_leader(self, values: Any = None) -> Any:
        """Plain values that the leader gives, at all workers."""
        return json.loads(self.from_leader(json.dumps(values).encode() if self.leads else None))

    def share(self, n: int, size: int) -> slice:
        """This worker's share of n things in blocks of `size`: whole blocks, so that each is what it is for one."""
        blocks = -(-n // size)
        first, end = (blocks * rank // self.n * size for rank in (self.rank, self.rank + 1))
        return slice(first, min(n, end))


@contextlib.contextmanager
def join(stop: list[int]) -> Iterator[Workers | None]:
    """The group that torchrun or Ray has started this process for; None where nobody has.

    Args:
        stop: gets the number of a stop signal once one has come.

    Raises:
        LostWorkerError: the others cannot be reached.
    """
    if not launched() and not (dist.is_available() and dist.is_initialized()):
        yield None
        return
    own = not dist.is_initialized()
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)) % torch.cuda.device_count())
    if own:
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        with _noticing():
            dist.init_process_group(backend, timeout=SILENCE)
    try:
        workers = Workers(dist.get_rank(), dist.get_world_size(), stop)
        workers.nodes = tuple(workers.texts(platform.node()))
        yield workers
    finally:
        if own:
            dist.destroy_process_group()


def added(rows: Tensor) -> Tensor:
    """The sum of rows [k, p] in their order: [p]."""
    total = rows[0].clone()
    for row in rows[1:]:
        total += row
    return total


@contextlib.contextmanager
def _noticing() -> Iterator[None]:
    """Within it, a connection that breaks is a lost worker."""
    try:
        yield
    except RuntimeError as error:  # torch's own kinds for this are RuntimeErrors too
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        reason = re.sub(r"^\[\S+:\d+\] ", "", first)  # where in gloo's source
        raise LostWorkerError(
            f"A worker was lost in the middle of a step ({reason[:200]}).",
            "Run the same command again: the training goes on from its last checkpoint.",
        ) from error


def _as_text(error: BaseException | None) -> str:
    """An error as JSON, "" for none."""
    match error:
        case None:
            return ""
        case UnreadableError():
            values = {"kind": "unreadable", "message": error.path, "hint": error.reason}
        case LostCacheError():
            values = {"kind": "cache", "message": error.message, "hint": error.hint}
        case TellapartError():
            values = {"kind": "other", "message": error.message, "hint": error.hint}
        case _:
            first = next(iter(str(error).strip().splitlines()), "")
            values = {"kind": "other", "message": f"{type(error).__name__}: {first}"[:300], "hint": ""}
    return json.dumps({name: text[:800] for name, text in values.items()})


def _from_text(text: str, rank: int, nodes: tuple[str, ...]) -> TellapartError | None:
    if not text:
        return None
    values = json.loads(text)
    message, hint = values["message"], values["hint"]
    match values["kind"]:
        case "unreadable":
            return UnreadableError(message, hint)
        case "cache":
            return LostCacheError(message, hint)
    return WorkerError(f"Worker {rank + 1} of {len(nodes)} on {nodes[rank]} failed: {message.rstrip('.')}.", hint)
