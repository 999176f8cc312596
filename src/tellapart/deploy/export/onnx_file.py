"""Exports a bundle to one ONNX file that any ONNX runtime can use: probabilities as well, and all names in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tellapart.core.extras import require
from tellapart.core.files import replacing
from tellapart.core.onnxruntime_quiet import load_onnxruntime
from tellapart.core.preprocess import Pixels
from tellapart.deploy.bundle.read import MODEL, Bundle
from tellapart.deploy.export.about import left_out, metadata
from tellapart.deploy.export.exported import Exported, golden_difference

_ALLOWED = 1e-3  # of the logits' size
_BATCH = 16


def export_onnx_file(bundle: Bundle, path: Path, with_preprocessing: bool = False) -> Exported:
    """Write the file, whole or not at all.

    Args:
        bundle: the classifier.
        path: of the file.
        with_preprocessing: its input is one decoded picture of any size, uint8 [height, width, 3], upright RGB. Else it
            is preprocessed pictures, uint8 [n, height, width, 3].

    Raises:
        BundleError: its answers are not the bundle's.
        MissingExtraError: onnx is not installed.
    """
    model = network_with_probabilities(bundle)
    difference = golden_difference(bundle, OnnxModel(model).logits, _ALLOWED, "ONNX file")
    if with_preprocessing:
        model = _with_preprocessing(bundle, model)
    with replacing(path) as beside:
        beside.write_bytes(model.SerializeToString())
    return Exported(path, difference, left_out(bundle))


def network_with_probabilities(bundle: Bundle, path: Path | None = None) -> Any:
    """A network as an `onnx.ModelProto` that gives calibrated "probabilities" too, with its metadata.

    Args:
        bundle: the classifier.
        path: of another form of its network; by default the bundle's own.
    """
    onnx = require("onnx", "Exporting a network", "train")
    model = onnx.load(path or bundle.folder / MODEL)
    graph = model.graph
    temperature = np.asarray(bundle.temperature, np.float32)
    graph.initializer.append(onnx.numpy_helper.from_array(temperature, "calibration.temperature"))
    activation = "Sigmoid" if bundle.multilabel else "Softmax"
    axis = {} if bundle.multilabel else {"axis": -1}
    make = onnx.helper.make_node
    graph.node.append(make("Div", ["logits", "calibration.temperature"], ["calibration.logits"]))
    graph.node.append(make(activation, ["calibration.logits"], ["probabilities"], **axis))
    kind = onnx.TensorProto.FLOAT
    shape = ["n", len(bundle.classes)]
    graph.output.insert(0, onnx.helper.make_tensor_value_info("probabilities", kind, shape))
    onnx.helper.set_model_props(model, metadata(bundle))
    return model


class OnnxModel:
    """Runs a model that takes "pictures"."""

    def __init__(self, model: Any) -> None:
        onnxruntime = load_onnxruntime()

        self._session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])

    def logits(self, pictures: Pixels) -> npt.NDArray[np.float32]:
        """Logits [n, n_classes] of pictures, uint8 [n, height, width, 3]."""
        parts = [pictures[start : start + _BATCH] for start in range(0, len(pictures), _BATCH)]
        return np.concatenate([self._session.run(["logits"], {"pictures": part})[0] for part in parts])


def _with_preprocessing(bundle: Bundle, model: Any) -> Any:
    import onnx

    from tellapart.deploy.export.onnx_preprocessing import preprocessing_model

    front = preprocessing_model(bundle.preprocessing)
    front.ir_version = model.ir_version
    front.opset_import[0].version = next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
    merged = onnx.compose.merge_models(front, model, [("pictures", "pictures")], prefix1="preprocessing/")
    merged.graph.input[0].name = "picture"
    for node in merged.graph.node:
        node.input[:] = ["picture" if name == "preprocessing/picture" else name for name in node.input]
    onnx.helper.set_model_props(merged, metadata(bundle))
    return merged
