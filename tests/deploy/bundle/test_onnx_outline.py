"""A model whose large weights are taken from its file gives the same answers, and keeps nothing of the file."""

from __future__ import annotations

import platform
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from tellapart.deploy.bundle.onnx_outline import outline
from tellapart.deploy.bundle.session import open_session

N_CHANNELS = 160
X86 = platform.machine().lower() in ("x86_64", "amd64")


@pytest.fixture
def network(tmp_path: Path) -> Path:
    """A file of 1.4 MB with weights of convolutions, large and small, of which some stay in the model."""
    random = np.random.default_rng(0)
    shapes = {"a": (N_CHANNELS, 3, 3, 3), "b": (N_CHANNELS, N_CHANNELS, 3, 3), "c": (3, N_CHANNELS, 5, 5)}
    weights = [numpy_helper.from_array(random.normal(0, 0.1, s).astype(np.float32), name) for name, s in shapes.items()]
    matrix = numpy_helper.from_array(random.normal(size=(3, 3)).astype(np.float32), "matrix")
    listed = helper.make_tensor("listed", TensorProto.FLOAT, [3], [0.5, -1.0, 2.0])  # numbers, not bytes
    axes = numpy_helper.from_array(np.array([2, 3]), "axes")
    nodes = [
        helper.make_node("Cast", ["pictures"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["floats"], ["turned"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["turned", "a"], ["x"]),
        helper.make_node("Conv", ["x", "b"], ["y"]),
        helper.make_node("Conv", ["y", "c"], ["z"]),
        helper.make_node("ReduceMean", ["z", "axes"], ["mean"], keepdims=0),
        helper.make_node("MatMul", ["mean", "matrix"], ["product"]),
        helper.make_node("Add", ["product", "listed"], ["logits"]),
    ]
    given = helper.make_tensor_value_info("pictures", TensorProto.UINT8, ["n", 12, 12, 3])
    made = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 3])
    graph = helper.make_graph(nodes, "g", [given], [made], [*weights, matrix, listed, axes])
    path = tmp_path / "Ordner für Netze" / "model.onnx"
    path.parent.mkdir()
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path


def logits(session: onnxruntime.InferenceSession) -> np.ndarray:
    pictures = np.random.default_rng(1).integers(0, 256, (2, 12, 12, 3), np.uint8)
    return session.run(["logits"], {"pictures": pictures})[0]


@pytest.mark.skipif(not X86, reason="elsewhere the file is read whole")
def test_large_weights_stay_in_the_file(network: Path) -> None:
    content = outline(network)
    model, whole = onnx.load_from_string(content), onnx.load(network)
    assert len(content) < 100_000
    assert model.graph.node == whole.graph.node
    assert [t.name for t in model.graph.initializer if t.external_data] == ["b"]
    for one, other in zip(model.graph.initializer, whole.graph.initializer, strict=True):
        if not one.external_data:
            assert one == other


@pytest.mark.parametrize("linked", [False, True])
def test_the_answers_are_those_of_the_whole_file(network: Path, tmp_path: Path, linked: bool) -> None:
    expected = logits(onnxruntime.InferenceSession(network, providers=["CPUExecutionProvider"]))
    path = network
    if linked:  # as the caches of model hubs keep their files
        path = tmp_path / "link.onnx"
        path.symlink_to(network)
    np.testing.assert_allclose(logits(open_session(path)), expected, rtol=1e-4)


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_a_file_that_is_cut_after_it_was_loaded_changes_nothing(network: Path, tmp_path: Path) -> None:
    session = open_session(network)
    expected = logits(session)
    if X86:
        assert str(tmp_path) not in Path("/proc/self/maps").read_text()
    with network.open("r+b") as file:
        file.truncate(10)
    np.testing.assert_array_equal(logits(session), expected)
