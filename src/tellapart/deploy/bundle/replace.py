"""Puts a bundle in its place as a whole: written in a folder beside, flushed to disk, renamed."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tellapart.core.files import sync_folder
from tellapart.deploy.bundle.read import own_files, waiting
from tellapart.errors import BundleError


@contextmanager
def folder_beside(folder: Path) -> Iterator[Path]:
    """An empty folder beside `folder` to write to; what is left of it at the end is removed.

    Raises:
        BundleError: `folder` holds something that is no part of a bundle.
    """
    old, part = waiting(folder), folder.parent / f".{folder.name}.part"
    folder.parent.mkdir(parents=True, exist_ok=True)
    if old.is_dir() and not folder.exists():  # a writer was killed between its two renames
        old.rename(folder)
    _refuse_other_files(folder)
    for rest in (old, part):
        _remove(rest)
    part.mkdir()
    try:
        yield part
    finally:
        _remove(part)


def put(part: Path, folder: Path) -> None:
    """Flush the files of `part` to disk and let it take the place of `folder`.

    No system renames over a folder that is not empty, so the older one steps aside for a moment. After a kill just
    then, `read.py` finds it there, and the next writer puts it back.
    """
    for path in part.iterdir():
        with path.open("rb+") as file:
            os.fsync(file.fileno())
    sync_folder(part)
    if folder.exists():
        folder.rename(waiting(folder))
    part.rename(folder)
    sync_folder(folder.parent)
    _remove(waiting(folder))


def _refuse_other_files(folder: Path) -> None:
    """Stop rather than replace a folder that holds anything but a bundle."""
    if not folder.exists():
        return
    own = own_files(folder)
    others = sorted(path.name for path in folder.iterdir() if path.name not in own) if folder.is_dir() else ["a file"]
    if others:
        raise BundleError(
            f"{folder} is not replaced, since it holds something that is no part of a bundle: {others[0]}",
            "Move it away, or write the bundle to another folder.",
        )


def _remove(folder: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(folder)
