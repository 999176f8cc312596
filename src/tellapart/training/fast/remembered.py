"""Where measurements of this machine are remembered, by what they depend on."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch

from tellapart.core.files import cache_folder
from tellapart.core.hardware import n_processors
from tellapart.training.runtime import machine


def note_file(key: dict[str, Any]) -> Path:
    """The file that remembers a measurement.

    Args:
        key: all that the measurement depends on, besides torch's version and threads, and the machine.
    """
    threads = {"threads": torch.get_num_threads(), "processors": n_processors()}
    full = {**key, "torch": torch.__version__, **threads, **machine()}
    name = hashlib.sha256(json.dumps(full, sort_keys=True).encode()).hexdigest()[:24]
    return cache_folder("runtime") / f"{name}.json"
