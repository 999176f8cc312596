"""What is written, that it is checked first, and that a kill at any moment leaves a whole bundle."""

import json
import os
import pickle
import signal
import stat
import subprocess
import sys
import warnings
import zipfile

import numpy as np
import onnx
import pytest
import safetensors.torch
import torch
from torch import nn

from tellapart.core.bundle_description import DESCRIPTION, own_digest
from tellapart.core.preprocess import preprocess
from tellapart.data.decoding.decode import decode
from tellapart.deploy.bundle import write as write_module
from tellapart.deploy.bundle.read import CARD, GOLDEN, KNOWN, MODEL, WEIGHTS, Bundle, waiting
from tellapart.errors import BundleError
from tellapart.evaluation.fit_open_set import fit_known
from tellapart.evaluation.open_set import OodScore
from tellapart.models.create import create_network
from tellapart.models.network import Network
from tellapart.recipe.schema import Data, Model

FILES = {DESCRIPTION, MODEL, WEIGHTS, GOLDEN, CARD}
SEVERAL = {"multilabel": True, "thresholds": [0.2, 0.5, 0.9]}


def test_onnxruntime_answers_as_torch_in_evaluation_mode(written, network):
    pictures = np.random.default_rng(1).integers(0, 256, (5, 12, 16, 3), np.uint8)
    with torch.inference_mode():
        expected = network.eval()(torch.from_numpy(pictures)).numpy()
    np.testing.assert_allclose(Bundle.load(written).predict_pixels(pictures), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_a_real_network_on_real_pictures(write, weights, test_data, tmp_path):
    network = create_network(Model(name="mobilenetv2_100"), 3, Data(size=160))
    how = network.preprocessing
    paths = sorted((test_data / "fruit" / "tomato").iterdir())[:12]
    pictures = np.stack([preprocess(decode(path, how.decode_at_least), how) for path in paths])
    bundle = Bundle.load(write(tmp_path / "bundle", network=network, golden=pictures[:4]))
    with torch.inference_mode():
        expected = network.eval()(torch.from_numpy(pictures)).numpy()
    np.testing.assert_allclose(bundle.predict_pixels(pictures), expected, rtol=1e-3, atol=1e-3)


def test_writing_again_is_quiet_gives_the_same_bytes_and_leaves_the_network_as_it_was(
    write, written, network, tmp_path, capfd
):
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        folder = write(tmp_path / "bundle", about={"evaluation": {}})
    assert capfd.readouterr() == ("", "")
    assert all((folder / name).read_bytes() == (written / name).read_bytes() for name in (MODEL, WEIGHTS, GOLDEN))
    assert network.training
    assert all(p.requires_grad for p in network.parameters())
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


def test_weights_are_those_of_the_whole_network(written, network):
    stored = safetensors.torch.load_file(written / WEIGHTS)
    assert stored.keys() == network.state_dict().keys()
    network.load_state_dict(stored)
    plain = json.loads(json.dumps(network.architecture.as_dict()))
    assert Bundle.load(written).architecture == plain


def test_half_precision_becomes_full_and_tied_weights_are_no_trouble(write, network, tmp_path):
    network.backbone.add_module("again", nn.Linear(8, 8))
    network.backbone.add_module("tied", nn.Linear(8, 8))
    network.backbone.tied.weight = network.backbone.again.weight
    folder = write(tmp_path / "bundle", network=network.to(torch.bfloat16))
    stored = safetensors.torch.load_file(folder / WEIGHTS)
    assert torch.equal(stored["backbone.tied.weight"], stored["backbone.again.weight"])
    model = onnx.load(folder / MODEL)
    assert {tensor.data_type for tensor in model.graph.initializer} <= {onnx.TensorProto.FLOAT, onnx.TensorProto.INT64}
    assert {tensor.dtype for tensor in stored.values()} == {torch.float32, torch.int64}


def test_the_files_and_nothing_beside_them(written):
    assert {path.name for path in written.iterdir()} == FILES
    assert [path.name for path in written.parent.iterdir()] == ["bundle"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")
def test_whoever_may_read_other_new_files_may_read_these(written, tmp_path):
    (tmp_path / "usual").touch()
    usual = stat.S_IMODE((tmp_path / "usual").stat().st_mode)
    assert {stat.S_IMODE(path.stat().st_mode) for path in written.iterdir()} == {usual}


def test_the_model_is_one_file_of_a_stated_opset_that_tells_no_paths(written):
    model = onnx.load(written / MODEL, load_external_data=False)
    onnx.checker.check_model(model)
    assert [entry.version for entry in model.opset_import if entry.domain == ""] == [18]
    assert json.loads((written / DESCRIPTION).read_text(encoding="utf-8"))["onnx_opset"] == 18
    (taken,), (given, features) = model.graph.input, model.graph.output
    assert (taken.name, given.name, features.name) == ("pictures", "logits", "features")
    assert taken.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert taken.type.tensor_type.shape.dim[0].dim_param
    assert not any(tensor.external_data for tensor in model.graph.initializer)
    assert b".py" not in (written / MODEL).read_bytes()


def test_nothing_can_be_unpickled(written):
    for path in written.iterdir():
        assert not zipfile.is_zipfile(path)  # torch's own format
        with path.open("rb") as file, pytest.raises((pickle.UnpicklingError, ValueError, EOFError, KeyError)):
            pickle.load(file)


@pytest.mark.usefixtures("exported")
def test_several_labels_and_classes_with_odd_names(write, tmp_path):
    classes = (os.fsdecode(b"caf\xe9"), "line\nbreak", "| table")
    bundle = Bundle.load(write(tmp_path / "bundle", **SEVERAL, classes=classes))
    assert bundle.multilabel
    assert bundle.classes == classes
    assert bundle.thresholds == (0.2, 0.5, 0.9)
    np.testing.assert_allclose(bundle.probabilities([[0.0, 1.5, -1.5]]), [[0.5, 0.7310586, 0.2689414]])
    card = (bundle.folder / CARD).read_text(encoding="utf-8")
    assert "caf\\\\udce9, line break, \\| table." in card
    assert "none, one or several" in card


@pytest.mark.usefixtures("exported")
def test_several_labels_count_from_one_half_unless_told(write, tmp_path):
    assert Bundle.load(write(tmp_path / "bundle", multilabel=True)).thresholds == (0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"golden": np.zeros((2, 16, 12, 3), np.uint8)}, "golden must be uint8"),
        ({"golden": np.zeros((2, 12, 16, 3), np.float32)}, "golden must be uint8"),
        ({"golden": np.zeros((0, 12, 16, 3), np.uint8)}, "golden must be uint8"),
        ({"temperature": 0.0}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"classes": ("a", "a", "b")}, "3 names that differ"),
        ({"classes": ("a", "b")}, "3 names that differ"),
        ({"thresholds": [0.5, 0.5, 0.5]}, "several labels only"),
        (SEVERAL | {"thresholds": [0.5]}, "1 thresholds for 3 classes"),
    ],
)
def test_arguments_that_do_not_belong_together(write, tmp_path, changes, told):
    with pytest.raises(ValueError, match=told):
        write(tmp_path / "bundle", **changes)
    assert not list(tmp_path.iterdir())


class Moody(Network):
    """A network whose exported form differs from what it computes."""

    def answer(self, pictures):
        logits, features = super().answer(pictures)
        return logits + 0.01 if torch.compiler.is_exporting() else logits, features


def test_a_mismatch_is_an_error_and_leaves_the_older_bundle(write, copied, written, network):
    network.__class__ = Moody
    with pytest.raises(BundleError, match=r"cannot be trusted.*golden picture") as caught:
        write(copied, network=network)
    assert "not lost" in caught.value.hint
    assert all((copied / name).read_bytes() == (written / name).read_bytes() for name in FILES)
    assert [path.name for path in copied.parent.iterdir()] == ["bundle"]


class Unexportable(Network):
    """A network whose way depends on what it sees."""

    def answer(self, pictures):
        logits, features = super().answer(pictures)
        return logits * (2 if pictures.float().mean() > 100 else 1), features


def test_a_network_that_cannot_be_exported(write, network, tmp_path):
    network.__class__ = Unexportable
    with pytest.raises(BundleError, match=r"cannot be exported to ONNX.*data-dependent"):
        write(tmp_path / "bundle", network=network)
    assert not list(tmp_path.iterdir())


def test_a_folder_of_something_else_is_never_replaced(write, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").touch()
    with pytest.raises(BundleError, match=r"cat\.jpg"):
        write(tmp_path / "photos")
    (tmp_path / "file").touch()
    with pytest.raises(BundleError, match="a file"):
        write(tmp_path / "file")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["cat.jpg", "file", "photos"]


@pytest.mark.usefixtures("exported")
def test_a_bundle_with_files_of_formats_not_known_here_is_replaced(write, copied):
    description = json.loads((copied / DESCRIPTION).read_text())
    description["files"]["model.mlpackage"] = {"bytes": 0, "sha256": ""}
    description["sha256"] = own_digest(description)
    (copied / DESCRIPTION).write_text(json.dumps(description))
    (copied / "model.mlpackage").touch()
    write(copied)
    assert {path.name for path in copied.iterdir()} == FILES


KILLED = """
import json, os, pathlib, signal, sys
from types import SimpleNamespace
import numpy as np
from tellapart.deploy.bundle import replace, write
from tellapart.deploy.bundle.read import waiting
from tellapart.evaluation.calibration_summary import Certainty
from tellapart.core.preprocess import Preprocessing

FILES = ("bundle.json", "model.onnx", "model.safetensors", "golden.safetensors", "README.md")


def folder_of(path, text):
    path.mkdir(parents=True)
    for name in FILES:
        (path / name).write_text(text)


def in_a_process_of_its_own(function):
    child = os.fork()
    if child == 0:
        function()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def kill_at_step(n):
    steps = iter(range(n))

    def counted(function):
        def wrapped(*args, **kwargs):
            if next(steps, None) is None:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **kwargs)

        return wrapped

    for owner, name in ((os, "fsync"), (os, "unlink"), (os, "rmdir"), (pathlib.Path, "rename")):
        setattr(owner, name, counted(getattr(owner, name)))


def stands(folder):
    return {path.name: [p.read_text() for p in sorted(path.iterdir())] for path in folder.parent.iterdir()}


seen = []
for n in range(100):
    folder = pathlib.Path(sys.argv[1]) / str(n) / "bundle"
    folder_of(folder, "old")
    folder_of(folder.parent / "part", "new")
    code = in_a_process_of_its_own(lambda: (kill_at_step(n), replace.put(folder.parent / "part", folder)))
    place = folder if folder.exists() else waiting(folder)
    seen.append([code, place.name, [path.read_text() for path in sorted(place.iterdir())]])
    if code == 0:
        break

# While the network is written, nothing but the folder beside has been touched.
folder = pathlib.Path(sys.argv[1]) / "writing" / "bundle"
folder_of(folder, "old")
network = SimpleNamespace(
    preprocessing=Preprocessing(1, 1),
    architecture=SimpleNamespace(n_classes=1, as_dict=dict),
    weights_source="",
)
golden = np.zeros((1, 1, 1, 3), np.uint8)


def half(part, network, golden):
    (part / "model.onnx").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)


write._write_network = half
code = in_a_process_of_its_own(
    lambda: write.write_bundle(
        folder, network, ["a"], False, Certainty(), about={}, golden=golden
    )
)
assert "torch" not in sys.modules  # it would not survive the forks
print(json.dumps({"placing": seen, "writing": [code, stands(folder)]}))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills as POSIX does")
def test_killed_at_any_step_a_whole_bundle_is_there(tmp_path):
    """Killed before the first flush, the second, … until it comes through; and in the middle of an export."""
    done = subprocess.run([sys.executable, "-c", KILLED, tmp_path], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    *killed, last = told["placing"]
    assert all(code == -signal.SIGKILL for code, *_ in killed)
    assert last == [0, "bundle", ["new"] * len(FILES)]
    stages = {(place, *texts) for _, place, texts in told["placing"]}
    assert stages == {
        ("bundle", *["old"] * len(FILES)),
        (".bundle.old", *["old"] * len(FILES)),
        ("bundle", *["new"] * len(FILES)),
    }
    assert told["writing"] == [-signal.SIGKILL, {"bundle": ["old"] * len(FILES), ".bundle.part": ["half"]}]


@pytest.mark.usefixtures("exported")
def test_what_a_killed_writer_left_is_read_then_cleared_away(write, copied, monkeypatch):
    older = Bundle.load(copied)
    copied.rename(waiting(copied))  # killed between the two renames
    assert Bundle.load(copied).classes == Bundle.load(copied.parent).classes == older.classes
    (copied.parent / ".bundle.part").mkdir()
    (copied.parent / ".bundle.part" / MODEL).write_text("half")
    with monkeypatch.context() as patch:
        patch.setattr(write_module, "_write_network", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            write(copied)
    assert [path.name for path in copied.parent.iterdir()] == ["bundle"]
    assert Bundle.load(copied).classes == older.classes
    write(copied, temperature=2.0)
    assert Bundle.load(copied).temperature == 2.0
    assert [path.name for path in copied.parent.iterdir()] == ["bundle"]


@pytest.mark.usefixtures("exported")
def test_what_certainty_needs_is_written_and_read_back(write, network, tmp_path):
    pictures = np.random.default_rng(1).integers(0, 256, (40, 12, 16, 3), np.uint8)
    with torch.inference_mode():
        logits, features = (out.numpy() for out in network.eval().answer(torch.from_numpy(pictures)))
    known = fit_known(features, np.arange(40) % 3, 3)
    ood_score = OodScore((1.0, 0.5), (0.1, 0.2), 3.0, 0.99, 120)
    told = {
        "known": known,
        "ood_score": ood_score,
        "sets": {0.9: 0.25},
        "n_validation": 120,
        "tta": 4,
        "flip": True,
        "tta_mean": "probabilities",
    }
    bundle = Bundle.load(write(tmp_path / "bundle", **told))
    assert (bundle.sets, bundle.n_validation, bundle.tta, bundle.flip) == ({0.9: 0.25}, 120, 4, True)
    assert bundle.tta_mean == "probabilities"
    assert bundle.ood_score == ood_score
    found, distance = bundle.predict_distance(pictures)
    np.testing.assert_allclose(found, logits, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(distance, known.distance(features), rtol=1e-3, atol=1e-3)
    assert "unknown" in (bundle.folder / CARD).read_text(encoding="utf-8")
    (bundle.folder / KNOWN).write_bytes((bundle.folder / KNOWN).read_bytes()[:-1])
    with pytest.raises(BundleError, match=KNOWN):
        Bundle.load(bundle.folder)


@pytest.mark.usefixtures("exported")
def test_a_temperature_a_label(write, tmp_path):
    bundle = Bundle.load(write(tmp_path / "bundle", **SEVERAL, temperature=(0.5, 1.0, 2.0)))
    assert bundle.temperature == (0.5, 1.0, 2.0)
    expected = 1 / (1 + np.exp(-np.array([2.0, 1.0, 0.5])))
    np.testing.assert_allclose(bundle.probabilities(np.ones((1, 3)))[0], expected)
    with pytest.raises(ValueError, match="temperature"):
        write(tmp_path / "other", **SEVERAL, temperature=(0.5, 1.0))
