"""How many planted wrong labels are found: a share of the fruit labels is swapped, several times over.

TELLAPART_TEST_DATA=… TELLAPART_WEIGHTS=… python -m benchmarks.wrong_labels --seeds 0 1 2 3 4

The pictures have some wrong labels of their own, which take places in the ranking and count as not found; what the
ranking would give a picture at random is the share itself.
"""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks import record
from tellapart.workflows.label_issues import issues_of_pictures
from tellapart.workflows.progress import Console
from tellapart.workflows.scan import scan

SHARE = 0.05


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--folder", default="fruit", help="folder of $TELLAPART_TEST_DATA")
    parser.add_argument("--model", default=None)
    given = parser.parse_args()
    console = Console()
    catalog = scan(Path(os.environ["TELLAPART_TEST_DATA"]) / given.folder, console)
    clean = issues_of_pictures(catalog, given.model, console)  # the features are computed here, once
    found, suspected, right, seconds = [], [], [], []
    for seed in given.seeds:
        random = np.random.default_rng(seed)
        rows = np.intersect1d(catalog.readable, catalog.labelled)
        planted = random.choice(rows, round(SHARE * len(rows)), replace=False)
        target = catalog.target().copy()
        target[planted] = (target[planted] + random.integers(1, len(catalog.classes), len(planted))) % len(
            catalog.classes
        )
        labels = pl.Series("labels", [[t] if t >= 0 else [] for t in target.tolist()], dtype=pl.List(pl.UInt32))
        start = time.monotonic()
        issues = issues_of_pictures(replace(catalog, table=catalog.table.with_columns(labels)), given.model, console)
        seconds.append(round(time.monotonic() - start, 1))
        ranked = issues.table["row"].to_numpy()
        found.append(float(np.isin(planted, ranked[: len(planted)]).mean()))
        taken = issues.table.filter(pl.col("suspicious"))["row"].to_numpy()
        suspected.append(float(np.isin(planted, taken).mean()))
        right.append(float(np.isin(taken, planted).mean()))
    record.write(
        "wrong_labels",
        {
            "pictures": f"{given.folder}: {len(catalog)}",
            "planted_share": SHARE,
            "seeds": given.seeds,
            "how": clean.method,
            "suspected_before_planting": clean.n_suspicious,
            "found_in_the_first_5_percent": record.spread(found),
            "found_among_the_suspected": record.spread(suspected),
            "planted_share_of_the_suspected": record.spread(right),
            "seconds_with_stored_features": record.spread(seconds),
        },
    )


if __name__ == "__main__":
    main()
