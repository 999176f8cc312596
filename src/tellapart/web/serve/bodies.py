"""Reads the bodies of requests: bounded, as raw bytes of one picture or as a form with several."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tellapart.core.extras import require
from tellapart.web.serve.batches import Busy
from tellapart.web.server import TooLong, bounded_parts

MOST_BYTES = 64_000_000
MOST_BYTES_INSIDE = 256_000_000
MOST_PICTURES = 64
_FORM = "multipart/form-data"


class Refused(Exception):
    """A request that is not answered: status, a sentence on the reason, and headers."""

    def __init__(self, status: int, reason: str, **headers: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


class BodyMemory:
    """Bytes of all bodies that are inside together: a hundred of the largest would be too much for the machine."""

    def __init__(self, most: int = MOST_BYTES_INSIDE) -> None:
        self.most, self.n_bytes = most, 0

    @contextmanager
    def lease(self) -> Iterator[Lease]:
        """Within it, one request may take bytes; afterwards they are free again."""
        lease = Lease(self)
        try:
            yield lease
        finally:
            self.n_bytes -= lease.n_bytes


@dataclass
class Lease:
    """The bytes of one request."""

    memory: BodyMemory
    n_bytes: int = 0

    def take(self, n: int) -> None:
        """Take some more.

        Raises:
            Busy: there are none.
        """
        if self.memory.n_bytes + n > self.memory.most:
            raise Busy
        self.memory.n_bytes += n
        self.n_bytes += n


async def pictures_of(request: Any, lease: Lease) -> tuple[list[tuple[str, bytes]], bool]:
    """The pictures in a request's body.

    Returns:
        Name and content of each, and whether they came as a form.

    Raises:
        Refused: too large, of another type, empty, or no form that can be read.
        Busy: other bodies take the memory.
    """
    kind = content_type(request)
    if kind != _FORM and not kind.startswith("image/") and kind != "application/octet-stream":
        how = "Send the bytes of a file with its type (curl -H 'Content-Type: image/jpeg'), or a form with files."
        raise Refused(415, f"{kind[:100]} is no picture. {how}")
    body = await whole_body(request, MOST_BYTES, lease)
    if not body:
        raise Refused(400, "The request holds no picture.")
    if kind != _FORM:
        return [("", body)], False
    lease.take(len(body))  # the files are cut out of it
    return await _parts(request.headers, body), True


def content_type(request: Any) -> str:
    """The type that a request states of its body, in small letters; that of any bytes where it states none."""
    stated: str = request.headers.get("content-type", "application/octet-stream")
    return stated.partition(";")[0].strip().lower()


async def whole_body(request: Any, most: int, lease: Lease) -> bytes:
    """The body of a request.

    Raises:
        Refused: it is longer than `most` bytes, or packed.
        Busy: other bodies take the memory.
    """
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Refused(415, "Send the body as it is, without Content-Encoding.")
    body = bytearray()
    try:
        async for part in bounded_parts(request, most):
            lease.take(len(part))
            body += part
    except TooLong:
        raise Refused(413, f"A request may have at most {most:,} bytes.") from None
    return bytes(body)


async def _parts(headers: Any, body: bytes) -> list[tuple[str, bytes]]:
    """The files of a form; whatever else it holds is refused."""
    multipart = require("starlette.formparsers", "Serving", "serve")
    require("python_multipart", "Serving", "serve", "python-multipart")

    async def once() -> AsyncIterator[bytes]:
        yield body

    # A file of a form is kept in memory up to a size, and the body is bounded already.
    parser = multipart.MultiPartParser(headers, once(), max_files=MOST_PICTURES, max_fields=0)
    parser.spool_max_size = MOST_BYTES
    try:
        form = await parser.parse()
    except (multipart.MultiPartException, KeyError, ValueError, UnicodeDecodeError) as error:
        if "Too many" in str(error):
            raise Refused(413, f"A form may have at most {MOST_PICTURES} files, and no other fields.") from None
        raise Refused(400, "The form cannot be read.") from None
    pictures = [(part.filename or "", await part.read()) for _, part in form.multi_items() if hasattr(part, "read")]
    await form.close()
    if not pictures:
        raise Refused(400, "The form holds no file.")
    return pictures
