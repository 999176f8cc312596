"""Writing so that nothing is lost: beside, flushed to disk, renamed."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a path beside `path` to write to; on success flush it to disk and rename it over `path`.

    A kill at any moment leaves either the old file or the new one, whole.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    os.close(handle)
    beside = Path(name)
    try:
        # mkstemp makes files for the owner alone; results are for whoever the user's umask allows.
        beside.chmod(0o666 & ~_umask())
        yield beside
        with beside.open("rb+") as file:
            os.fsync(file.fileno())
        beside.replace(path)
        sync_folder(path.parent)
    finally:
        beside.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with replacing(path) as beside:
        beside.write_text(text, encoding="utf-8")


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries, so that a rename survives a power cut (not possible on Windows)."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def cache_folder(kind: str) -> Path:
    """Where things that can be made again are kept: $TELLAPART_CACHE, or the user's cache folder."""
    base = os.environ.get("TELLAPART_CACHE")
    if base:
        return Path(base) / kind
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(home) / "tellapart" / kind


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
