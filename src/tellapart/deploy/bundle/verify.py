"""Verifies a bundle: onnxruntime's logits beside the golden ones. No torch here."""

from __future__ import annotations

from typing import Any

import numpy as np

from tellapart.deploy.bundle.read import GOLDEN, Bundle
from tellapart.deploy.bundle.tensors import read_tensors
from tellapart.errors import BundleError


def verify(bundle: Bundle) -> float:
    """Run the golden pictures, one by one and all at once, and compare with the stored logits.

    Returns:
        The largest absolute difference between a logit and the golden one.

    Raises:
        BundleError: a difference above the bundle's tolerance, or a golden file that cannot be read.
    """
    pictures, golden = _golden(bundle)
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


def _golden(bundle: Bundle) -> tuple[Any, Any]:
    """Golden pictures, uint8 [k, height, width, 3], and their logits, float64 [k, n_classes]."""
    path = bundle.folder / GOLDEN
    try:
        tensors = read_tensors(path)
        pictures, logits = tensors["pictures"], tensors["logits"].astype(np.float64)
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise BundleError(f"{path} cannot be read: {error}") from error
    if not len(pictures) or logits.shape != (len(pictures), len(bundle.classes)):
        raise BundleError(f"{path}: {len(pictures)} pictures and logits {list(logits.shape)} do not belong together.")
    return pictures, logits
