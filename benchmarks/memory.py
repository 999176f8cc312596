"""Resident memory of a training by the number of pictures: a few pictures, and the same ones again as a million rows.

The rows are hard links to a few hundred files, as a table of that many rows would name them: each row has its own path,
labels and checksum. Trained from pictures for a number of steps, with loader threads; what is compared is memory that
belongs to the process alone (without pages of files, which the system takes back when it is short of memory), at its
highest, each in a process of its own.

TELLAPART_TEST_DATA=… python -m benchmarks.memory [--rows 1000000] [--steps 30]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
from itertools import islice
from pathlib import Path

from benchmarks import record


def resident(kind: str) -> int:
    """Bytes of this process: RssAnon (its own) or VmRSS (with pages of files)."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(kind))
    return int(line.split()[1]) * 1024


def train(rows: int, steps: int) -> dict[str, int]:
    """Train on a catalog of so many rows; the highest memory during the steps."""
    import numpy as np
    import polars as pl
    import torch

    import tellapart as ta
    from tellapart.core.events import Progress
    from tellapart.core.hardware import keep_freed
    from tellapart.data.catalog import Catalog
    from tellapart.data.splitting.split import split
    from tellapart.models.create import create_network
    from tellapart.training.checkpoint import State
    from tellapart.training.dataset import Dataset
    from tellapart.training.fit import fit
    from tellapart.training.runtime import Runtime

    found = ta.scan(Path(os.environ["TELLAPART_TEST_DATA"]) / "fruit" / "cherry")
    few = found.without(np.arange(300, len(found)))
    tables = []
    for start in range(0, rows, 100_000):
        n = min(100_000, rows - start)
        table = few.table[np.arange(start, start + n) % len(few)]
        numbers = pl.int_range(start, start + n, eager=True)
        # Another content in every row, so that nothing is shared that would not be.
        content = [number.to_bytes(32, "little") for number in range(start + 1, start + n + 1)]
        labels = (numbers % 3).cast(pl.UInt32).reshape((n, 1)).arr.to_list()
        tables.append(table.with_columns(sha256=pl.Series(content, dtype=pl.Binary), labels=labels))
    catalog = Catalog(pl.concat(tables), ("a", "b", "c"), False, few.root)
    del tables
    recipe = ta.load_recipe("scratch", ["stages.0.batch_size=32"])
    parts = split(catalog, validation=0.0001 if rows > 100_000 else 0.1, test=0.1)
    network = create_network(recipe.model, 3, recipe.data)
    dataset = Dataset(catalog, parts.train, parts.validation, network.preprocessing, recipe.augment, 0)
    highest = {"RssAnon": 0, "VmRSS": 0}
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.02):
            for kind in highest:
                highest[kind] = max(highest[kind], resident(kind))

    watching = threading.Thread(target=watch)
    watching.start()
    keep_freed()  # as every training does
    torch.manual_seed(0)
    events = fit(network, recipe, dataset, State(), Runtime("cpu", workers=2))
    training = (event for event in events if isinstance(event, Progress))
    for _ in islice(training, steps):
        pass
    done.set()
    watching.join()
    return highest


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--measure", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.measure:
        print(json.dumps(train(asked.measure, asked.steps)))
        return
    figures: dict[str, float] = {}
    for rows in (1000, asked.rows):
        with tempfile.TemporaryDirectory() as scratch:
            command = [sys.executable, "-m", "benchmarks.memory", "--measure", str(rows), "--steps", str(asked.steps)]
            environment = {**os.environ, "TELLAPART_CACHE": scratch}
            said = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment).stdout
        for kind, n_bytes in json.loads(said).items():
            figures[f"{kind}, {rows:,} rows, MB"] = n_bytes / 1e6
    for kind in ("RssAnon", "VmRSS"):
        more = figures[f"{kind}, {asked.rows:,} rows, MB"] - figures[f"{kind}, 1,000 rows, MB"]
        figures[f"{kind}, more, MB"] = more
    record.write("memory", {name: record.spread([value]) for name, value in figures.items()})


if __name__ == "__main__":
    main()
