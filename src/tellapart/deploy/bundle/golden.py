"""The golden pictures of a bundle, and whether it still answers them as when it was written. No torch here.

Every first answer asks for them, so this loads nothing that an answer does not need.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tellapart.deploy.bundle.read import GOLDEN, Bundle
from tellapart.deploy.bundle.tensors import read_tensors
from tellapart.errors import BundleError

_MOST_PICTURES = 64


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
