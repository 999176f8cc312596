"""A picture of a storage (s3://, gs://): it is fetched when it is read, and nothing is kept."""

from __future__ import annotations

from functools import partial

from tellapart.core.remote import read_remote, remote_url
from tellapart.deploy.read_pictures import NamedPicture
from tellapart.errors import DataError, UnreadableError

#: Bytes of a picture.
_MOST = 100_000_000


def remote_picture(name: str) -> NamedPicture:
    """The picture at an address."""
    return NamedPicture(name, partial(_read, remote_url(name) or name))


def _read(url: str) -> bytes:
    try:
        return read_remote(url, _MOST)
    except DataError as error:
        raise UnreadableError(url, error.message.removeprefix(f"{url}: ").rstrip(".")) from error
