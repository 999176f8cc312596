"""A network in 8 bits: what it loses is measured on validation pictures, and too much is refused."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from tellapart.core.preprocess import Preprocessing
from tellapart.deploy.bundle.read import Bundle
from tellapart.deploy.bundle.write import write_bundle
from tellapart.deploy.export.int8 import export_int8, judged
from tellapart.errors import BundleError, UsageError
from tellapart.evaluation.calibration_summary import Certainty
from tellapart.models.architecture import Architecture
from tellapart.models.network import Network
from tellapart.recipe.schema import Head
from tellapart.workflows.export import export

SIDE = 12


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    torch.manual_seed(0)
    backbone = torch.nn.Sequential(
        torch.nn.Conv2d(3, 16, 3, stride=2), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()
    )
    architecture = Architecture("own", "tiny_net", Head(), 3, Preprocessing(SIDE, SIDE))
    network = Network(backbone, torch.nn.Linear(16, 3), architecture, 16, "random")
    folder = tmp_path_factory.mktemp("int8") / "bundle"
    pictures = np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE, 3), np.uint8)
    certainty = Certainty(temperature=1.0, thresholds=None)
    write_bundle(folder, network, ("a", "b", "c"), False, certainty, golden=pictures, about={})
    return Bundle.load(folder)


@pytest.fixture(scope="module")
def pictures():
    return np.random.default_rng(1).integers(0, 256, (40, SIDE, SIDE, 3), np.uint8)


@pytest.mark.slow
def test_weights_are_whole_numbers_and_the_loss_is_what_a_count_says(bundle, pictures, tmp_path):
    target = bundle.predict_pixels(pictures).argmax(axis=1)  # float32 is right for all of them
    path = tmp_path / "int8.onnx"
    exported = export_int8(bundle, path, pictures, target, max_loss=1.0)
    kinds = {weight.data_type for weight in onnx.load(path).graph.initializer}
    assert onnx.TensorProto.INT8 in kinds
    (logits,) = onnxruntime.InferenceSession(path).run(["logits"], {"pictures": pictures})
    right = (logits.argmax(axis=1) == target).mean()
    assert f"right for {100 * right:.1f}\u202f% of 40 validation pictures instead of 100.0\u202f%" in exported.note
    assert f"{100 * (1 - right):.1f} points lost (95 % interval:" in exported.note


def test_a_loss_above_the_limit_is_refused():
    before = np.array([True] * 90 + [False] * 10)
    after = np.array([True] * 85 + [False] * 12 + [True] * 3)
    assert "2.0 points lost (95 % interval: " in judged(before, after, 0.02)
    with pytest.raises(BundleError, match=r"No 8-bit file was written\. In 8 bits it is right for 88\.0.%") as error:
        judged(before, after, 0.019)
    assert error.value.hint.startswith("Allow more with --max-loss 0.0")


@pytest.mark.slow
def test_without_validation_pictures_there_are_no_8_bits(bundle, tmp_path):
    none = np.empty((0, SIDE, SIDE, 3), np.uint8)
    with pytest.raises(UsageError, match="no validation pictures"):
        export_int8(bundle, tmp_path / "x.onnx", none, np.empty(0, int))
    with pytest.raises(UsageError, match="lies in no run directory"):
        export(bundle.folder, "int8")
