"""Memory that workers of one machine share. That sums in it have the same bits: `test_several_workers`."""

from __future__ import annotations

import errno
import os
import sys

import pytest
import torch

from tellapart.training.parallel.shared_rows import _TOKEN, SharedRows, _made, _opened, shared_rows
from tellapart.training.parallel.workers import Workers

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux has memory without a name")
SIZE = _TOKEN + 4 * 5 * 7


def test_rows_are_shared_only_where_there_is_somebody_to_share_with() -> None:
    assert shared_rows(Workers(), 2, 7) is None
    assert shared_rows(Workers(n=2, nodes=("one", "other")), 2, 7) is None


def test_only_the_memory_that_the_leader_means_is_taken() -> None:
    handle, token = _made(SIZE)
    assert handle is not None
    path = f"/proc/{os.getpid()}/fd/{handle}"
    assert _opened(path, token, SIZE) is not None
    assert _opened(path, bytes(_TOKEN), SIZE) is None
    assert _opened(path, token, 10 * SIZE) is None
    os.close(handle)
    assert _opened(path, token, SIZE) is None


def test_memory_that_is_not_there_is_not_promised(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    assert _made(SIZE) == (None, b"")


def test_more_than_a_share_of_the_memory_is_not_even_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system would end some process to make room for it."""
    monkeypatch.setattr("tellapart.training.parallel.shared_rows._made", lambda _: pytest.fail("asked for"))
    monkeypatch.setattr(Workers, "gathered", lambda _, values: values[None])
    monkeypatch.setattr(Workers, "json_from_leader", lambda _, word: word)
    assert shared_rows(Workers(n=2), 1 << 20, 1 << 40) is None


def test_rows_are_added_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two workers in one process: each adds its half, and both see the whole."""
    handle, token = _made(SIZE)
    assert handle is not None
    memories = [_opened(f"/proc/{os.getpid()}/fd/{handle}", token, SIZE) for _ in range(2)]
    os.close(handle)
    monkeypatch.setattr(Workers, "meet", lambda _: None)
    both = [SharedRows(Workers(rank, 2), memory, 2, 7) for rank, memory in enumerate(memories) if memory]
    values = torch.randn(4, 7, generator=torch.Generator().manual_seed(0))
    for rank, rows in enumerate(both):
        rows.own.copy_(values[2 * rank : 2 * rank + 2])
    for rows in both:
        rows.sum()
    expected = ((values[0] + values[1]) + values[2]) + values[3]
    assert all(torch.equal(rows.sum(), expected) for rows in both)
    both[0].sum().zero_()  # what a caller does with its sum is nobody else's
    assert torch.equal(both[1].sum(), expected)
