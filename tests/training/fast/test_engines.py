"""Engines of frozen layers answer as torch does, alike whatever else is in the batch, or say why they cannot."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tellapart.models.create import create_network
from tellapart.models.layer_groups import cut_points, split_backbone
from tellapart.recipe.schema import Data, Model
from tellapart.training.fast import engines
from tellapart.training.fast.engines import EngineError, full, inference_layers, missing
from tellapart.training.runtime import Engine, Runtime

BATCH, SIDE = 8, 32
CONVERTING: tuple[Engine, ...] = ("openvino", "onnxruntime")


class Small(nn.Sequential):
    """Convolution, norm with statistics of its own, activation."""

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU6())
        assert isinstance(self[1], nn.BatchNorm2d)
        assert self[1].running_var is not None
        nn.init.uniform_(self[1].running_var, 0.5, 2)


class Unknown(nn.Module):
    """What no engine but torch knows."""

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.special.bessel_j0(inputs.mean((2, 3)))


@pytest.fixture(autouse=True)
def _nothing_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "_READY", type(engines._READY)())


@pytest.fixture(scope="module")
def layers() -> nn.Module:
    torch.manual_seed(0)
    return Small().train()


def pictures(n: int = BATCH, seed: int = 0) -> Tensor:
    return torch.randn(n, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("engine", CONVERTING)
def test_an_engine_answers_as_torch_and_leaves_the_layers_as_they_are(engine: Engine, layers: nn.Module) -> None:
    before = {name: tensor.clone() for name, tensor in layers.state_dict().items()}
    got = inference_layers(layers, Runtime("cpu", engine=engine))(pictures())
    torch.testing.assert_close(got, inference_layers(layers, Runtime("cpu"))(pictures()), rtol=1e-4, atol=1e-5)
    assert layers.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in layers.state_dict().items())


@pytest.mark.parametrize("engine", ["torch", "openvino", pytest.param("onnxruntime", marks=pytest.mark.slow)])
def test_a_picture_has_the_same_bits_whatever_is_beside_it(engine: Engine, layers: nn.Module) -> None:
    forward = inference_layers(layers, Runtime("cpu", engine=engine))
    alone = forward(full(pictures(1), BATCH))[0]
    for place in range(BATCH):
        batch = pictures(seed=1 + place)
        batch[place] = pictures(1)[0]
        assert torch.equal(forward(batch)[place], alone), place


def test_intermediate_layers_are_converted_too() -> None:
    torch.manual_seed(0)
    network = create_network(Model(name="small-cnn", pretrained=False), 3, Data(size=SIDE)).eval()
    first, rest = split_backbone(network, cut_points(network)[0])
    maps = inference_layers(first, Runtime("cpu", engine="openvino"))(pictures())
    assert maps.ndim == 4
    features = inference_layers(rest, Runtime("cpu", engine="openvino"))(maps)
    with torch.no_grad():
        torch.testing.assert_close(features, network.backbone(pictures()), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("engine", "name"),
    [("openvino", "OpenVINO"), pytest.param("onnxruntime", "onnxruntime", marks=pytest.mark.slow)],
)
def test_what_an_engine_cannot_convert_is_said_in_a_line(engine: Engine, name: str) -> None:
    with pytest.raises(EngineError, match=rf"^{name} cannot run these layers \(.*bessel_j0") as caught:
        inference_layers(Unknown(), Runtime("cpu", engine=engine))(pictures())
    assert "\n" not in str(caught.value)


def test_another_shape_than_the_first_is_an_error_and_no_wrong_answer(layers: nn.Module) -> None:
    forward = inference_layers(layers, Runtime("cpu", engine="openvino"))
    forward(pictures())
    with pytest.raises(EngineError, match="OpenVINO cannot run"):
        forward(pictures(3))


def test_an_error_of_torch_itself_comes_through() -> None:
    with pytest.raises(RuntimeError, match="channels"):
        inference_layers(Small(), Runtime("cpu"))(torch.zeros(1, 4, SIDE, SIDE))


def test_layers_are_converted_once_in_a_thread_that_draws_nothing(
    layers: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    converted: list[Tensor] = []

    def convert(module: nn.Module, example: Tensor, precision: str) -> Callable[[Tensor], Tensor]:
        converted.append(example)
        return module

    monkeypatch.setattr(engines, "_CONVERTERS", {"openvino": convert})
    torch.manual_seed(7)
    state = torch.get_rng_state()
    first, second = (inference_layers(layers, Runtime("cpu", engine="openvino")) for _ in range(2))
    first.begin((BATCH, 3, SIDE, SIDE))
    assert first.wait(60)
    first(pictures())
    second(pictures())
    assert [tuple(example.shape) for example in converted] == [(BATCH, 3, SIDE, SIDE)]
    assert torch.equal(torch.get_rng_state(), state)


def test_other_weights_are_converted_anew(layers: nn.Module) -> None:
    one = inference_layers(layers, Runtime("cpu", engine="openvino"))(pictures())
    torch.manual_seed(1)
    other = inference_layers(Small(), Runtime("cpu", engine="openvino"))(pictures())
    assert not torch.allclose(one, other)


def test_no_more_converted_layers_are_kept_than_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "_CONVERTERS", {"openvino": lambda module, example, precision: module})
    for seed in range(4):
        torch.manual_seed(seed)
        inference_layers(Small(), Runtime("cpu", engine="openvino"))(pictures())
    assert len(engines._READY) == 2


def test_openvino_that_is_not_installed_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "has_openvino", lambda: False)
    assert missing("openvino", "float32") == "OpenVINO is not installed: pip install openvino"
    assert missing("torch", "bfloat16") == missing("onnxruntime", "float32") == ""
    assert missing("onnxruntime", "bfloat16") == "onnxruntime has no bfloat16"


def test_openvino_that_does_not_start_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise OSError("libtbb.so.12: cannot open shared object file")

    monkeypatch.setattr(engines, "load_openvino", fail)
    assert missing("openvino", "bfloat16") == (
        "OpenVINO does not start (OSError: libtbb.so.12: cannot open shared object file)"
    )


def test_a_conversion_sends_nothing_and_writes_nothing(
    layers: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object) -> None:
        pytest.fail(f"it connects: {args}")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setenv("HOME", str(tmp_path))
    inference_layers(layers, Runtime("cpu", engine="openvino"))(pictures())
    assert list(tmp_path.iterdir()) == []
    assert not [name for name in sys.modules if name.startswith(("openvino_telemetry", "openvino.tools"))]
