"""What the command line names, as pictures: files, folders, patterns, lists, tables, archives, the standard input."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from io import BufferedIOBase
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import cast

from tellapart.core.files import is_hidden
from tellapart.core.remote import remote_url
from tellapart.data.decoding.decode import EXTENSIONS
from tellapart.deploy.find_pictures import find_pictures
from tellapart.deploy.inputs.suffixes import is_archive, is_list
from tellapart.deploy.read_pictures import NamedPicture
from tellapart.errors import UsageError

STANDARD_INPUT = "-"
#: Bytes of a picture that comes through the standard input.
_MOST = 100_000_000
_START, _CHUNK = 16, 1 << 16
#: Bytes of a name that comes through it.
_LONGEST = 1 << 20
# What files of pictures begin with; an AVIF file has this after four bytes. No list of names begins so.
_SIGNATURES = (b"\xff\xd8", b"\x89PNG", b"GIF8", b"RIFF", b"II*\0", b"MM\0*", b"8BPS", b"\0\0\0\x0cjP", b"\0\0\1\0")
_BOX = b"ftyp"

Source = Path | NamedPicture


def find_sources(inputs: Sequence[str], column: str | None = None) -> Iterator[Source]:
    """Every picture that these inputs name, in their order, found while they are asked for.

    Args:
        inputs: files, folders and patterns, see `find_pictures`; the same of a storage (s3://…), without patterns;
            archives (.zip, .tar and the like), see `archive_pictures`; lists and tables of names, see
            `listed_pictures`; "-": the standard input, which holds one name a line (or ended by NUL, as `find -print0`
            writes them), or the bytes of one picture.
        column: of a table that holds the names.

    Raises:
        UsageError: at once, for what does not exist, holds no pictures, or cannot be read as what it is.
        DataError: for a table that cannot be read.
    """
    if column is not None and not any(is_list(text) for text in inputs):
        raise UsageError("--column is for tables, and none is given.", "For example: tellapart predict RUN new.csv")
    if list(inputs).count(STANDARD_INPUT) > 1:
        raise UsageError("The standard input can be read once.", "Give one '-'.")
    return chain.from_iterable([_sources(text, column) for text in inputs])


def _sources(text: str, column: str | None) -> Iterator[Source]:
    if text == STANDARD_INPUT:
        return _from_stream(cast(BufferedIOBase, sys.stdin.buffer))
    if (url := remote_url(text)) is not None:
        if not is_archive(text) and not is_list(text):
            return _remote_pictures(url)
        from tellapart.core.remote import at_hand

        text = str(at_hand(url))
    if os.path.isfile(text):
        if is_archive(text):
            from tellapart.deploy.inputs.archives import archive_pictures

            return archive_pictures(Path(text))
        if is_list(text):
            from tellapart.deploy.inputs.lists import listed_pictures

            return listed_pictures(Path(text), column)
    return find_pictures([text])


def _remote_pictures(url: str) -> Iterator[Source]:
    """The picture at an address of a storage, or all below it, by their extensions; sorted."""
    from tellapart.core.remote import find_remote
    from tellapart.deploy.inputs.remote import remote_picture

    files = [file.url for file in find_remote(url)]
    pictures = files if files == [url] else [name for name in files if _is_picture(name[len(url) :])]
    if not pictures:
        suffixes = " ".join(sorted(EXTENSIONS))
        raise UsageError(f"{url} holds no pictures.", f"Files that count as pictures end in: {suffixes}")
    return map(remote_picture, pictures)


def _is_picture(name: str) -> bool:
    path = PurePosixPath(name)
    return path.suffix.lower() in EXTENSIONS and not any(map(is_hidden, path.parts))


def _from_stream(stream: BufferedIOBase) -> Iterator[Source]:
    """Names, or one picture: its first bytes tell which."""
    start = stream.read(_START)
    if start.startswith(_SIGNATURES) or start[4:8] == _BOX or _is_bitmap(start) or _is_pixmap(start):
        content = start + stream.read(_MOST - len(start) + 1)
        if len(content) > _MOST:
            raise UsageError(f"The standard input holds a picture of more than {_MOST / 1e6:,.0f} MB.")
        yield NamedPicture(STANDARD_INPUT, lambda: content, len(content))
        return
    from tellapart.deploy.inputs.lists import name_of_line

    yield from map(Path, filter(None, (name_of_line(os.fsdecode(name)) for name in _split_names(start, stream))))


def _split_names(start: bytes, stream: BufferedIOBase) -> Iterator[bytes]:
    """Names ended by NUL where there is one, else by the end of a line; given as soon as they have come."""
    rest, end = start, b""
    while more := stream.read1(_CHUNK):
        rest += more
        end = end or (b"\0" if b"\0" in rest else b"\n" if b"\n" in rest else b"")
        *names, rest = rest.split(end) if end else [rest]
        yield from names
        if len(rest) > _LONGEST:
            raise UsageError(f"The standard input holds a name of more than {_LONGEST:,} bytes.")
    yield from rest.split(end or (b"\0" if b"\0" in rest else b"\n"))


def _is_bitmap(start: bytes) -> bool:
    return start[:2] == b"BM" and start[6:10] == b"\0\0\0\0"


def _is_pixmap(start: bytes) -> bool:
    return start[:1] == b"P" and start[1:2] in b"123456" and start[2:3].isspace() and start[3:4].isdigit()
