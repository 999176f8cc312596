"""Whether the default recipe keeps its word: `fast --minutes M` beside `transfer`, paired on the same pictures.

TELLAPART_TEST_DATA=… TELLAPART_WEIGHTS=… python -m benchmarks.planner --sets fruit breeds grocery animals --minutes 5
python -m benchmarks.planner --sets fruit grocery --minutes 1 5 20 --seeds 0
python -m benchmarks.planner --sets fruit --most 900 --minutes 2       (of each set 900 pictures to learn from)

Every training is a process of its own with an empty cache; both recipes learn from one table of pictures, and answer
the same pictures that are kept apart, which no choice has looked at. An entry is one training; a second call goes on
where the first one stopped, so that a long measurement may be made in parts.
Writes benchmarks/results/planner.json.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import record
from tellapart.core.predictions import Predictions
from tellapart.data.catalog import Catalog
from tellapart.data.scan import scan
from tellapart.evaluation.significance import mcnemar, share_interval
from tellapart.runs.run import Run

DATA = Path(os.environ["TELLAPART_TEST_DATA"])
SETS = {"fruit": "fruit", "breeds": "breeds", "grocery": "grocery/train", "animals": "animals"}
#: Share of each set that is kept apart as the test, drawn anew for each seed.
TEST = 0.3
_FILE = record.RESULTS / "planner.json"


def write_table(catalog: Catalog, seed: int, most: int | None, out: Path) -> None:
    """A table of the pictures with the part of each: the test, or blank for those to learn from.

    Args:
        most: the largest number of pictures to learn from; the rest of the set is tested on.
    """
    rows = np.intersect1d(catalog.readable, catalog.labelled)
    order = np.random.default_rng(seed).permutation(rows)
    n = len(rows) - round(TEST * len(rows))
    n = min(n, most) if most else n
    # Equal files stand on one side.
    contents = catalog.table["sha256"].gather(order).to_list()
    learnt = set(contents[:n])
    with out.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file_name", "labels" if catalog.multilabel else "label", "split"])
        for row, content in zip(order.tolist(), contents, strict=True):
            labels = " ".join(catalog.classes[number] for number in catalog.table["labels"][row])
            writer.writerow([catalog.table["path"][row], labels, "" if content in learnt else "test"])


def trained(pictures: Path, table: Path, recipe: str, minutes: float | None, seed: int, out: Path) -> dict[str, Any]:
    """Train once; seconds, the network, and what it says of the test."""
    command = [sys.executable, "-m", "tellapart", "train", str(pictures), "--labels", str(table), "--quiet"]
    command += ["--recipe", recipe, "--seed", str(seed), "--out", str(out)]
    command += ["--minutes", str(minutes)] if minutes else []
    load, start = os.getloadavg()[0], time.monotonic()
    subprocess.run(command, check=True, env={**os.environ, "TELLAPART_CACHE": str(out.with_name("cache"))})
    taken = time.monotonic() - start
    run = Run(out)
    answers = run.predictions("test")
    evaluation = run.evaluations["test"]
    plan = json.loads((out / "plan.json").read_text()) if (out / "plan.json").is_file() else {}
    return {
        "network": run.recipe.model.name,
        "size": run.recipe.data.size,
        "stages": [f"{s.name}: {s.epochs if not s.solver else 'probe'}" for s in run.recipe.stages],
        "taken": round(taken, 1),
        "announced": plan.get("announced"),
        "used": round(taken / 60 / minutes, 3) if minutes else None,
        "why": run.recipe.plan.why if run.recipe.plan else [],
        "load": [round(load, 1), round(os.getloadavg()[0], 1)],
        "n": evaluation.n,
        "score": round(evaluation.headline[1].value, 4),
        "right": _right(answers),
    }


def _right(answers: Predictions) -> dict[str, int]:
    """By row of the catalog: whether a picture is named right, with all of its labels where it may have several."""
    if answers.multilabel:
        right = ((answers.logits > 0) == (answers.target > 0)).all(1)
    else:
        right = answers.logits.argmax(1) == answers.target
    return {str(row): int(value) for row, value in zip(answers.row.tolist(), right.tolist(), strict=True)}


def paired(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """`fast` against `transfer` on the same pictures, all seeds of a set together."""
    found = []
    arms = sorted({(e["set"], e["minutes"]) for e in entries if e["minutes"]})
    for name, minutes in arms:
        only = [0, 0]
        n, seeds = 0, []
        for fast in (e for e in entries if (e["set"], e["minutes"]) == (name, minutes)):
            plain = next(
                (e for e in entries if (e["set"], e["minutes"], e["seed"]) == (name, None, fast["seed"])), None
            )
            if plain is None:
                continue
            pairs = [(plain["right"][row], right) for row, right in fast["right"].items()]
            only[0] += sum(a > b for a, b in pairs)
            only[1] += sum(b > a for a, b in pairs)
            n += len(pairs)
            seeds.append(fast["seed"])
        if n:
            low, high = share_interval(only[0], only[1], n)
            found.append(
                {
                    "set": name,
                    "minutes": minutes,
                    "seeds": seeds,
                    "n": n,
                    "difference": round((only[1] - only[0]) / n, 4),
                    "interval": [round(low, 4), round(high, 4)],
                    "only_transfer_right": only[0],
                    "only_fast_right": only[1],
                    "p": round(mcnemar(only[0], only[1]), 4),
                }
            )
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--minutes", type=float, nargs="+", default=[5.0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--most", type=int, help="largest number of pictures to learn from; by default 70 % of the set")
    parser.add_argument("--out", type=Path, help="keep the runs in this folder")
    asked = parser.parse_args()
    entries = json.loads(_FILE.read_text())["figures"]["entries"] if _FILE.is_file() else []
    done = {(e["set"], e["minutes"], e["seed"]) for e in entries}
    for name in asked.sets:
        catalog = scan(DATA / SETS[name])
        full = f"{name}, {asked.most} to learn from" if asked.most else name
        for seed in asked.seeds:
            for minutes in (None, *asked.minutes):
                if (full, minutes, seed) in done:
                    continue
                with tempfile.TemporaryDirectory() as scratch:
                    folder = (
                        asked.out / f"{full.replace(', ', '-')}-{minutes or 'transfer'}-{seed}" if asked.out else None
                    )
                    folder = folder or Path(scratch)
                    folder.mkdir(parents=True, exist_ok=True)
                    table = folder / "pictures.csv"
                    write_table(catalog, seed, asked.most, table)
                    recipe = "fast" if minutes else "transfer"
                    values = trained(catalog.root, table, recipe, minutes, seed, folder / "run")
                entries.append({"set": full, "recipe": recipe, "minutes": minutes, "seed": seed, **values})
                record.write("planner", {"paired": paired(entries), "entries": entries})


if __name__ == "__main__":
    main()
