"""Who may ask a live page: requests under this machine's own names, from no other page, and with its secret."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping

#: Names of this machine that only it can reach.
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
#: Of every answer: nobody guesses its type, learns its address, embeds it or stores it.
HEADERS = {
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_HOST = re.compile(r"(.*?)(:\d{1,5})?")


def policy(pictures: str = "'self' data:", styles: str = "'self'") -> str:
    """Content-Security-Policy of a page: nothing from elsewhere, no script but its own, and no other page frames it.

    Args:
        pictures, styles: where these may come from.
    """
    return (
        f"default-src 'none'; img-src {pictures}; media-src blob:; style-src {styles}; script-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def is_local(headers: Mapping[str, str]) -> bool:
    """Whether a request names this machine. A page elsewhere may point its own name at it (DNS rebinding)."""
    host = _HOST.fullmatch(headers.get("host", ""))
    return host is not None and host[1] in LOOPBACK


def is_own(headers: Mapping[str, str]) -> bool:
    """Whether a request comes from the server's own page, or from no page at all."""
    origin = headers.get("origin")
    return origin is None or origin.partition("://")[2] == headers.get("host", "")


def is_secret(sent: str, secret: str) -> bool:
    """Compare in the same time whatever is sent."""
    return secrets.compare_digest(sent.encode("utf-8", "replace"), secret.encode())
