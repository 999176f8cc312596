"""The server of live pages: uvicorn with bounds on what a connection may take, and bodies that are bounded."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

from tellapart.core.extras import require
from tellapart.errors import UsageError

#: Seconds that a request may take to arrive, headers and body together, and an answer to be fetched.
REQUEST_SECONDS, ANSWER_SECONDS = 10.0, 120.0
#: Connections at a time; a browser opens six for a page.
MAX_CONNECTIONS = 100
_WAITING = 2048  # connections in the system's queue, as uvicorn asks for
# Bytes read from a connection before others have their turn: in chunks of a byte each, they take a tenth of a second.
_MOST_AT_ONCE = 32_768
_MOST_DIGITS = 10  # of a stated length


def server_config(
    app: Any,
    lifespan: str = "off",
    feature: str = "Reviewing",
    extra: str = "review",
    connections: int = MAX_CONNECTIONS,
) -> Any:
    """Settings of uvicorn, with bounds on what a connection may take.

    Args:
        app: the application.
        lifespan: "on" where it does something when the server begins and ends.
        feature, extra: for the error where uvicorn is missing.
        connections: that there may be at a time.

    Raises:
        MissingExtraError: uvicorn is not installed.
    """
    uvicorn = require("uvicorn", feature, extra)
    # A warning for every request that is no HTTP would let strangers fill the log.
    protocol = _bounded_protocol(connections)
    return uvicorn.Config(app, log_level="error", access_log=False, lifespan=lifespan, http=protocol, ws="none")


def listen(host: str, port: int) -> socket.socket:
    """A socket that takes connections: from here on they wait in the system's queue until the server begins.

    Args:
        host: address to listen on, as a name or in numbers, with or without the brackets of IPv6.
        port: 0 takes a free one.

    Raises:
        UsageError: the port is taken, or the address is not one of this machine.
    """
    # With the protocol stated, asyncio sees that it is TCP and sets TCP_NODELAY. Otherwise an answer's body would wait
    # until its head is acknowledged, for 40 ms.
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host.strip("[]"), port))
        listener.listen(_WAITING)
    except OSError as error:
        listener.close()
        raise UsageError(
            f"Port {port} of {host} cannot be used: {error.strerror}.", "Choose another: --port 0 finds one."
        ) from None
    return listener


def _bounded_protocol(most: int) -> Any:
    """Uvicorn's protocol for HTTP, with deadlines: by itself it waits without end for the rest of a request."""
    import h11
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class BoundedProtocol(H11Protocol):
        """Closes connections whose requests do not arrive in time, and those that are too many."""

        deadline: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            transport.max_size = _MOST_AT_ONCE  # type: ignore[attr-defined]
            super().connection_made(transport)
            if len(self.connections) > most:
                transport.abort()
            else:
                self._close_in(REQUEST_SECONDS)

        def data_received(self, data: bytes) -> None:
            if self.deadline is None:  # the first piece of another request on this connection
                self._close_in(REQUEST_SECONDS)
            waiting = self.conn.their_state in (h11.IDLE, h11.SEND_BODY)
            answered = self.conn.our_state is h11.DONE
            super().data_received(data)
            if waiting and self.conn.their_state not in (h11.IDLE, h11.SEND_BODY):
                self._close_in(ANSWER_SECONDS)
            elif answered and self.conn.their_state is h11.IDLE:
                # The rest of a body that was answered early has passed. Uvicorn would wait for the next request without
                # end, and the deadline of this one would cut it.
                self._close_in(None)
                self.timeout_keep_alive_task = self.loop.call_later(
                    self.timeout_keep_alive, self.timeout_keep_alive_handler
                )

        def on_response_complete(self) -> None:
            if self.conn.their_state is not h11.SEND_BODY:
                self._close_in(None)
            super().on_response_complete()

        def connection_lost(self, exc: Exception | None) -> None:
            self._close_in(None)
            super().connection_lost(exc)

        def _close_in(self, seconds: float | None) -> None:
            if self.deadline is not None:
                self.deadline.cancel()
            self.deadline = None if seconds is None else self.loop.call_later(seconds, self.transport.abort)

    return BoundedProtocol


class TooLong(Exception):
    """A body has more bytes than it may have."""


async def bounded_parts(request: Any, most: int) -> AsyncIterator[bytes]:
    """The parts of a request's body as they arrive.

    Raises:
        TooLong: it has more than `most` bytes, which it may state before any of it is read.
    """
    length = request.headers.get("content-length", "0")
    if len(length) > _MOST_DIGITS or not length.isdecimal() or int(length) > most:
        raise TooLong
    n_bytes = 0
    async for part in request.stream():
        n_bytes += len(part)
        if n_bytes > most:
            raise TooLong
        yield part


async def bounded_body(request: Any, most: int) -> bytes | None:
    """The body of a request, or None where it is longer than `most` bytes: it is read no further than that."""
    body = bytearray()  # a list of a million parts of a byte each would take forty times their size
    try:
        async for part in bounded_parts(request, most):
            body += part
    except TooLong:
        return None
    return bytes(body)
