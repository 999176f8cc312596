"""Chooses the engine in a process of its own: the memory of those that were compared and not taken ends with it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tellapart.core.output import print_json
from tellapart.deploy.bundle.golden import read_golden
from tellapart.deploy.bundle.read import Bundle
from tellapart.deploy.engines.names import AUTO, ENGINES
from tellapart.deploy.engines.switch import EngineSwitch
from tellapart.errors import BundleError, TellapartError, UsageError

_SECONDS = 600.0


def choose_apart(folder: Path, engine: str, batch_size: int, say: Callable[[str], None]) -> str:
    """The fastest engine whose answers are the golden ones on this machine, see `choose.choose`; or check a named one.

    Args:
        folder: of a bundle.
        engine: "auto", or one of `names.ENGINES`.
        batch_size: pictures that are to come together.
        say: called with lines for people on the choice.

    Returns:
        One of `names.ENGINES`, checked.

    Raises:
        BundleError: no engine gives the golden answers here, or the process came to no choice.
        UsageError: the named engine cannot be used here, or is not installed.
    """
    arguments = [str(folder.absolute()), engine, str(batch_size)]
    command = [sys.executable, "-m", "tellapart.deploy.engines.apart", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_SECONDS, check=False)
        choice: dict[str, Any] = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        raise BundleError(f"No engine could be chosen for {folder}.", "Name one: --engine onnxruntime") from None
    if "error" in choice:
        kind = UsageError if choice["usage"] else BundleError
        raise kind(str(choice["error"]), str(choice["hint"]))
    if choice["engine"] not in ENGINES:
        raise BundleError(f"No engine could be chosen for {folder}.", "Name one: --engine onnxruntime")
    for line in choice["lines"]:
        say(line)
    return str(choice["engine"])


def main() -> None:
    """Print the choice as JSON, for a bundle, an engine or "auto", and a size of batches."""
    folder, engine, batch_size = sys.argv[1], sys.argv[2], int(sys.argv[3])
    try:
        bundle = Bundle.load(folder)
        switch, lines = EngineSwitch(bundle, engine), []
        if engine == AUTO:
            pictures, _ = read_golden(bundle)
            lines = switch.decide(np.resize(pictures, (batch_size, *pictures.shape[1:]))).lines()
    except TellapartError as error:
        usage = not isinstance(error, BundleError)
        print_json({"error": error.message, "hint": error.hint, "usage": usage})
        return
    print_json({"engine": switch.bundle.engine, "lines": lines})


if __name__ == "__main__":
    main()
