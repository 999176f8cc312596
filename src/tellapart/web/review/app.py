"""The server of the review page: reachable from this machine alone, with a secret token in the address."""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import Any

from tellapart.core.extras import require
from tellapart.data.decoding.decode import decode
from tellapart.errors import TellapartError
from tellapart.report.thumbnail import thumbnail
from tellapart.web.review.session import Session

_STATIC = Path(__file__).parent / "static"
_KINDS = {"page.html": "text/html", "style.css": "text/css", "script.js": "text/javascript"}
_LARGE, _SMALL = 1400, 160
_MOST = 1_000_000  # bytes of a request
_HEADERS = {
    # Nothing from elsewhere, and no other page may frame this one or learn its address.
    "Content-Security-Policy": "default-src 'none'; img-src 'self' data:; style-src 'self'; script-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def new_token() -> str:
    """A secret token for the address, which other pages in the browser cannot guess."""
    return secrets.token_urlsafe(16)


def make_app(session: Session, token: str) -> Any:
    """The application, for uvicorn.

    Every path begins with the token; any other is not found. Requests with another host name are refused: a page
    elsewhere may point its own name at this machine (DNS rebinding).

    Raises:
        MissingExtraError: fastapi is not installed.
    """
    fastapi = require("fastapi", "Reviewing", "review")
    app = fastapi.FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    rows = session.shown_rows

    async def guard(request: Any, proceed: Any) -> Any:
        host = request.headers.get("host", "").rsplit(":", 1)[0]
        origin = request.headers.get("origin")
        own = origin is None or origin == f"http://{request.headers.get('host', '')}"
        known = secrets.compare_digest(request.url.path.split("/")[1].encode(), token.encode())
        if host not in ("127.0.0.1", "localhost") or not own or not known:
            return fastapi.Response("Not found.", 404, _HEADERS, "text/plain")
        response = await proceed(request)
        response.headers.update(_HEADERS)
        return response

    def picture(row: int, size: str) -> Any:
        if row not in rows:
            return fastapi.Response("Not found.", 404)
        side = _SMALL if size == "small" else _LARGE
        try:
            made = thumbnail(decode(session.path(row), side), side, 75 if size == "small" else 88)
        except (TellapartError, OSError) as error:
            return fastapi.Response(str(error), 410, media_type="text/plain")
        return fastapi.Response(made, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=3600"})

    async def decide(request: Any) -> Any:
        body = await _body(request)
        if body is None or not isinstance(body.get("item"), int) or not isinstance(body.get("to", []), list):
            return fastapi.responses.JSONResponse({"error": "Not a decision."}, 400)
        try:
            session.decide(body["item"], str(body.get("decision")), [str(name) for name in body.get("to", [])])
        except TellapartError as error:
            return fastapi.responses.JSONResponse({"error": error.message}, 400)
        except OSError as error:
            return fastapi.responses.JSONResponse({"error": f"{session.log.path}: {error.strerror}"}, 500)
        return fastapi.responses.JSONResponse(session.state())

    async def undo(request: Any) -> Any:
        try:
            return fastapi.responses.JSONResponse({"item": session.undo(), **session.state()})
        except TellapartError as error:
            return fastapi.responses.JSONResponse({"error": error.message}, 400)
        except OSError as error:
            return fastapi.responses.JSONResponse({"error": f"{session.log.path}: {error.strerror}"}, 500)

    async def large_or_small(request: Any) -> Any:
        row = request.path_params["row"]
        # Decoding takes a while; on a thread, it does not hold up other requests.
        work = require("starlette.concurrency", "Reviewing", "review").run_in_threadpool
        return await work(picture, int(row) if row.isdecimal() else -1, request.path_params["size"])

    async def page(request: Any) -> Any:
        name = request.path_params.get("name", "page.html")
        if name == "about":
            return fastapi.responses.JSONResponse({**session.about(), **session.state()})
        if name == "state":
            return fastapi.responses.JSONResponse(session.state())
        if name not in _KINDS:
            return fastapi.Response("Not found.", 404)
        return fastapi.Response((_STATIC / name).read_bytes(), media_type=f"{_KINDS[name]}; charset=utf-8")

    app.middleware("http")(guard)
    base = f"/{token}/"
    app.add_route(f"{base}picture/{{size}}/{{row}}", large_or_small, methods=["GET"])
    app.add_route(f"{base}decide", decide, methods=["POST"])
    app.add_route(f"{base}undo", undo, methods=["POST"])
    app.add_route(base, page, methods=["GET"])
    app.add_route(f"{base}{{name}}", page, methods=["GET"])
    return app


async def _body(request: Any) -> dict[str, Any] | None:
    """The JSON object of a request, or None. Other pages cannot send this content type without asking first (CORS)."""
    if request.headers.get("content-type") != "application/json":
        return None
    text = await request.body()
    try:
        body = json.loads(text) if len(text) <= _MOST else None
    except ValueError:
        return None
    return body if isinstance(body, dict) else None
