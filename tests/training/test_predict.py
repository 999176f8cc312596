"""Answers of a torch network: copies averaged, distances beside them, and the network left as it was."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import tellapart as ta
from tellapart.data.augmentation.tta import copies
from tellapart.data.decoding.decode import read_picture
from tellapart.evaluation.fit_open_set import fit_known
from tellapart.models.create import create_network
from tellapart.recipe.schema import Data, Model
from tellapart.training.predict import predict, predict_fully
from tellapart.training.runtime import Runtime


def finished(events):
    """What a generator returns at its end."""
    while True:
        try:
            next(events)
        except StopIteration as end:
            return end.value


def test_copies_are_averaged_and_distances_are_those_of_the_pictures(picture_folder):
    catalog = ta.scan(picture_folder(n=6))
    torch.manual_seed(0)
    network = create_network(Model(name="cnn8", pretrained=False), 3, Data(size=32)).train()
    runtime = Runtime("cpu", workers=1)
    rows = np.array([4, 1, 9])
    pixels = np.stack([read_picture(catalog.path(row), network.preprocessing) for row in sorted(rows)])

    def torch_answers(pictures):
        network.eval()
        with torch.inference_mode():
            logits, features = network.answer(torch.from_numpy(np.ascontiguousarray(pictures)))
        network.train()
        return logits.numpy(), features.numpy()

    logits, features = torch_answers(pixels)
    known = fit_known(features, np.array([0, 1, 2]), 3)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    found = finished(predict_fully(network, catalog, rows, runtime, "some", known, n_copies=3, flip=True))
    versions = list(copies(pixels, 3, True, network.preprocessing.interpolation))
    expected = np.mean([torch_answers(version)[0] for version in versions], axis=0)
    assert found.predictions.row.tolist() == [1, 4, 9]
    assert found.predictions.logits == pytest.approx(expected, abs=1e-4)
    assert found.plain.logits == pytest.approx(logits, abs=1e-4)
    chances = finished(
        predict_fully(network, catalog, rows, runtime, "some", None, n_copies=3, flip=True, mean="probabilities")
    ).predictions.probabilities()
    each = np.exp([torch_answers(version)[0].astype(float) for version in versions])
    assert chances == pytest.approx((each / each.sum(axis=2, keepdims=True)).mean(axis=0), abs=1e-4)
    assert found.distance == pytest.approx(known.distance(features), rel=1e-3, abs=1e-3)
    plain = finished(predict(network, catalog, rows, runtime, "some"))
    assert plain.logits == pytest.approx(logits, abs=1e-4)
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
