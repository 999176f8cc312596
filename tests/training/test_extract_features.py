"""Features: those of the backbone itself, in the order asked for, and computed once."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tellapart.data.scan import scan
from tellapart.models.create import create_network
from tellapart.recipe.schema import Data, Model
from tellapart.training import extract_features
from tellapart.training.dataset import Dataset
from tellapart.training.extract_features import features, features_by_fastest
from tellapart.training.fast import choose_engine
from tellapart.training.pixels import plain
from tellapart.training.runtime import Runtime


def finished(work: Generator[Any, None, Any]) -> tuple[int, Any]:
    steps = 0
    while True:
        try:
            next(work)
        except StopIteration as end:
            return steps, end.value
        steps += 1


def test_features_are_the_backbones_own_in_the_order_of_the_rows_and_stored(
    picture_folder: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TELLAPART_CACHE", str(tmp_path / "cache"))
    catalog = scan(picture_folder())
    torch.manual_seed(0)
    network = create_network(Model(name="small-cnn", pretrained=False), 3, Data(size=32))
    rows = np.array([5, 2, 30], np.int64)
    steps, found = finished(features(network, catalog, rows, Runtime("cpu"), "pictures"))
    dataset = Dataset(catalog, rows, rows, network.preprocessing, (), 0)
    pictures = torch.from_numpy(np.stack([plain(dataset)(int(row)) for row in rows]))
    with torch.no_grad():
        expected = network.eval().backbone(network.normalise(pictures)).numpy()
    assert steps > 0
    assert found == pytest.approx(expected, abs=1e-4)
    assert finished(features(network, catalog, rows, Runtime("cpu"), "pictures"))[0] == 0


def test_the_fastest_engine_gives_torchs_features_and_is_asked_only_once(
    picture_folder: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TELLAPART_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(extract_features, "_MANY", 1)
    monkeypatch.setattr(choose_engine, "_may_pay", lambda *_: True)  # so few pictures pay for no conversion
    catalog = scan(picture_folder())
    torch.manual_seed(0)
    network = create_network(Model(name="small-cnn", pretrained=False), 3, Data(size=32))
    steps, fast = finished(features_by_fastest(network, catalog, catalog.readable, "pictures"))
    plainest = finished(features(network, catalog, catalog.readable, Runtime("cpu"), "pictures"))[1]
    cosine = (fast * plainest).sum(1) / np.linalg.norm(fast, axis=1) / np.linalg.norm(plainest, axis=1)
    assert steps > 0
    assert cosine.min() > 0.9999
    assert finished(features_by_fastest(network, catalog, catalog.readable, "pictures"))[0] == 0
