"""Ways to run a training step of all layers: what keeping memory, joining norms and compiling are worth here.

python -m benchmarks.steps [--network mobilenetv2_100]
python -m benchmarks.steps --network resnet34 --batch 4 --rounds 1 --ways plain "memory kept, joined"

Statistics of batch norm are kept, or updated. Each way is a process of its own, since what is asked of memory holds for
a process; the ways take turns, each step after two that warm up (the first of a compiled network compiles it, and is
told apart). "Memory kept" is `memory.keep_freed`; "large pages" are torch's own way to spare the system work. Random
pictures of 224 pixels, float32, channels-last memory.

After each step a product of two square matrices is timed. A step's multiplications and additions (torch counts them) in
a second of the processor's time, over those of the product, say how much of what the machine can do a step does.

Writes steps.json, or steps_NETWORK.json for another network.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from typing import Any

from benchmarks import record

WAYS = {
    "kept": ("plain", "large pages", "memory kept", "memory kept, joined", "memory kept, compiled"),
    "updated": ("plain", "large pages", "memory kept", "memory kept, compiled"),
}
SIDE, STEPS = 224, 4
_PRODUCT = 1536  # side of the matrices


def time_steps(network: str, batch: int, statistics: str, way: str) -> dict[str, Any]:
    """Seconds of the first step, and of some after it; and their shares of the product's rate."""
    import timm
    import torch
    from torch import nn
    from torch.utils.flop_counter import FlopCounterMode

    from tellapart.core.hardware import keep_freed
    from tellapart.training.fast.fuse_batchnorm import learning

    if "memory kept" in way:
        keep_freed()
    torch.manual_seed(0)
    model: nn.Module = timm.create_model(network, num_classes=3).to(memory_format=torch.channels_last).train()
    if statistics == "kept":
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
    inputs = torch.randn(batch, 3, SIDE, SIDE).contiguous(memory_format=torch.channels_last)
    target = torch.arange(batch) % 3
    run: Any = learning(model, inputs[:2]) if "joined" in way else model
    run = torch.compile(run) if "compiled" in way else run
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        nn.functional.cross_entropy(run(inputs), target).backward()
        optimizer.step()

    one, other = torch.randn(2, _PRODUCT, _PRODUCT)
    took, used, product = [], [], []
    for _ in range(2 + STEPS):
        start, before = time.perf_counter(), time.process_time()
        step()
        took.append(time.perf_counter() - start)
        used.append(time.process_time() - before)
        before = time.process_time()
        torch.mm(one, other)
        product.append(time.process_time() - before)
    shares = []
    if "compiled" not in way:  # torch counts operations as they are called one by one
        with FlopCounterMode(display=False) as counter:
            step()
        rates = [counter.get_total_flops() / seconds for seconds in used[2:]]
        shares = [rate / (2 * _PRODUCT**3 / seconds) for rate, seconds in zip(rates, product[2:], strict=True)]
    return {"first": took[0], "steps": took[2:], "shares": shares}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--network", default="mobilenetv2_100")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--ways", nargs="+", default=WAYS["kept"], help="only these")
    parser.add_argument("--one", nargs=2, help="statistics and way: only this one, told as JSON")
    given = parser.parse_args()
    if given.one:
        print(json.dumps(time_steps(given.network, given.batch, *given.one)))
        return
    found: dict[str, dict[str, Any]] = {}
    for turn in range(given.rounds):
        pairs = [(statistics, way) for statistics, ways in WAYS.items() for way in ways if way in given.ways]
        for statistics, way in pairs[:: -1 if turn % 2 else 1]:
            command = [sys.executable, "-m", "benchmarks.steps", "--network", given.network]
            command += ["--batch", str(given.batch), "--one", statistics, way]
            environment = {**os.environ, "THP_MEM_ALLOC_ENABLE": str(int(way == "large pages"))}
            said = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout
            one = json.loads(said.splitlines()[-1])
            row = found.setdefault(
                f"statistics {statistics}, {way}", {"first step, seconds": [], "rates": [], "shares": []}
            )
            row["first step, seconds"].append(round(one["first"], 1))
            row["rates"] += [given.batch / seconds for seconds in one["steps"]]
            row["shares"] += one["shares"]
            print(f"{statistics}, {way}: {max(row['rates']):.1f} pictures/s", file=sys.stderr, flush=True)
    figures = {}
    for name, row in found.items():
        figures[name] = {"first step, seconds": row["first step, seconds"], "pictures/s": record.spread(row["rates"])}
        if row["shares"]:
            figures[name]["share of the product's rate"] = record.spread(row["shares"])
    name = "steps" if given.network == "mobilenetv2_100" else f"steps_{given.network}"
    record.write(name, {"network": given.network, "side": SIDE, "batch": given.batch, "ways": figures})


if __name__ == "__main__":
    main()
