"""Limits on what a process may take."""

from __future__ import annotations


def limit_memory(gib: float) -> None:
    """Let this process take no more memory than so many GiB; asking for more fails, as `MemoryError` or otherwise.

    Not on Windows, which has no such limit for a process that is running.
    """
    try:
        import resource
    except ImportError:
        return
    most = int(gib * 2**30)
    # Memory that is written to. Addresses alone (RLIMIT_AS) say little: threads and allocators reserve many of them.
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
