"""Gradients in memory that the workers of one machine share: their sum takes no copy through a socket."""

from __future__ import annotations

import mmap
import os
import secrets

import torch
from torch import Tensor

from tellapart.core.environment import memory_gib
from tellapart.training.parallel.workers import Workers, added

_TOKEN = 16  # bytes before the rows
_BYTES = 4  # of a value
#: Of the machine's memory: where it has no more, taking it is no error, but ends some process of the machine.
_SHARE = 0.1


class SharedRows:
    """Rows of all workers, float32, and their sum.

    Args:
        workers: the group.
        memory: of all rows and the sum, shared.
        k, p: rows of a worker, values of a row.
    """

    def __init__(self, workers: Workers, memory: mmap.mmap, k: int, p: int) -> None:
        self.workers = workers
        values = torch.frombuffer(memory, dtype=torch.float32, offset=_TOKEN).view(workers.n * k + 1, p)
        self.everyone, self.total = values[:-1], values[-1]
        self.own = self.everyone[workers.rank * k : (workers.rank + 1) * k]

    def sum(self) -> Tensor:
        """The sum of all rows, in the order of worker and row: as `Workers.ordered_sum`, bit for bit.

        All have met since the rows were written, and meet here once the sum is. Nobody writes to either before the
        next step's first meeting.
        """
        size = -(-self.total.numel() // self.workers.n)
        mine = slice(self.workers.rank * size, (self.workers.rank + 1) * size)
        self.total[mine] = added(self.everyone[:, mine])
        self.workers.meet()
        return self.total.clone()  # of one's own: gradients are clipped in place


def shared_rows(workers: Workers, k: int, p: int) -> SharedRows | None:
    """Rows that all workers share; None where they are not on one machine, or it has no such memory."""
    if workers.n == 1 or len(set(workers.nodes)) > 1 or not hasattr(os, "memfd_create"):
        return None
    size = _TOKEN + (workers.n * k + 1) * p * _BYTES
    fits = size < _SHARE * (memory_gib() or 0) * 2**30
    handle, token = _made(size) if workers.leads and fits else (None, b"")
    try:
        path = "" if handle is None else f"/proc/{os.getpid()}/fd/{handle}"
        word = workers.json_from_leader([path, token.hex()])
        memory = _opened(word[0], bytes.fromhex(word[1]), size) if word[0] else None
        # Machines may have one name and be two, as containers are.
        all_have = bool(workers.gathered(torch.tensor([memory is not None])).all())
    finally:
        if handle is not None:
            os.close(handle)
    return SharedRows(workers, memory, k, p) if memory is not None and all_have else None


def _made(size: int) -> tuple[int | None, bytes]:
    """Memory without a name, which ends with the last process that has it; and what it begins with."""
    token = secrets.token_bytes(_TOKEN)
    try:
        handle = os.memfd_create("tellapart")
    except OSError:
        return None, b""
    try:
        os.posix_fallocate(handle, 0, size)  # here, not when it is written to, where nothing could be said
        os.pwrite(handle, token, 0)
    except OSError:
        os.close(handle)
        return None, b""
    return handle, token


def _opened(path: str, token: bytes, size: int) -> mmap.mmap | None:
    try:
        handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        memory = mmap.mmap(handle, size)
        return memory if memory[:_TOKEN] == token else None
    except (OSError, ValueError):
        return None
    finally:
        os.close(handle)
