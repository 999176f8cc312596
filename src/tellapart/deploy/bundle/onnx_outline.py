"""An ONNX model without its large weights, which it refers to where they lie in its file.

onnxruntime reads a model into one message, copies each weight out of it, and changes the copy into the order that its
kernels want: three times the weights at once, and then one. From an outline, it takes them from the file as it goes.
"""

from __future__ import annotations

import mmap
import platform
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tellapart.deploy.bundle.onnx_graph import TensorFields, Value, as_bytes, fields

#: Weights of fewer bytes stay within.
_LARGE = 1 << 16
_GRAPH, _INITIALIZER = 7, 5  # fields of the model, and of its graph
_EXTERNAL_DATA, _DATA_LOCATION, _EXTERNAL = 13, 14, 1
# Sides of a convolution's weights: channels out, channels in, rows, columns. Where the channels are multiples of 16,
# onnxruntime keeps a copy in another order; so whoever changes the file later cannot change, or stop, a process that
# loaded it.
_CONVOLUTION, _CHANNELS = 4, 16


def outline(path: Path) -> bytes | None:
    """A model that refers to its file's bytes; None where that saves nothing, or the weights would not be copied.

    Args:
        path: an ONNX file that `onnx_check.check_graph` has passed; without links, which onnxruntime would not follow.

    Raises:
        OSError: it cannot be read.
    """
    if platform.machine().lower() not in ("x86_64", "amd64") or path.stat().st_size < _LARGE:
        return None
    with path.open("rb") as file:  # its pages go with the last view of them
        content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    return _Outline(content, path.name).model


class _Outline:
    def __init__(self, content: memoryview, name: str) -> None:
        self.name, self.start = name, _address(content)
        self.model = b"".join(self._model(content))

    def _model(self, content: memoryview) -> Iterator[bytes]:
        for number, value in fields(content, None, "the model"):
            yield _field(number, b"".join(self._graph(as_bytes(value))) if number == _GRAPH else value)

    def _graph(self, content: memoryview) -> Iterator[bytes]:
        for number, value in fields(content, None, "the graph"):
            is_large = number == _INITIALIZER and _is_large_convolution(as_bytes(value))
            yield _field(number, b"".join(self._weights(as_bytes(value))) if is_large else value)

    def _weights(self, content: memoryview) -> Iterator[bytes]:
        for number, value in fields(content, None, "a constant"):
            if number != TensorFields.RAW:
                yield _field(number, value)
                continue
            data = as_bytes(value)
            where = {"location": self.name, "offset": _address(data) - self.start, "length": len(data)}
            for key, text in where.items():
                yield _field(_EXTERNAL_DATA, _field(1, key.encode()) + _field(2, str(text).encode()))
            yield _field(_DATA_LOCATION, _EXTERNAL)


def _is_large_convolution(content: memoryview) -> bool:
    sides, n_bytes = list[Value](), 0
    for number, value in fields(content, None, "a constant"):
        sides += [value] if number == TensorFields.DIMS else []
        n_bytes = len(as_bytes(value)) if number == TensorFields.RAW else n_bytes
    channels = [side for side in sides[:2] if isinstance(side, int) and side % _CHANNELS == 0]
    return len(sides) == _CONVOLUTION and len(channels) == 2 and n_bytes >= _LARGE


def _address(content: memoryview) -> int:
    return int(np.frombuffer(content, np.uint8).__array_interface__["data"][0])


def _field(number: int, value: Value | bytes) -> bytes:
    """A field of a message: its key, and a number, or a length and bytes."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _varint(number: int) -> bytes:
    """A number in pieces of seven bits, the lowest first."""
    pieces = bytearray()
    while number > 127:
        pieces.append(number & 127 | 128)
        number >>= 7
    return bytes([*pieces, number])
