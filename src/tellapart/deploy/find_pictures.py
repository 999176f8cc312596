"""Finds the pictures that files, folders and patterns name."""

from __future__ import annotations

import glob
import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from tellapart.core.files import is_hidden
from tellapart.data.decoding.decode import EXTENSIONS
from tellapart.errors import UsageError


def find_pictures(inputs: Sequence[str]) -> Iterator[Path]:
    """Every picture that files, folders and patterns name.

    A file is taken whatever its name. A folder gives the pictures in it and below, by their extensions, sorted; what is
    hidden, and what systems leave behind, is skipped, as by a scan: see `is_hidden`. A pattern (`*`, `?`, `[a-z]`, `**`
    for any depth) is for shells that do not expand it, and acts as if they had; it skips the same.

    Returns:
        Paths, found while they are asked for: of a folder tree, one folder's names are in memory at a time.

    Raises:
        UsageError: at once, for a name that does not exist, a pattern that fits nothing, a folder without pictures.
    """
    paths = [path for text in inputs for path in _expand(text)]
    for path in paths:
        if path.is_dir() and next(_below(path), None) is None:
            raise UsageError(
                f"{path} holds no pictures.", f"Files that count as pictures end in: {' '.join(sorted(EXTENSIONS))}"
            )
    return itertools.chain.from_iterable(_below(path) if path.is_dir() else (path,) for path in paths)


def _expand(text: str) -> list[Path]:
    """The path itself where it exists, else what the pattern fits, sorted."""
    if os.path.lexists(text):
        return [Path(text)]
    if not glob.has_magic(text):
        raise UsageError(f"{text} does not exist.", f"Relative names start from {Path.cwd()}.")
    matches = sorted(Path(name) for name in glob.iglob(_pattern(text), recursive=True))
    matches = [path for path in matches if not any(map(_is_left_behind, set(path.parts) - set(Path(text).parts)))]
    if "**" in text:  # it has reached the files below a folder already
        matches = [path for path in matches if not path.is_dir()]
    if not matches:
        raise UsageError(f"No file fits {text}.", "'*' stays within a folder, '**' goes down any depth.")
    return matches


def _pattern(text: str) -> str:
    """The pattern; folders at its beginning that exist are meant as they are, such as `photos [2020]/*.png`."""
    path = Path(text)
    folders = [folder for folder in path.parents if glob.has_magic(str(folder)) and os.path.isdir(folder)]
    if not folders:
        return text
    return os.path.join(glob.escape(str(folders[0])), str(path.relative_to(folders[0])))


def _is_left_behind(name: str) -> bool:
    """Whether a pattern passes a name over; those with a dot in front it only fits where it says so."""
    return is_hidden(name) and not name.startswith(".")


def _below(folder: Path) -> Iterator[Path]:
    """Pictures in a folder and below, sorted. Links to files are followed, links to folders are not."""
    try:
        with os.scandir(folder) as entries:
            names = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)
    except OSError:
        yield folder  # reading it as a picture fails too, so it ends up among the unreadable, with its reason
        return
    for name, is_folder in names:
        if is_hidden(name):
            continue
        path = folder / name
        if is_folder:
            yield from _below(path)
        elif path.suffix.lower() in EXTENSIONS:
            yield path
