"""The server's application: pictures in, answers out, over HTTP."""

from __future__ import annotations

import contextlib
import re
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from tellapart.core.extras import require
from tellapart.core.output import print_err
from tellapart.deploy.predictor import AnswerOptions, Classifier
from tellapart.errors import UsageError
from tellapart.web.serve.batches import Batches, Busy
from tellapart.web.serve.bodies import Refused, pictures_of
from tellapart.web.serve.metrics import Metrics
from tellapart.web.serve.openapi import openapi
from tellapart.web.serve.page import POLICY, Page

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_COOKIE = "tellapart-token"
_OPEN = ("/healthz", "/readyz")  # whoever looks after the process has no token
_NUMBER = re.compile(r"\d{1,9}(\.\d{1,9})?")


class Served:
    """What a server answers with, and how.

    Attributes:
        batches: runs the model.
        token: that a request must bring; empty where only this machine can ask.
        metrics: counts.
    """

    def __init__(self, model: Classifier, token: str = "") -> None:
        self.batches = Batches(model)
        self.token = token
        self.metrics = Metrics()
        self.page = Page(model.bundle)
        self._fastapi = require("fastapi", "Serving", "serve")

    def exchange(self, model: Classifier) -> None:
        """Answer with another model from now on. What is inside is answered by the one that it was prepared for."""
        self.batches.model, self.page = model, Page(model.bundle)

    def app(self) -> Any:
        """The application, for uvicorn."""

        @contextlib.asynccontextmanager
        async def lifespan(app: Any) -> AsyncIterator[None]:
            self.batches.start()
            yield
            await self.batches.stop()

        app = self._fastapi.FastAPI(docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
        app.middleware("http")(self._guard)
        for path, method, answer in (
            ("/v1/predict", "POST", self.predict),
            ("/v1/model", "GET", self.model),
            ("/healthz", "GET", self.healthy),
            ("/readyz", "GET", self.healthy),
            ("/metrics", "GET", self.counts),
            ("/openapi.json", "GET", self.openapi),
            ("/", "GET", self.html),
            ("/page/{name}", "GET", self.html),
        ):
            app.add_route(path, answer, methods=[method])
        return app

    async def predict(self, request: Any) -> Any:
        """Answer the pictures of a request."""
        start = time.perf_counter()
        pictures, as_form = await pictures_of(request)
        self.metrics.inside.set(self.batches.n_inside + len(pictures))
        answers = await self.batches.answers([content for _, content in pictures], _options(request.query_params))
        self.metrics.inside.set(self.batches.n_inside)
        self.metrics.seconds.observe(time.perf_counter() - start)
        listed: list[dict[str, Any]] = []
        for (name, _), answer in zip(pictures, answers, strict=True):
            result = "unreadable" if answer.problem else "unknown" if answer.unknown else "answered"
            self.metrics.pictures.labels(result).inc()
            listed.append({**answer.to_dict(), "path": name})
        if as_form:
            return self._json({"answers": listed})
        if listed[0]["problem"]:
            raise Refused(422, str(listed[0]["problem"]))
        return self._json(listed[0])

    async def model(self, request: Any) -> Any:
        """What the model is."""
        return self._json(self.page.about)

    async def healthy(self, request: Any) -> Any:
        """Whether it lives; it is ready as soon as it listens."""
        return self._json({"status": "ok"})

    async def counts(self, request: Any) -> Any:
        """Counts for Prometheus."""
        return self._fastapi.Response(self.metrics.text(), headers={"Content-Type": self.metrics.content_type})

    async def openapi(self, request: Any) -> Any:
        """The description of this interface."""
        return self._json(openapi(self.batches.model.bundle, bool(self.token)))

    async def html(self, request: Any) -> Any:
        """The page, and its parts."""
        part = self.page.part(request.path_params.get("name", "page.html"))
        if part is None:
            raise Refused(404, "Not found.")
        content, kind = part
        headers = {"Content-Type": f"{kind}; charset=utf-8", "Content-Security-Policy": POLICY}
        response = self._fastapi.Response(content, headers=headers)
        if self.token and request.query_params.get("token"):  # the guard has compared it
            response.set_cookie(_COOKIE, self.token, httponly=True, samesite="strict")
        return response

    async def _guard(self, request: Any, proceed: Callable[[Any], Awaitable[Any]]) -> Any:
        """Refuse strangers, name each error by a status and a sentence, and count."""
        disconnected = require("starlette.requests", "Serving", "serve").ClientDisconnect
        path = request.scope["path"]
        kind = path if path in ("/v1/predict", "/v1/model") else "other"
        headers: dict[str, str] = {}
        try:
            self._admit(request, path)
            response = await proceed(request)
        except Refused as refused:
            response = self._error(refused.status, refused.reason)
        except Busy:
            headers = {"Retry-After": "1"}
            response = self._error(429, "Too many pictures wait already. Try again in a second.")
        except UsageError as error:
            response = self._error(400, error.message)
        except disconnected:
            response = self._error(400, "The request was broken off.")
        except Exception as error:  # noqa: BLE001 - whoever asks learns no more; the operator does
            print_err(f"A request failed: {type(error).__name__}: {error}")
            response = self._error(500, "The model cannot be run. Its operator can verify it: tellapart verify")
        self.metrics.requests.labels(kind, str(response.status_code)).inc()
        response.headers.update({**_HEADERS, **headers})
        if response.status_code in (401, 403, 413, 415, 429):  # the rest of the body is not read
            response.headers["Connection"] = "close"
        return response

    def _admit(self, request: Any, path: str) -> None:
        """Let a request in.

        Raises:
            Refused: it names another host (a page elsewhere may point its own name at this machine), comes from
                another page, or lacks the token.
        """
        host = request.headers.get("host", "")
        origin = request.headers.get("origin")
        if origin is not None and origin.partition("://")[2] != host:
            raise Refused(403, "Pages of other origins may not ask here.")
        if not self.token:
            if host.rpartition(":")[0] not in LOOPBACK and host not in LOOPBACK:
                raise Refused(403, "This server answers to 127.0.0.1 and localhost alone.")
            return
        if path in _OPEN:
            return
        scheme, _, sent = request.headers.get("authorization", "").partition(" ")
        sent = sent if scheme.lower() == "bearer" else request.cookies.get(_COOKIE, "")
        if path == "/" and request.query_params.get("token"):
            sent = request.query_params["token"]
        if not secrets.compare_digest(sent.encode("utf-8", "replace"), self.token.encode()):
            raise Refused(401, "A token is needed: the header Authorization: Bearer TOKEN.")

    def _error(self, status: int, reason: str) -> Any:
        return self._json({"error": reason}, status)

    def _json(self, content: Any, status: int = 200) -> Any:
        return self._fastapi.responses.JSONResponse(content, status)


def _options(query: Any) -> AnswerOptions:
    """How answers are wanted.

    Raises:
        Refused: a parameter that is not known, or no such value.
    """
    options: AnswerOptions = {}
    for name, text in query.multi_items():
        if name == "top" and text.isdecimal() and int(text[:9]) >= 1:
            options["top"] = int(text[:9])
        elif name == "coverage" and _NUMBER.fullmatch(text):
            options["coverage"] = float(text)
        elif name == "unknown" and text in ("true", "false"):
            options["unknown"] = text == "true"
        else:
            raise Refused(400, "Possible are ?top=3, ?coverage=0.95 and ?unknown=false.")
    return options
