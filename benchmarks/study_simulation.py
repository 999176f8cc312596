"""How often do studies claim a difference that is none, and find one that is there? By simulation, with fixed seeds.

python -m benchmarks.study_simulation [--studies 2000]

Whole studies are drawn: a baseline and cells, their seeds paired, with luck of the seed, of the pictures (the same for
all seeds of a cell), and of both; judged by the functions that judge real ones (`paired_cells`, `sequential`, Holm).
Seeds come on demand: undecided cells get more. And for the plans of 2 to 30 seeds, what t tests spend more than tests
with known variance: the factor `sequential.T_PRICE` covers it. Writes benchmarks/results/study_simulation.json.
"""

from __future__ import annotations

import argparse
import math
from typing import Any

import numpy as np
from scipy import stats

from benchmarks import record
from tellapart.evaluation.significance import ALPHA, holm
from tellapart.experiments.paired_cells import Parts
from tellapart.experiments.sequential import T_PRICE, nominal_levels, sequential_p

#: Cells beside the baseline; deviation of the pictures' luck against that of one seed's; first and last seed.
STUDIES = [
    {"cells": cells, "pictures": pictures, "first": first, "last": last}
    for cells in (1, 7, 33)
    for pictures in (0.0, 0.5)
    for first, last in ((3, 3), (5, 5), (3, 12))
]


def study(setting: dict[str, Any], planted: float, generator: np.random.Generator) -> tuple[bool, bool, float]:
    """One study: whether it claims a false difference, whether it finds the planted one, and seeds a cell.

    The first cell differs from the baseline by `planted` deviations of one seed; the others do not.
    """
    n_cells, first, last = setting["cells"], setting["first"], setting["last"]
    scores = generator.normal(
        size=(n_cells + 1, last)
    )  # each cell's own luck, seed by seed; that of the seed falls out
    differences = scores[1:] - scores[0]
    shared = generator.normal(0, setting["pictures"], n_cells + 1)
    differences += (shared[1:] - shared[0])[:, None]
    differences[0] += planted
    looks: list[dict[int, float]] = [{} for _ in range(n_cells)]
    decided = np.zeros(n_cells, bool)
    n_used = np.zeros(n_cells)
    for n in range(first, last + 1):
        for i in np.flatnonzero(~decided):
            own = differences[i, :n]
            mean = Parts(float(own.mean()), float(own.var(ddof=1)) / n, 2 * setting["pictures"] ** 2, n, 300)
            looks[i][n] = mean.p()
            n_used[i] = n
        decided = holm([sequential_p(of, first, last) for of in looks]) < ALPHA
        if decided.all():
            break
    truly = np.arange(n_cells) == (0 if planted else -1)
    return bool((decided & ~truly).any()), bool((decided & truly).any()), float(n_used.mean())


def rates(setting: dict[str, Any], planted: float, n_studies: int) -> dict[str, Any]:
    """Shares of studies, with 95 % intervals of the false ones (Clopper and Pearson)."""
    generator = np.random.default_rng(17)
    results = [study(setting, planted, generator) for _ in range(n_studies)]
    false, right, seeds = (np.array(column) for column in zip(*results, strict=True))
    limits = stats.binomtest(int(false.sum()), n_studies).proportion_ci(method="exact")
    return {
        **setting,
        "planted": planted,
        "studies": n_studies,
        "false": round(float(false.mean()), 4),
        "false_95": [round(float(limits.low), 4), round(float(limits.high), 4)],
        **({"power": round(float(right.mean()), 4)} if planted else {}),
        "seeds_a_cell": round(float(seeds.mean()), 2),
    }


def price(n_studies: int) -> dict[str, Any]:
    """How much more than α one t test after each seed spends without the price, the most over plans."""
    generator = np.random.default_rng(18)
    differences = generator.normal(size=(n_studies, 30))
    largest = {}
    for alpha in (0.05, 0.01):
        ratios = {}
        for first, last in ((2, 5), (2, 12), (2, 30), (3, 4), (3, 6), (3, 8), (3, 12), (3, 30), (5, 10), (5, 30)):
            n = np.arange(first, last + 1)
            own = differences[:, :last]
            sums, squares = own.cumsum(1)[:, first - 1 :], (own**2).cumsum(1)[:, first - 1 :]
            deviation = np.sqrt(np.maximum((squares - sums**2 / n) / (n - 1), 1e-30))
            p = 2 * stats.t.sf(np.abs(sums / n) / deviation * np.sqrt(n), n - 1)
            levels = nominal_levels(alpha, n / last)[0]
            ratios[f"{first}..{last}"] = round(float((p < levels).any(axis=1).mean()) / alpha, 3)
        largest[str(alpha)] = ratios
    return {"spent/alpha": largest, "price": T_PRICE, "studies": n_studies}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--studies", type=int, default=2000)
    n = parser.parse_args().studies
    nothing = [rates(setting, 0.0, n) for setting in STUDIES]
    # Two deviations of a difference: what a plain paired t test of five seeds alone finds in 9 of 10 studies or so.
    planted = [rates(setting, 2 * math.sqrt(2), max(1, n // 4)) for setting in STUDIES if setting["cells"] < 33]
    record.write("study_simulation", {"none": nothing, "planted": planted, "t_price": price(100 * n)})


if __name__ == "__main__":
    main()
