"""What the processes of a test run make once for all of them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tellapart.core.file_locks import lock


def common_folder(factory: pytest.TempPathFactory) -> Path:
    """A folder that all processes of this test run have in common."""
    own = factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "common"
    folder.mkdir(exist_ok=True)
    return folder


def made_once(path: Path, make: Callable[[Path], None]) -> Path:
    """What stands at `path`: the first process makes it, the others wait for it."""
    with path.with_name(f"{path.name}.lock").open("w") as file:
        lock(file.fileno(), shared=False)
        if not path.exists():
            make(path.with_name(f"{path.name}.part"))
            path.with_name(f"{path.name}.part").rename(path)
    return path
