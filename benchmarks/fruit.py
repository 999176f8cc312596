"""The main job on the fruit pictures: defaults only, from the command line, scan to report; several seeds.

TELLAPART_TEST_DATA=… TELLAPART_WEIGHTS=… python -m benchmarks.fruit transfer --seeds 0 1 2
TELLAPART_TEST_DATA=… python -m benchmarks.fruit scratch --model tutorial-cnn --seeds 0
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import record
from tellapart.recipe.load import load_recipe


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("recipe")
    parser.add_argument("--model")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--folder", default="fruit", help="folder of $TELLAPART_TEST_DATA")
    parser.add_argument("--set", action="append", default=[])
    given = parser.parse_args()
    pictures = Path(os.environ["TELLAPART_TEST_DATA"]) / given.folder
    seconds: list[float] = []
    networks: set[str] = set()
    scores: dict[str, list[float]] = {"test": [], "validation": []}
    for seed in given.seeds:
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "run"
            command = [sys.executable, "-m", "tellapart", "train", str(pictures), "--recipe", given.recipe]
            command += ["--out", str(out), "--seed", str(seed)]
            command += ["--model", given.model] if given.model else []
            command += [part for change in given.set for part in ("--set", change)]
            # An empty cache: nothing computed by an earlier run is taken over.
            environment = {**os.environ, "TELLAPART_CACHE": str(Path(folder) / "cache")}
            start = time.monotonic()
            subprocess.run(command, check=True, env=environment)
            seconds.append(round(time.monotonic() - start, 1))
            networks |= {record.backbone(load_recipe(out / "recipe.toml")) or ""}
            evaluations = json.loads((out / "evaluation.json").read_text())["evaluations"]
            for part, values in scores.items():
                values.append(evaluations[part]["metrics"]["accuracy"]["value"])
    name = "_".join(
        ["fruit" if given.folder == "fruit" else given.folder, given.recipe, *([given.model] if given.model else [])]
    )
    figures = {f"{part}_accuracy": record.spread(values) for part, values in scores.items()}
    figures |= {"seeds": given.seeds, "set": given.set, "seconds": record.spread(seconds)}
    record.write(name, figures, " or ".join(sorted(networks)))


if __name__ == "__main__":
    main()
