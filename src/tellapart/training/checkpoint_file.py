"""Files of tensors that notice any damage: safetensors, with a SHA-256 over every byte of the file in its header.

The library reads them; it does not write them, since its `save_file` (version 0.8) needs all tensors on the CPU at
once, refuses tied weights, and writes to a temporary file of its own, which a kill leaves behind. Here one tensor after
the other goes to disk and through the checksum.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from tellapart.core.files import replacing
from tellapart.core.plain_json import parse_json

_TYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
# The checksum stands at a fixed place, and counts as zeros while it is computed.
_OPENING = b'{"__metadata__":{"sha256":"'
_AT = 8 + len(_OPENING)
_ZEROS = b"0" * 64
_CHUNK = 1 << 20


def write_sealed(path: Path, tensors: dict[str, Tensor], about: dict[str, Any], previous: Path | None = None) -> None:
    """Write tensors, and plain values beside them, whole or not at all.

    Args:
        path: where to.
        tensors: on any device, of any shape.
        about: plain values for JSON.
        previous: where an older file at this place is kept.
    """
    # Larger types first, so that every tensor stands where its type may be read in place.
    names = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    header: dict[str, Any] = {"__metadata__": {"sha256": _ZEROS.decode(), "tellapart": json.dumps(about)}}
    end = 0
    for name in names:
        start, end = end, end + tensors[name].numel() * tensors[name].element_size()
        kind, shape = _TYPES[tensors[name].dtype], list(tensors[name].shape)
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    digest = hashlib.sha256()
    with replacing(path, previous) as beside, beside.open("wb") as file:
        for part in (len(text).to_bytes(8, "little"), text):
            file.write(part)
            digest.update(part)
        for name in names:
            data = tensors[name].detach().to("cpu").contiguous().flatten().view(torch.uint8).numpy().data
            file.write(data)
            digest.update(data)
        file.seek(_AT)
        file.write(digest.hexdigest().encode())


def read_sealed(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `write_sealed` wrote.

    Returns:
        The tensors, on the CPU, and the plain values.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not what was written.
    """
    with path.open("rb") as file:
        head = file.read(_AT + len(_ZEROS))
        if head[8:_AT] != _OPENING:
            raise ValueError("it does not begin as a checkpoint does")
        digest = hashlib.sha256(head[:_AT] + _ZEROS)
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    if head[_AT:] != digest.hexdigest().encode():
        raise ValueError("its checksum does not fit its content")
    try:
        with safe_open(path, "pt") as opened:
            about: dict[str, Any] = parse_json(opened.metadata()["tellapart"])
            return {key: opened.get_tensor(key) for key in opened.keys()}, about  # noqa: SIM118  (not a dictionary)
    except (SafetensorError, KeyError) as error:
        raise ValueError(str(error)) from error
