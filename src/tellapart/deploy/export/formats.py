"""The formats that a bundle holds its network in. A new one is a file beside this one and a line in `FORMATS`.

Bundles need no new format number for it: a reader checks the files that it knows and leaves out the others.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from tellapart.core.preprocess import Pixels
from tellapart.deploy.bundle.read import MODEL
from tellapart.deploy.export.onnx import export_onnx

if TYPE_CHECKING:
    from tellapart.models.network import Network

#: Name of the file in the bundle → function that writes it, from a network in float32 on the CPU and some pictures.
FORMATS: dict[str, Callable[[Network, Pixels, Path], None]] = {MODEL: export_onnx}
