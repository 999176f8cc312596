"""Atomic writes: to a file beside, flushed to disk, renamed."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tellapart.errors import RunError, UsageError

_PART = ".part"
_LEFT_BEHIND = {"__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "Thumbs.db", "desktop.ini"}
# What spreadsheets take for the start of a formula, with blanks that they skip before it. Texts that begin with quotes
# and go on like that are guarded too: else one could not tell whether a quote was ours.
_FORMULA = re.compile(r"['\s]*[=+\-@＝＋－＠]|'*[\t\r\n]")


@contextmanager
def replacing(path: Path, previous: Path | None = None) -> Iterator[Path]:
    """Yield a path beside `path` to write to; on success flush the file to disk and rename it over `path`.

    A kill at any moment leaves either the old file or the new one, whole.

    Args:
        path: where the file is to be.
        previous: to which an older file is renamed first. After a kill between the two renames, only this one exists.

    Raises:
        OSError: with `path` as its file name, whatever it was that could not be written.
    """
    with naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=_PART)
        os.close(handle)
        beside = Path(name)
        try:
            # mkstemp makes files for the owner alone; results are for whoever the user's umask allows.
            beside.chmod(0o666 & ~_umask())
            yield beside
            with beside.open("rb+") as file:
                os.fsync(file.fileno())
            if previous and path.is_file():
                path.replace(previous)
            beside.replace(path)
            sync_folder(path.parent)
        finally:
            with contextlib.suppress(OSError):  # a disk that has just failed must not hide how it failed
                beside.unlink(missing_ok=True)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Within it, an `OSError` that names no file, or a temporary one, is raised with `path` as its file name."""
    try:
        yield
    except OSError as error:
        if error.filename is None or _PART in str(error.filename):
            error.filename = str(path)
        raise
    except Exception as error:
        # Libraries written in Rust, such as polars, give the system's errors as text.
        if not (match := re.search(r"\(os error (\d+)\)", str(error))):
            raise
        number = int(match[1])
        raise OSError(number, os.strerror(number), str(path)) from error


def sweep(folder: Path) -> None:
    """Remove what killed writers left in a folder that no other process writes to."""
    for rest in folder.rglob(f".*{_PART}"):
        with contextlib.suppress(OSError):
            rest.unlink()


def trouble(error: OSError) -> RunError:
    """The error for people about a write that failed."""
    where = error.filename or "A file"
    hint = {
        errno.ENOSPC: "Free some space on that disk",
        errno.EDQUOT: "You have used up what you may store there: remove something",
        errno.EROFS: "That disk may only be read: make it writable, or choose another --out",
        errno.EACCES: "Make the folder writable, or choose another --out",
        errno.EPERM: "Make the folder writable, or choose another --out",
        errno.EIO: "The disk reports a fault: look after it first",
    }.get(error.errno or 0, "Remove the cause")
    return RunError(
        f"{where}: {error.strerror or error}.",
        f"{hint}; then the same command again goes on from what was saved last.",
    )


@contextmanager
def plainly() -> Iterator[None]:
    """Within it, a failed write or read (`OSError`) is raised as an error for people: see `trouble`."""
    try:
        yield
    except OSError as error:
        raise trouble(error) from error


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


def check_suffix(path: Path, suffixes: Iterable[str], option: str = "--out") -> str:
    """The suffix of a file to be written, in small letters: it decides on the format.

    Raises:
        UsageError: it is none of those that can be written.
    """
    suffix = path.suffix.lower()
    if suffix not in suffixes:
        raise UsageError(
            f"{option} {path}: expected a file that ends in {', '.join(suffixes)}.", "The suffix decides on the format."
        )
    return suffix


def file_part(name: str) -> str:
    """A name as a part of a file's name, on any system; a digest tells names apart that would look the same."""
    plain = re.sub(r"[^\w-]+", "_", name)[:60].strip("_")
    if plain == name:
        return name
    return f"{plain}-{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


def is_hidden(name: str) -> bool:
    """Whether a file or folder is passed over where pictures are looked for: hidden, or left behind by a system."""
    return name.startswith(".") or name in _LEFT_BEHIND


def cache_folder(kind: str) -> Path:
    """The folder of one kind of cache, in $TELLAPART_CACHE or the user's cache folder."""
    base = os.environ.get("TELLAPART_CACHE")
    if base:
        return Path(base) / kind
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(home) / "tellapart" / kind


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def guarded(text: str) -> str:
    """A text that a spreadsheet would run as a formula, with a single quote in front; others as they are."""
    return f"'{text}" if _FORMULA.match(text) else text
