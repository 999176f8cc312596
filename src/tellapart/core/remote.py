"""Storage that is not this machine's: s3:// and gs://, by fsspec. What is used repeatedly is mirrored in the cache.

Credentials come from where the storage's own library looks for them (environment, its files, the machine's role); none
is read, printed or written here, and an address that holds one is refused.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Any

from tellapart.core.cache import read_note, write_note
from tellapart.core.extras import require
from tellapart.core.file_locks import lock
from tellapart.core.files import cache_folder, replacing
from tellapart.errors import DataError, TellapartError, UsageError

#: Of each scheme, the package that fsspec needs for it.
_PACKAGES = {"s3": "s3fs", "gs": "gcsfs"}
# A path type makes one slash of two.
_URL = re.compile(rf"({'|'.join(_PACKAGES)}):/{{1,2}}([^/].*)", re.DOTALL)
#: Bytes of one file, and of all files that are mirrored at once; and the share of the free disk that they may take.
MOST_FILE, _MOST_ALL, _MOST_DISK = 4 << 30, 1 << 40, 0.9
_MOST_FILES = 20_000_000
_CHUNK = 1 << 20
#: Transfers at a time: most of their time is waiting.
AT_ONCE = 8
#: Seconds; the library tries a few times.
_CONNECT, _READ, _TRIES = 10, 60, 3
#: What a mirror is of, and holds; seconds between two times that it is written while files are fetched.
_NOTE_FILE, _NOTE = "mirror.json", 30.0


@dataclass(frozen=True)
class RemoteFile:
    """A file of a storage: its address, size in bytes, and what changes with its content."""

    url: str
    size: int
    version: str


def remote_url(path: str | Path) -> str | None:
    """The address in a storage that this names, or None for a name of this machine.

    Raises:
        UsageError: it holds a password, or climbs out of its folder.
    """
    match = _URL.fullmatch(os.fspath(path))
    if match is None:
        return None
    bucket, _, key = match[2].partition("/")
    if "@" in bucket or ":" in bucket:
        raise UsageError(
            f"An address in {match[1]}:// must not hold credentials.",
            "The storage's own library finds them: in the environment, or in its files, such as ~/.aws/credentials.",
        )
    if ".." in PurePosixPath(key).parts:
        raise UsageError(f"{match[1]}://{bucket}/{key}: an address has no '..' in it.")
    return f"{match[1]}://{bucket}/{key}".rstrip("/")


def read_remote(url: str, most: int) -> bytes:
    """The content of a file of a storage.

    Raises:
        DataError: it is not there, cannot be read, or has more bytes than `most`.
    """
    with _in_words(url), _filesystem(url).open(url, "rb", block_size=min(most + 1, 4 * _CHUNK)) as file:
        content: bytes = file.read(most + 1)
    if len(content) > most:
        raise DataError(f"{url} has more than {most / 1e6:,.0f} MB.")
    return content


def find_remote(url: str) -> list[RemoteFile]:
    """The file at an address, or all files below it, sorted.

    Raises:
        DataError: there is nothing, or the storage does not answer.
    """
    with _in_words(url):
        found: dict[str, dict[str, Any]] = _filesystem(url).find(url, detail=True)
    if len(found) > _MOST_FILES:
        raise DataError(f"{url} holds {len(found):,} files; at most {_MOST_FILES:,} are listed.")
    if not found:
        raise DataError(f"{url}: there is nothing.", "Is the address right, and may these credentials list it?")
    scheme = url.partition("://")[0]
    files = [
        RemoteFile(f"{scheme}://{name}", int(facts["size"] or 0), _version(facts)) for name, facts in found.items()
    ]
    return sorted((file for file in files if not file.url.endswith("/")), key=lambda file: file.url)


def at_hand(path: str | Path, only: tuple[str, ...] = ()) -> Path:
    """A path of this machine as it is; of a storage, a mirror in the cache, brought up to date.

    Several processes may ask for the same one: one copies, the others wait.

    Args:
        path: of a file or folder.
        only: of a folder, the first parts of the names that are wanted; none: all.

    Raises:
        DataError: it is not there, is too large, or has names that no file can have.
    """
    url = remote_url(path)
    if url is None:
        return Path(path)
    # The last part keeps its name, since suffixes and names of folders mean something.
    key = hashlib.sha256("\n".join([url, *only]).encode()).hexdigest()[:32]
    folder = cache_folder("remote") / key
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as handle:
        lock(handle.fileno(), shared=False)
        return _mirror(url, folder, only)


def _mirror(url: str, folder: Path, only: tuple[str, ...]) -> Path:
    files = find_remote(url)
    if len(files) == 1 and files[0].url == url:
        names = {files[0]: PurePosixPath(url).name}
    else:
        names = {file: f"{PurePosixPath(url).name}/{file.url[len(url) + 1 :]}" for file in files}
        names = {file: name for file, name in names.items() if not only or name.split("/")[1] in only}
    for name in names.values():
        if not _is_plain(name):
            raise DataError(f"{url}: {name!r} is no name that a file can have here.")
    earlier = (read_note(folder / _NOTE_FILE) or {}).get("files", {})
    new = {f: n for f, n in names.items() if earlier.get(n) != [f.size, f.version] or not (folder / n).is_file()}
    _check_sizes(url, new, folder)
    for name in earlier.keys() - set(names.values()):
        if isinstance(name, str) and _is_plain(name):
            (folder / name).unlink(missing_ok=True)
    here = {name: [file.size, file.version] for file, name in names.items() if file not in new}
    noted = time.monotonic()
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="tellapart-fetch") as pool:
        for file, name in pool.map(lambda item: _fetch(item[0], folder, item[1]), new.items()):
            here[name] = [file.size, file.version]
            if time.monotonic() - noted > _NOTE:  # so much is fetched again at most, after a kill
                write_note(folder / _NOTE_FILE, {"url": url, "files": here})
                noted = time.monotonic()
    write_note(folder / _NOTE_FILE, {"url": url, "files": here})
    return folder / PurePosixPath(url).name


def mirrored(path: Path) -> tuple[str, str] | None:
    """Of a path in a mirror of this machine: the address of what is mirrored, and the path below its last part.

    So another machine may have a mirror of its own: `at_hand(address) / below`. None for any other path.
    """
    try:
        key, _, *below = path.relative_to(cache_folder("remote")).parts
    except ValueError:
        return None
    note = read_note(cache_folder("remote") / key / _NOTE_FILE) or {}
    return (note["url"], "/".join(below)) if isinstance(note.get("url"), str) else None


def _is_plain(name: str) -> bool:
    parts = name.split("/")
    return all(part not in ("", ".", "..") and "\0" not in part and len(os.fsencode(part)) < 256 for part in parts)


def _check_sizes(url: str, files: dict[RemoteFile, str], folder: Path) -> None:
    large = next((file for file in files if file.size > MOST_FILE), None)
    if large is not None:
        raise DataError(f"{large.url} has {large.size / 1e9:,.1f} GB; at most {MOST_FILE / 1e9:.1f} are copied.")
    total, free = sum(file.size for file in files), shutil.disk_usage(folder).free
    most = min(_MOST_ALL, int(_MOST_DISK * free))
    if total > most:
        raise DataError(
            f"{url} has {total / 1e9:,.1f} GB that are not here yet; there is room for {most / 1e9:,.1f} GB.",
            "TELLAPART_CACHE names another folder for the cache.",
        )


def _fetch(file: RemoteFile, folder: Path, name: str) -> tuple[RemoteFile, str]:
    """Copy a file, whole or not at all; never more than its listed size."""
    with _in_words(file.url), replacing(folder / name) as beside, beside.open("wb") as out:
        left = file.size
        with _filesystem(file.url).open(file.url, "rb") as source:
            while piece := source.read(min(_CHUNK, left + 1)):
                left -= len(piece)
                if left < 0:
                    raise DataError(f"{file.url} changed while it was copied.", "Give the command again.")
                out.write(piece)
        if left:
            raise DataError(f"{file.url} ended {left:,} bytes too early.", "Give the command again.")
    return file, name


@contextmanager
def copied_to(path: Path) -> Iterator[Path]:
    """A folder to write to: of this machine as it is; of a storage, one in the cache, copied there at the end.

    A run that ends before leaves it in the cache, where the next one goes on.
    """
    url = remote_url(path)
    if url is None:
        yield path
        return
    folder = cache_folder("outgoing") / hashlib.sha256(url.encode()).hexdigest()[:32] / PurePosixPath(url).name
    _filesystem(url)  # what is missing is said now, not after hours
    yield folder
    upload(folder, url)


def check_local(path: Path | None, option: str) -> None:
    """Refuse a place in a storage where files of this machine are written.

    Raises:
        UsageError: it is in a storage.
    """
    if path is not None and (url := remote_url(path)) is not None:
        raise UsageError(f"{option} {url}: this is written to a file of this machine.", "Name one, and copy it then.")


def upload(folder: Path, url: str) -> None:
    """Copy a folder into a storage: files first, those that make it whole (`bundle.json`) last.

    Raises:
        DataError: the storage does not take it.
    """
    filesystem = _filesystem(url)
    files = sorted((path for path in folder.rglob("*") if path.is_file()), key=lambda p: (p.name == "bundle.json", p))
    for path in files:
        address = f"{url}/{path.relative_to(folder).as_posix()}"
        with _in_words(address):
            filesystem.put_file(str(path), address)


def _filesystem(url: str) -> Any:
    scheme = url.partition("://")[0]
    fsspec = require("fsspec", f"{scheme}://", "cluster")
    package = _PACKAGES[scheme]
    if scheme == "s3":
        require(package, "s3://", "s3")
        timeouts = {"connect_timeout": _CONNECT, "read_timeout": _READ, "retries": {"max_attempts": _TRIES}}
        return fsspec.filesystem(scheme, use_listings_cache=False, config_kwargs=timeouts)
    if find_spec(package) is None:
        raise UsageError(f"{scheme}:// needs the package {package}.", f"Install it with: pip install {package}")
    return fsspec.filesystem(scheme, use_listings_cache=False)


@contextmanager
def _in_words(url: str) -> Iterator[None]:
    """Whatever the library of a storage raises becomes a `DataError`; a local disk's errors stay."""
    try:
        yield
    except TellapartError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"{url}: there is no such file.") from error
    except PermissionError as error:
        raise DataError(f"{url}: these credentials may not use it.") from error
    except Exception as error:  # botocore's, aiohttp's and google's share no base but Exception
        if isinstance(error, OSError) and isinstance(error.filename, str) and os.path.isabs(error.filename):
            raise
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = lines[0][:300].rstrip(". ") if lines else type(error).__name__
        raise DataError(f"{url}: the storage does not answer as expected: {reason}.") from error


def _version(facts: dict[str, Any]) -> str:
    """What a listing says of a file's content."""
    for key in ("ETag", "etag", "md5Hash", "mtime", "LastModified", "updated"):
        if facts.get(key):
            return str(facts[key]).strip('"')
    return ""
