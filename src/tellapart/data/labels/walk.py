"""The list of pictures below a folder; none is opened."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from tellapart.core.files import is_hidden
from tellapart.data.decoding.decode import EXTENSIONS
from tellapart.errors import DataError

_RUN = {"recipe.toml", "catalog.parquet"}  # what a run directory holds: its pictures are figures
_TABLES = (".csv", ".tsv", ".parquet", ".jsonl", ".ndjson", ".json", ".xlsx")
_MOST_TABLES = 1000
_CHUNK = 100_000
BAD_NAME = "the file's name is not valid UTF-8: rename it"


@dataclass(frozen=True)
class Walk:
    """The listing of a folder.

    Attributes:
        root: the folder.
        pictures: columns `path` (relative, forward slashes, sorted) and `problem` (null, or why the name cannot be
            used). The suffix alone makes a picture.
        others: how many files below the root's folders are no pictures, by suffix.
        folders: relative paths of all folders below the root.
        outside: links that were not followed because they lead out of the root.
        files: names of the files that lie in the root itself.
        tables: relative paths of tables below the root's folders, at most a thousand.
        runs: folders that hold a training, which were not entered.
    """

    root: Path
    pictures: pl.DataFrame
    others: Counter[str] = field(default_factory=Counter)
    folders: tuple[str, ...] = ()
    outside: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    runs: tuple[str, ...] = ()

    @property
    def empty_folders(self) -> list[str]:
        """Outermost folders without a picture anywhere below."""
        full = {""}
        for folder in self.pictures["path"].str.replace(r"/?[^/]*$", "").unique():
            while folder not in full:
                full.add(folder)
                folder = folder.rpartition("/")[0]
        return sorted(f for f in self.folders if f not in full and f.rpartition("/")[0] in full)


def walk(root: Path, follow_links: bool = False) -> Walk:
    """List the pictures below a folder.

    Hidden files and folders are passed over, and those that systems leave behind. Links are followed to files and
    folders inside the root; with `follow_links` also out of it. No folder is entered twice, so links cannot loop.

    Raises:
        DataError: a folder cannot be listed.
    """
    return _Walker(root, follow_links).run()


class _Walker:
    """State of one walk."""

    def __init__(self, root: Path, follow_links: bool) -> None:
        self.root, self.follow_links = root, follow_links
        self.real_root = os.path.realpath(root)
        self.seen: set[tuple[int, int]] = set()
        self.chunks: list[pl.DataFrame] = []
        self.names: list[str] = []
        self.bad: list[bool] = []
        self.others: Counter[str] = Counter()
        self.folders: list[str] = []
        self.outside: list[str] = []
        self.files: list[str] = []
        self.tables: list[str] = []
        self.runs: list[str] = []

    def run(self) -> Walk:
        """Enter real folders first, then links to folders, so that a folder goes by its own name."""
        pending, links = [""], list[str]()
        while pending or links:
            folder = pending.pop() if pending else links.pop(0)
            for name, is_link in self._enter(folder):
                (links if is_link else pending).append(name)
            if not pending:
                links.sort()
        self._flush()
        pictures = pl.concat(self.chunks).sort("path")
        return Walk(
            self.root,
            pictures,
            self.others,
            tuple(sorted(self.folders)),
            tuple(sorted(self.outside)),
            tuple(sorted(self.files)),
            tuple(sorted(self.tables)),
            tuple(sorted(self.runs)),
        )

    def _enter(self, folder: str) -> Iterable[tuple[str, bool]]:
        """Take up a folder's files; give the folders in it, and whether they are links."""
        path = os.path.join(self.root, folder)
        try:
            status = os.stat(path)
            if (status.st_dev, status.st_ino) in self.seen:
                return []
            self.seen.add((status.st_dev, status.st_ino))
            with os.scandir(path) as entries:
                below = list(entries)
        except OSError as error:
            raise DataError(f"{path}: the folder cannot be listed: {error.strerror}.") from error
        if folder and {entry.name for entry in below} >= _RUN:
            self.runs.append(_text(folder)[0])
            return []
        if folder:
            self.folders.append(_text(folder)[0])
        prefix = f"{folder}/" if folder else ""
        subfolders = []
        for entry in below:
            if is_hidden(entry.name):
                continue
            name, is_link = prefix + entry.name, entry.is_symlink()
            if is_link and not (self.follow_links or self.leads_inside(entry.path)):
                self.outside.append(_text(name)[0])
            elif _is_folder(entry):
                subfolders.append((name, is_link))
            else:
                self._take(name, _is_file(entry))
        return subfolders

    def leads_inside(self, path: str) -> bool:
        real = os.path.realpath(path)
        return real == self.real_root or real.startswith(os.path.join(self.real_root, ""))

    def _take(self, name: str, is_file: bool) -> None:
        text, is_bad = _text(name)
        suffix = os.path.splitext(text)[1].lower()
        if "/" not in name and is_file:
            self.files.append(text)
        if suffix not in EXTENSIONS or not is_file:
            if "/" in name:
                self.others[suffix] += 1
                if suffix in _TABLES and is_file and not is_bad and len(self.tables) < _MOST_TABLES:
                    self.tables.append(text)
            return
        self.names.append(text)
        self.bad.append(is_bad)
        if len(self.names) == _CHUNK:
            self._flush()

    def _flush(self) -> None:
        problem = pl.when(pl.col("bad")).then(pl.lit(BAD_NAME)).otherwise(None).cast(pl.String)
        schema = {"path": pl.String, "bad": pl.Boolean}
        frame = pl.DataFrame({"path": self.names, "bad": self.bad}, schema=schema)
        self.chunks.append(frame.select("path", problem=problem))
        self.names, self.bad = [], []


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _is_file(entry: os.DirEntry[str]) -> bool:
    """Regular files, and links that lead nowhere: those are listed as unreadable rather than passed over."""
    try:
        return entry.is_file() or (entry.is_symlink() and not os.path.exists(entry.path))
    except OSError:
        return True


def _text(name: str) -> tuple[str, bool]:
    """A name as valid text, and whether it had to be changed for that."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return os.fsencode(name).decode("utf-8", "backslashreplace"), True
    return name, False
