"""A classifier of colours, served over real HTTP."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tellapart.deploy.predictor import load
from tellapart.evaluation.open_set import KnownClasses, OodScore
from tellapart.web.serve.app import CONNECTIONS, Extras, Served
from tellapart.web.server import listen, server_config
from tests.deploy.conftest import _make_bundle
from tests.deploy.export.conftest import with_golden


def make_run(folder: Path) -> Path:
    known = KnownClasses(100 * np.eye(3, dtype=np.float32), np.eye(3, 1, dtype=np.float32), np.ones(1, np.float32), 0.1)
    score = OodScore((0.5, 0.5), (0.2, 0.3), 1e9, 0.99, 100)
    _make_bundle(folder / "bundle", known=known, ood_score=score.as_dict(), sets={"0.95": 0.2}, n_validation=100)
    with_golden(folder / "bundle")
    return folder


def picture(colour: tuple[int, int, int] = (230, 20, 30), kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (20, 16), colour).save(file, kind)
    return file.getvalue()


class Running:
    """A server on a thread."""

    def __init__(self, run: Path, connections: int = CONNECTIONS, **extras: Any) -> None:
        import uvicorn

        self.served = Served(load(run, "onnxruntime"), Extras(name="colours", **extras))
        listener = listen("127.0.0.1", 0)
        self.port = listener.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"
        self.server = uvicorn.Server(server_config(self.served.app(), "on", connections=connections))
        self.thread = threading.Thread(target=self.server.run, args=([listener],))
        self.thread.start()

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join(30)


@pytest.fixture(scope="session")
def run(tmp_path_factory) -> Path:
    return make_run(tmp_path_factory.mktemp("served") / "run")


@pytest.fixture(scope="session")
def running(run) -> Iterator[Running]:
    started = Running(run)
    yield started
    started.stop()


@pytest.fixture(scope="session")
def with_token(run) -> Iterator[Running]:
    started = Running(run, token="s3cret")
    yield started
    started.stop()
