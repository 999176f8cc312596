"""A run directory from anybody: its network is built only after its description was checked."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import timm
import torch

from tellapart.core.bundle_description import DESCRIPTION
from tellapart.core.preprocess import Preprocessing
from tellapart.errors import BundleError, ModelError, RunError
from tellapart.models.architecture import Architecture
from tellapart.models.create import rebuild
from tellapart.recipe.schema import Head
from tellapart.runs.run import Run
from tellapart.training.checkpoint import State, save_checkpoint
from tellapart.workflows.label_issues import trained
from tests.bundles import change, describe


class Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """What `trained` needs of a finished run."""
    architecture = Architecture("timm", "test_resnet", Head(), 3, Preprocessing(32, 32))
    run = Run(tmp_path / "run")
    (run.directory / "checkpoints").mkdir(parents=True)
    save_checkpoint(run.checkpoint("best"), rebuild(architecture), State())
    describe(run.bundle, json.loads(json.dumps(architecture.as_dict())))
    return run


def changed(run: Run, **changes: Any) -> dict[str, Any]:
    values = json.loads((run.bundle / DESCRIPTION).read_text(encoding="utf-8"))["architecture"]
    return {"architecture": values | changes}


def test_a_runs_network_is_built(run: Run) -> None:
    assert trained(run, "best").architecture.name == "test_resnet"


def test_a_description_that_was_changed_is_refused(run: Run) -> None:
    text = (run.bundle / DESCRIPTION).read_text(encoding="utf-8")
    (run.bundle / DESCRIPTION).write_text(text.replace("test_resnet", "test_vit"), encoding="utf-8")
    with pytest.raises(BundleError, match="changed after it was written"):
        trained(run, "best")


def test_no_pickle_beside_it_is_run_though_the_description_is_signed(run: Run) -> None:
    path = run.directory / "weights.pth"
    path.write_bytes(pickle.dumps(Evil(run.directory / "executed")))
    change(run.bundle, **changed(run, options={"checkpoint_path": str(path)}))
    with pytest.raises(ModelError, match="checkpoint_path"):
        trained(run, "best")
    assert not (run.directory / "executed").exists()


@pytest.mark.parametrize("name", ["hf-hub:someone/model", "local-dir:/tmp/model"])
def test_no_hub_is_asked_though_the_description_is_signed(run: Run, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    change(run.bundle, **changed(run, name=name))
    monkeypatch.setattr(timm, "create_model", lambda *_, **__: pytest.fail("timm was asked"))
    with pytest.raises(ModelError, match="not known"):
        trained(run, "best")


def test_a_checkpoint_that_is_a_pickle_is_refused(run: Run) -> None:
    torch.save({"network": Evil(run.directory / "executed")}, run.checkpoint("best"))
    with pytest.raises(RunError, match="cannot be used"):
        trained(run, "best")
    assert not (run.directory / "executed").exists()
