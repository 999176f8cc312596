"""Reading a .safetensors file with numpy alone, so that answering needs no library for it.

The format: eight bytes with the length of a header, the header (JSON: name → type, shape, first and last byte), data.
Source: https://github.com/huggingface/safetensors
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt

_TYPES = {"F32": "<f4"}


def read_tensors(path: Path) -> dict[str, npt.NDArray[np.float32]]:
    """Every float32 tensor of a file, by name.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is damaged, or holds another type than float32.
    """
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    if len(content) < 8 or length > len(content) - 8:
        raise ValueError("it is cut off")
    header = json.loads(content[8 : 8 + length])
    header.pop("__metadata__", None)
    tensors = {}
    for name, told in header.items():
        if told["dtype"] not in _TYPES:
            raise ValueError(f"tensor {name!r} has the type {told['dtype']}, not float32")
        first, last = told["data_offsets"]
        data = content[8 + length + first : 8 + length + last]
        tensors[name] = np.frombuffer(data, _TYPES[told["dtype"]]).reshape(told["shape"])
    return tensors
