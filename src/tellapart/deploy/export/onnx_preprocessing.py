"""The preprocessing as an ONNX graph: a decoded picture of any size in, the network's input out.

Scaling is two products with matrices of the filter's weights, which follow from the sizes. It is the resampling of
Pillow but for its whole-number weights, so that a byte differs by one here and there.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tellapart.core.preprocess import Interpolation, Preprocessing

OPSET, IR_VERSION = 18, 9


class _Graph:
    """Nodes and constants of a graph in the making; a value is known by its name."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def op(self, kind: str, *inputs: str | float, **attributes: Any) -> str:
        """Add a node; numbers among its inputs become constants of float64, in which positions are computed."""
        names = [value if isinstance(value, str) else self.constant(np.float64(value)) for value in inputs]
        output = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, names, [output], **attributes))
        return output

    def constant(self, value: Any) -> str:
        """Add a constant."""
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def ints(self, *values: int) -> str:
        """Add a constant int64 [n]."""
        return self.constant(np.array(values, np.int64))

    def cast(self, value: str, kind: int) -> str:
        """A value as another of onnx's types."""
        return self.op("Cast", value, to=kind)


def preprocessing_model(preprocessing: Preprocessing) -> onnx.ModelProto:
    """A model from uint8 "picture" [height, width, 3] of any size to uint8 "pictures" [1, height, width, 3].

    Args:
        preprocessing: size, fit and filter; see `core.preprocess.preprocess`, which it repeats.
    """
    graph = _Graph()
    sizes = graph.op("Shape", "picture")
    rows, columns = (
        graph.cast(graph.op("Gather", sizes, graph.constant(np.int64(axis))), TensorProto.DOUBLE) for axis in (0, 1)
    )
    pixels = _FITS[preprocessing.fit](graph, preprocessing, graph.cast("picture", TensorProto.FLOAT), rows, columns)
    byte = graph.cast(pixels, TensorProto.UINT8)
    graph.nodes.append(helper.make_node("Unsqueeze", [byte, graph.ints(0)], ["pictures"]))
    side = [1, preprocessing.height, preprocessing.width, 3]
    made = helper.make_graph(
        graph.nodes,
        "preprocessing",
        [helper.make_tensor_value_info("picture", TensorProto.UINT8, ["height", "width", 3])],
        [helper.make_tensor_value_info("pictures", TensorProto.UINT8, side)],
        graph.constants,
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)


def _cropped(graph: _Graph, settings: Preprocessing, picture: str, rows: str, columns: str) -> str:
    """Scale until the frame is covered, and cut the middle: `fit = "crop"`."""
    cover = graph.op("Max", graph.op("Div", settings.height, rows), graph.op("Div", settings.width, columns))
    scale = graph.op("Div", cover, settings.crop)

    def middle(n: str, side: int) -> tuple[str, str]:
        cut = graph.op("Div", side, scale)
        start = graph.op("Div", graph.op("Sub", n, cut), 2)
        return graph.op("Max", start, 0), graph.op("Min", n, graph.op("Add", start, cut))

    boxes = middle(rows, settings.height), middle(columns, settings.width)
    return _resized(graph, picture, settings, boxes, (settings.height, settings.width), (rows, columns))


def _squashed(graph: _Graph, settings: Preprocessing, picture: str, rows: str, columns: str) -> str:
    """Scale to the frame, whatever the aspect ratio: `fit = "squash"`."""
    zero = graph.constant(np.float64(0))
    sides = (settings.height, settings.width)
    return _resized(graph, picture, settings, ((zero, rows), (zero, columns)), sides, (rows, columns))


def _padded(graph: _Graph, settings: Preprocessing, picture: str, rows: str, columns: str) -> str:
    """Scale until it fits, and fill the rest with the background: `fit = "pad"`."""
    fits = graph.op("Min", graph.op("Div", settings.height, rows), graph.op("Div", settings.width, columns))

    def side(n: str, most: int) -> str:
        return graph.op("Min", most, graph.op("Max", 1, graph.op("Round", graph.op("Mul", n, fits))))

    zero = graph.constant(np.float64(0))
    inner = side(rows, settings.height), side(columns, settings.width)
    pixels = _resized(graph, picture, settings, ((zero, rows), (zero, columns)), inner, (rows, columns))
    before, after = [], []
    for n, whole in zip(inner, (settings.height, settings.width), strict=True):
        rest = graph.op("Sub", whole, n)
        before.append(graph.op("Floor", graph.op("Div", rest, 2)))
        after.append(graph.op("Sub", rest, before[-1]))
    zeros = graph.constant(np.float64(0))
    amounts = [graph.op("Unsqueeze", n, graph.ints(0)) for n in (*before, zeros, *after, zeros)]
    background = graph.constant(np.array(settings.background, np.float32))
    # A constant is filled in per picture, not per channel; so the background is 0 meanwhile.
    shifted = graph.op("Sub", pixels, background)
    framed = graph.op("Pad", shifted, graph.cast(graph.op("Concat", *amounts, axis=0), TensorProto.INT64))
    return graph.op("Add", framed, background)


_FITS = {"crop": _cropped, "squash": _squashed, "pad": _padded}


def _resized(
    graph: _Graph,
    picture: str,
    settings: Preprocessing,
    boxes: tuple[tuple[str, str], tuple[str, str]],
    sides: tuple[str | float, str | float],
    sizes: tuple[str, str],
) -> str:
    """A box of the picture, scaled; columns first, rounded to whole bytes in between as Pillow does.

    Args:
        picture: float32 [rows, columns, 3].
        settings: for the filter.
        boxes: start and end of rows and of columns.
        sides: rows and columns of the result.
        sizes: rows and columns of the picture.
    """
    limits = [graph.constant(np.float32(limit)) for limit in (0, 255)]
    for axis in (1, 0):
        (start, end), side, size = boxes[axis], sides[axis], sizes[axis]
        step = graph.op("Div", graph.op("Sub", end, start), side)
        centers = graph.op("Add", start, graph.op("Mul", step, graph.op("Add", _range(graph, side), 0.5)))
        if settings.interpolation == "nearest":
            nearest = graph.op("Min", graph.op("Floor", centers), graph.op("Sub", size, 1))
            picture = graph.op("Gather", picture, graph.cast(nearest, TensorProto.INT64), axis=axis)
            continue
        weights = _weights(graph, centers, step, size, settings.interpolation)
        if axis == 1:
            picture = graph.op("MatMul", weights, picture)
        else:  # a matrix of rows, so that one product does it
            flat = graph.op("Reshape", picture, graph.constant(np.array([0, -1], np.int64)))
            shape = graph.op("Concat", graph.ints(-1), graph.op("Shape", picture, start=1), axis=0)
            picture = graph.op("Reshape", graph.op("MatMul", weights, flat), shape)
        picture = graph.op("Clip", graph.op("Round", picture), *limits)
    return picture


def _weights(graph: _Graph, centers: str, step: str, size: str, interpolation: Interpolation) -> str:
    """How much each pixel counts in each of the result: [n_out, n_in], each row with the sum 1."""
    pixels = graph.op("Add", _range(graph, size), 0.5)
    apart = graph.op("Sub", pixels, graph.op("Unsqueeze", centers, graph.ints(1)))
    distance = graph.op("Abs", graph.op("Div", apart, graph.op("Max", step, 1)))
    weights = _FILTERS[interpolation](graph, distance)
    shares = graph.op("Div", weights, graph.op("ReduceSum", weights, graph.ints(1), keepdims=1))
    return graph.cast(shares, TensorProto.FLOAT)


def _range(graph: _Graph, n: str | float) -> str:
    return graph.op("Range", 0, n, 1)


def _bilinear(graph: _Graph, distance: str) -> str:
    return graph.op("Relu", graph.op("Sub", 1, distance))


def _bicubic(graph: _Graph, distance: str) -> str:
    near = _polynomial(graph, distance, (1.5, -2.5, 0, 1))
    far = _polynomial(graph, distance, (-0.5, 2.5, -4, 2))
    outer = graph.op("Where", graph.op("Less", distance, 2), far, 0)
    return graph.op("Where", graph.op("Less", distance, 1), near, outer)


def _lanczos(graph: _Graph, distance: str) -> str:
    angle = graph.op("Mul", graph.op("Max", distance, 1e-4), np.pi)
    waves = graph.op("Mul", graph.op("Sin", angle), graph.op("Sin", graph.op("Div", angle, 3)))
    inside = graph.op("Div", graph.op("Mul", waves, 3), graph.op("Mul", angle, angle))
    return graph.op("Where", graph.op("Less", distance, 3), inside, 0)


_FILTERS = {"bilinear": _bilinear, "bicubic": _bicubic, "lanczos": _lanczos}


def _polynomial(graph: _Graph, x: str, coefficients: tuple[float, ...]) -> str:
    """Horner's rule, the highest power first."""
    result: str | float = coefficients[0]
    for coefficient in coefficients[1:]:
        result = graph.op("Add", graph.op("Mul", x, result), coefficient)
    assert isinstance(result, str)
    return result
