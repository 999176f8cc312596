from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor
from torchvision.transforms import v2

from tellapart.models.architecture import Architecture
from tellapart.models.create import create_network, rebuild
from tellapart.models.network import Network
from tellapart.recipe.schema import Data, Head, Model


def small(size: int = 32, **how: object) -> Network:
    model = Model.model_validate({"name": "small-cnn", "pretrained": False} | how)
    return create_network(model, 4, Data(size=size)).eval()


def pictures(n: int, size: int) -> Tensor:
    return torch.randint(0, 256, (n, size, size, 3), dtype=torch.uint8)


def test_normalise_equals_torchvisions_definition() -> None:
    network, x = small(), pictures(3, 32)
    how = network.preprocessing
    scaled = v2.functional.to_dtype(x.permute(0, 3, 1, 2), torch.float32, scale=True)
    expected = v2.functional.normalize(scaled, list(how.mean), list(how.std))
    torch.testing.assert_close(network.normalise(x), expected, rtol=0, atol=1e-6)


def test_normalise_keeps_the_order_of_memory() -> None:
    assert small().normalise(pictures(3, 32)).is_contiguous(memory_format=torch.channels_last)


def test_forward_is_head_of_backbone_of_normalised_pictures() -> None:
    network, x = small(), pictures(3, 32)
    with torch.no_grad():
        features = network.backbone(network.normalise(x))
        assert features.shape == (3, network.n_features)
        assert torch.equal(network(x), network.head(features))
        assert network(x).shape == (3, 4)


def test_normalisation_is_no_part_of_the_state() -> None:
    assert {key.partition(".")[0] for key in small().state_dict()} == {"backbone", "head"}


@pytest.mark.parametrize("name", [pytest.param("small-cnn", marks=pytest.mark.slow), "cnn8"])
def test_onnx_takes_pictures_as_they_are_and_any_number_of_them(name: str, tmp_path: Path) -> None:
    network = small(24, name=name)
    batch = {"pictures": {0: torch.export.Dim("n")}}
    program = torch.onnx.export(network, (pictures(2, 24),), dynamo=True, dynamic_shapes=batch, verbose=False)
    assert program is not None
    program.save(tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    (given,) = session.get_inputs()
    assert given.type == "tensor(uint8)"
    for n in (1, 5):
        x = pictures(n, 24)
        (logits,) = session.run(None, {given.name: x.numpy()})
        with torch.no_grad():
            np.testing.assert_allclose(logits, network(x).numpy(), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "size"), [("small-cnn", 24), ("test_resnet", 64), ("test_vit", 96), ("squeezenet1_1", 40)]
)
def test_rebuilt_from_its_description_it_is_the_same_network(name: str, size: int) -> None:
    head = {"hidden": [6], "activation": "gelu", "dropout": 0.1}
    network = small(size, name=name, head=head, dropout=0.3 if name == "small-cnn" else None)
    described = json.loads(json.dumps(network.architecture.as_dict()))
    again = rebuild(Architecture.from_dict(described)).eval()
    assert again.architecture == network.architecture
    assert again.architecture.head == Head(**head)
    again.load_state_dict(network.state_dict(), strict=True)
    x = pictures(2, size)
    with torch.no_grad():
        assert torch.equal(again(x), network(x))
    dropouts = [m.p for m in again.backbone.modules() if isinstance(m, torch.nn.Dropout)]
    assert name != "small-cnn" or dropouts == [0.3]
