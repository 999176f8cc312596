"""The verb `serve`: a classifier answers over HTTP until it is stopped."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import signal
import socket
from pathlib import Path

import numpy as np

from tellapart.core.extras import require
from tellapart.core.output import print_err, print_out
from tellapart.deploy.bundle.golden import read_golden
from tellapart.deploy.engines.names import AUTO
from tellapart.deploy.predictor import Classifier, load
from tellapart.errors import TellapartError, UsageError
from tellapart.web.serve.app import LOOPBACK, Served
from tellapart.web.serve.batches import BATCH
from tellapart.web.server import listen, server_config


def serve(run: Path, host: str = "127.0.0.1", port: int = 8000, token: str = "", engine: str = AUTO) -> None:
    """Answer over HTTP until SIGINT or SIGTERM; what is inside by then is answered. SIGHUP loads the bundle anew.

    Args:
        run: a run directory or a bundle.
        host: address to listen on; any but this machine's own needs a token.
        port: 0 takes a free one.
        token: that requests must bring; "new" makes one up.
        engine: see `load`.

    Raises:
        UsageError: no token for an address that others can reach, or a port that cannot be used.
        BundleError: there is no bundle, or it does not give its golden answers on this machine.
    """
    require("fastapi", "Serving", "serve")
    if host not in LOOPBACK and not token:
        raise UsageError(
            f"Others can reach {host}: a token is needed, which requests must bring.",
            "Add --token TOKEN, or --token new.",
        )
    token = secrets.token_urlsafe(24) if token == "new" else token
    served = Served(_ready(run, engine), token)
    listener = listen(host, port)
    address = f"http://{host}:{listener.getsockname()[1]}/{f'?token={token}' if token else ''}"
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_until_stopped(served, run, engine, listener, address))


async def _until_stopped(served: Served, run: Path, engine: str, listener: socket.socket, address: str) -> None:
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[None]] = set()

    async def load_again() -> None:
        try:
            served.exchange(await loop.run_in_executor(None, _ready, run, engine))
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
    server = require("uvicorn", "Serving", "serve").Server(server_config(served.app(), "on", "Serving", "serve"))
    # Whoever reads this line may connect and signal at once.
    print_out(f"Serving {run} at {address}", "Ctrl-C ends it.", flush=True)
    await server.serve(sockets=[listener])


def _ready(run: Path, engine: str) -> Classifier:
    """The classifier, on the fastest engine, and warm: the first request waits no longer than the others."""
    model = load(run, engine, print_out)
    pictures, _ = read_golden(model.bundle)
    batch = np.resize(pictures, (BATCH, *pictures.shape[1:]))
    if not model.network.decided:
        model.network.decide(batch)
    model.network.predict_distance(batch)
    return model
