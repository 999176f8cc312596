import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from torch import nn

from tellapart.core.preprocess import Preprocessing
from tellapart.core.scores import Evaluation, Metric
from tellapart.deploy.bundle.read import GOLDEN, KNOWN, MODEL, WEIGHTS
from tellapart.deploy.bundle.write import write_bundle
from tellapart.deploy.export.formats import FORMATS
from tellapart.evaluation.calibration_summary import Certainty
from tellapart.models.architecture import Architecture
from tellapart.models.network import Network
from tellapart.recipe.schema import Head
from tests.bundles import change

CLASSES = ("apple", "bèe & <b>", "cat")
SIZE = (12, 16)  # height, width


def tiny_network(seed=0) -> Network:
    """Small enough to export in a second, with what exports get wrong: batch norm, height unlike width."""
    torch.manual_seed(seed)
    backbone = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    preprocessing = Preprocessing(*SIZE, crop=0.9, std=(0.1, 0.2, 0.3))
    architecture = Architecture("own", "tiny_net", Head(), len(CLASSES), preprocessing)
    network = Network(backbone, nn.Linear(8, len(CLASSES)), architecture, 8, "random <numbers>")
    network.train()(torch.randint(0, 256, (64, *SIZE, 3), dtype=torch.uint8))  # batch norm other than the identity
    return network


@pytest.fixture
def network() -> Network:
    return tiny_network()


@pytest.fixture(scope="session")
def golden():
    return np.random.default_rng(0).integers(0, 256, (10, *SIZE, 3), np.uint8)


@pytest.fixture
def write(network, golden):
    """write_bundle with everything given but what a test is about."""

    def write(folder, **changes):
        options = {"about": {}, "golden": golden, **changes}
        fields = ("temperature", "thresholds", "sets", "n_validation", "ood_score")
        certainty = {"temperature": 1.5} | {name: options.pop(name) for name in fields if name in options}
        usual = {"network": network, "classes": CLASSES, "multilabel": False, "certainty": Certainty(**certainty)}
        write_bundle(folder, *(options.pop(key, value) for key, value in usual.items()), **options)
        return folder

    return write


@pytest.fixture(scope="session")
def written(tmp_path_factory, golden) -> Path:
    """One bundle, in a run directory, for the tests that only read; those that change it copy it first."""
    metrics = {"accuracy": Metric(0.923, 0.901, 0.942, 540), "f1_macro": Metric(0.92, 0.89, 0.94, 540)}
    evaluation = Evaluation("test", False, 540, CLASSES, metrics, confusion=((1,),))
    about = {"trained_on": "2,525 pictures", "command": "tellapart train x", "evaluation": evaluation.as_dict()}
    folder = tmp_path_factory.mktemp("made") / "not" / "yet" / "bundle"
    write_bundle(folder, tiny_network(), CLASSES, False, Certainty(1.5), about=about, golden=golden)
    return folder


@pytest.fixture
def copied(written, tmp_path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "run" / "bundle"))


@pytest.fixture
def exported(written, monkeypatch) -> None:
    """Takes the model of `written`, which is of the same network, instead of exporting it once more."""
    model = (written / MODEL).read_bytes()
    monkeypatch.setitem(FORMATS, MODEL, lambda _network, _golden, path: path.write_bytes(model))


SCORE = {"distance": [1.0, 0.5], "doubt": [0.1, 0.1], "limit": 3.0, "share": 0.99, "n": 100}


@pytest.fixture(scope="module")
def whole(written: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with every kind of file, and every ability."""
    folder = Path(shutil.copytree(written, tmp_path_factory.mktemp("whole") / "bundle"))
    known = {"means": np.eye(3, 8), "basis": np.eye(8, 1), "spread": np.ones(1), "rest": np.ones(1)}
    save_file({name: tensor.astype(np.float32) for name, tensor in known.items()}, folder / KNOWN)
    content = {name: (folder / name).read_bytes() for name in (MODEL, WEIGHTS, GOLDEN, KNOWN)}
    files = {n: {"bytes": len(c), "sha256": hashlib.sha256(c).hexdigest()} for n, c in content.items()}
    change(folder, files=files, ood_score=SCORE, tta=2, flip=True, sets={"0.9": 0.2})
    return folder
