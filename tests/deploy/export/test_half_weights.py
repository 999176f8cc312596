import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from tellapart.deploy.export.half_weights import half_weights


def model_of(weight):
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["p"]), helper.make_node("Add", ["p", "b"], ["y"])],
        "line",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", weight.shape[0]])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", weight.shape[1]])],
        [
            numpy_helper.from_array(weight, "w"),
            numpy_helper.from_array(np.linspace(0, 1, weight.shape[1], dtype=np.float32), "b"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def test_large_weights_take_half_the_bytes_and_answers_stay():
    weight = np.random.default_rng(0).normal(size=(128, 64)).astype(np.float32)
    x = np.random.default_rng(1).normal(size=(5, 128)).astype(np.float32)
    model = model_of(weight)
    before = len(model.SerializeToString())
    half_weights(model)
    assert len(model.SerializeToString()) < 0.6 * before
    (y,) = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})
    np.testing.assert_allclose(y, x @ weight + np.linspace(0, 1, 64), atol=0.02)
    assert [i.data_type for i in model.graph.initializer] == [TensorProto.FLOAT16, TensorProto.FLOAT]


def test_weights_beyond_the_range_of_float16_stay():
    weight = np.full((128, 64), 1e6, np.float32)
    model = model_of(weight)
    half_weights(model)
    assert model.graph.initializer[0].data_type == TensorProto.FLOAT
