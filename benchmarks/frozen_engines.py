"""Engines of frozen layers: pictures a second of MobileNetV2 at 224 pixels and EfficientNet-Lite2 at 260.

TELLAPART_TEST_DATA=… TELLAPART_WEIGHTS=… python -m benchmarks.frozen_engines [--rounds 7]

Each engine runs the whole backbone in batches of 8, 16 and 32 photographs that lie in memory. The engines take turns, a
batch each, so that a slow moment of the machine hits all of them; a round that warms up does not count. Beside the
clock, the processors' time is measured: other programs disturb it less. The cosine is the mean one to torch in float32.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import tellapart as ta
from benchmarks import record
from tellapart.models.create import create_network
from tellapart.models.network import Network
from tellapart.recipe.schema import Data, Model
from tellapart.training.dataset import Dataset
from tellapart.training.fast.choose_engine import WAYS
from tellapart.training.fast.engines import InferenceLayers, inference_layers, missing
from tellapart.training.pixels import plain
from tellapart.training.runtime import Runtime, multiplies_bfloat16

NETWORKS, BATCHES = ("mobilenetv2_100", "tf_efficientnet_lite2"), (8, 16, 32)
PLAINEST = "torch float32"


def engines(network: Network) -> dict[str, InferenceLayers]:
    """The backbone in each engine and precision that this machine has."""
    return {
        f"{engine} {precision}": inference_layers(network.backbone, Runtime("cpu", engine=engine, frozen=precision))
        for engine, precision in WAYS
        if not missing(engine, precision)
        and (engine != "torch" or precision == "float32" or multiplies_bfloat16("cpu"))
    }


def ready(forward: InferenceLayers, batch: Tensor) -> float:
    """Seconds until a backbone has been converted and has answered once."""
    start = time.perf_counter()
    forward.begin(tuple(batch.shape))
    forward(batch)
    return round(time.perf_counter() - start, 2)


def measured(network: Network, batch: Tensor, rounds: int) -> dict[str, Any]:
    """Each engine's figures on one batch."""
    ways = engines(network)
    converting = {name: ready(forward, batch) for name, forward in ways.items()}
    outputs = {name: forward(batch).double() for name, forward in ways.items()}
    clock: dict[str, list[float]] = {name: [] for name in ways}
    processor: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name in list(ways)[:: -1 if number % 2 else 1]:
            start = time.perf_counter(), time.process_time()
            ways[name](batch)
            took = time.perf_counter() - start[0], time.process_time() - start[1]
            if number:
                clock[name].append(len(batch) / took[0])
                processor[name].append(len(batch) / max(took[1], 1e-6))
    figures = {}
    for name in ways:
        ratios = [own / plainest for own, plainest in zip(processor[name], processor[PLAINEST], strict=True)]
        figures[name] = {
            "seconds to convert, compile and answer once": converting[name],
            "cosine": float(torch.cosine_similarity(outputs[name], outputs[PLAINEST]).mean()),
            "pictures/s": record.spread(clock[name]),
            "pictures a second of processor time": record.spread(processor[name]),
            "times faster than torch float32, by processor time": statistics.median(ratios),
        }
        print(network.architecture.name, len(batch), name, {k: v for k, v in figures[name].items() if "p" not in k[:1]})
    return figures


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=7)
    asked = parser.parse_args()
    catalog = ta.scan(Path(os.environ["TELLAPART_TEST_DATA"]) / "fruit")
    rows = catalog.readable[np.linspace(0, len(catalog.readable) - 1, max(BATCHES)).astype(int)]
    networks = {}
    for name in NETWORKS:
        network = create_network(Model(name=name), len(catalog.classes), Data()).eval()
        load = plain(Dataset(catalog, rows, rows[:0], network.preprocessing, (), 0))
        inputs = network.normalise(torch.from_numpy(np.stack([load(int(row)) for row in rows])))
        label = f"{name} at {network.preprocessing.height} pixels"
        networks[label] = {f"batches of {n}": measured(network, inputs[:n], asked.rounds) for n in BATCHES}
    installed = {name: importlib.metadata.version(name) for name in ("openvino", "onnxruntime")}
    load_average = [round(each, 1) for each in os.getloadavg()]
    figures = {"engines": installed, "threads": torch.get_num_threads(), "load average": load_average}
    record.write("frozen_engines", {**figures, "networks": networks})


if __name__ == "__main__":
    main()
