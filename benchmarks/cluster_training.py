"""Training on several workers: what dividing a step costs, what Ray adds, what lost workers cost, and a scaling model.

    python -m benchmarks.cluster_training [N] [PARTS]

PARTS: some of "workers", "ray", "lost", "model", comma-separated; all by default. N: repetitions of each, 5 by default.
A result file a part. Rivals run in turn. Pictures are made up, and the network is one of our own, so that nothing has
to be fetched.

* workers: pictures a second of two gloo workers of one thread each, with 2 and with 4 micro-batches, over those of the
  faster of one process of one thread and one of two; and the same by processor time.
* ray: seconds of a step under Ray Train over those under plain torch.distributed, two workers each.
* lost: a training of which a worker is killed again and again, over the same one undisturbed, and whether both end with
  the same weights.
* model: from the measured step and exchange, pictures a second of 8, 64 and 512 workers by the formula that
  the result file states.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks import record

PARTS = ("workers", "ray", "lost", "model")
BATCH, SIDE, CLASSES, EACH = 32, 64, 4, 64
RECIPE = """
extends = "scratch"
augment = [{{ transform = "horizontal_flip" }}]
[data]
size = {side}
[model]
name = "cnn8"
pretrained = false
{distributed}
[[stages]]
epochs = {epochs}
batch_size = {batch}
"""
#: Between two kills in "lost", in seconds; and its epochs: some minutes here.
EVERY, EPOCHS = 60.0, 150


def pictures(folder: Path) -> Path:
    """Noise in one colour a class."""
    random = np.random.default_rng(0)
    for number in range(CLASSES):
        (folder / str(number)).mkdir(parents=True)
        for index in range(EACH):
            pixels = random.integers(0, 128, (SIDE, SIDE, 3), np.uint8)
            pixels[..., number % 3] += np.uint8(60 + 20 * (number // 3))
            Image.fromarray(pixels).save(folder / str(number) / f"{index}.png")
    return folder


def recipe(folder: Path, epochs: int, micro_batches: int = 4) -> Path:
    """A recipe, whose steps are whole with 0 micro-batches."""
    section = f"[distributed]\nmicro_batches = {micro_batches}" if micro_batches else ""
    text = RECIPE.format(side=SIDE, epochs=epochs, batch=BATCH, distributed=section)
    path = folder / f"{epochs}-{micro_batches}.toml"
    if not path.exists():  # several workers ask for it
        path.write_text(text, encoding="utf-8")
    return path


def steps_of(command: list[str], environment: dict[str, str] | None = None) -> list[float]:
    """Seconds between the steps of a training, but for the first epoch and for those with a validation between."""
    times: list[float] = []
    last = None
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, **(environment or {})}
    ) as process:
        assert process.stdout
        for line in process.stdout:
            event = json.loads(line)
            if event["event"] != "Progress":
                continue
            if event["epoch"] > 1 and event["step"] > 1 and event["n_pictures"] == BATCH:
                times.append(event["n_pictures"] / event["speed"] if event["speed"] else time.monotonic() - (last or 0))
            last = time.monotonic()
    if process.returncode:
        raise SystemExit(f"{command} ended with {process.returncode}")
    return times


def training(folder: Path, name: str, recipe_file: Path) -> list[str]:
    out = folder / name
    words = [sys.executable, "-m", "tellapart", "train", str(folder / "pictures"), "--recipe", str(recipe_file)]
    return [*words, "--out", str(out), "--runtime", "cpu", "--json"]


def torchrun(command: list[str], n: int) -> list[str]:
    launcher = [command[0], "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(n)]
    return [*launcher, *command[1:]]


#: Rivals of "workers": processes of a group, 0 for one alone; threads of each; micro-batches, 0 for whole steps.
RIVALS = {"1 thread": (0, 1, 0), "2 threads": (0, 2, 0), "2 micro-batches": (2, 1, 2), "4 micro-batches": (2, 1, 4)}


def workers(folder: Path, n: int) -> dict[str, Any]:
    """Two gloo workers against one process, in turn: wall and processor time of the same steps.

    On a machine that others use, processor time alone says what dividing a step costs.
    """
    wall: dict[str, list[float]] = {name: [] for name in RIVALS}
    cpu: dict[str, list[float]] = {name: [] for name in RIVALS}
    for turn in range(n):
        for name, (count, threads, micro_batches) in RIVALS.items():
            recipe(folder / "recipes", 3, micro_batches)
            command = [sys.executable, "-m", "benchmarks.cluster_training", "--worker", str(folder)]
            command += [f"{name.replace(' ', '-')}-{turn}", str(threads), str(micro_batches), str(count)]
            processes = [
                subprocess.Popen([*command, str(rank)], stdout=subprocess.PIPE, text=True)
                for rank in range(max(1, count))
            ]
            told = [json.loads(process.communicate()[0]) for process in processes]
            wall[name].append(told[0]["wall"])
            cpu[name].append(sum(each["cpu"] for each in told))
            print(turn, name, told, file=sys.stderr)
    return {
        "wall seconds of a step": {name: record.spread(values) for name, values in wall.items()},
        "processor seconds of a step, all workers": {name: record.spread(values) for name, values in cpu.items()},
        "pictures a second, over those of the best process": _ratios(wall),
        "pictures a processor second, over those of the best process": _ratios(cpu),
    }


def _ratios(seconds: dict[str, list[float]]) -> dict[str, Any]:
    """Of two workers, by micro-batches."""
    best = np.minimum(seconds["1 thread"], seconds["2 threads"])
    two = {name: seconds[name] for name, (count, *_) in RIVALS.items() if count}
    return {name: record.spread((best / np.array(values)).tolist()) for name, values in two.items()}


def one_worker(folder: Path, name: str, threads: int, micro_batches: int, n: int, rank: int) -> None:
    """Train three epochs as one of n workers, 0 for alone, and print wall and processor seconds of a step."""
    import torch
    import torch.distributed as dist

    from tellapart.core.events import Progress
    from tellapart.data.scan import scan
    from tellapart.data.splitting.split import split
    from tellapart.models.create import create_network
    from tellapart.recipe.load import load_recipe
    from tellapart.training.checkpoint import State
    from tellapart.training.dataset import Dataset
    from tellapart.training.fit import fit
    from tellapart.training.parallel.workers import join
    from tellapart.training.runtime import Runtime

    torch.set_num_threads(threads)
    if n:
        dist.init_process_group("gloo", init_method=f"file://{folder / name}.meet", rank=rank, world_size=n)
    plan = load_recipe(recipe(folder / "recipes", 3, micro_batches))
    catalog = scan(folder / "pictures")
    parts = split(catalog, validation=0.1, test=0.1)
    torch.manual_seed(0)
    network = create_network(plan.model, len(catalog.classes), plan.data)
    dataset = Dataset(catalog, parts.train, parts.validation, network.preprocessing, plan.augment, 0)
    steps: list[tuple[float, float]] = []
    before = None
    with join([]) as group:
        runtime = Runtime("cpu", workers=1)
        for event in fit(network, plan, dataset, State(), runtime, workers=group):
            now = time.perf_counter(), time.process_time()
            if (
                isinstance(event, Progress)
                and event.epoch > 1
                and event.step > 1
                and event.n_pictures == BATCH
                and before
            ):
                steps.append((now[0] - before[0], now[1] - before[1]))
            before = now
    wall, cpu = np.median(np.array(steps), axis=0).tolist()
    print(json.dumps({"wall": wall, "cpu": cpu}))


def ray(folder: Path, n: int) -> dict[str, Any]:
    """A step under Ray Train against one under torchrun, in turn."""
    seconds: dict[str, list[float]] = {"torchrun": [], "ray": []}
    divided = recipe(folder, 3)
    for turn in range(n):
        command = torchrun(training(folder, f"torchrun-{turn}", divided), 2)
        seconds["torchrun"].append(float(np.median(steps_of(command, {"OMP_NUM_THREADS": "1"}))))
        command = [*training(folder, f"ray-{turn}", divided), "--cluster", "auto", "--workers", "2"]
        seconds["ray"].append(float(np.median(steps_of(command))))
    ratios = (np.array(seconds["ray"]) / np.array(seconds["torchrun"])).tolist()
    return {
        "seconds a step": {name: record.spread(values) for name, values in seconds.items()},
        "a step under Ray Train, over one under torchrun": record.spread(ratios),
    }


def lost(folder: Path, epochs: int) -> dict[str, Any]:
    """A training of which a worker is killed again and again, over an undisturbed one.

    Seconds are those from the first progress to the last, so that start and report, which both have, do not count.
    """
    file = recipe(folder, epochs)
    took: dict[str, float] = {}
    for name in ("undisturbed", "disturbed"):
        command = [*training(folder, name, file), "--cluster", "auto", "--workers", "2"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout
            begun = ended = 0.0
            n_kills = 0
            for line in process.stdout:
                event, now = json.loads(line), time.monotonic()
                if event["event"] != "Progress":
                    continue
                begun, ended = begun or now, now
                if name == "disturbed" and now > begun + EVERY * (n_kills + 1):
                    os.kill(_worker_of(process.pid), signal.SIGKILL)
                    n_kills += 1
                    print(f"killed after {now - begun:.0f} s, at {event['epoch'], event['step']}", file=sys.stderr)
        took[name] = ended - begun
    weights = [(folder / name / "checkpoints" / "best.safetensors").read_bytes() for name in took]
    return {
        "epochs": epochs,
        "seconds from the first progress to the last": took,
        "kills": n_kills,
        "seconds between kills": EVERY,
        "seconds that a kill cost": (took["disturbed"] - took["undisturbed"]) / n_kills,
        "speed of the disturbed one, over the other": took["undisturbed"] / took["disturbed"],
        "same weights": _tensors(weights[0]) == _tensors(weights[1]),
    }


def _tensors(data: bytes) -> bytes:
    """What follows the header, which names the time."""
    return data[8 + int.from_bytes(data[:8], "little") :]


def _worker_of(pid: int) -> int:
    """A process of Ray that holds a worker of the training."""
    lines = subprocess.run(["ps", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in lines.splitlines()]
    family = {str(pid)}
    for _ in rows:  # children of children, to any depth
        family |= {own for own, parent, *_ in rows if parent in family}
    return max(int(own) for own, _, *words in rows if own in family and "RayTrainWorker" in words[0])


FORMULA = (
    "pictures a second of w workers = w · batch / (step + exchange(w)); "
    "exchange(w) = 2 (w - 1) / w · bytes / bandwidth + 2 (w - 1) · latency. "
    "As many pictures a worker however many there are, and micro_batches = w: as many bytes as in a ring all-reduce"
)


def model(folder: Path, n: int) -> dict[str, Any]:
    """What the formula gives for 8, 64 and 512 GPUs: first with what was measured here, then with a GPU as assumed."""
    measured = exchange_here(folder, n)
    step = float(np.median(steps_of(training(folder, "step", recipe(folder, 3, 0)), {"OMP_NUM_THREADS": "1"})))
    here = {"bytes": N_VALUES * 4, "step": step, "bandwidth": measured["bandwidth"], "latency": measured["latency"]}
    return {
        "formula": FORMULA,
        "measured exchange": measured,
        "workers as here, that many": {"from": here, "workers": _scaled(BATCH, **here)},
        "GPUs, as assumed": {"from": GPU, "workers": _scaled(64, **GPU)},
    }


#: Values of a gradient: about those of EfficientNet-Lite0.
N_VALUES = 4_650_000
#: Assumed, not measured: a step of 64 pictures on a large GPU, and 100 Gbit/s between machines.
GPU = {"bytes": N_VALUES * 4, "step": 0.05, "bandwidth": 12.5e9, "latency": 20e-6}


def _scaled(batch: int, bytes: float, step: float, bandwidth: float, latency: float) -> dict[str, Any]:
    rows = {}
    for w in (1, 8, 64, 512):
        exchange = 2 * (w - 1) / w * bytes / bandwidth + 2 * (w - 1) * latency
        rows[str(w)] = {"pictures a second": w * batch / (step + exchange), "efficiency": step / (step + exchange)}
    return rows


def exchange_here(folder: Path, n: int) -> dict[str, float]:
    """Two gloo processes on this machine: seconds of an exchange of many and of few values, and what they come to."""
    seconds = []
    for values in (N_VALUES, 64):
        code = EXCHANGE.format(file=folder / f"meet-{values}", values=values, n=20 * n)
        processes = [
            subprocess.Popen([sys.executable, "-c", code, str(rank)], stdout=subprocess.PIPE, text=True)
            for rank in (0, 1)
        ]
        out = [process.communicate()[0] for process in processes]
        seconds.append(float(out[0]))
    return {
        "many values": seconds[0],
        "few values": seconds[1],
        "bandwidth": N_VALUES * 4 / seconds[0],
        "latency": seconds[1] / 2,
    }


EXCHANGE = """
import sys, time, torch, torch.distributed as dist
from tellapart.training.parallel.workers import Workers
torch.set_num_threads(1)
rank = int(sys.argv[1])
dist.init_process_group("gloo", init_method="file://{file}", rank=rank, world_size=2)
workers, row, times = Workers(rank, 2), torch.zeros(1, {values}), []
for _ in range({n}):
    start = time.perf_counter()
    workers.ordered_sum(row)
    times.append(time.perf_counter() - start)
print(sorted(times)[len(times) // 2])
"""


def main() -> None:
    """Run the parts, and write cluster_training_PART.json for each."""
    if sys.argv[1:2] == ["--worker"]:
        folder, name, *numbers = sys.argv[2:]
        one_worker(Path(folder), name, *map(int, numbers))
        return
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    parts = sys.argv[2].split(",") if len(sys.argv) > 2 else PARTS
    run = {"workers": workers, "ray": ray, "lost": lambda folder, _n: lost(folder, EPOCHS), "model": model}
    with tempfile.TemporaryDirectory() as folder:
        pictures(Path(folder) / "pictures")
        (Path(folder) / "recipes").mkdir()
        for name in parts:
            # A file a part, so that each says when and beside what it was measured.
            record.write(f"cluster_training_{name}", run[name](Path(folder), n))


if __name__ == "__main__":
    main()
