"""Checks the graph of a network before onnxruntime sees it: operators from a list, bounded sizes, nothing to load.

Control flow could run for ever, other domains could name code of their own, and a constant of a few bytes could stand
for gigabytes. None of the networks that Tellapart exports needs any of these.
"""

from __future__ import annotations

import math

from tellapart.deploy.bundle.onnx_graph import Graph, Node

_NAMES = """
Abs Acos Add And ArgMax ArgMin Asin Atan AveragePool BatchNormalization Cast CastLike Ceil Celu Clip Concat Constant
ConstantOfShape Conv ConvTranspose Cos Cosh CumSum DepthToSpace Div Dropout Einsum Elu Equal Erf Exp Expand Flatten
Floor Gather GatherElements GatherND Gelu Gemm GlobalAveragePool GlobalMaxPool Greater GreaterOrEqual GridSample
GroupNormalization HardSigmoid HardSwish Identity InstanceNormalization IsInf IsNaN LRN LayerNormalization LeakyRelu
Less LessOrEqual Log LogSoftmax LpNormalization MatMul Max MaxPool Mean Min Mish Mod Mul Neg Not OneHot Or PRelu Pad
Pow RMSNormalization Range Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin
ReduceProd ReduceSum ReduceSumSquare Relu Reshape Resize Round ScatterElements ScatterND Selu Shape Sigmoid Sign Sin
Sinh Size Slice Softmax Softplus Softsign SpaceToDepth Split Sqrt Squeeze Sub Sum Tan Tanh Tile TopK Transpose Trilu
Unsqueeze Where Xor
"""
#: Operators of ONNX itself on tensors of numbers. Not among them: control flow, sequences, texts, random numbers,
#: training, functions over a time axis.
OPERATORS = frozenset(_NAMES.split())
MOST_ELEMENTS = 1 << 28  # of one tensor whose size is written in the file: 1 GiB of float32
_MOST_STEPS = 1 << 16  # of a window: its size, stride, border
_WINDOW = ("kernel_shape", "strides", "pads", "dilations", "output_padding", "output_shape", "group", "blocksize")
#: The input that says how large the result is, where that is not bounded by the other inputs.
_SIZE_INPUT = {"ConstantOfShape": 0, "Expand": 1, "Tile": 1, "Resize": 3, "Pad": 1, "OneHot": 1}


def check_graph(graph: Graph) -> None:
    """Refuse a graph that holds anything else than a network of ours needs.

    Raises:
        ValueError: what it holds.
    """
    if others := graph.opsets.keys() - {"", "ai.onnx"}:
        raise ValueError(f"it needs operators of another domain, {sorted(others)[0]!r}")
    known = {name: constant.values for name, constant in graph.constants.items()}
    for node in graph.nodes:
        if node.domain not in ("", "ai.onnx") or node.operator not in OPERATORS:
            raise ValueError(f"it has the operator {'.'.join(filter(None, (node.domain, node.operator)))!r}")
        _check_window(node)
        _check_size(node, known)
        if node.operator == "Constant":
            known |= dict.fromkeys(node.outputs, _value(node))


def _value(node: Node) -> tuple[int, ...] | None:
    """The whole numbers that an operator "Constant" stands for."""
    if node.constants:
        return node.constants[0].values
    return node.numbers.get("value_ints") or node.numbers.get("value_int")


def _check_window(node: Node) -> None:
    for name in _WINDOW:
        if any(abs(step) > _MOST_STEPS for step in node.numbers.get(name, ())):
            raise ValueError(f"its operator {node.operator} has a window of {max(node.numbers[name], key=abs):,}")


def _check_size(node: Node, known: dict[str, tuple[int, ...] | None]) -> None:
    number = _SIZE_INPUT.get(node.operator, len(node.inputs))
    values = known.get(node.inputs[number]) if number < len(node.inputs) else None
    if values and math.prod(max(1, abs(value)) for value in values) > MOST_ELEMENTS:
        raise ValueError(f"its operator {node.operator} makes a tensor of {' × '.join(map(str, values))} elements")
