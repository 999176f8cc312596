"""What needs a GPU: whether JPEGs keep it busy, and CIFAR-10 to 94 % beside a published program.

TELLAPART_TEST_DATA=… python -m benchmarks.gpu all         both, five seeds, airbench where it is installed
TELLAPART_TEST_DATA=… python -m benchmarks.gpu jpegs [--rows 20000]
TELLAPART_TEST_DATA=… python -m benchmarks.gpu cifar [--seeds 0 1 2] [--at-once 4] [--airbench]

`jpegs` trains ResNet-34 at 224 pixels with random resized crops and flips, from the second epoch on; "made-up" is the
same training on pictures that lie on the GPU already. What CIFAR-10 is compared with is Keller Jordan's
package airbench (`pip install airbench`), which is given the same pictures.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from unittest.mock import patch

import numpy as np
import polars as pl
import torch
from PIL import Image

import tellapart as ta
from benchmarks import record
from benchmarks.row_layers import measure
from tellapart.core.events import Computing, Progress
from tellapart.data.catalog import Catalog
from tellapart.models.create import create_network
from tellapart.recipe.load import load_recipe
from tellapart.recipe.schema import Recipe
from tellapart.training import prepare
from tellapart.training.checkpoint import State
from tellapart.training.dataset import Dataset
from tellapart.training.fit import fit
from tellapart.training.inputs import Batches, Rows, StageInputs, network_input
from tellapart.training.predict import Answered, predict_fully
from tellapart.training.runtime import Runtime

DATA = Path(os.environ.get("TELLAPART_TEST_DATA", ""))
ROUNDS, BATCH = 5, 256
Timed = Iterator[tuple[int, float]]


def jpegs(n_rows: int) -> dict[str, object]:
    """Pictures a second of whole epochs from JPEGs, and of the same training on made-up pictures, in turn."""
    catalog = repeated(ta.scan(DATA / "fruit"), n_rows)
    recipe = Recipe.model_validate(
        {
            "model": {"name": "resnet34", "pretrained": False},
            "data": {"size": 224},
            "augment": [{"transform": "random_resized_crop"}, {"transform": "horizontal_flip"}],
            "stages": [{"epochs": 1000, "batch_size": BATCH, "lr": 1e-4, "schedule": "constant"}],
        }
    )
    network = create_network(recipe.model, len(catalog.classes), recipe.data)
    rows = np.arange(len(catalog))
    dataset = Dataset(catalog, rows, rows[:1], network.preprocessing, recipe.augment, 0)
    runtime = measure(network, recipe, dataset)
    ours = epochs(recipe, dataset, runtime)
    with patch.object(prepare, "inputs_from_pictures", made_up):
        imagined = epochs(recipe, dataset, runtime)
        next(imagined)
    first = next(ours)  # decodes
    found: dict[str, list[float]] = {"JPEGs": [], "made-up": [], "plain loop, made-up": []}
    for _ in range(ROUNDS):
        for name, contestant in (("JPEGs", ours), ("made-up", imagined)):
            n, seconds = next(contestant)
            found[name].append(n / seconds)
        found["plain loop, made-up"].append(plain(recipe, catalog))
    shares = [a / b for a, b in zip(found["JPEGs"], found["made-up"], strict=True)]
    return {
        "gpu": torch.cuda.get_device_name(),
        "runtime": runtime.as_dict(),
        "pictures": len(catalog),
        "pictures/s": {name: record.spread(values) for name, values in found.items()},
        "first epoch, pictures/s": first[0] / first[1],
        "share": record.spread(shares),
    }


def repeated(few: Catalog, n_rows: int) -> Catalog:
    """A catalog of so many rows: files again and again, each as if it had a content of its own."""
    table = few.table[np.arange(n_rows) % len(few)]
    content = [number.to_bytes(32, "little") for number in range(1, n_rows + 1)]
    return Catalog(table.with_columns(sha256=pl.Series(content, dtype=pl.Binary)), few.classes, False, few.root)


def epochs(recipe: Recipe, dataset: Dataset, runtime: Runtime) -> Timed:
    """Pictures and seconds of every epoch of a real training, without validation."""
    torch.manual_seed(0)
    network = create_network(recipe.model, len(dataset.catalog.classes), recipe.data)
    start, n = time.perf_counter(), 0
    for event in fit(network, recipe, dataset, State(), runtime):
        if isinstance(event, Progress):
            n += event.n_pictures
            if event.step == event.steps:
                torch.cuda.synchronize()
                yield n, time.perf_counter() - start
                n = 0
        else:
            start = time.perf_counter()


def made_up(network: ta.Network, stage: object, dataset: Dataset, runtime: Runtime) -> StageInputs:
    """Random pictures that lie on the device."""
    pictures = torch.randint(256, (BATCH, 224, 224, 3), dtype=torch.uint8, device=runtime.device)

    def train(order: Rows, _epoch: int, _first: int) -> Batches:
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            yield network_input(network, pictures[: len(rows)], runtime), rows

    return StageInputs(train, lambda: train(dataset.validation, 0, 0))


def plain(recipe: Recipe, catalog: Catalog) -> float:
    """Pictures a second of a plain torch loop: bfloat16, channels-last, one batch on the GPU, nothing ever asked."""
    network = create_network(recipe.model, len(catalog.classes), recipe.data)
    model = torch.nn.Sequential(network.backbone, network.head).cuda().to(memory_format=torch.channels_last)
    inputs = torch.randn(BATCH, 3, 224, 224, device="cuda").contiguous(memory_format=torch.channels_last)
    target = torch.randint(len(catalog.classes), (BATCH,), device="cuda")
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4, fused=True)
    for step in range(50):
        if step == 10:
            torch.cuda.synchronize()
            start = time.perf_counter()
        optimizer.zero_grad()
        with torch.autocast("cuda", torch.bfloat16):
            loss = torch.nn.functional.cross_entropy(model(inputs), target)
        loss.backward()
        optimizer.step()
    torch.cuda.synchronize()
    return 40 * BATCH / (time.perf_counter() - start)


def cifar(seeds: list[int], at_once: int, folder: Path, options: list[str]) -> dict[str, object]:
    """Train from scratch with each seed, the first two alone, the others so many at once.

    The first reads the JPEGs; those behind it find the pictures kept.
    """
    with tarfile.open(DATA / "cifar10.tar.gz") as tar:
        tar.extractall(folder, filter="data")
    ta.scan(folder / "cifar10").save(folder / "catalog.parquet")

    def run(some: list[int]) -> list[dict[str, float]]:
        command = [sys.executable, "-m", "benchmarks.gpu", "one", "--folder", str(folder), *options, "--seeds"]
        begun = [subprocess.Popen([*command, str(seed)], stdout=subprocess.PIPE, text=True) for seed in some]
        said = [process.communicate()[0].splitlines()[-1] for process in begun]
        print(said, flush=True)
        return [json.loads(line) for line in said]

    found = [run([seed])[0] for seed in seeds[:2]]
    for start in range(2, len(seeds), at_once):
        found += run(seeds[start : start + at_once])
    names = ("accuracy", "accuracy, with mirror image")
    figures: dict[str, object] = {name: record.spread([each[name] for each in found]) for name in names}
    alone = dict(zip(("reading JPEGs", "pictures kept"), [each["seconds"] for each in found], strict=False))
    if at_once == 1:  # all of them alone, so their seconds can be told
        figures["seconds"] = record.spread([each["seconds"] for each in found])
    return {"gpu": torch.cuda.get_device_name(), "seeds": seeds, **figures, "seconds, alone": alone}


def one(seed: int, folder: Path, recipe: Recipe) -> dict[str, float]:
    """Train on the 50,000 training pictures, nothing held back, and answer the 10,000 test pictures once."""
    catalog = Catalog.load(folder / "catalog.parquet")
    in_test = catalog.table["path"].str.starts_with("test/").to_numpy()
    train, test = np.flatnonzero(~in_test), np.flatnonzero(in_test)
    torch.manual_seed(seed)
    network = create_network(recipe.model, len(catalog.classes), recipe.data)
    dataset = Dataset(catalog, train, test[:0], network.preprocessing, recipe.augment, seed)
    runtime = measure(network, recipe, dataset)
    start = time.perf_counter()
    # As the retraining on everything: nothing is validated, the last epoch is what counts.
    state = State(chosen=[stage.epochs for stage in recipe.stages], retraining=True)
    for event in fit(network, recipe, dataset, state, runtime):
        if not isinstance(event, Progress):
            print(seed, f"{time.perf_counter() - start:.1f} s", str(event)[:150], file=sys.stderr, flush=True)
    torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    answered = _result(predict_fully(network, catalog, test, runtime, "answers", n_copies=1, flip=True))
    right = [float((said.logits.argmax(1) == said.target).mean()) for said in (answered.plain, answered.predictions)]
    return {"seconds": seconds, "accuracy": right[0], "accuracy, with mirror image": right[1]}


def _result(events: Generator[Computing, None, Answered]) -> Answered:
    try:
        while True:
            next(events)
    except StopIteration as end:
        return end.value


def airbench(folder: Path, runs: int) -> dict[str, object]:
    """The published package's training to 94 %, on the same pictures."""
    work = folder / "airbench"
    (work / "cifar10").mkdir(parents=True, exist_ok=True)
    classes = sorted(path.name for path in (folder / "cifar10" / "train").iterdir())
    for part in ("train", "test"):
        files = [(path, n) for n, name in enumerate(classes) for path in (folder / "cifar10" / part / name).iterdir()]
        images = torch.from_numpy(np.stack([np.asarray(Image.open(path).convert("RGB")) for path, _ in files]))
        labels = torch.tensor([n for _, n in files])
        torch.save({"images": images, "labels": labels, "classes": classes}, work / "cifar10" / f"{part}.pt")
    script = f"import airbench\nairbench.warmup94()\nfor run in range({runs}):\n    airbench.train94(run=run)"
    start = time.perf_counter()
    told = subprocess.run([sys.executable, "-c", script], cwd=work, check=True, stdout=subprocess.PIPE, text=True)
    took = time.perf_counter() - start
    # The last columns of a run's last line: accuracy with test-time augmentation, and seconds.
    ends = [re.findall(r"[\d.]+", line)[-2:] for line in told.stdout.splitlines() if "eval" in line][-runs:]
    return {
        "accuracy, with 6 views": record.spread([float(accuracy) for accuracy, _ in ends]),
        "seconds": record.spread([float(seconds) for _, seconds in ends]),
        "seconds in all, with starting and warming up": took,
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("all", "jpegs", "cifar", "one"))
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(5)))
    parser.add_argument("--at-once", type=int, default=1, help="seeds behind the second that are trained side by side")
    parser.add_argument("--set", action="append", default=[], help="a change to cifar_gpu.toml")
    parser.add_argument("--airbench", action="store_true", help="run the package airbench too")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("Not run: torch finds no GPU here.")
    if not (DATA / "cifar10.tar.gz").is_file():
        sys.exit("Not run: TELLAPART_TEST_DATA names no folder with fruit/ and cifar10.tar.gz.")
    if asked.what == "one":
        recipe = load_recipe(Path(__file__).parent / "cifar_gpu.toml", asked.set)
        print(json.dumps(one(asked.seeds[0], asked.folder, recipe)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        os.environ.setdefault("TELLAPART_CACHE", f"{scratch}/cache")
        if asked.what in ("all", "jpegs"):
            record.write("gpu_jpegs", jpegs(asked.rows))
        if asked.what == "jpegs":
            return
        options = [word for change in asked.set for word in ("--set", change)]
        figures = {"set": asked.set, "Tellapart": cifar(asked.seeds, asked.at_once, Path(scratch), options)}
        record.write("gpu_cifar", figures)
        if importlib.util.find_spec("airbench") is None:
            print("airbench is not installed, so it is not run: pip install airbench", file=sys.stderr)
        elif asked.airbench or asked.what == "all":
            figures["airbench"] = airbench(Path(scratch), len(asked.seeds))
            record.write("gpu_cifar", figures)


if __name__ == "__main__":
    main()
