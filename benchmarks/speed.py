"""Rows of `make bench` on the fruit pictures: data, stored activations, fine-tuning of all layers.

Where fastai is installed, its loop is a third contestant in fine-tuning (see benchmarks/rivals.py for an environment).

TELLAPART_TEST_DATA=… TELLAPART_WEIGHTS=… python -m benchmarks.speed [--rows data,stages,finetune] [--minutes 15]
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from benchmarks import record
from benchmarks.run import bench
from tellapart.workflows.progress import Console


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", default="data,stages,finetune")
    parser.add_argument("--minutes", type=float, default=15)
    asked = parser.parse_args()
    found = bench(Path(os.environ["TELLAPART_TEST_DATA"]) / "fruit", asked.rows.split(","), asked.minutes, Console())
    print(found.table())
    record.write("speed", found.as_dict())


if __name__ == "__main__":
    main()
