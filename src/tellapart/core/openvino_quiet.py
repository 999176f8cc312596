"""The one import of OpenVINO: it sends nothing anywhere and writes nothing into the home folder."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType

# OpenVINO's own import loads its converter, which reports that it was imported, and keeps a client's number in the home
# folder. None in `sys.modules` makes that import fail, and OpenVINO then does without its converter. It starts faster.
_CONVERTER = "openvino.tools.ovc"


def has_openvino() -> bool:
    """Whether OpenVINO is installed; it is not loaded for that."""
    return importlib.util.find_spec("openvino") is not None


def load_openvino() -> ModuleType:
    """The module `openvino`, loaded without its converter and its telemetry.

    Raises:
        ImportError: it is not installed, or cannot be loaded here.
    """
    if "openvino" in sys.modules:
        return sys.modules["openvino"]
    sys.modules[_CONVERTER] = None  # type: ignore[assignment]
    try:
        return importlib.import_module("openvino")
    finally:
        del sys.modules[_CONVERTER]
