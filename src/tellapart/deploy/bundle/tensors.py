"""Reads .safetensors files with NumPy alone, so that inference needs no library for it.

The format: eight bytes with the length of a header, the header (JSON: name → type, shape, first and last byte), data.
Source: https://github.com/huggingface/safetensors
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tellapart.core import checks
from tellapart.core.plain_json import parse_json

_TYPES = {"F32": "<f4", "U8": "|u1"}  # all that a bundle's files hold, but for its weights
_MOST_HEADER = 1 << 20
_NUMBER = checks.integer(0, (1 << 40) - 1)
#: What the header says of one tensor, and of all.
_ENTRY = checks.record(
    {
        "dtype": checks.one_of(*_TYPES),
        "shape": checks.listed(_NUMBER, range(9)),
        "data_offsets": checks.listed(_NUMBER, [2]),
    },
    others=False,
)
_MOST_TENSORS = 100


def read_tensors(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Every tensor of a file, by name: float32 or uint8.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is damaged, or holds another type.
    """
    content = memoryview(path.read_bytes())
    length = int.from_bytes(content[:8], "little")
    if len(content) < 8 or length > min(len(content) - 8, _MOST_HEADER):
        raise ValueError("it is cut off")
    header = parse_json(bytes(content[8 : 8 + length]))
    if not isinstance(header, dict):
        raise ValueError("its header is none")
    header.pop("__metadata__", None)
    if len(header) > _MOST_TENSORS:
        raise ValueError(f"it holds more than {_MOST_TENSORS} tensors")
    entries = checks.by_key(checks.text(), _ENTRY)(header)
    return {name: _tensor(entry, content[8 + length :]) for name, entry in entries.items()}


def _tensor(entry: dict[str, Any], data: memoryview) -> npt.NDArray[Any]:
    first, last = entry["data_offsets"]
    kind = np.dtype(_TYPES[entry["dtype"]])
    if not first <= last <= len(data) or last - first != math.prod(entry["shape"]) * kind.itemsize:
        raise ValueError(f"a tensor of shape {entry['shape']} does not fit in bytes {first} to {last}")
    return np.frombuffer(data[first:last], kind).reshape(entry["shape"])
