"""The server of the review page: reachable from this machine alone, with a secret token in the address."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError

from tellapart.core.extras import require
from tellapart.core.palette import css
from tellapart.data.decoding.decode import decode
from tellapart.errors import TellapartError
from tellapart.report.thumbnail import thumbnail
from tellapart.web.guard import HEADERS, is_local, is_own, is_secret, policy
from tellapart.web.review.session import Session
from tellapart.web.server import bounded_body

_STATIC = Path(__file__).parent / "static"
_KINDS = {"page.html": "text/html", "style.css": "text/css", "script.js": "text/javascript"}
_LARGE, _SMALL = 1400, 160
_MAX_BODY, _MAX_REPORT = 1_000_000, 100_000_000  # bytes of a request, and of a report
_MAX_DIGITS = 10  # of a row's number
_HEADERS = {"Content-Security-Policy": policy(), **HEADERS}
#: A report brings its own policy, which lets its own scripts alone run; here these reach nothing of the review.
_OF_REPORT = {
    "Content-Security-Policy": "sandbox allow-scripts; default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
}


class _Decision(BaseModel, strict=True):
    """What the page sends: the number of an item, a decision, and the labels that it shall have."""

    item: Annotated[int, Field(ge=0, lt=1 << 31)]
    decision: Literal["keep", "relabel", "exclude", "unsure"]
    to: list[str] = []


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
    pages = _Pages(session, session.shown_rows, fastapi)

    async def guard(request: Any, proceed: Any) -> Any:
        first = request.scope["path"].strip("/").partition("/")[0]
        if not (is_local(request.headers) and is_own(request.headers) and is_secret(first, token)):
            return fastapi.Response("Not found.", 404, _HEADERS, "text/plain")
        response = await proceed(request)
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    app.middleware("http")(guard)
    base = f"/{token}/"
    app.add_route(f"{base}picture/{{size}}/{{row}}", pages.picture, methods=["GET"])
    app.add_route(f"{base}decide", pages.decide, methods=["POST"])
    app.add_route(f"{base}undo", pages.undo, methods=["POST"])
    app.add_route(base, pages.page, methods=["GET"])
    app.add_route(f"{base}{{name}}", pages.page, methods=["GET"])
    return app


@dataclass(frozen=True)
class _Pages:
    """Answers of a session's server to each kind of request."""

    session: Session
    rows: frozenset[int]
    fastapi: Any

    async def page(self, request: Any) -> Any:
        """The page, its parts, what it shows, and the state of the decisions."""
        name = request.path_params.get("name", "page.html")
        if name == "about":
            return self._answer(lambda: {**self.session.about(), **self.session.state()})
        if name == "state":
            return self._answer(self.session.state)
        if name == "report":
            return self._report()
        if name not in _KINDS:
            return self.fastapi.Response("Not found.", 404)
        text = (_STATIC / name).read_text(encoding="utf-8")
        text = css() + text if name == "style.css" else text
        return self.fastapi.Response(text, media_type=f"{_KINDS[name]}; charset=utf-8")

    def _report(self) -> Any:
        report = self.session.report
        if report is None or not report.is_file() or report.stat().st_size > _MAX_REPORT:
            return self.fastapi.Response("Not found.", 404)
        return self.fastapi.Response(report.read_bytes(), headers=_OF_REPORT, media_type="text/html; charset=utf-8")

    async def picture(self, request: Any) -> Any:
        """A picture of the review, large or small."""
        row = request.path_params["row"]
        number = int(row) if row.isdecimal() and len(row) <= _MAX_DIGITS else -1
        # Decoding takes a while; on a thread, it does not hold up other requests.
        work = require("starlette.concurrency", "Reviewing", "review").run_in_threadpool
        return await work(self._thumbnail, number, request.path_params["size"])

    def _thumbnail(self, row: int, size: str) -> Any:
        if row not in self.rows:
            return self.fastapi.Response("Not found.", 404)
        side = _SMALL if size == "small" else _LARGE
        try:
            jpeg = thumbnail(decode(self.session.path(row), side), side, 75 if size == "small" else 88)
        except (TellapartError, OSError) as error:
            return self.fastapi.Response(str(error), 410, media_type="text/plain")
        return self.fastapi.Response(jpeg, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=3600"})

    async def decide(self, request: Any) -> Any:
        """Write a decision down."""
        body = await _body(request)
        if body is None:
            return self._json({"error": "The request is too long."}, 413, {"Connection": "close"})
        try:
            decision = _Decision.model_validate_json(body)
        except ValidationError:
            return self._json({"error": "Not a decision."}, 400)
        # Other pages cannot send this content type without asking first (CORS).
        if request.headers.get("content-type") != "application/json":
            return self._json({"error": "Not a decision."}, 400)

        def write() -> dict[str, Any]:
            self.session.decide(decision.item, decision.decision, decision.to)
            return self.session.state()

        return self._answer(write)

    async def undo(self, request: Any) -> Any:
        """Take the last decision back."""
        return self._answer(lambda: {"item": self.session.undo(), **self.session.state()})

    def _answer(self, make: Callable[[], dict[str, Any]]) -> Any:
        """The answer of something that reads the log or writes to it."""
        try:
            return self._json(make())
        except TellapartError as error:
            return self._json({"error": error.message}, 400)
        except OSError as error:
            return self._json({"error": f"{self.session.log.path}: {error.strerror}"}, 500)

    def _json(self, content: dict[str, Any], status: int = 200, headers: dict[str, str] | None = None) -> Any:
        return self.fastapi.responses.JSONResponse(content, status, headers)


async def _body(request: Any) -> bytes | None:
    """The body of a request, or None where it is too long, or nobody is left to be answered."""
    try:
        return await bounded_body(request, _MAX_BODY)
    except require("starlette.requests", "Reviewing", "review").ClientDisconnect:
        return None
