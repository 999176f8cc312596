"""The graph of a model is looked at before onnxruntime sees it, without the package onnx."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from tellapart.deploy.bundle import onnx_graph
from tellapart.deploy.bundle.onnx_check import OPERATORS, check_graph
from tellapart.deploy.bundle.onnx_graph import read_graph
from tellapart.deploy.bundle.read import MODEL
from tellapart.deploy.bundle.session import open_session
from tellapart.errors import BundleError

PICTURES = helper.make_tensor_value_info("pictures", TensorProto.UINT8, ["n", 4, 4, 3])
LOGITS = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 3])
AXES = numpy_helper.from_array(np.array([1, 2]), "axes")


def plain() -> list[NodeProto]:
    return [
        helper.make_node("Cast", ["pictures"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["floats", "axes"], ["logits"], keepdims=0),
    ]


def model(*more: NodeProto, constants: dict[str, Any] | None = None, domains: tuple[str, ...] = ("",)) -> ModelProto:
    """A network that works, with operators added that nobody asks for."""
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()]
    graph = helper.make_graph([*plain(), *more], "g", [PICTURES], [LOGITS], [AXES, *tensors])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid(d, 18) for d in domains], ir_version=10)


def written(path: Path, content: ModelProto | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.SerializeToString())
    return path


def refused(path: Path, content: ModelProto | bytes, says: str) -> None:
    with pytest.raises(BundleError, match=says):
        open_session(written(path, content))


def test_it_reads_what_onnx_reads(written_bundle: Path) -> None:
    graph, other = read_graph(written_bundle / MODEL), onnx.load(written_bundle / MODEL)
    assert [node.operator for node in graph.nodes] == [node.op_type for node in other.graph.node]
    assert [list(node.inputs) for node in graph.nodes] == [list(node.input) for node in other.graph.node]
    assert [list(node.outputs) for node in graph.nodes] == [list(node.output) for node in other.graph.node]
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in other.graph.initializer}
    assert {name: constant.size for name, constant in graph.constants.items()} == {n: a.size for n, a in arrays.items()}
    for name, constant in graph.constants.items():
        if constant.values is not None:
            assert list(constant.values) == arrays[name].ravel().tolist()
    numbers = {a.name: tuple(a.ints) or (a.i,) for node in other.graph.node for a in node.attribute if a.ints or a.i}
    ours = {name: values for node in graph.nodes for name, values in node.numbers.items() if any(values)}
    assert ours.keys() == {name for name, values in numbers.items() if any(values)}
    check_graph(graph)


@pytest.fixture
def written_bundle(request: pytest.FixtureRequest) -> Path:
    folder: Path = request.getfixturevalue("written")
    return folder


def test_a_plain_network_runs(tmp_path: Path) -> None:
    session = open_session(written(tmp_path / "m.onnx", model()))
    made = session.run(["logits"], {"pictures": np.full((2, 4, 4, 3), 7, np.uint8)})
    assert made[0].tolist() == [[7, 7, 7]] * 2


def body() -> onnx.GraphProto:
    return helper.make_graph(
        [
            helper.make_node("Identity", ["going"], ["on"]),
            helper.make_node("Identity", ["value"], ["next"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
            helper.make_tensor_value_info("value", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, None),
        ],
    )


def test_control_flow_is_refused(tmp_path: Path) -> None:
    loop = helper.make_node("Loop", ["many", "yes", "floats"], ["x"], body=body())
    refused(tmp_path / "loop", model(loop, constants={"many": np.int64(2**62), "yes": True}), "field 6")
    hidden = helper.make_node("Relu", ["floats"], ["x"], body=body())
    refused(tmp_path / "hidden", model(hidden), "a graph within an operator is not allowed")
    many = helper.make_node("Relu", ["floats"], ["x"])
    many.attribute.append(AttributeProto(name="b", type=AttributeProto.GRAPHS, graphs=[body()]))
    refused(tmp_path / "many", model(many), "field 11")
    refused(tmp_path / "bare", model(helper.make_node("Loop", ["many"], ["x"])), "'Loop'")


OTHERS = (
    "If",
    "Scan",
    "SequenceMap",
    "SequenceConstruct",
    "RandomNormal",
    "StringNormalizer",
    "TfIdfVectorizer",
    "RNN",
)


@pytest.mark.parametrize("operator", [*OTHERS, "conv", "Conv "])
def test_operators_outside_the_list_are_refused(operator: str, tmp_path: Path) -> None:
    refused(
        tmp_path / "m",
        model(helper.make_node(operator or "x", ["floats"], ["x"])) if operator else _unnamed(),
        "operator",
    )


def _unnamed() -> ModelProto:
    node = helper.make_node("Relu", ["floats"], ["x"])
    node.ClearField("op_type")
    return model(node)


@pytest.mark.parametrize("domain", ["com.microsoft", "ai.onnx.ml", "mine", "ai.onnx.training"])
def test_other_domains_are_refused(domain: str, tmp_path: Path) -> None:
    node = helper.make_node("Relu", ["floats"], ["x"], domain=domain)
    refused(tmp_path / "node", model(node), f"{domain}.Relu")
    refused(tmp_path / "import", model(domains=("", domain)), "another domain")


def test_functions_of_the_file_are_refused(tmp_path: Path) -> None:
    own = model()
    own.functions.append(helper.make_function("", "Relu", ["a"], ["b"], [helper.make_node("Abs", ["a"], ["b"])], []))
    refused(tmp_path / "function", own, "field 25")
    other = model()
    other.training_info.add()
    refused(tmp_path / "training", other, "field 20")


def test_data_in_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(bytes(12))
    outside = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[3], data_location=TensorProto.EXTERNAL)
    outside.external_data.add(key="location", value="weights.bin")
    content = model()
    content.graph.initializer.append(outside)
    refused(tmp_path / "initializer", content, "data in another file is not allowed")
    node = helper.make_node("Constant", [], ["x"], value=outside)
    refused(tmp_path / "attribute", model(node), "data in another file is not allowed")
    content = model()
    content.graph.sparse_initializer.add()
    refused(tmp_path / "sparse", content, "field 15")


GROWING: dict[str, tuple[list[NodeProto], dict[str, Any]]] = {
    "a constant of 6.4 GB": ([helper.make_node("ConstantOfShape", ["s"], ["x"])], {"s": np.array([1_600_000_000])}),
    "expanded": ([helper.make_node("Expand", ["floats", "s"], ["x"])], {"s": np.array([1 << 20, 1 << 20, 4, 3])}),
    "tiled": ([helper.make_node("Tile", ["floats", "s"], ["x"])], {"s": np.array([1, 1 << 15, 1 << 15, 1])}),
    "resized": (
        [helper.make_node("Resize", ["floats", "", "", "s"], ["x"])],
        {"s": np.array([1, 1 << 20, 1 << 20, 3])},
    ),
    "padded": (
        [helper.make_node("Pad", ["floats", "s"], ["x"])],
        {"s": np.array([0, 1 << 20, 0, 0, 0, 1 << 20, 0, 0])},
    ),
    "by a node": (
        [
            helper.make_node("Constant", [], ["s"], value=numpy_helper.from_array(np.array([1 << 40]))),
            helper.make_node("ConstantOfShape", ["s"], ["x"]),
        ],
        {},
    ),
    "by a list": (
        [
            helper.make_node("Constant", [], ["s"], value_ints=[1 << 20, 1 << 20]),
            helper.make_node("ConstantOfShape", ["s"], ["x"]),
        ],
        {},
    ),
    "a border": ([helper.make_node("MaxPool", ["floats"], ["x"], kernel_shape=[1, 1], pads=[1 << 30] * 4)], {}),
    "a stride": (
        [helper.make_node("ConvTranspose", ["floats", "w"], ["x"], strides=[1 << 30, 1 << 30])],
        {"w": np.zeros((4, 1, 1, 1), np.float32)},
    ),
}


@pytest.mark.parametrize("name", GROWING)
def test_a_few_bytes_that_stand_for_gigabytes_are_refused(name: str, tmp_path: Path) -> None:
    nodes, constants = GROWING[name]
    refused(tmp_path / "m", model(*nodes, constants=constants), "elements|window")


def test_a_shape_without_its_data_is_refused(tmp_path: Path) -> None:
    content = model()
    content.graph.initializer.append(
        TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1 << 40], raw_data=b"1234")
    )
    refused(tmp_path / "large", content, "by its shape")
    content.graph.initializer[-1].dims[:] = [-1]
    refused(tmp_path / "negative", content, "impossible shape")
    content.graph.initializer[-1].dims[:] = [1] * 20
    refused(tmp_path / "many", content, "impossible shape")
    content.graph.initializer[-1].dims[:] = [1]
    content.graph.initializer[-1].data_type = TensorProto.STRING
    refused(tmp_path / "texts", content, "type")


def test_what_is_read_one_by_one_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_graph, "_MOST_AT_ONCE", 1_000)
    monkeypatch.setattr(onnx_graph, "_MOST_DESCRIBED", 10_000)
    refused(tmp_path / "inputs", model(helper.make_node("Sum", ["logits"] * 2_000, ["x"])), "parts")
    content = model()
    content.graph.initializer.append(TensorProto(name="w", data_type=7, dims=[2_000], int64_data=[1] * 2_000))
    refused(tmp_path / "numbers", content, "whole numbers")
    refused(tmp_path / "nodes", model(*[helper.make_node("Abs", ["x" * 99], ["y" * 99])] * 100), "beside its weights")
    open_session(written(tmp_path / "weights", model(constants={"w": np.zeros(100_000, np.float32)})))


def test_what_grows_while_it_runs_is_an_error(tmp_path: Path) -> None:
    """Nothing in the file says how large it gets; the memory of all sessions has a limit."""
    content = model(
        helper.make_node("Mul", ["million", "million"], ["s"]),
        helper.make_node("ConstantOfShape", ["s"], ["x"]),
        helper.make_node("ReduceSum", ["x"], ["y"], keepdims=0),
        helper.make_node("Add", ["means", "y"], ["logits"]),
        constants={"million": np.array([1_000_000])},
    )
    content.graph.node[1].output[0] = "means"
    session = open_session(written(tmp_path / "m.onnx", content))
    with pytest.raises(Exception, match="memory"):
        session.run(["logits"], {"pictures": np.zeros((1, 4, 4, 3), np.uint8)})


@pytest.mark.parametrize(
    "content", [b"", b"\x00", b"not a network", b"\x3a\x00", b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"]
)
def test_files_that_are_no_graph(content: bytes, tmp_path: Path) -> None:
    refused(tmp_path / "m", content, "cannot be run")


def test_a_graph_twice_is_refused(tmp_path: Path) -> None:
    """Protobuf would merge the two."""
    content = model().SerializeToString()
    refused(tmp_path / "m", content + content, "no graph|two of its")


def test_a_name_twice_is_refused(tmp_path: Path) -> None:
    """Readers differ in which of the two they take."""
    node = helper.make_node("Relu", ["floats"], ["x"]).SerializeToString()
    other = NodeProto(op_type="Loop").SerializeToString()
    extra = b"\x0a" + bytes([len(node + other)]) + node + other
    refused(tmp_path / "m", b"\x3a" + bytes([len(extra)]) + extra, "two names")


@pytest.mark.parametrize("inputs", [[], [PICTURES, LOGITS]])
def test_other_inputs_are_refused(inputs: list[Any], tmp_path: Path) -> None:
    content = model()
    del content.graph.input[:]
    content.graph.input.extend(
        helper.make_tensor_value_info(f"p{i}", TensorProto.UINT8, [1]) for i, _ in enumerate(inputs)
    )
    refused(tmp_path / "m", content, "cannot be run")


def test_random_damage_is_an_error_and_never_another(written_bundle: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    content = np.frombuffer((written_bundle / MODEL).read_bytes(), np.uint8)
    for _ in range(300):
        changed = content.copy()
        changed[random.integers(len(content), size=random.integers(1, 5))] = random.integers(256)
        path = written(tmp_path / "m.onnx", changed[: random.integers(len(changed))].tobytes())
        try:
            check_graph(read_graph(path))
        except ValueError:
            continue


def test_it_needs_no_onnx(written_bundle: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from tellapart.deploy.bundle.session import open_session; "
        "open_session(Path(sys.argv[1])); sys.exit('onnx' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script, written_bundle / MODEL], check=True)


def test_no_operator_of_the_list_has_a_graph_inside() -> None:
    for name in OPERATORS:
        if onnx.defs.has(name):
            kinds = {attribute.type for attribute in onnx.defs.get_schema(name).attributes.values()}
            assert not kinds & {onnx.defs.OpSchema.AttrType.GRAPH, onnx.defs.OpSchema.AttrType.GRAPHS}, name
        else:
            pytest.fail(f"{name} is no operator of ONNX")
