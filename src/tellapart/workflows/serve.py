"""The verb `serve`: a classifier answers over HTTP until it is stopped."""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
import signal
import socket
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tellapart.core.extras import require
from tellapart.core.hardware import give_back
from tellapart.core.output import print_err, print_out
from tellapart.deploy.bundle.golden import read_golden
from tellapart.deploy.bundle.read import Bundle
from tellapart.deploy.engines.apart import choose_apart
from tellapart.deploy.engines.names import AUTO
from tellapart.deploy.predictor import BATCH, Classifier
from tellapart.errors import TellapartError, UsageError
from tellapart.runs.run import Run
from tellapart.web.guard import LOOPBACK
from tellapart.web.serve.app import CONNECTIONS, Extras, Served
from tellapart.web.serve.explainer import Explainer
from tellapart.web.server import listen, server_config

if TYPE_CHECKING:
    from tellapart.web.serve.picture_store import PictureStore


def serve(
    run: str | Path,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    token: str = "",
    engine: str = AUTO,
    keep: str | Path | None = None,
    keep_most: float = 10.0,
) -> None:
    """Answer over HTTP until SIGINT or SIGTERM; what is inside by then is answered. SIGHUP loads the bundle anew.

    Args:
        run: a run directory or a bundle.
        host: address to listen on; any but this machine's own needs a token.
        port: 0 takes a free one. The address is printed.
        token: that requests must bring; "new" makes one up.
        engine: see `load`.
        keep: folder where pictures are kept that were answered; None: nowhere.
        keep_most: gigabytes that it may take.

    Raises:
        UsageError: no token for an address that others can reach, or a port or folder that cannot be used.
        BundleError: there is no bundle, or it does not give its golden answers on this machine.
    """
    require("starlette", "Serving", "serve", "fastapi")
    if host not in LOOPBACK and not token:
        raise UsageError(
            f"Others can reach {host}: a token is needed, which requests must bring.",
            "Add --token TOKEN, or --token new.",
        )
    folder, token = Path(run), secrets.token_urlsafe(24) if token == "new" else token
    store = None if keep is None else _store(Path(keep), keep_most)
    explainer, reason = _explainer(Run(folder))
    model = _ready(folder, engine)
    served = Served(model, Extras(_name(folder), token, store, explainer, reason))
    listener = listen(host, port)
    address = f"http://{host}:{listener.getsockname()[1]}/{f'?token={token}' if token else ''}"
    lines = [f"Serving {run} at {address}"]
    if store is not None:
        lines.append(f"Pictures are kept in {store.folder}, up to {keep_most:g} GB. Look through them:")
        lines.append(f"tellapart review {store.folder} --run {run} --out {store.folder}")
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_until_stopped(served, folder, engine, listener, [*lines, "Ctrl-C ends it."]))


def _store(folder: Path, most_gigabytes: float) -> PictureStore:
    from tellapart.web.serve.picture_store import PictureStore  # tables of corrections need polars: 30 MB

    return PictureStore(folder, round(most_gigabytes * 1e9))


def _name(run: Path) -> str:
    """The model's name for programs: that of its folder, as far as it can stand in an address."""
    folder = run.resolve()
    name = folder.parent.name if folder.name == "bundle" else folder.name
    return re.sub(r"[^\w.-]+", "-", name, flags=re.ASCII).strip("-.") or "model"


def _explainer(run: Run) -> tuple[Explainer | None, tuple[int, str]]:
    """What explains answers; None, and the reason as status and sentence, where nothing can."""
    if not (run.started and run.finished) or run.is_average:
        return None, (404, "Explanations need the finished run; here its bundle is served.")
    if find_spec("torch") is None:
        return None, (501, "Explanations need torch on the server: pip install 'tellapart[train]'")
    command = (sys.executable, "-m", "tellapart.workflows.explain_on_demand", str(run.directory.absolute()))
    return Explainer(command), (404, "")


async def _until_stopped(served: Served, run: Path, engine: str, listener: socket.socket, lines: list[str]) -> None:
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[None]] = set()

    async def load_again() -> None:
        try:
            await served.exchange(await loop.run_in_executor(None, _ready, run, engine))
        except TellapartError as error:
            print_err(f"The bundle is not exchanged: {error.message}", *filter(None, [error.hint]))
        else:
            print_out(f"The bundle of {run} was loaded anew.", flush=True)

    def begin() -> None:
        task = loop.create_task(load_again())
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    if hasattr(signal, "SIGHUP"):
        loop.add_signal_handler(signal.SIGHUP, begin)
    config = server_config(served.app(), "on", "Serving", "serve", CONNECTIONS)
    server = require("uvicorn", "Serving", "serve").Server(config)
    # Whoever reads these lines may connect and signal at once.
    print_out(*lines, flush=True)
    await server.serve(sockets=[listener])


def _ready(run: Path, engine: str) -> Classifier:
    """The classifier, on the fastest engine, and warm: the first request waits no longer than the others."""
    bundle = Bundle.load(run)
    chosen = engine if engine == "onnxruntime" else choose_apart(bundle.folder, engine, BATCH, print_out)
    model = Classifier(bundle, chosen, checked=True)
    pictures, _ = read_golden(bundle)
    model.network.predict_distance(np.resize(pictures, (BATCH, *pictures.shape[1:])))
    give_back()
    return model
