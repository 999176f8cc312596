"""JPEG files to answers: `predict` beside torch with DataLoader and beside plain loops on onnxruntime and OpenVINO.

TELLAPART_TEST_DATA=… python -m benchmarks.answer_speed --pictures 64 --rounds 7
TELLAPART_TEST_DATA=… python -m benchmarks.answer_speed --pictures 64 --memory 64 2000

Each contestant has a process of its own, torch several. In turn they answer the same files, so that a slow moment hits
all alike; what counts is the ratio within a round. Networks have random weights, which are as fast as others. Memory is
the largest resident size of a `predict` process, over a short list of pictures and over a long one.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import record
from benchmarks.turns import Contestant, apart

BATCH, CLASSES = 16, ("cherry", "strawberry", "tomato")
OURS, TORCH = "tellapart", "torch float32, DataLoader"
ORT, OPENVINO = "plain loop, onnxruntime", "plain loop, OpenVINO"


def write_bundle_of(name: str, folder: Path, pictures: list[str]) -> None:
    """A bundle of a network with random weights, complete with golden pictures and known classes."""
    import torch

    from tellapart.data.decoding.decode import read_picture
    from tellapart.deploy.bundle.write import write_bundle
    from tellapart.evaluation.calibration_summary import Certainty
    from tellapart.evaluation.fit_open_set import fit_known
    from tellapart.evaluation.open_set import OodScore
    from tellapart.models.create import create_network
    from tellapart.recipe.schema import Data, Model

    torch.manual_seed(0)
    network = create_network(Model(name=name, pretrained=False), len(CLASSES), Data()).eval()
    pixels = np.stack([read_picture(Path(path), network.preprocessing) for path in pictures[:48]])
    with torch.inference_mode():
        _, features = network.answer(torch.from_numpy(pixels))
    known = fit_known(features.numpy(), np.arange(len(pixels)) % len(CLASSES), len(CLASSES))
    certainty = Certainty(1.0, n_validation=48, ood_score=OodScore((1.0, 1.0), (0.3, 0.2), 3.0, 0.99, 48))
    write_bundle(folder, network, CLASSES, False, certainty, golden=pixels[:8], about={}, known=known)


def ours(bundle: str, pictures: list[str]) -> Contestant:
    """`predict`'s own way, on the engine that it chooses."""
    import tellapart as ta

    classifier = ta.load(bundle)
    golden = np.zeros((BATCH, *_size(classifier.bundle), 3), np.uint8)
    classifier.network.decide(golden)
    print(f"tellapart's engine: {classifier.network.bundle.engine}", file=sys.stderr)
    while True:
        yield len(classifier.predict(pictures, top=1))


def torch_loader(bundle: str, pictures: list[str]) -> Contestant:
    """Transforms of torchvision in a DataLoader with a process a core, the network in float32."""
    import torch
    from PIL import Image
    from safetensors.torch import load_file
    from torchvision import transforms as T

    from tellapart.deploy.bundle.read import WEIGHTS, Bundle
    from tellapart.models.architecture import Architecture
    from tellapart.models.create import rebuild

    about = Bundle.load(bundle)
    network = rebuild(Architecture.from_dict(about.architecture))
    network.load_state_dict(load_file(Path(bundle) / WEIGHTS))
    net = torch.nn.Sequential(network.backbone, network.head).eval().to(memory_format=torch.contiguous_format)
    how = about.preprocessing
    steps = T.Compose(
        [T.Resize(how.decode_at_least), T.CenterCrop(how.height), T.ToTensor(), T.Normalize(how.mean, how.std)]
    )

    class Files(torch.utils.data.Dataset[Any]):
        def __len__(self) -> int:
            return len(pictures)

        def __getitem__(self, index: int) -> Any:
            with Image.open(pictures[index]) as picture:
                return steps(picture.convert("RGB"))

    n = os.cpu_count() or 1
    loader: Any = torch.utils.data.DataLoader(Files(), BATCH, num_workers=n, persistent_workers=True)
    while True:
        with torch.inference_mode():
            for batch in loader:
                net(batch).softmax(1).argmax(1).tolist()
        yield len(pictures)


def plain_onnxruntime(bundle: str, pictures: list[str]) -> Contestant:
    """A loop over batches as one writes it: Pillow, then `session.run`."""
    import onnxruntime

    session = onnxruntime.InferenceSession(f"{bundle}/model.onnx", providers=["CPUExecutionProvider"])
    yield from _plain_loop(bundle, pictures, lambda batch: session.run(["logits"], {"pictures": batch})[0])


def plain_openvino(bundle: str, pictures: list[str]) -> Contestant:
    """The same loop with a compiled model of OpenVINO, as its quick start has it."""
    from tellapart.core.openvino_quiet import load_openvino

    core = load_openvino().Core()
    compiled = core.compile_model(core.read_model(f"{bundle}/model.onnx"), "CPU")
    yield from _plain_loop(bundle, pictures, lambda batch: compiled(batch)["logits"])


def _plain_loop(bundle: str, pictures: list[str], run: Any) -> Iterator[int]:
    from PIL import Image

    from tellapart.core.preprocess import preprocess
    from tellapart.deploy.bundle.read import Bundle

    how = Bundle.load(bundle).preprocessing
    while True:
        for start in range(0, len(pictures), BATCH):
            rows = []
            for path in pictures[start : start + BATCH]:
                with Image.open(path) as picture:
                    rows.append(preprocess(np.asarray(picture.convert("RGB")), how))
            run(np.stack(rows)).argmax(1).tolist()
        yield len(pictures)


def _size(bundle: Any) -> tuple[int, int]:
    return bundle.preprocessing.height, bundle.preprocessing.width


# A process that forks begins with its parent's largest size: a small one stands between.
_MEASURE = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def megabytes(bundle: str, pictures: list[str], folder: Path, n: int) -> int:
    """The largest resident size of `predict` over n names, whose answers go to a CSV file."""
    names = folder / "names.txt"
    names.write_text("\n".join((pictures * (n // len(pictures) + 1))[:n]))
    predict = [sys.executable, "-m", "tellapart", "predict", bundle, str(names), "--out", str(folder / "answers.csv")]
    done = subprocess.run([sys.executable, "-c", _MEASURE, *predict], check=True, stdout=subprocess.PIPE, text=True)
    return round(int(done.stdout) / 1024)


def memory(networks: list[str], pictures: list[str], sizes: list[int]) -> dict[str, dict[str, int]]:
    """Of each network, the memory of `predict` by the number of pictures."""
    found = {}
    for name in networks:
        with tempfile.TemporaryDirectory() as folder:
            bundle = str(Path(folder) / name)
            write_bundle_of(name, Path(bundle), pictures)
            found[name] = {str(n): megabytes(bundle, pictures, Path(folder), n) for n in sizes}
    return found


def measure(name: str, folder: Path, pictures: list[str], rounds: int) -> dict[str, Any]:
    """One network: pictures a second of each contestant round by round, and ratios."""
    bundle = str(folder / name)
    write_bundle_of(name, Path(bundle), pictures)
    makers = {OURS: ours, TORCH: torch_loader, ORT: plain_onnxruntime, OPENVINO: plain_openvino}
    # torch stays in this process, since its DataLoader has processes of its own.
    contestants = {
        title: make(bundle, pictures) if title == TORCH else apart(make, bundle, pictures)
        for title, make in makers.items()
    }
    rates: dict[str, list[float]] = {title: [] for title in contestants}
    for number in range(rounds + 1):
        for title in list(contestants)[:: 1 if number % 2 else -1]:
            start = time.perf_counter()
            n = next(contestants[title])
            if number:  # the first round warms up
                rates[title].append(round(n / (time.perf_counter() - start), 2))
    for contestant in contestants.values():
        contestant.close()  # type: ignore[attr-defined]
    best = [max(pair) for pair in zip(rates[ORT], rates[OPENVINO], strict=True)]
    return {
        "pictures_per_second": {title: record.spread(values) for title, values in rates.items()},
        "times_torch": record.spread([round(a / b, 3) for a, b in zip(rates[OURS], rates[TORCH], strict=True)]),
        "times_best_plain_loop": record.spread([round(a / b, 3) for a, b in zip(rates[OURS], best, strict=True)]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--memory", type=int, nargs="+", help="measure memory instead, over so many pictures each")
    parser.add_argument("--networks", nargs="+", default=["mobilenetv2_100", "resnet34"])
    options = parser.parse_args()
    pictures = sorted(map(str, (Path(os.environ["TELLAPART_TEST_DATA"]) / "fruit").rglob("*.jpg")))
    pictures = pictures[:: max(1, len(pictures) // options.pictures)][: options.pictures]
    if options.memory:
        record.write("answer_memory", {"megabytes": memory(options.networks, pictures, options.memory)})
        return
    for name in options.networks:
        with tempfile.TemporaryDirectory() as folder:
            figures = measure(name, Path(folder), pictures, options.rounds)
        load = [round(value, 1) for value in os.getloadavg()]
        record.write(f"answer_speed_{name}", {**figures, "n_pictures": len(pictures), "load_average": load})


if __name__ == "__main__":
    main()
