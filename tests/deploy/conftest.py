import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from safetensors.numpy import save_file

from tellapart.core.bundle_description import DESCRIPTION, own_digest
from tellapart.core.preprocess import Preprocessing
from tellapart.deploy.bundle.read import GOLDEN, KNOWN, MODEL, WEIGHTS, Bundle, describe_files

CLASSES = ("red", "green", "blue")
SIDE = 8
SCALE = 10.0  # logit of a channel: SCALE × its mean over the picture, 0 to 1; several labels: minus SCALE / 2


def _make_bundle(
    folder: Path, classes=CLASSES, multilabel=False, temperature=1.0, thresholds=(), known=None, **more
) -> Path:
    """A bundle made by hand, whose answers can be told by eye: it says how red, green and blue a picture is.

    With `known`, its features are how red, green and blue a picture is.
    """
    folder.mkdir(parents=True)
    constants = {
        "axes": np.array([1, 2]),
        "scale": np.float32(SCALE / 255),
        "shift": np.float32(multilabel * SCALE / 2),
    }
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["pictures"], ["floats"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["floats", "axes"], ["means"], keepdims=0),
            helper.make_node("Mul", ["means", "scale"], ["scaled"]),
            helper.make_node("Sub", ["scaled", "shift"], ["logits"]),
            helper.make_node("Identity", ["means"], ["features"]),
        ],
        "colours",
        [helper.make_tensor_value_info("pictures", TensorProto.UINT8, ["n", SIDE, SIDE, 3])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3]) for name in ("logits", "features")],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), folder / MODEL)
    (folder / WEIGHTS).touch()
    (folder / GOLDEN).touch()
    if known is not None:
        save_file(known.tensors(), folder / KNOWN)
    values = {
        "format": 2 if more else 1,
        "tellapart": "0",
        "architecture": {},
        "classes": classes,
        "multilabel": multilabel,
        "preprocessing": Preprocessing(SIDE, SIDE).as_dict(),
        "temperature": temperature,
        "thresholds": thresholds,
        "tolerance": {"absolute": 1e-3, "relative": 1e-3},
        "about": {},
        "files": describe_files(folder),
        **more,
    }
    (folder / DESCRIPTION).write_text(json.dumps(values | {"sha256": own_digest(values)}))
    return folder


@pytest.fixture(scope="session")
def make_bundle():
    return _make_bundle


@pytest.fixture(scope="session")
def bundle_folder(tmp_path_factory) -> Path:
    return _make_bundle(tmp_path_factory.mktemp("run") / "bundle")


@pytest.fixture(scope="session")
def bundle(bundle_folder) -> Bundle:
    return Bundle.load(bundle_folder)


@pytest.fixture(scope="session")
def tagger(tmp_path_factory) -> Bundle:
    """One for several labels."""
    folder = tmp_path_factory.mktemp("tags") / "bundle"
    return Bundle.load(_make_bundle(folder, multilabel=True, thresholds=(0.5, 0.5, 0.9)))


@pytest.fixture
def plain(tmp_path):
    """A maker of one-coloured pictures."""

    def make(name, colour="red", size=(SIDE, SIDE)) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, colour).save(path)
        return path

    return make
