"""Each format is read back by the library that it is for, and gives the bundle's answers."""

import json

import numpy as np
import onnxruntime
import pytest
import torch

from tellapart.core.openvino_quiet import load_openvino
from tellapart.core.preprocess import Preprocessing, preprocess
from tellapart.deploy.bundle.read import Bundle
from tellapart.deploy.bundle.write import write_bundle
from tellapart.errors import BundleError, UsageError
from tellapart.evaluation.calibration_summary import Certainty
from tellapart.models.create import create_network
from tellapart.recipe.schema import Recipe
from tellapart.workflows.export import export

SIDE = 8


@pytest.fixture(scope="module")
def pictures():
    return np.random.default_rng(5).integers(0, 256, (5, SIDE, SIDE, 3), np.uint8)


@pytest.fixture(scope="module")
def timm_run(tmp_path_factory):
    """A bundle of a small network of timm's, with a linear head."""
    recipe = Recipe.model_validate(
        {"model": {"name": "test_resnet", "pretrained": False}, "data": {"size": 32}, "stages": [{"train": "all"}]}
    )
    torch.manual_seed(0)
    network = create_network(recipe.model, 3, recipe.data)
    golden = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    folder = tmp_path_factory.mktemp("timm") / "bundle"
    certainty = Certainty(temperature=2.0, thresholds=None)
    write_bundle(folder, network, ("a", "b", "c"), False, certainty, golden=golden, about={})
    return folder.parent


def test_onnx_gives_probabilities_and_names_its_classes(exportable, pictures):
    exported = export(exportable, "onnx")
    session = onnxruntime.InferenceSession(exported.path)
    probabilities, logits = session.run(["probabilities", "logits"], {"pictures": pictures})
    bundle = Bundle.load(exportable)
    np.testing.assert_allclose(logits, bundle.predict_pixels(pictures), atol=1e-5)
    np.testing.assert_allclose(probabilities, bundle.probabilities(logits), atol=1e-6)
    told = session.get_modelmeta().custom_metadata_map
    assert json.loads(told["classes"]) == ["red", "green", "blue"]
    assert Preprocessing.from_dict(json.loads(told["preprocessing"])) == bundle.preprocessing
    assert any("unknown" in sentence for sentence in exported.left_out)
    assert any("changed copies" in sentence for sentence in exported.left_out)


def test_onnx_with_preprocessing_takes_a_picture_of_any_size(exportable):
    picture = np.random.default_rng(6).integers(0, 256, (60, 90, 3), np.uint8)
    path = export(exportable, "onnx", with_preprocessing=True).path
    session = onnxruntime.InferenceSession(path)
    assert [(i.name, i.shape) for i in session.get_inputs()] == [("picture", ["height", "width", 3])]
    (logits,) = session.run(["logits"], {"picture": picture})
    bundle = Bundle.load(exportable)
    np.testing.assert_allclose(
        logits, bundle.predict_pixels(preprocess(picture, bundle.preprocessing)[None]), atol=0.05
    )


def test_openvino_reads_its_folder(exportable, pictures):
    folder = export(exportable, "openvino").path
    core = load_openvino().Core()
    model = core.read_model(folder / "model.xml")
    assert json.loads(model.get_rt_info(["tellapart", "classes"]).astype(str)) == ["red", "green", "blue"]
    logits = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})({"pictures": pictures})["logits"]
    np.testing.assert_allclose(logits, Bundle.load(exportable).predict_pixels(pictures), atol=1e-4)


def test_a_folder_with_something_else_is_not_replaced(exportable):
    folder = exportable / "mine"
    folder.mkdir()
    (folder / "thesis.txt").write_text("years of work")
    with pytest.raises(UsageError, match=r"holds something else: thesis\.txt"):
        export(exportable, "openvino", folder)
    assert (folder / "thesis.txt").read_text() == "years of work"
    export(exportable, "openvino", exportable / "again")
    export(exportable, "openvino", exportable / "again")  # an older export makes room for the new one


@pytest.mark.slow
def test_torch_reads_its_program(timm_run):
    path = export(timm_run, "torch").path
    told = {"classes": ""}
    program = torch.export.load(path, extra_files=told).module()
    pictures = np.random.default_rng(7).integers(0, 256, (3, 32, 32, 3), np.uint8)
    logits = program(torch.from_numpy(pictures)).detach().numpy()
    np.testing.assert_allclose(logits, Bundle.load(timm_run).predict_pixels(pictures), atol=1e-4)
    assert json.loads(told["classes"]) == ["a", "b", "c"]


@pytest.mark.slow
def test_timm_reads_its_folder(timm_run):
    import timm

    folder = export(timm_run, "timm").path
    network = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    assert network.pretrained_cfg["label_names"] == ["a", "b", "c"]
    bundle = Bundle.load(timm_run)
    pictures = np.random.default_rng(8).integers(0, 256, (2, 32, 32, 3), np.uint8)
    mean, std = (torch.tensor(network.pretrained_cfg[name]).view(3, 1, 1) for name in ("mean", "std"))
    with torch.inference_mode():
        logits = network((torch.from_numpy(pictures).permute(0, 3, 1, 2) / 255 - mean) / std).numpy()
    np.testing.assert_allclose(logits, bundle.predict_pixels(pictures), atol=1e-3)


def test_an_unknown_format_is_refused(exportable):
    with pytest.raises(UsageError, match="no format 'tflite'"):
        export(exportable, "tflite")


def test_a_bundle_of_something_else_is_refused(tmp_path):
    with pytest.raises(BundleError, match="does not exist"):
        export(tmp_path / "nothing", "onnx")
