"""Verifies a bundle: onnxruntime's logits beside the golden ones. No torch here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from tellapart.core.limits import limit_memory
from tellapart.core.output import print_json
from tellapart.deploy.bundle.read import GOLDEN, Bundle
from tellapart.deploy.bundle.tensors import read_tensors
from tellapart.errors import BundleError

SECONDS, GIB = 120.0, 4.0
_MOST_PICTURES = 64


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


def check_golden(bundle: Bundle) -> float:
    """Run the golden pictures, one by one and all at once, and compare with the stored logits.

    Returns:
        The largest absolute difference between a logit and the golden one.

    Raises:
        BundleError: a difference above the bundle's tolerance, or a golden file that cannot be read.
    """
    pictures, golden = read_golden(bundle)
    largest = 0.0
    for batch_size in (1, len(pictures)):
        difference = np.abs(bundle.predict_pixels(pictures, batch_size).astype(np.float64) - golden)
        excess = difference - (bundle.absolute + bundle.relative * np.abs(golden))
        if excess.max() > 0:
            picture, number = np.unravel_index(int(excess.argmax()), excess.shape)
            raise BundleError(
                f"{bundle.folder} does not give the answers it was written with: golden picture {picture}, "
                f"class {bundle.classes[number]!r}: the logit is off by {difference[picture, number]:.3g} "
                f"(allowed: {bundle.absolute:g} + {bundle.relative:g} × its size).",
                "Do not use it: write it again, with the versions of torch and onnxruntime named in requirements.lock.",
            )
        largest = max(largest, float(difference.max()))
    return largest


def read_golden(bundle: Bundle) -> tuple[Any, Any]:
    """Golden pictures, uint8 [k, height, width, 3], and their logits, float64 [k, n_classes]."""
    path = bundle.folder / GOLDEN
    try:
        tensors = read_tensors(path)
        pictures, logits = tensors["pictures"], tensors["logits"].astype(np.float64)
    except (OSError, KeyError, ValueError) as error:
        raise BundleError(f"{path} cannot be read: {error}") from error
    shape = (bundle.preprocessing.height, bundle.preprocessing.width, 3)
    if pictures.dtype != np.uint8 or pictures.shape[1:] != shape or not 0 < len(pictures) <= _MOST_PICTURES:
        raise BundleError(f"{path} holds no pictures that the network takes: {pictures.dtype} {list(pictures.shape)}.")
    if logits.shape != (len(pictures), len(bundle.classes)) or not np.isfinite(logits).all():
        raise BundleError(f"{path}: {len(pictures)} pictures and logits {list(logits.shape)} do not belong together.")
    return pictures, logits


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
