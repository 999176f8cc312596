"""Reads the graph of an ONNX file without the package `onnx`: operators, attributes, sizes of constants.

A protobuf message is a list of fields: a key (number << 3 | wire type), then a number, or a length and so many bytes.
Only the fields listed here may occur, so that nothing is read by onnxruntime that was not looked at: no graph within a
node, no function, no data in another file. The file is walked once, in steps that its size bounds.
Source: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto, https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

_NUMBER, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types
_WIDTH = {_FIXED64: 8, _FIXED32: 4}
MOST_NODES = 100_000
_MOST_DESCRIBED = 1 << 24  # bytes of all that is read one by one; of our largest networks, some hundred thousand
_MOST_AT_ONCE = 1 << 20  # fields of one message; bytes of one list of whole numbers
_LARGE_PIECE = 1 << 10  # bytes
_KNOWN_VALUES = 64  # whole numbers that a constant may have to be remembered: shapes, axes, pads
#: Bytes of one element, by the number of its type: float, uint8, int8, uint16, int16, int32, int64, bool, float16,
#: double, uint32, uint64, bfloat16.
_SIZES = {1: 4, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8, 12: 4, 13: 8, 16: 2}
_INT64 = 7

Value = int | memoryview


class TensorFields:
    """Numbers of the fields of TensorProto."""

    DIMS, TYPE, FLOATS, INT32S, INT64S, NAME, RAW, DOUBLES, UINT64S, DOC = 1, 2, 4, 5, 7, 8, 9, 10, 11, 12
    ALLOWED = frozenset({DIMS, TYPE, FLOATS, INT32S, INT64S, NAME, RAW, DOUBLES, UINT64S, DOC})


#: Fields that hold the data of a large constant.
_PIECES = (TensorFields.RAW, TensorFields.FLOATS, TensorFields.DOUBLES)


@dataclass(frozen=True)
class Constant:
    """A tensor that the file holds.

    Attributes:
        name: empty for the value of an attribute.
        size: number of elements.
        n_data: bytes of them in large pieces, which need not be walked.
        values: the elements of a short list of whole numbers, such as a shape; None for others.
    """

    name: str
    size: int
    n_data: int
    values: tuple[int, ...] | None


@dataclass(frozen=True)
class Node:
    """One operator of a graph.

    Attributes:
        operator, domain: its name, and where that is defined; an empty domain is ONNX's own.
        inputs, outputs: names of tensors; an input that is left out is empty.
        numbers: whole-number attributes, by name.
        constants: tensors among the attributes.
    """

    operator: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    numbers: dict[str, tuple[int, ...]]
    constants: tuple[Constant, ...]


@dataclass
class Graph:
    """The graph of a model.

    Attributes:
        opsets: versions of the operators, by domain.
        nodes: in the file's order.
        constants: initializers, by name.
        inputs: names of what is given to the model.
    """

    opsets: dict[str, int] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)
    constants: dict[str, Constant] = field(default_factory=dict)
    inputs: list[str] = field(default_factory=list)


def read_graph(path: Path) -> Graph:
    """The graph of an ONNX file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not one, or holds what no exporter of ours writes: a graph within a node, a function, sparse
            tensors, data in another file.
    """
    graph = Graph()
    n_graphs = 0
    for number, value in fields(memoryview(path.read_bytes()), _MODEL, "the model"):
        if number == 7:
            n_graphs += 1
            _read_graph(as_bytes(value), graph)
        elif number == 8:
            domain, version = _opset(as_bytes(value))
            graph.opsets[domain] = max(version, graph.opsets.get(domain, 0))
    if n_graphs != 1 or not graph.nodes:
        raise ValueError("it holds no graph")
    return graph


# What may occur in a message. Not among the model's: training (20), functions (25), devices (26). Not among a graph's:
# quantisation notes (14), sparse initializers (15). Of an attribute: no graph (6, 11), no sparse tensor (22, 23).
_MODEL = frozenset({1, 2, 3, 4, 5, 6, 7, 8, 14})
_GRAPH = frozenset({1, 2, 5, 10, 11, 12, 13, 16})
_NODE = frozenset({1, 2, 3, 4, 5, 6, 7, 8, 9})
_ATTRIBUTE = frozenset({1, 2, 3, 4, 5, 7, 8, 9, 10, 13, 20})


def _read_graph(message: memoryview, graph: Graph) -> None:
    n_described = 0
    for number, value in fields(message, _GRAPH, "the graph"):
        n_described += len(as_bytes(value))
        if number == 1:
            node = _node(as_bytes(value))
            graph.nodes.append(node)
            n_described -= sum(constant.n_data for constant in node.constants)
            if len(graph.nodes) > MOST_NODES:
                raise ValueError(f"it has more than {MOST_NODES:,} operators")
        elif number == 5:
            constant = _constant(as_bytes(value))
            if constant.name in graph.constants:
                raise ValueError(f"two of its constants are called {constant.name!r}")
            graph.constants[constant.name] = constant
            n_described -= constant.n_data
        elif number == 11:
            names = [_text(inner) for n, inner in fields(as_bytes(value), None, "an input") if n == 1]
            graph.inputs += names
        if n_described > _MOST_DESCRIBED:
            raise ValueError(f"it takes more than {_MOST_DESCRIBED >> 20} MiB beside its weights")


def _node(message: memoryview) -> Node:
    inputs: list[str] = []
    outputs: list[str] = []
    single: dict[int, str] = {}
    numbers: dict[str, tuple[int, ...]] = {}
    constants: list[Constant] = []
    for number, value in fields(message, _NODE, "an operator"):
        if number == 1:
            inputs.append(_text(value))
        elif number == 2:
            outputs.append(_text(value))
        elif number == 5:
            name, integers, tensors = _attribute(as_bytes(value))
            if name in numbers:
                raise ValueError(f"an operator has the attribute {name!r} twice")
            numbers[name] = integers
            constants += tensors
        elif number in (4, 7, 8):
            if number in single:
                raise ValueError("an operator has two names")
            single[number] = _text(value)
    if single.get(8):
        raise ValueError("an operator is overloaded by a function of the file")
    return Node(single.get(4, ""), single.get(7, ""), tuple(inputs), tuple(outputs), numbers, tuple(constants))


def _attribute(message: memoryview) -> tuple[str, tuple[int, ...], list[Constant]]:
    """Name, whole numbers and tensors of an attribute."""
    name, integers, tensors = "", [], []
    for number, value in fields(message, _ATTRIBUTE, "an attribute (a graph within an operator is not allowed)"):
        if number == 1:
            name = _text(value)
        elif number in (3, 8):
            integers += _integers(value)
        elif number in (5, 10):
            tensors.append(_constant(as_bytes(value)))
    return name, tuple(integers), tensors


def _constant(message: memoryview) -> Constant:
    name, kind, shape, values = "", 0, list[int](), list[int]()
    n_bytes = n_listed = n_data = 0
    for number, value in fields(message, TensorFields.ALLOWED, "a constant (data in another file is not allowed)"):
        if number in _PIECES and len(as_bytes(value)) > _LARGE_PIECE:
            n_data += len(as_bytes(value))
        if number == TensorFields.DIMS:
            shape += _integers(value)
        elif number == TensorFields.TYPE:
            kind = _integer(value)
        elif number == TensorFields.NAME:
            name = _text(value)
        elif number == TensorFields.RAW:
            n_bytes += len(as_bytes(value))
            if len(as_bytes(value)) <= 8 * _KNOWN_VALUES and len(as_bytes(value)) % 8 == 0:
                values += np.frombuffer(as_bytes(value), "<i8").tolist()
        elif number in (TensorFields.INT32S, TensorFields.INT64S, TensorFields.UINT64S):
            listed = _integers(value)
            n_listed += len(listed)
            values += listed[:_KNOWN_VALUES]
        elif number != TensorFields.DOC:
            n_listed += len(as_bytes(value)) // (4 if number == TensorFields.FLOATS else 8)
    if kind not in _SIZES:
        raise ValueError(f"the constant {name!r} is of a type that no network of ours has")
    if len(shape) > 16 or any(side < 0 for side in shape):
        raise ValueError(f"the constant {name!r} has an impossible shape")
    size = math.prod(shape)
    if size != (n_bytes // _SIZES[kind] if n_bytes else n_listed):
        raise ValueError(f"the constant {name!r} has {size:,} elements by its shape, but the data of others")
    known = kind == _INT64 and size == len(values) <= _KNOWN_VALUES
    return Constant(name, size, n_data, tuple(values) if known else None)


def _opset(message: memoryview) -> tuple[str, int]:
    domain, version = "", 0
    for number, value in fields(message, frozenset({1, 2}), "a version"):
        if number == 1:
            domain = _text(value)
        else:
            version = _integer(value)
    return domain, version


def fields(message: memoryview, allowed: frozenset[int] | None, of: str) -> Iterator[tuple[int, Value]]:
    """The fields of a message: their number, and a number or bytes.

    Args:
        message: protobuf.
        allowed: numbers that may occur; None: any.
        of: what the message is, for errors.

    Raises:
        ValueError: it is cut off or garbled, or holds what is not allowed.
    """
    position = n_fields = 0
    while position < len(message):
        n_fields += 1
        if n_fields > _MOST_AT_ONCE:
            raise ValueError(f"{of} has more than {_MOST_AT_ONCE:,} parts")
        key, position = _varint(message, position)
        number, kind = key >> 3, key & 7
        if allowed is not None and number not in allowed:
            raise ValueError(f"{of} has a part that is not allowed (field {number})")
        if kind == _NUMBER:
            value, position = _varint(message, position)
            yield number, value
            continue
        length = _WIDTH.get(kind)
        if kind == _BYTES:
            length, position = _varint(message, position)
        if length is None or length > len(message) - position:
            raise ValueError(f"{of} is cut off or garbled")
        yield number, message[position : position + length]
        position += length


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    """A number of up to ten bytes, seven bits in each, and the position after it."""
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(message):
            break
        byte = message[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value & (2**64 - 1), position
    raise ValueError("a number is cut off or too long")


def _signed(value: int) -> int:
    return value - 2**64 if value >= 2**63 else value


def _integer(value: Value) -> int:
    if not isinstance(value, int):
        raise ValueError("bytes stand where a number belongs")
    return _signed(value)


def _integers(value: Value) -> list[int]:
    """One number, or many packed into bytes."""
    if isinstance(value, int):
        return [_signed(value)]
    if len(value) > _MOST_AT_ONCE:
        raise ValueError(f"it has a list of {len(value):,} bytes of whole numbers")
    numbers, position = [], 0
    while position < len(value):
        number, position = _varint(value, position)
        numbers.append(_signed(number))
    return numbers


def as_bytes(value: Value) -> memoryview:
    """The bytes of a field.

    Raises:
        ValueError: it is a number.
    """
    if isinstance(value, int):
        raise ValueError("a number stands where bytes belong")
    return value


def _text(value: Value) -> str:
    content = as_bytes(value)
    if len(content) > 10_000:
        raise ValueError("a name is longer than 10,000 characters")
    return str(content, "utf-8", "replace")
