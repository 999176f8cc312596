"""Ways to run a training step of all layers: what keeping memory, joining norms and compiling are worth here.

TELLAPART_TEST_DATA=… TELLAPART_WEIGHTS=… python -m benchmarks.steps [--network mobilenetv2_100]

Statistics of batch norm are kept, or updated. Each way is a process of its own, since what is asked of memory holds for
a process; the ways take turns, each step after two that warm up (the first of a compiled network compiles it, and is
told apart). "Memory kept" is `memory.keep_freed`; "large pages" are torch's own way to spare the system work. Random
pictures of 224 pixels, 32 a batch, float32, channels-last memory.
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
SIDE, BATCH, STEPS, ROUNDS = 224, 32, 4, 2


def time_steps(network: str, statistics: str, way: str) -> dict[str, Any]:
    """Seconds of the first step, and of some after it."""
    import timm
    import torch
    from torch import nn

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
    inputs = torch.randn(BATCH, 3, SIDE, SIDE).contiguous(memory_format=torch.channels_last)
    target = torch.arange(BATCH) % 3
    run: Any = learning(model, inputs[:2]) if "joined" in way else model
    run = torch.compile(run) if "compiled" in way else run
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4)
    took = []
    for _ in range(2 + STEPS):
        start = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        nn.functional.cross_entropy(run(inputs), target).backward()
        optimizer.step()
        took.append(time.perf_counter() - start)
    return {"first": took[0], "steps": took[2:]}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--network", default="mobilenetv2_100")
    parser.add_argument("--one", nargs=2, help="statistics and way: only this one, told as JSON")
    given = parser.parse_args()
    if given.one:
        print(json.dumps(time_steps(given.network, *given.one)))
        return
    found: dict[str, dict[str, Any]] = {}
    for turn in range(ROUNDS):
        pairs = [(statistics, way) for statistics, ways in WAYS.items() for way in ways]
        for statistics, way in pairs[:: -1 if turn % 2 else 1]:
            command = [sys.executable, "-m", "benchmarks.steps", "--network", given.network, "--one", statistics, way]
            environment = {**os.environ, "THP_MEM_ALLOC_ENABLE": str(int(way == "large pages"))}
            said = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout
            one = json.loads(said.splitlines()[-1])
            row = found.setdefault(f"statistics {statistics}, {way}", {"first step, seconds": [], "rates": []})
            row["first step, seconds"].append(round(one["first"], 1))
            row["rates"] += [BATCH / seconds for seconds in one["steps"]]
            print(f"{statistics}, {way}: {max(row['rates']):.1f} pictures/s", file=sys.stderr, flush=True)
    figures = {
        name: {"first step, seconds": row["first step, seconds"], "pictures/s": record.spread(row["rates"])}
        for name, row in found.items()
    }
    record.write("steps", {"network": given.network, "side": SIDE, "batch": BATCH, "ways": figures})


if __name__ == "__main__":
    main()
