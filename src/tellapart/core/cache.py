"""What is kept to save work, and may be removed at any time: how much, how old, and room for more."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tellapart.core.file_locks import lock
from tellapart.core.files import cache_folder, write_text
from tellapart.core.plain_json import read_json_file
from tellapart.core.suggest import suggest
from tellapart.core.text import as_lines
from tellapart.core.version import __version__
from tellapart.errors import CacheError, UsageError

KINDS = {
    "activations": "what frozen layers make of pictures",
    "pictures": "pictures, decoded and brought to size",
    "runtime": "which engine, precision and memory format are fastest here",
    "plans": "what networks take here, and the plans of trainings",
    "weights": "pretrained weights from packages, as safetensors",
    "engines": "which engine answers fastest here",
}
#: The default limit: this, or half of what the disk could give if that is less.
_MOST = 50 * 2**30
_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
#: What other programs must find free on the disk.
_SPARE = 256 * 2**20


@dataclass(frozen=True)
class CacheEntry:
    """One thing in the cache: a store, or a single file.

    Attributes:
        kind: one of `KINDS`.
        path: where it lies.
        n_bytes: on the disk.
        last_used: seconds since 1970.
    """

    kind: str
    path: Path
    n_bytes: int
    last_used: float


def entries() -> list[CacheEntry]:
    """All that lies in the cache, least recently used first."""
    result = []
    for kind in KINDS:
        folder = cache_folder(kind)
        for path in folder.iterdir() if folder.is_dir() else ():
            with contextlib.suppress(FileNotFoundError):  # another process removes it at this moment
                result.append(_entry(kind, path))
    return sorted(result, key=lambda entry: entry.last_used)


def _entry(kind: str, path: Path) -> CacheEntry:
    if not path.is_dir():
        return CacheEntry(kind, path, path.lstat().st_size, path.lstat().st_mtime)
    mark = path / "used"
    last_used = (mark if mark.exists() else path).stat().st_mtime
    return CacheEntry(kind, path, sum(file.stat().st_size for file in os.scandir(path)), last_used)


def _total(entries: Iterable[CacheEntry]) -> int:
    return sum(entry.n_bytes for entry in entries)


def limit() -> int:
    """How many bytes the cache may take: $TELLAPART_CACHE_LIMIT ("20G", "500M"), or what the disk can spare.

    Raises:
        UsageError: the variable is no size.
    """
    text = os.environ.get("TELLAPART_CACHE_LIMIT", "").strip()
    if not text:
        return min(_MOST, (_free(cache_folder("")) + _total(entries())) // 2)
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([kmgt]?)(?:i?b)?", text.lower())
    if not match:
        raise UsageError(f"TELLAPART_CACHE_LIMIT is {text!r}, which is no size.", "For example: 20G, 500M or 0.")
    return int(float(match[1]) * _UNITS[match[2]])


def make_room(more: int = 0) -> bool:
    """Remove what was used least recently, until the cache with so many bytes more is within its limit.

    What a process uses at the moment stays.

    Returns:
        Whether it is within the limit now.
    """
    oldest_first = entries()
    excess = _total(oldest_first) + more - limit()
    for entry in oldest_first:
        if excess <= 0:
            break
        if _remove(entry):
            excess -= entry.n_bytes
    return excess <= 0


def clear(kind: str | None = None) -> tuple[int, list[CacheEntry]]:
    """Remove everything, or one kind.

    Returns:
        How many bytes were given back, and what was left, since a process uses it.

    Raises:
        UsageError: there is no such kind.
    """
    if kind is not None and kind not in KINDS:
        raise UsageError(f"There is no kind of cache called '{kind}'.", suggest(kind, KINDS))
    wanted = [entry for entry in entries() if kind in (None, entry.kind)]
    left = [entry for entry in wanted if not _remove(entry)]
    return _total(wanted) - _total(left), left


def _remove(entry: CacheEntry) -> bool:
    """Remove something, unless it is in use; whether it is gone."""
    if not entry.path.is_dir():
        entry.path.unlink(missing_ok=True)
        return True
    try:
        with (entry.path / "used").open("ab") as mark:
            if not lock(mark.fileno(), shared=False, wait=False):
                return False
            # First of all the index: without it, what a kill leaves behind counts as nothing.
            (entry.path / "index.bin").unlink(missing_ok=True)
            shutil.rmtree(entry.path, ignore_errors=True)
    except OSError:
        return False
    return True


def write_note(path: Path, values: dict[str, Any]) -> None:
    """Write plain values with a checksum, whole or not at all."""
    write_text(path, json.dumps({**values, "checksum": _checksum(values)}, indent=1))


def read_note(path: Path) -> dict[str, Any] | None:
    """What `write_note` wrote; None where that is missing or damaged in any way."""
    try:
        values: dict[str, Any] = read_json_file(path)
        checksum = values.pop("checksum")
    except (OSError, ValueError, AttributeError, TypeError, KeyError):
        return None
    return values if checksum == _checksum(values) else None


def _checksum(values: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def check_disk(n_bytes: int) -> None:
    """Refuse to begin what the disk cannot hold; what was used least recently is removed first.

    Raises:
        CacheError: there is not enough room.
    """
    folder, wanted, oldest_first = cache_folder(""), n_bytes + _SPARE, entries()
    # Where removing everything would not be enough, nothing is removed.
    if _free(folder) + _total(oldest_first) >= wanted:
        for entry in oldest_first:
            if _free(folder) >= wanted:
                break
            _remove(entry)
    if (free := _free(folder)) < wanted:
        raise CacheError(
            f"{folder} needs room for {size(n_bytes)}, but its disk has only {size(free)} left.",
            "Make room, or set TELLAPART_CACHE to a folder on another disk; then repeat the command.",
        )


def _free(folder: Path) -> int:
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def table() -> str:
    """What lies in the cache, for people."""
    everything = entries()
    lines = [f"{'kind':<12} {'number':>7} {'size':>10}  last used"]
    for kind, description in KINDS.items():
        own = [entry for entry in everything if entry.kind == kind]
        last = datetime.datetime.fromtimestamp(own[-1].last_used).strftime("%Y-%m-%d %H:%M") if own else ""
        lines.append(f"{kind:<12} {len(own):>7,} {size(_total(own)):>10}  {last:<16}  {description}")
    return as_lines([*lines, f"{size(_total(everything))} of {size(limit())} in {cache_folder('')}"])


def size(n_bytes: int) -> str:
    """A number of bytes for people."""
    number = float(n_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} TiB"


def versions() -> dict[str, str]:
    """Of what decides on the pixels of a picture."""
    import importlib.metadata  # which loads a parser of e-mail: a first answer needs none of it

    libraries = ("Pillow", "simplejpeg", "numpy")
    return {"tellapart": __version__, **{name: importlib.metadata.version(name) for name in libraries}}
