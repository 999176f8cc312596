"""The server's application: pictures in, answers out, over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from tellapart.core import checks
from tellapart.core.extras import require
from tellapart.core.plain_json import parse_json
from tellapart.deploy.answer import Answer
from tellapart.deploy.predictor import AnswerOptions, Classifier
from tellapart.web.serve import open_inference
from tellapart.web.serve.batches import MOST_WAITING, Batches
from tellapart.web.serve.bodies import MOST_BYTES, BodyMemory, Refused, content_type, pictures_of, whole_body
from tellapart.web.serve.explainer import Explainer
from tellapart.web.serve.gate import COOKIE, Gate
from tellapart.web.serve.metrics import Metrics
from tellapart.web.serve.openapi import openapi
from tellapart.web.serve.page import PAGE_POLICY, Page

if TYPE_CHECKING:
    from tellapart.web.serve.picture_store import PictureStore

#: Connections at a time: pictures that may wait, and whoever is refused beside them.
CONNECTIONS = 4 * MOST_WAITING
_NUMBER = re.compile(r"\d{1,9}(\.\d{1,9})?")
_MOST_CORRECTION = 100_000  # bytes
_T = TypeVar("_T")


@dataclass(frozen=True)
class Extras:
    """What a server has beside the model.

    Attributes:
        name: of the model, for the open inference protocol.
        token: that a request must bring; empty where only this machine can ask.
        store: where pictures are kept; None: nowhere.
        explainer: says why; None: it cannot.
        no_explainer: why not: status and sentence.
    """

    name: str = "model"
    token: str = ""
    store: PictureStore | None = None
    explainer: Explainer | None = None
    no_explainer: tuple[int, str] = (404, "Only the bundle is served here; explanations need its run.")


#: What somebody says a picture shows: its file's name as an answer had it, and names of classes.
_CORRECTION = checks.record({"stored_as": checks.text(100), "labels": checks.listed(checks.text(), range(1001))})


class Served:
    """A model that is served.

    Attributes:
        batches: runs it.
        extras: what there is beside it.
        metrics: counts.
    """

    def __init__(self, model: Classifier, extras: Extras = Extras()) -> None:
        self.batches = Batches(model)
        self.extras = extras
        self.metrics = Metrics()
        self.memory = BodyMemory()
        self.page = self._page(model)
        self._keeper = ThreadPoolExecutor(1, thread_name_prefix="keep")
        # FastAPI's base alone: what it adds, 15 MB, describes bodies that are JSON.
        self._responses = require("starlette.responses", "Serving", "serve")

    async def exchange(self, model: Classifier) -> None:
        """Answer with another model from now on. What is inside is answered by the one that it was prepared for."""
        self.batches.model, self.page = model, self._page(model)
        if self.extras.explainer is not None:
            await self.extras.explainer.stop()

    def app(self) -> Any:
        """The application, for uvicorn."""
        logging.getLogger("python_multipart").setLevel(logging.ERROR)  # it warns of every form that is none

        @contextlib.asynccontextmanager
        async def lifespan(app: Any) -> AsyncIterator[None]:
            self.batches.start()
            yield
            await self.batches.stop()
            self._keeper.shutdown()
            if self.extras.explainer is not None:
                await self.extras.explainer.stop()

        model = "/v2/models/{name}"
        routes = (
            ("/v1/predict", "POST", self.predict),
            ("/v1/explain", "POST", self.explain),
            ("/v1/correction", "POST", self.correct),
            ("/v1/model", "GET", self.model),
            ("/healthz", "GET", self.healthy),
            ("/readyz", "GET", self.healthy),
            ("/metrics", "GET", self.counts),
            ("/openapi.json", "GET", self.openapi),
            ("/v2", "GET", self.v2_server),
            ("/v2/health/live", "GET", self.v2_healthy),
            ("/v2/health/ready", "GET", self.v2_healthy),
            (model, "GET", self.v2_model),
            (f"{model}/ready", "GET", self.v2_ready),
            (f"{model}/infer", "POST", self.v2_infer),
            ("/", "GET", self.html),
            ("/page/{name}", "GET", self.html),
        )
        starlette = require("starlette.applications", "Serving", "serve")
        error = require("starlette.exceptions", "Serving", "serve").HTTPException
        app = starlette.Starlette(lifespan=lifespan, exception_handlers={error: self._no_such_path})
        for path, method, answer in routes:
            app.add_route(path, answer, methods=[method])
        app.add_middleware(Gate, token=self.extras.token, metrics=self.metrics)
        return app

    async def predict(self, request: Any) -> Any:
        """Answer the pictures of a request."""
        self.batches.check_room()
        with self.memory.lease() as lease:
            pictures, as_form = await pictures_of(request, lease)
            contents = [content for _, content in pictures]
            answers = await self._answered(request, contents, _options(request.query_params))
            names = await self._keep(contents, answers)
        listed = [
            {**answer.to_dict(), "path": path, **({} if names is None else {"stored_as": names[i]})}
            for i, (answer, (path, _)) in enumerate(zip(answers, pictures, strict=True))
        ]
        if as_form:
            return self._json({"answers": listed})
        if answers[0].problem:
            raise Refused(422, answers[0].problem)
        return self._json(listed[0])

    async def explain(self, request: Any) -> Any:
        """Say why a picture is answered as it is."""
        explainer = self.extras.explainer
        if explainer is None:
            raise Refused(*self.extras.no_explainer)
        with self.memory.lease() as lease:
            pictures, _ = await pictures_of(request, lease)
            if len(pictures) > 1:
                raise Refused(413, "One picture at a time is explained.")
            explanation = await self._while_connected(request, explainer.explain(pictures[0][1]))
        if problem := explanation.get("problem"):
            raise Refused(422, problem)
        return self._json(explanation)

    async def correct(self, request: Any) -> Any:
        """Write down what somebody says a picture shows."""
        store, bundle = self.extras.store, self.batches.model.bundle
        if store is None:
            raise Refused(404, "No pictures are kept here.")
        if content_type(request) != "application/json":  # which other pages cannot send without asking first (CORS)
            raise Refused(415, "A correction is sent as application/json.")
        with self.memory.lease() as lease:
            body = await whole_body(request, _MOST_CORRECTION, lease)
        try:
            correction = _CORRECTION(parse_json(body))
        except ValueError:
            raise Refused(400, 'A correction is such as {"stored_as": "….jpg", "labels": ["…"]}.') from None
        labels = list(dict.fromkeys(correction["labels"]))
        if unknown := next((name for name in labels if name not in bundle.classes), None):
            raise Refused(400, f"{unknown[:100]!r} is not a class of this model.")
        if len(labels) > 1 and not bundle.multilabel:
            raise Refused(400, "A picture has one label here.")
        await self._on_keeper(store.correct, correction["stored_as"], labels, bundle.multilabel)
        return self._json({"stored_as": correction["stored_as"], "labels": labels})

    async def model(self, request: Any) -> Any:
        """The model, and whether pictures are kept."""
        store = self.extras.store
        if store is None:
            return self._json(self.page.about)
        limits = {"bytes": store.n_bytes, "most_bytes": store.most_bytes, "full": store.full}
        return self._json({**self.page.about, "store": limits})

    async def healthy(self, request: Any) -> Any:
        """Whether it lives; it is ready as soon as it listens."""
        return self._json({"status": "ok"})

    async def counts(self, request: Any) -> Any:
        """Counts for Prometheus."""
        self.metrics.inside.set(self.batches.n_inside)
        return self._responses.Response(self.metrics.text(), headers={"Content-Type": self.metrics.content_type})

    async def openapi(self, request: Any) -> Any:
        """The description of this interface."""
        return self._json(openapi(self.batches.model.bundle, self.extras.name, bool(self.extras.token)))

    async def v2_server(self, request: Any) -> Any:
        """The server, for the open inference protocol."""
        return self._json(open_inference.SERVER)

    async def v2_healthy(self, request: Any) -> Any:
        """Whether it lives and is ready."""
        return self._json({"live": True, "ready": True})

    async def v2_ready(self, request: Any) -> Any:
        """Whether the model is ready."""
        return self._json({"name": self._v2_name(request), "ready": True})

    async def v2_model(self, request: Any) -> Any:
        """Tensors of the model."""
        return self._json(
            open_inference.describe_model(self._v2_name(request), self.batches.model.bundle.classes),
        )

    async def v2_infer(self, request: Any) -> Any:
        """Answer the pictures of a request of the open inference protocol."""
        name, classes = self._v2_name(request), self.batches.model.bundle.classes
        self.batches.check_room()
        with self.memory.lease() as lease:
            body = await whole_body(request, MOST_BYTES, lease)
            lease.take(len(body))  # the pictures are cut out of it
            inference = open_inference.read_inference(body, request.headers.get(open_inference.HEADER_LENGTH))
            answers = await self._answered(request, inference.pictures, {})
            await self._keep(inference.pictures, answers)
        content, n_header = open_inference.write_inference(name, classes, inference, answers)
        headers = {"Content-Type": "application/json"}
        if n_header is not None:
            headers = {"Content-Type": "application/octet-stream", open_inference.HEADER_LENGTH: str(n_header)}
        return self._responses.Response(content, headers=headers)

    async def html(self, request: Any) -> Any:
        """The page, and its parts."""
        part = self.page.part(request.path_params.get("name", "page.html"))
        if part is None:
            raise Refused(404, "Not found.")
        content, kind = part
        headers = {"Content-Type": f"{kind}; charset=utf-8", "Content-Security-Policy": PAGE_POLICY}
        response = self._responses.Response(content, headers=headers)
        if self.extras.token and request.query_params.get("token"):  # the gate has compared it
            response.set_cookie(COOKIE, self.extras.token, httponly=True, samesite="strict")
        return response

    def _page(self, model: Classifier) -> Page:
        return Page(model.bundle, self.extras.store is not None, self.extras.explainer is not None)

    def _v2_name(self, request: Any) -> str:
        """The name of the model that a request asks for."""
        if request.path_params["name"] != self.extras.name:
            raise Refused(404, f"There is no such model. There is: {self.extras.name}")
        return self.extras.name

    async def _answered(self, request: Any, pictures: Sequence[bytes], options: AnswerOptions) -> list[Answer]:
        """Answers to pictures, counted."""
        start = time.perf_counter()
        answers = await self._while_connected(request, self.batches.answers(pictures, options))
        self.metrics.seconds.observe(time.perf_counter() - start)
        for answer in answers:
            result = "unreadable" if answer.problem else "unknown" if answer.unknown else "answered"
            self.metrics.pictures.labels(result).inc()
        return answers

    async def _keep(self, contents: Sequence[bytes], answers: Sequence[Answer]) -> list[str | None] | None:
        """Names of the files of pictures that are kept; None where none are."""
        store = self.extras.store
        if store is None:
            return None
        names: list[str | None] = []
        for content, answer in zip(contents, answers, strict=True):
            name = None if answer.problem else await self._on_keeper(store.add, content)
            self.metrics.stored.labels("no room" if name is None else "stored").inc(not answer.problem)
            names.append(name)
        return names

    async def _on_keeper(self, function: Callable[..., _T], *values: Any) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._keeper, function, *values)

    async def _while_connected(self, request: Any, work: Awaitable[_T]) -> _T:
        """The result of work, which is given up when whoever asked leaves: his place is for others.

        Raises:
            ClientDisconnect: he left.
        """
        task, leaving = asyncio.ensure_future(work), asyncio.ensure_future(_left(request))
        try:
            await asyncio.wait({task, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise require("starlette.requests", "Serving", "serve").ClientDisconnect
            return task.result()
        finally:
            task.cancel()
            leaving.cancel()

    async def _no_such_path(self, request: Any, error: Any) -> Any:
        return self._json({"error": f"{error.detail}."}, error.status_code, error.headers)

    def _json(self, content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Any:
        # As ASCII: names may hold what cannot be encoded otherwise.
        text = json.dumps(content, allow_nan=False)
        return self._responses.Response(text, status, headers, "application/json")


async def _left(request: Any) -> None:
    """Ends when whoever asked is gone. The body has been read, so nothing else can come."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


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
