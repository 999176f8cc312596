"""The way in and out of the server: strangers are refused, each error becomes a status and a sentence, all is counted.

It is plain ASGI. A middleware of the framework would run each answer through tasks and queues of its own.
"""

from __future__ import annotations

import json
from collections.abc import MutableMapping
from typing import Any
from urllib.parse import parse_qs

from tellapart.core.extras import require
from tellapart.core.output import print_err
from tellapart.errors import UsageError
from tellapart.web.guard import HEADERS, is_local, is_own, is_secret
from tellapart.web.serve.batches import Busy
from tellapart.web.serve.bodies import Refused
from tellapart.web.serve.metrics import Metrics

COOKIE = "tellapart-token"
_OPEN = ("/healthz", "/readyz", "/v2/health/live", "/v2/health/ready")  # whoever looks after the process has no token
_COUNTED = ("/v1/predict", "/v1/explain", "/v1/correction", "/v1/model")
#: Statuses after which the rest of a body is not read. Whoever comes at a busy time (429) may send it to its end: it is
#: passed over, he learns why, and comes again on the same connection, which costs both less than a new one.
_BODY_UNREAD = (401, 403, 413, 415)


class Gate:
    """An application around another one.

    Args:
        app: answers what is let in.
        token: that a request must bring; empty where only this machine can ask.
        metrics: counts.
    """

    def __init__(self, app: Any, token: str, metrics: Metrics) -> None:
        self.app, self.token, self.metrics = app, token, metrics
        self._starlette = require("starlette.requests", "Serving", "serve")

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        """Answer a request, as ASGI has it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status, path = 0, scope["path"]

        async def send_on(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *_encoded(HEADERS)]
                if status in _BODY_UNREAD or (status == 429 and _waits_to_send(scope)):
                    message["headers"] += _encoded({"Connection": "close"})
            await send(message)

        try:
            _admit(self._starlette.Request(scope), self.token)
            await self.app(scope, receive, send_on)
        except Exception as error:  # noqa: BLE001 - whoever asks gets a sentence, whatever it was
            if not status:
                await _send_error(send_on, *self._explained(error))
        kind = path if path in _COUNTED else "/v2" if path.startswith("/v2/models/") else "other"
        self.metrics.requests.labels(kind, str(status)).inc()

    def _explained(self, error: Exception) -> tuple[int, str, dict[str, str]]:
        """Status, sentence and headers of an error. It shows no path and no trace: these are the operator's."""
        if isinstance(error, Refused):
            return error.status, error.reason, error.headers
        if isinstance(error, Busy):
            return 429, "Too many pictures wait already. Try again in a second.", {"Retry-After": "1"}
        if isinstance(error, UsageError):
            return 400, error.message, {}
        if isinstance(error, self._starlette.ClientDisconnect):
            return 400, "The request was broken off.", {}
        print_err(f"A request failed: {type(error).__name__}: {error}")
        return 500, "The model cannot be run. Its operator can verify it: tellapart verify", {}


def _waits_to_send(scope: MutableMapping[str, Any]) -> bool:
    """Whether the body is sent only after a word of ours (Expect: 100-continue), which never came."""
    return any(name == b"expect" for name, _ in scope["headers"])


def _admit(request: Any, token: str) -> None:
    """Let a request in.

    Raises:
        Refused: it names another host, comes from another page, or lacks the token.
    """
    if not is_own(request.headers):
        raise Refused(403, "Pages of other origins may not ask here.")
    if not token:
        if not is_local(request.headers):
            raise Refused(403, "This server answers to 127.0.0.1 and localhost alone.")
        return
    path = request.scope["path"]
    if path in _OPEN:
        return
    scheme, _, sent = request.headers.get("authorization", "").partition(" ")
    sent = sent if scheme.lower() == "bearer" else request.cookies.get(COOKIE, "")
    if path == "/":  # the address that the operator opens once
        query = parse_qs(request.scope["query_string"].decode("latin-1"))
        sent = query.get("token", [sent])[0]
    if not is_secret(sent, token):
        raise Refused(401, "A token is needed: the header Authorization: Bearer TOKEN.")


async def _send_error(send: Any, status: int, reason: str, headers: dict[str, str]) -> None:
    body = json.dumps({"error": reason}).encode()
    own = {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}
    await send({"type": "http.response.start", "status": status, "headers": _encoded(own)})
    await send({"type": "http.response.body", "body": body})


def _encoded(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode(), value.encode()) for name, value in headers.items()]
