"""An export of a bundle, and its comparison with the bundle's golden answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tellapart.core.preprocess import Pixels
from tellapart.deploy.bundle.golden import read_golden
from tellapart.deploy.bundle.read import Bundle
from tellapart.errors import BundleError


@dataclass(frozen=True)
class Exported:
    """A file or folder that a bundle was exported to.

    Attributes:
        path: of the file or folder.
        difference: the largest absolute difference between one of its logits and the bundle's golden one.
        left_out: the abilities of the bundle that it does not have, as sentences.
        note: what was measured besides, as a sentence; empty where nothing was.
    """

    path: Path
    difference: float
    left_out: tuple[str, ...] = ()
    note: str = ""


def golden_difference(
    bundle: Bundle, logits_of: Callable[[Pixels], npt.NDArray[np.floating]], allowed: float, name: str
) -> float:
    """Run the golden pictures through an export, and compare with the stored logits.

    Args:
        bundle: what was exported.
        logits_of: uint8 [k, height, width, 3] → logits [k, n_classes], as the export computes them.
        allowed: the difference, as a share of the largest golden logit's size, above which it is refused.
        name: of the format, for the error.

    Returns:
        The largest absolute difference.

    Raises:
        BundleError: it is above what is allowed.
    """
    pictures, golden = read_golden(bundle)
    difference = float(np.abs(logits_of(pictures).astype(np.float64) - golden).max())
    if not difference <= allowed * max(1.0, float(np.abs(golden).max())):
        raise BundleError(
            f"No {name} was written: its answers to the golden pictures are off by {difference:.3g} (logits).",
            "The bundle itself is not changed. Please report this, with the network's name.",
        )
    return difference
