"""A probe on bfloat16 is compared with one on float32, picture by picture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tellapart.data.scan import scan
from tellapart.models.create import create_network
from tellapart.recipe.schema import Data, Model
from tellapart.training.dataset import Dataset
from tellapart.training.fast import probe_check
from tellapart.training.fast.probe_check import no_worse
from tellapart.training.runtime import Runtime


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory, pictures_at: Callable[..., Path]) -> tuple[Any, Dataset]:
    catalog = scan(pictures_at(tmp_path_factory.mktemp("probe") / "photos", n=12))
    torch.manual_seed(0)
    network = create_network(Model(name="small-cnn", pretrained=False), 3, Data(size=16))
    rows = catalog.readable
    return network, Dataset(catalog, rows, rows[:0], network.preprocessing, (), 0)


def answer(material: tuple[Any, Dataset], runs: list[str] | None = None) -> bool:
    network, dataset = material
    runtime = Runtime("cpu", frozen="bfloat16", engine="openvino", workers=1)
    steps = no_worse(network.backbone, dataset, network, runtime, {"network": "small"})
    while True:
        try:
            next(steps)
            (runs if runs is not None else []).append("batch")
        except StopIteration as end:
            return bool(end.value)


def patch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fast: Callable[[Tensor], Tensor]) -> None:
    monkeypatch.setenv("TELLAPART_CACHE", str(tmp_path / "cache"))

    def layers(_layers: Any, runtime: Runtime) -> Callable[[Tensor], Tensor]:
        return fast if runtime.engine == "openvino" else lambda inputs: inputs

    monkeypatch.setattr(probe_check, "inference_layers", layers)


def test_equal_features_are_no_worse(material: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    patch(monkeypatch, tmp_path, lambda inputs: inputs.bfloat16())
    assert answer(material)


def test_features_that_say_nothing_are_worse(material: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    patch(monkeypatch, tmp_path, torch.zeros_like)
    assert not answer(material)


def test_the_answer_is_remembered(material: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    patch(monkeypatch, tmp_path, torch.zeros_like)
    runs: list[str] = []
    answer(material, runs)
    assert runs
    runs.clear()
    assert not answer(material, runs)
    assert runs == []


def test_pictures_without_labels_prove_nothing(
    tmp_path: Path, pictures_at: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    patch(monkeypatch, tmp_path, lambda inputs: inputs)
    folder = pictures_at(tmp_path / "photos", n=1)
    flat = tmp_path / "flat"
    flat.mkdir()
    for number, picture in enumerate(sorted(path for path in folder.rglob("*") if path.is_file())):
        picture.rename(flat / f"{number}{picture.suffix}")
    catalog = scan(flat)
    network = create_network(Model(name="small-cnn", pretrained=False), 1, Data(size=16))
    assert not len(catalog.labelled)
    rows = catalog.readable
    assert not answer((network, Dataset(catalog, rows, rows[:0], network.preprocessing, (), 0)))
