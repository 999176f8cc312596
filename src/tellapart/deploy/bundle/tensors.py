"""Reads .safetensors files with NumPy alone, so that inference needs no library for it.

The format: eight bytes with the length of a header, the header (JSON: name → type, shape, first and last byte), data.
Source: https://github.com/huggingface/safetensors
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

_TYPES = {"F32": "<f4", "U8": "|u1"}  # all that a bundle's files hold, but for its weights


def read_tensors(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Every tensor of a file, by name: float32 or uint8.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is damaged, or holds another type.
    """
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    if len(content) < 8 or length > len(content) - 8:
        raise ValueError("it is cut off")
    header = json.loads(content[8 : 8 + length])
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        if entry["dtype"] not in _TYPES:
            raise ValueError(f"tensor {name!r} has the type {entry['dtype']}, neither float32 nor uint8")
        first, last = entry["data_offsets"]
        data = content[8 + length + first : 8 + length + last]
        tensors[name] = np.frombuffer(data, _TYPES[entry["dtype"]]).reshape(entry["shape"])
    return tensors
