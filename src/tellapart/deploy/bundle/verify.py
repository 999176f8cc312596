"""Verifies a bundle, from whomever, in a process of its own: its logits beside the golden ones. No torch here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tellapart.core.limits import limit_memory
from tellapart.core.output import print_json
from tellapart.deploy.bundle.golden import check_golden
from tellapart.deploy.bundle.read import Bundle
from tellapart.errors import BundleError

SECONDS, GIB = 120.0, 4.0


def verify(path: str | Path, seconds: float = SECONDS, gib: float = GIB) -> float:
    """Check that a bundle, from whomever, answers its golden pictures as it did when it was written.

    A network may be made to compute for ever, or to fill the memory. So it runs in a process of its own.

    Args:
        path: a run directory or a bundle.
        seconds: until the process is ended.
        gib: memory that it may take, in GiB; on Windows, where a process cannot be limited so, it is not.

    Returns:
        The largest absolute difference between a logit and the golden one.

    Raises:
        BundleError: it does not, cannot be read, or takes longer or more memory than that.
    """
    # -P: without it Python would import modules from the folder one works in, which may be the bundle itself.
    command = [sys.executable, "-P", "-m", __name__, str(path), str(gib)]
    try:
        child = subprocess.run(command, capture_output=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        raise BundleError(f"{path} does not answer its golden pictures within {seconds:g} seconds.") from None
    try:
        result = json.loads(child.stdout)
    except ValueError:
        raise BundleError(
            f"{path} ends the process that runs its network: it needs more than {gib:g} GiB of memory, or "
            "onnxruntime fails."
        ) from None
    if "message" in result:
        raise BundleError(result["message"], result["hint"])
    return float(result["difference"])


def _in_child(folder: str, gib: float) -> dict[str, Any]:
    """What the child says to its parent."""
    limit_memory(gib)
    try:
        return {"difference": check_golden(Bundle.load(folder))}
    except BundleError as error:
        return {"message": error.message, "hint": error.hint}
    except MemoryError:
        return {"message": f"{folder} needs more than {gib:g} GiB of memory for its golden pictures.", "hint": ""}


if __name__ == "__main__":
    print_json(_in_child(sys.argv[1], float(sys.argv[2])))
