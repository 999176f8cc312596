"""Stores the large weights of an ONNX model in float16, at half the size; what is computed stays float32."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import onnx

_SMALL = 5000  # numbers; small layers take little, and rounding them costs most: ten times the difference, measured


def half_weights(model: onnx.ModelProto) -> None:
    """Change a model in place: each large float32 weight becomes float16, and is cast back where it is used.

    Weights beyond the range of float16 stay as they are.
    """
    from onnx import TensorProto, helper, numpy_helper

    casts = []
    for weight in model.graph.initializer:
        if weight.data_type != TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(weight)
        if values.size < _SMALL or np.abs(values).max() > np.finfo(np.float16).max:
            continue
        name, stored = weight.name, f"{weight.name}.float16"
        weight.CopyFrom(numpy_helper.from_array(values.astype(np.float16), stored))
        casts.append(helper.make_node("Cast", [stored], [name], to=TensorProto.FLOAT))
    for cast in reversed(casts):
        model.graph.node.insert(0, cast)
