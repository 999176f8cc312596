"""The one import of onnxruntime: it sends nothing anywhere."""

from __future__ import annotations

import importlib
import os
from types import ModuleType


def load_onnxruntime() -> ModuleType:
    """The module `onnxruntime`, without its telemetry: since 1.32 it reports its sessions to its maker by default.

    Raises:
        ImportError: it is not installed, or cannot be loaded here.
    """
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # read when it is loaded, also by processes that are started from here
    onnxruntime = importlib.import_module("onnxruntime")
    onnxruntime.disable_telemetry_events()  # of releases that do not read it
    return onnxruntime
