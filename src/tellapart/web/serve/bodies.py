"""Reads the bodies of requests: bounded, as raw bytes of one picture or as a form with several."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from tellapart.core.extras import require
from tellapart.web.server import bounded_body

MOST_BYTES = 64_000_000
MOST_PICTURES = 64
_FORM = "multipart/form-data"


class Refused(Exception):
    """A request that is not answered: status and a sentence on the reason."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


async def pictures_of(request: Any) -> tuple[list[tuple[str, bytes]], bool]:
    """The pictures in a request's body.

    Returns:
        Name and content of each, and whether they came as a form.

    Raises:
        Refused: too large, of another type, empty, or no form that can be read.
    """
    kind = request.headers.get("content-type", "application/octet-stream").partition(";")[0].strip().lower()
    if kind != _FORM and not kind.startswith("image/") and kind != "application/octet-stream":
        raise Refused(415, f"{kind[:100]} is no picture. Send the bytes of a file, or a form with files.")
    if not request.headers.get("content-length", "0").isdecimal():
        raise Refused(400, "Content-Length is no number.")
    body = await bounded_body(request, MOST_BYTES)
    if body is None:
        raise Refused(413, f"A request may have at most {MOST_BYTES / 1e6:.0f} MB.")
    if not body:
        raise Refused(400, "The request holds no picture.")
    if kind != _FORM:
        return [("", body)], False
    return await _parts(request.headers, body), True


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
