"""Settings of the system: number of processors, waiting threads (OpenMP), freed memory (malloc)."""

from __future__ import annotations

import ctypes
import functools
import os

# As malloc.h has them.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
_PAD = 1 << 26


#: Processors that this process keeps to, where it shares a machine with others of its kind.
_limit: list[int] = []


def limit_processors(n: int) -> None:
    """Let this process use so many processors from now on: whatever is loaded later starts so many threads."""
    _limit[:] = [n]


def processor_limit() -> int | None:
    """What `limit_processors` was called with last, or None."""
    return _limit[0] if _limit else None


def n_processors() -> int:
    """Number of processors that this process may use."""
    n = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(n, *_limit) if _limit else n


def limit_spinning() -> None:
    """Let threads that wait for each other sleep soon. It must be called before torch is loaded, which reads this.

    Threads of GNU's OpenMP spin while they wait, some milliseconds by default. Where other programs use the processors
    too, that makes a training many times slower. Spinning briefly costs little on a quiet machine.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")


def keep_freed() -> None:
    """Let freed memory stay with the process from now on, large pieces too, up to the most it has needed.

    A training step needs what the step before it has freed. The system would hand it out anew page by page, each filled
    with zeros first, which takes longer than many a layer.
    """
    if change := getattr(_c_library(), "mallopt", None):
        change(_MMAP_MAX, 0)  # no piece is mapped apart, only to be unmapped when it is freed
        change(_TRIM_THRESHOLD, -1)  # never
        change(_TOP_PAD, _PAD)


def give_back() -> None:
    """Return freed memory to the system: the C library keeps some for every thread, which would add up."""
    if trim := getattr(_c_library(), "malloc_trim", None):
        trim(0)


@functools.cache
def _c_library() -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL(None)
    except (OSError, TypeError):  # systems without one that can be named so
        return None
