"""What is kept to save work, and may be removed at any time: how much, how old, and room for more."""

from __future__ import annotations

import contextlib
import datetime
import importlib.metadata
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from tellapart.core.array_store import lock
from tellapart.core.files import cache_folder
from tellapart.core.version import __version__
from tellapart.errors import CacheError, UsageError

KINDS = {
    "activations": "what frozen layers make of pictures",
    "pictures": "pictures, decoded and brought to size",
    "runtime": "which precision and memory format are fastest here",
}
#: The default limit: this, or half of what the disk could give if that is less.
_MOST = 50 * 2**30
_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
#: What other programs must find free on the disk.
_SPARE = 256 * 2**20


@dataclass(frozen=True)
class Held:
    """One thing in the cache: a store, or a single file.

    Attributes:
        kind: one of `KINDS`.
        path: where it lies.
        n_bytes: on the disk.
        used: when it was used last, seconds since 1970.
    """

    kind: str
    path: Path
    n_bytes: int
    used: float


def held() -> list[Held]:
    """All that lies in the cache, least recently used first."""
    found = []
    for kind in KINDS:
        folder = cache_folder(kind)
        for path in folder.iterdir() if folder.is_dir() else ():
            with contextlib.suppress(FileNotFoundError):  # another process removes it at this moment
                found.append(_held(kind, path))
    return sorted(found, key=lambda each: each.used)


def _held(kind: str, path: Path) -> Held:
    if not path.is_dir():
        return Held(kind, path, path.lstat().st_size, path.lstat().st_mtime)
    n_bytes = sum(entry.stat().st_size for entry in os.scandir(path))
    mark = path / "used"
    return Held(kind, path, n_bytes, (mark if mark.exists() else path).stat().st_mtime)


def limit() -> int:
    """How many bytes the cache may take: $TELLAPART_CACHE_LIMIT ("20G", "500M"), or what the disk can spare.

    Raises:
        UsageError: the variable is no size.
    """
    wanted = os.environ.get("TELLAPART_CACHE_LIMIT", "").strip()
    if not wanted:
        return min(_MOST, (_free(cache_folder("")) + sum(each.n_bytes for each in held())) // 2)
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([kmgt]?)(?:i?b)?", wanted.lower())
    if not found:
        raise UsageError(f"TELLAPART_CACHE_LIMIT is {wanted!r}, which is no size.", "For example: 20G, 500M or 0.")
    return int(float(found[1]) * _UNITS[found[2]])


def make_room(more: int = 0) -> bool:
    """Remove what was used least recently, until the cache with so many bytes more is within its limit.

    What a process uses at the moment stays.

    Returns:
        Whether it is within the limit now.
    """
    there = held()
    over = sum(each.n_bytes for each in there) + more - limit()
    for each in there:
        if over <= 0:
            break
        if _removed(each):
            over -= each.n_bytes
    return over <= 0


def clear(kind: str | None = None) -> tuple[int, list[Held]]:
    """Remove everything, or one kind.

    Returns:
        How many bytes were given back, and what was left, since a process uses it.

    Raises:
        UsageError: there is no such kind.
    """
    if kind is not None and kind not in KINDS:
        raise UsageError(f"There is no kind of cache called '{kind}'.", f"There are: {', '.join(KINDS)}.")
    wanted = [each for each in held() if kind in (None, each.kind)]
    left = [each for each in wanted if not _removed(each)]
    return sum(each.n_bytes for each in wanted) - sum(each.n_bytes for each in left), left


def _removed(each: Held) -> bool:
    """Remove something unless it is in use."""
    if not each.path.is_dir():
        each.path.unlink(missing_ok=True)
        return True
    try:
        with (each.path / "used").open("ab") as mark:
            if not lock(mark.fileno(), shared=False, wait=False):
                return False
            # First of all the index: without it, what a kill leaves behind counts as nothing.
            (each.path / "index.bin").unlink(missing_ok=True)
            shutil.rmtree(each.path, ignore_errors=True)
    except OSError:
        return False
    return True


def check_disk(n_bytes: int) -> None:
    """Refuse to begin what the disk cannot hold; what was used least recently is removed first.

    Raises:
        CacheError: there is not enough room.
    """
    place, wanted, there = cache_folder(""), n_bytes + _SPARE, held()
    if _free(place) + sum(each.n_bytes for each in there) >= wanted:
        for each in there:
            if _free(place) >= wanted:
                break
            _removed(each)
    if (free := _free(place)) < wanted:
        raise CacheError(
            f"{place} needs room for {size(n_bytes)}, but its disk has only {size(free)} left.",
            "Make room, or set TELLAPART_CACHE to a folder on another disk; then repeat the command.",
        )


def _free(place: Path) -> int:
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free


def table() -> str:
    """What lies in the cache, for people."""
    there = held()
    lines = [f"{'kind':<12} {'number':>7} {'size':>10}  last used"]
    for kind, what in KINDS.items():
        own = [each for each in there if each.kind == kind]
        last = datetime.datetime.fromtimestamp(own[-1].used).strftime("%Y-%m-%d %H:%M") if own else ""
        lines.append(f"{kind:<12} {len(own):>7,} {size(sum(e.n_bytes for e in own)):>10}  {last:<16}  {what}")
    return "\n".join([*lines, f"{size(sum(e.n_bytes for e in there))} of {size(limit())} in {cache_folder('')}"])


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
    libraries = ("Pillow", "simplejpeg", "numpy")
    return {"tellapart": __version__, **{name: importlib.metadata.version(name) for name in libraries}}
