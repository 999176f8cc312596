"""Writes an export that is a folder: whole or not at all, and never over something else."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tellapart.core.files import sync_folder
from tellapart.errors import UsageError


@contextmanager
def replacing_folder(folder: Path, names: set[str]) -> Iterator[Path]:
    """Yield an empty folder beside; on success its files are flushed, and it takes the place of `folder`.

    Args:
        folder: where it is to be; may hold an older export.
        names: of the files that such an export consists of.

    Raises:
        UsageError: `folder` is a file, or holds something else.
    """
    others = {path.name for path in folder.iterdir()} - names if folder.is_dir() else set()
    if others or (folder.exists() and not folder.is_dir()):
        raise UsageError(
            f"{folder} is not replaced, since it holds something else: {min(others, default='it is a file')}",
            "Name another folder: --out FOLDER",
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.", suffix=".part"))
    try:
        beside.chmod(0o755)
        yield beside
        for path in beside.iterdir():
            with path.open("rb+") as file:
                os.fsync(file.fileno())
        sync_folder(beside)
        if folder.exists():  # an older export, which can be made again
            shutil.rmtree(folder)
        beside.rename(folder)
        sync_folder(folder.parent)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
