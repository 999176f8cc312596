"""State that decoding threads share: an allowance of memory, and a filter of warnings."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from tellapart.core.hardware import give_back

#: Memory, in bytes, that everything being decoded at one time in this process may take. With what Python and its
#: libraries take, the process stays below 512 MB.
ALLOWANCE = 380_000_000


_SMALL, _LARGE = 1_000_000, 50_000_000
_NOTHING = nullcontext()


class _Quiet:
    """Filter of Pillow's warnings while any thread decodes: their damage does not matter, or is reported otherwise.

    `warnings.catch_warnings` alone restores what another thread has set in the meantime, so the first thread in sets
    the filter and the last one out restores it.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.n_inside = 0
        self.saved: warnings.catch_warnings[None] | None = None

    def __enter__(self) -> None:
        with self.lock:
            if self.n_inside == 0:
                self.saved = warnings.catch_warnings()
                self.saved.__enter__()
                warnings.filterwarnings("ignore", module=r"PIL\.")
            self.n_inside += 1

    def __exit__(self, *_: object) -> None:
        with self.lock:
            self.n_inside -= 1
            if self.n_inside == 0 and self.saved is not None:
                self.saved.__exit__(None, None, None)


class _Allowance:
    """Memory that threads share: a large decode waits until the others have left it room."""

    def __init__(self, n_bytes: int) -> None:
        self.free = n_bytes
        self.queue = threading.Lock()  # first come, first served: small ones cannot keep a large one waiting for ever
        self.changed = threading.Condition()

    @contextmanager
    def reserve(self, n_bytes: int) -> Iterator[None]:
        with self.queue, self.changed:
            self.changed.wait_for(lambda: self.free >= n_bytes)
            self.free -= n_bytes
        try:
            yield
        finally:
            if n_bytes > _LARGE:
                give_back()
            with self.changed:
                self.free += n_bytes
                self.changed.notify_all()


class _State:
    """The shared state of one process. A forked process starts afresh: its parent's threads are not in it."""

    def __init__(self) -> None:
        self.quiet = _Quiet()
        self.allowance = _Allowance(ALLOWANCE)


_state = _State()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_state.__init__)  # type: ignore[misc]


def reserve(n_bytes: int) -> AbstractContextManager[None]:
    """Wait until so much memory may be taken, at most `ALLOWANCE`, and hold it for a while. Little is not counted."""
    return _state.allowance.reserve(n_bytes) if n_bytes > _SMALL else _NOTHING


def quiet() -> AbstractContextManager[None]:
    """Keep decoders' warnings off for a while. Decoding does so by itself; around many files it is faster once."""
    return _state.quiet
