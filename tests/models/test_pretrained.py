from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn

from tellapart.errors import ModelError, WeightsError
from tellapart.models import hub
from tellapart.models.create import create_network
from tellapart.models.network import Network
from tellapart.recipe.schema import Data, Model
from tests.bundles import describe

State = dict[str, Tensor]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of weights; the user's own folder and caches are out of reach."""
    (tmp_path / "weights").mkdir()
    monkeypatch.setenv("TELLAPART_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "weights"


@pytest.fixture(scope="module")
def resnet() -> nn.Module:
    torch.manual_seed(1)
    return timm.create_model("test_resnet", num_classes=10).eval()


def build(name: str, size: int = 64, **how: Any) -> Network:
    return create_network(Model(name=name, **how), 3, Data(size=size)).eval()


def same_features(network: Network, whole: nn.Module, classifier: nn.Module, size: int = 64) -> bool:
    x = torch.randn(2, 3, size, size)
    with torch.no_grad():
        return torch.allclose(classifier(network.backbone(x)), whole(x), atol=1e-5)


def plain(state: State) -> State:
    return {k: v.contiguous() for k, v in state.items()}


def wrapped(key: str) -> Callable[[State], object]:
    return lambda state: {key: state, "epoch": 3}


@pytest.mark.parametrize(
    ("name", "wrap"),
    [
        ("w.safetensors", plain),
        ("w.pth", plain),
        ("w.pt", wrapped("state_dict")),
        ("w.bin", wrapped("model")),
        ("w.tar", lambda state: {"state_dict": {f"module.{k}": v for k, v in state.items()}}),
    ],
)
def test_weights_from_a_file(name: str, wrap: Callable[[State], Any], resnet: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / name
    content = wrap(resnet.state_dict())
    save_file(content, path) if name.endswith("safetensors") else torch.save(content, path)
    network = build("test_resnet", weights=str(path))
    assert same_features(network, resnet, resnet.fc)  # type: ignore[arg-type]
    assert network.weights_source == f"{path}, without its classifier of 10 classes"


def test_a_file_without_classifier_fits_too(resnet: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "backbone.safetensors"
    save_file({k: v for k, v in resnet.state_dict().items() if not k.startswith("fc.")}, path)
    network = build("test_resnet", weights=str(path))
    assert same_features(network, resnet, resnet.fc)  # type: ignore[arg-type]
    assert network.weights_source == str(path)


def test_counters_of_batch_norm_may_be_missing(resnet: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file({k: v for k, v in resnet.state_dict().items() if "num_batches" not in k}, path)
    assert same_features(build("test_resnet", weights=str(path)), resnet, resnet.fc)  # type: ignore[arg-type]


def test_what_does_not_fit_is_listed_and_nothing_is_loaded(resnet: nn.Module, tmp_path: Path) -> None:
    state = dict(resnet.state_dict())
    state["other.weight"] = torch.zeros(2)
    state["conv1.0.weight"] = torch.zeros(3, 3)
    del state["layer1.0.conv1.weight"], state["layer2.0.conv1.weight"]
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(WeightsError) as caught:
        build("test_resnet", weights=str(tmp_path / "w.safetensors"))
    assert "2 missing: layer1.0.conv1.weight, layer2.0.conv1.weight" in caught.value.message
    assert "1 not expected: other.weight" in caught.value.message
    assert "1 of another shape: conv1.0.weight (3, 3) instead of (" in caught.value.message


def test_weights_of_another_network_show_the_first_few_names(tmp_path: Path) -> None:
    save_file(torchvision.models.squeezenet1_1().state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match="…") as caught:
        build("test_resnet", weights=str(tmp_path / "w.safetensors"))
    assert "52 not expected: classifier.1.bias, " in caught.value.message


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("executed",)


def test_python_objects_are_never_unpickled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"state_dict": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(WeightsError, match="cannot be read as weights"):
        build("test_resnet", weights=str(tmp_path / "evil.pth"))
    assert "executed" not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
@pytest.mark.parametrize("content", [b"", b"no weights at all", b"PK\x03\x04"])
def test_damaged_files(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match=name):
        build("test_resnet", weights=str(tmp_path / name))


@pytest.mark.parametrize("content", [{}, {"a": 1}, [torch.zeros(1)], torch.zeros(2)])
def test_files_without_a_state_dict(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="holds no state dict"):
        build("test_resnet", weights=str(tmp_path / "w.pth"))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="there is no such file"):
        build("test_resnet", weights=str(tmp_path / "none.pth"))


def test_a_network_of_our_own_starts_from_a_file_of_ours(tmp_path: Path) -> None:
    before = build("small-cnn", pretrained=False)
    save_file(plain(before.state_dict()), tmp_path / "model.safetensors")
    after = create_network(Model(name="small-cnn", weights=str(tmp_path / "model.safetensors")), 7, Data())
    assert all(torch.equal(v, after.backbone.state_dict()[k]) for k, v in before.backbone.state_dict().items())
    assert after.weights_source.endswith("without its classifier of 3 classes")


def test_a_file_beside_a_bundles_description_is_taken_as_that_says(tmp_path: Path, folder: Path) -> None:
    hub_folder(folder / "mine", "test_efficientnet", {"pad_type": "same"}, mean=[0.1, 0.2, 0.3])
    before = build("mine")
    save_file(plain(before.state_dict()), tmp_path / "model.safetensors")
    describe(tmp_path, before.architecture.as_dict())
    after = build("test_efficientnet", weights=str(tmp_path / "model.safetensors"))
    assert after.architecture == before.architecture
    x = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
    with torch.no_grad():
        assert torch.equal(after.backbone(after.normalise(x)), before.backbone(before.normalise(x)))
    with pytest.raises(WeightsError, match="are those of test_efficientnet, not test_resnet"):
        build("test_resnet", weights=str(tmp_path / "model.safetensors"))


@pytest.mark.parametrize("layout", ["timm", "torchvision"])
def test_the_layout_of_a_file_is_found_by_its_names(layout: str, tmp_path: Path) -> None:
    """Both libraries define an efficientnet_b0, each with names of its own."""
    whole = (
        timm.create_model("efficientnet_b0") if layout == "timm" else torchvision.models.efficientnet_b0(weights=None)
    ).eval()
    save_file(whole.state_dict(), tmp_path / "w.safetensors")
    network = build("efficientnet_b0", weights=str(tmp_path / "w.safetensors"))
    assert network.architecture.source == layout
    classifier = whole.classifier if layout == "timm" else whole.classifier[1]
    assert same_features(network, whole, classifier)


def hub_folder(path: Path, architecture: str, args: dict[str, Any], **cfg: Any) -> nn.Module:
    """A folder as timm's hub lays it out; returns the network in it."""
    whole: nn.Module = timm.create_model(architecture, num_classes=6, **args).eval()
    path.mkdir()
    save_file(whole.state_dict(), path / "model.safetensors")
    published = {"input_size": [3, 48, 48], "crop_pct": 0.9, "interpolation": "bilinear", "num_classes": 6} | cfg
    config = {"architecture": architecture, "model_args": args, "pretrained_cfg": published, "num_classes": 6}
    (path / "config.json").write_text(json.dumps(config))
    return whole


def test_a_folder_brings_its_arguments_and_preprocessing(folder: Path) -> None:
    whole = hub_folder(folder / "mine", "test_efficientnet", {"pad_type": "same"}, mean=[0.1, 0.2, 0.3])
    network = create_network(Model(name="mine"), 3, Data()).eval()
    how = network.preprocessing
    assert (how.height, how.width, how.crop, how.interpolation) == (48, 48, 0.9, "bilinear")
    assert how.mean == (0.1, 0.2, 0.3)
    assert how.std == (0.229, 0.224, 0.225)
    assert network.architecture.options == {"pad_type": "same"}
    assert same_features(network, whole, whole.classifier, 48)  # type: ignore[arg-type]
    assert network.weights_source == f"{folder / 'mine'}, without its classifier of 6 classes"


def test_without_its_weights_a_folders_network_is_the_same(folder: Path) -> None:
    hub_folder(folder / "mine", "test_efficientnet", {"pad_type": "same"})
    with_weights = build("mine")
    without = build("mine", pretrained=False)
    assert with_weights.architecture == without.architecture
    assert without.weights_source == "random initial weights"


def test_the_recipe_goes_before_the_weights_preprocessing(folder: Path) -> None:
    hub_folder(folder / "mine", "test_efficientnet", {})
    how = create_network(Model(name="mine"), 3, Data(size=40, crop=0.5)).preprocessing
    assert (how.height, how.width, how.fit, how.crop) == (40, 40, "crop", 0.5)
    how = create_network(Model(name="mine"), 3, Data(fit="pad")).preprocessing
    assert (how.height, how.fit, how.crop) == (48, "pad", 1.0)


@pytest.mark.parametrize("config", ["", "[]", "{}", '{"architecture": "test_resnet", "pretrained_cfg": 5}'])
def test_a_folder_with_a_bad_description(config: str, folder: Path) -> None:
    hub_folder(folder / "mine", "test_resnet", {})
    (folder / "mine" / "config.json").write_text(config)
    with pytest.raises(WeightsError, match=r"config\.json is not as timm's hub writes it"):
        build("mine")


def test_a_folder_for_a_network_that_timm_does_not_know(folder: Path) -> None:
    hub_folder(folder / "mine", "test_resnet", {})
    config = json.loads((folder / "mine" / "config.json").read_text())
    (folder / "mine" / "config.json").write_text(json.dumps(config | {"architecture": "from_the_future"}))
    with pytest.raises(ModelError, match="from_the_future"):
        build("mine")


@pytest.mark.parametrize("ending", [".safetensors", ".torchvision.safetensors"])
def test_a_plain_file_in_the_folder(ending: str, folder: Path) -> None:
    whole = torchvision.models.squeezenet1_1(weights=None).eval()
    save_file(whole.state_dict(), folder / f"squeezenet1_1{ending}")
    network = build("squeezenet1_1")
    assert network.weights_source == f"{folder}/squeezenet1_1{ending}, without its classifier of 1000 classes"
    assert all(torch.equal(v, whole.state_dict()[k]) for k, v in network.backbone.state_dict().items())
    assert network.preprocessing.interpolation == "bilinear"
    assert network.preprocessing.crop == 224 / 256


def test_a_vision_transformer_at_another_size_is_as_timm_makes_it(tmp_path: Path) -> None:
    whole = timm.create_model("test_vit")
    save_file(whole.state_dict(), tmp_path / "w.safetensors")
    network = build("test_vit", size=96, weights=str(tmp_path / "w.safetensors"))
    overlay = {"state_dict": whole.state_dict(), "source": "", "hf_hub_id": None}
    timms = timm.create_model("test_vit", pretrained=True, pretrained_cfg_overlay=overlay, img_size=96).eval()
    assert same_features(network, timms, timms.head, 96)


def cache(root: Path, repository: str, file: Path) -> None:
    """Lay a file into a hub's cache."""
    entry = root / f"models--{repository.replace('/', '--')}"
    (entry / "refs").mkdir(parents=True)
    (entry / "refs" / "main").write_text("abc")
    (entry / "snapshots" / "abc").mkdir(parents=True)
    (entry / "snapshots" / "abc" / "model.safetensors").write_bytes(file.read_bytes())


def test_the_hubs_cache_needs_no_network(tmp_path: Path) -> None:
    whole = timm.create_model("test_resnet").eval()
    save_file(whole.state_dict(), tmp_path / "w.safetensors")
    cache(tmp_path / "hub", "timm/test_resnet.r160_in1k", tmp_path / "w.safetensors")
    network = build("test_resnet")
    assert same_features(network, whole, whole.fc)
    assert network.weights_source.startswith("the hub's timm/test_resnet.r160_in1k, from its cache")


def test_torchvisions_cache_needs_no_network(tmp_path: Path) -> None:
    whole = torchvision.models.squeezenet1_1(weights=None)
    (tmp_path / "torch/hub/checkpoints").mkdir(parents=True)
    torch.save(whole.state_dict(), tmp_path / "torch/hub/checkpoints/squeezenet1_1-b8a52dc0.pth")
    network = build("squeezenet1_1")
    assert all(torch.equal(v, whole.state_dict()[k]) for k, v in network.backbone.state_dict().items())
    assert "from its cache" in network.weights_source


@pytest.mark.parametrize("name", ["resnet34", "squeezenet1_1"])
def test_no_weights_is_an_error_that_lists_what_was_tried(name: str, folder: Path) -> None:
    with pytest.raises(WeightsError) as caught:
        build(name)
    assert f"no pretrained weights for {name}" in caught.value.message
    assert f"TELLAPART_WEIGHTS={folder}: it holds no weights" in caught.value.message
    assert "HF_HUB_OFFLINE, or --offline, forbids" in caught.value.message
    for way_out in ("--weights FILE", "TELLAPART_WEIGHTS=FOLDER", "--recipe scratch"):
        assert way_out in caught.value.hint


def test_the_folder_that_was_tried_is_described(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.delenv("TELLAPART_WEIGHTS")
    with pytest.raises(WeightsError, match="TELLAPART_WEIGHTS is not set"):
        build("resnet34")
    monkeypatch.setenv("TELLAPART_WEIGHTS", str(folder / "none"))
    with pytest.raises(WeightsError, match="none is not a folder"):
        build("resnet34")


def test_a_network_whose_weights_nobody_published() -> None:
    with pytest.raises(WeightsError, match="timm publishes no weights for cspresnet50d"):
        build("cspresnet50d")
    with pytest.raises(WeightsError, match="Tellapart's own"):
        build("small-cnn")


@pytest.fixture
def answering() -> Iterator[str]:
    """A server that refuses everything, but answers."""

    class Refuses(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_error(404)

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Refuses)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub may be asked."""
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)


def test_whether_the_hub_answers(answering: str, online: None) -> None:
    hub._require_answer(answering)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        with pytest.raises(hub.NotThereError, match="cannot be reached"):
            hub._require_answer(f"http://127.0.0.1:{closed.getsockname()[1]}/")


def test_a_hub_that_hangs_does_not_hang_us(online: None) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(hub.NotThereError, match=r"does not answer|cannot be reached"):
            hub._require_answer(f"http://127.0.0.1:{silent.getsockname()[1]}/", seconds=0.2)


@pytest.mark.parametrize("name", ["mobilenetv2_100", "tf_mobilenetv3_small_100", "squeezenet1_1"])
def test_real_weights_see_what_the_published_network_sees(
    name: str, weights: Path, test_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On pictures of strawberries: class 949 of ImageNet."""
    import numpy as np
    from PIL import Image
    from safetensors.torch import load_file

    from tellapart.core.preprocess import preprocess

    monkeypatch.setenv("TELLAPART_WEIGHTS", str(weights))
    network = create_network(Model(name=name), 3, Data()).eval()
    paths = sorted((test_data / "fruit" / "strawberry").glob("*.jpg"))[:8]
    pixels = [preprocess(np.asarray(Image.open(p).convert("RGB")), network.preprocessing) for p in paths]
    x = network.normalise(torch.from_numpy(np.stack(pixels)))
    with torch.no_grad():
        features = network.backbone(x)
        if name == "squeezenet1_1":
            whole = torchvision.models.squeezenet1_1(weights=None).eval()
            whole.load_state_dict(load_file(weights / f"{name}.torchvision.safetensors"))
            expected = whole.features(x).mean((2, 3))
        else:
            whole = timm.create_model(f"local-dir:{weights / name}", pretrained=True).eval()
            expected = whole.forward_head(whole.forward_features(x), pre_logits=True)
        torch.testing.assert_close(features, expected)
        assert (whole(x).argmax(1) == 949).sum() >= 4
