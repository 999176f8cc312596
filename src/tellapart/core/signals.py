"""Stop signals (Ctrl-C, SIGTERM, SIGHUP): after the current step where there is time, and in any case soon."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from tellapart.core.processes import launched, rank

# SIGHUP: the terminal was closed, or the connection to it was lost. SIGBREAK: the same on Windows.
_NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
_SIGNALS = tuple(getattr(signal, name) for name in _NAMES if hasattr(signal, name))
_HANG_UP = getattr(signal, "SIGHUP", None)
STOPPED = 130  # the exit code of a program ended by Ctrl-C
#: From the signal to the end at the latest; whoever waits five seconds before a kill finds us gone.
GRACE = 4.0


@contextmanager
def stop_politely() -> Iterator[list[int]]:
    """Note the first stop signal in the yielded list, to be seen after the step; a second one ends at once.

    Not where torchrun has started this process: it passes on what the terminal has sent to all of them already.
    """
    wish: list[int] = []

    def note(number: int, _frame: object) -> None:
        if wish and (number == _HANG_UP or launched()):
            return  # a closed terminal sends it twice: once to the session's leader, once to the group
        if wish:
            raise KeyboardInterrupt
        wish.append(number)
        if not rank():
            _write(b"\nStopping after this step, so that the same command can go on from here.\n")

    with _handled(note):
        yield wish


@contextmanager
def stopped_soon() -> Iterator[None]:
    """End this process soon after the first stop signal, whatever it is doing; for programs, not for libraries.

    A step, a validation or an export may take long, and may be inside a library that runs no handler of ours before
    it is done. So a thread waits for the signal's number at a socket, which the system's own handler writes to. When
    the grace is over it ends the process as a kill would, which leaves a run that can be resumed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals go to whoever called
        return
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    before = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    over = threading.Event()
    thread = threading.Thread(target=_watch, args=(ours, over), name="tellapart-stop", daemon=True)
    thread.start()
    received: list[int] = []

    def interrupt(number: int, _frame: object) -> None:
        received.append(number)
        if number != _HANG_UP or received == [_HANG_UP]:  # a second one would cut off what the first one ends
            raise KeyboardInterrupt

    try:
        with _handled(interrupt):
            yield
    finally:
        over.set()
        signal.set_wakeup_fd(before)
        theirs.close()  # the watcher reads the end of it
        thread.join()
        ours.close()


def _watch(ours: socket.socket, over: threading.Event) -> None:
    """Wait for one of our signals; then let the process end by itself, or end it."""
    while number := ours.recv(1):
        if number[0] not in _SIGNALS:
            continue
        if over.wait(GRACE):
            return
        show_cursor = "\x1b[?25h" if os.isatty(2) else ""  # a live line may have hidden it
        _write(f"{show_cursor}\nStopped in the middle of a step. The same command goes on.\n".encode())
        os._exit(STOPPED)


def _write(text: bytes) -> None:
    """Write to standard error, which may be a terminal that was closed.

    Not through Python's file: the signal may have come in the middle of a write to it.
    """
    with suppress(OSError):
        os.write(2, text)


@contextmanager
def _handled(handler: Any) -> Iterator[None]:
    """Install a signal handler for a while. Outside the main thread, which alone may do so, it does nothing."""
    before: dict[int, Any] = {}
    try:
        for kind in _SIGNALS:
            if kind == _HANG_UP and signal.getsignal(kind) == signal.SIG_IGN:
                continue  # started by nohup: it shall outlive the terminal
            before[kind] = signal.signal(kind, handler)
    except ValueError:
        pass  # not the main thread: signals go to whoever called
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
