"""File locks between processes. The system releases them when a process ends, however it ends."""

from __future__ import annotations

import os
from pathlib import Path


class Hold:
    """A lock that marks a folder of the cache as in use until it is closed or collected, or the process ends.

    The time of its file is that of the last use.
    """

    handle = -1

    def __init__(self, folder: Path) -> None:
        while True:
            folder.mkdir(parents=True, exist_ok=True)
            self.handle = os.open(folder / "used", os.O_RDWR | os.O_CREAT, 0o666)
            lock(self.handle, shared=True)
            self.folder = folder
            # The file that we hold may have been removed before we held it.
            if self.in_place:
                os.utime(folder / "used")
                return
            self.close()

    @property
    def in_place(self) -> bool:
        """Whether the folder is still the one that was marked: it may have been removed, and made anew."""
        try:
            return os.path.samestat(os.fstat(self.handle), (self.folder / "used").stat())
        except OSError:
            return False

    def close(self) -> None:
        """Let others remove the folder."""
        handle, self.handle = self.handle, -1
        if handle >= 0:
            os.close(handle)

    def __del__(self) -> None:
        self.close()


def lock(handle: int, shared: bool, wait: bool = True) -> bool:
    """Lock an open file, for this process alone or together with others; the system unlocks it when it is closed.

    Returns:
        False where it would have to wait and shall not.
    """
    try:
        import fcntl
    except ImportError:  # Windows knows no shared lock; there, files that are open cannot be removed anyway
        return True if shared else _lock_on_windows(handle, wait)
    try:
        fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True


def _lock_on_windows(handle: int, wait: bool) -> bool:
    import msvcrt

    os.lseek(handle, 0, os.SEEK_SET)
    try:
        msvcrt.locking(handle, msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
    except OSError:
        return False
    return True
