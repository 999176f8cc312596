"""Ensembles, test-time augmentation, sets, thresholds and unknown: every format has them, or says that it has not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

import tellapart as ta
from tellapart.core.openvino_quiet import load_openvino
from tellapart.deploy.bundle.read import Bundle
from tellapart.deploy.bundle.write import write_bundle
from tellapart.deploy.export.about import left_out
from tellapart.deploy.export.int8 import export_int8
from tellapart.deploy.page.describe import describe
from tellapart.errors import UsageError
from tellapart.evaluation.calibration_summary import Certainty
from tellapart.evaluation.open_set import KnownClasses, OodScore
from tellapart.models.create import create_network
from tellapart.recipe.schema import Recipe
from tellapart.workflows.export import export
from tests.deploy.export.conftest import SIDE, with_golden

ABILITIES = ("unknown", "Prediction sets", "changed copies")
PICTURES = np.random.default_rng(5).integers(0, 256, (4, SIDE, SIDE, 3), np.uint8)


@pytest.fixture
def several(tmp_path: Path, make_bundle: Callable[..., Path]) -> Path:
    """A run whose bundle gives several labels, each with a temperature and a threshold of its own, and looks twice."""
    options = {"multilabel": True, "temperature": [1.0, 2.0, 4.0], "thresholds": [0.2, 0.5, 0.6]}
    folder = make_bundle(tmp_path / "several" / "bundle", tta=1, flip=True, tta_mean="probabilities", **options)
    return with_golden(folder).parent


@pytest.mark.parametrize("to", ["onnx", "openvino"])
def test_what_a_plain_network_lacks_is_said(exportable: Path, several: Path, to: str) -> None:
    told = " ".join(export(exportable, to).left_out)
    assert all(ability in told for ability in ABILITIES)
    told = " ".join(export(several, to).left_out)
    assert "thresholds" in told
    assert "without the 1 changed copies" in told
    assert "unknown" not in told


def test_several_labels_keep_their_temperatures_and_thresholds(several: Path) -> None:
    bundle = Bundle.load(several)
    wanted = bundle.probabilities(bundle.predict_pixels(PICTURES))
    session = onnxruntime.InferenceSession(export(several, "onnx").path)
    named = session.get_modelmeta().custom_metadata_map
    assert json.loads(named["thresholds"]) == [0.2, 0.5, 0.6]
    np.testing.assert_allclose(session.run(["probabilities"], {"pictures": PICTURES})[0], wanted, atol=1e-6)
    core = load_openvino().Core()
    compiled = core.compile_model(
        core.read_model(export(several, "openvino").path / "model.xml"), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    np.testing.assert_allclose(compiled({"pictures": PICTURES})["probabilities"], wanted, atol=1e-5)


def test_sets_that_a_user_builds_from_the_metadata_are_those_of_predict(exportable: Path) -> None:
    session = onnxruntime.InferenceSession(export(exportable, "onnx").path)
    named = {key: json.loads(session.get_modelmeta().custom_metadata_map[key]) for key in ("sets", "classes")}
    (probabilities,) = session.run(["probabilities"], {"pictures": PICTURES})
    inside = probabilities >= named["sets"]["0.95"]
    for picture, row, chosen in zip(PICTURES, probabilities, inside, strict=True):
        answer = ta.load(exportable).predict(picture, coverage=0.95, tta=0, unknown=False)
        order = [named["classes"][i] for i in np.argsort(-row) if chosen[i]]
        assert list(answer.candidates)[: len(order)] == order


def test_the_page_has_all_of_them(exportable: Path, several: Path) -> None:
    one, other = describe(Bundle.load(exportable), ""), describe(Bundle.load(several), "")
    assert (one["tta"], one["flip"]) == (3, True)
    assert one["set"] == {"coverage": 0.95, "threshold": 0.2}
    assert one["ood_score"]
    assert list(other["thresholds"]) == [0.2, 0.5, 0.6]
    assert list(other["temperature"]) == [1.0, 2.0, 4.0]


def test_a_bundle_without_abilities_leaves_nothing_out(bundle_folder: Path) -> None:
    assert left_out(Bundle.load(bundle_folder)) == ()
    assert len(left_out(Bundle.load(bundle_folder), probabilities=False)) == 1


@pytest.fixture(scope="module")
def ensemble(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two networks of timm's, with every ability of one label a picture."""
    members = [{"name": name, "pretrained": False} for name in ("test_resnet", "test_efficientnet")]
    recipe = Recipe.model_validate({"model": {"name": "ensemble", "members": members}, "data": {"size": 32}})
    torch.manual_seed(0)
    network = create_network(recipe.model, 3, recipe.data).eval()
    golden = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
    width = network.n_features
    known = KnownClasses(
        np.eye(3, width, dtype=np.float32), np.eye(width, 1, dtype=np.float32), np.ones(1, np.float32), 0.1
    )
    score = OodScore((0.5, 0.5), (0.2, 0.3), 2.0, 0.99, 100)
    certainty = Certainty(1.5, n_validation=100, ood_score=score, sets={0.9: 0.2})
    folder = tmp_path_factory.mktemp("ensemble") / "bundle"
    write_bundle(folder, network, ("a", "b", "c"), False, certainty, golden=golden, about={}, known=known, tta=2)
    return folder.parent


@pytest.mark.slow
def test_an_ensemble_is_whole_in_every_format_but_timms(ensemble: Path) -> None:
    bundle = Bundle.load(ensemble)
    pictures = np.random.default_rng(7).integers(0, 256, (3, 32, 32, 3), np.uint8)
    wanted = bundle.predict_pixels(pictures)
    for to in ("onnx", "openvino", "torch"):
        exported = export(ensemble, to)
        assert all(ability in " ".join(exported.left_out) for ability in ABILITIES), to
        if to == "onnx":
            logits = onnxruntime.InferenceSession(exported.path).run(["logits"], {"pictures": pictures})[0]
        elif to == "openvino":
            core = load_openvino().Core()
            model = core.read_model(exported.path / "model.xml")
            logits = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(pictures)["logits"]
        else:
            logits = torch.export.load(exported.path).module()(torch.from_numpy(pictures)).detach().numpy()
        np.testing.assert_allclose(logits, wanted, atol=1e-3, err_msg=to)
    with pytest.raises(UsageError, match="no network that timm can build"):
        export(ensemble, "timm")


@pytest.mark.slow
def test_an_ensemble_in_8_bits_is_whole_and_says_what_it_leaves_out(ensemble: Path, tmp_path: Path) -> None:
    bundle = Bundle.load(ensemble)
    pictures = np.random.default_rng(7).integers(0, 256, (16, 32, 32, 3), np.uint8)
    wanted = bundle.predict_pixels(pictures)
    exported = export_int8(bundle, tmp_path / "int8.onnx", pictures, wanted.argmax(axis=1), max_loss=1.0)
    assert all(ability in " ".join(exported.left_out) for ability in ABILITIES)
    session = onnxruntime.InferenceSession(exported.path)
    logits, probabilities = session.run(["logits", "probabilities"], {"pictures": pictures})
    assert np.abs(logits - wanted).max() < 0.2 * np.ptp(wanted)
    np.testing.assert_allclose(probabilities, bundle.probabilities(logits), atol=1e-6)  # with its temperature
    named = {key: json.loads(session.get_modelmeta().custom_metadata_map[key]) for key in ("sets", "classes")}
    assert named == {"sets": {"0.9": 0.2}, "classes": ["a", "b", "c"]}


@pytest.mark.slow
def test_several_labels_in_8_bits_keep_their_temperatures_and_thresholds(several: Path, tmp_path: Path) -> None:
    bundle = Bundle.load(several)
    target = (bundle.probabilities(bundle.predict_pixels(PICTURES)) >= np.array(bundle.thresholds)).astype(int)
    exported = export_int8(bundle, tmp_path / "int8.onnx", PICTURES, target, max_loss=1.0)
    assert "thresholds" in " ".join(exported.left_out)
    assert "without the 1 changed copies" in " ".join(exported.left_out)
    session = onnxruntime.InferenceSession(exported.path)
    logits, probabilities = session.run(["logits", "probabilities"], {"pictures": PICTURES})
    np.testing.assert_allclose(probabilities, bundle.probabilities(logits), atol=1e-6)
    assert json.loads(session.get_modelmeta().custom_metadata_map["thresholds"]) == [0.2, 0.5, 0.6]
