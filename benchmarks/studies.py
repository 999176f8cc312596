"""What a study of many linear probes costs, beside as many trainings by themselves with a frozen backbone.

    python -m benchmarks.studies PICTURES [--per-class 100] [--probes 100] [--separate 3]

Times are of the processor (all threads), since others may use the machine; the wall clock stands beside them with the
load. The study begins from an empty cache, and so does each of the separate trainings, which computes its features anew
as a training without a feature cache does. They are trained without bundle and report: what remains is the difference
that sharing makes.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.record import backbone, spread, write
from tellapart.data.catalog import Catalog
from tellapart.data.scan import scan
from tellapart.experiments.execute import Bench
from tellapart.experiments.read_study import read_study
from tellapart.experiments.run_study import StudyOptions, run_study
from tellapart.experiments.seeds import Seed
from tellapart.experiments.splits import StudySplits
from tellapart.recipe.load import read_recipe
from tellapart.workflows.progress import ProgressSink

RECIPE = """
[model]
name = "tf_efficientnet_lite0"

[[stages]]
train = "head"
solver = "lbfgs"
l2 = [0.01]
"""


def main() -> None:
    """Measure and write benchmarks/results/studies.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--per-class", type=int, default=100)
    parser.add_argument("--probes", type=int, default=100)
    parser.add_argument("--separate", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        catalog = thinned(scan(arguments.pictures), arguments.per_class)
        figures = measure(Path(folder), catalog, arguments.probes, arguments.separate)
        network = backbone(read_recipe(Path(folder) / "probe.toml")[0]) or ""
    write("studies", figures, network)


def thinned(catalog: Catalog, per_class: int) -> Catalog:
    """The first pictures of each class."""
    target = catalog.target()
    rest = [np.flatnonzero(target == number)[per_class:] for number in range(len(catalog.classes))]
    return catalog.without(np.concatenate(rest))


def measure(folder: Path, catalog: Catalog, probes: int, separate: int) -> dict[str, Any]:
    """The figures: seconds of the processor and of the wall clock."""
    (folder / "probe.toml").write_text(RECIPE)
    strengths = ", ".join(f"[{strength:.6g}]" for strength in np.geomspace(1e-4, 10, probes))
    (folder / "study.toml").write_text(f'recipe = "probe.toml"\nseeds = 1\n[vary]\nstages.0.l2 = [{strengths}]\n')
    file, source = read_study(folder / "study.toml")
    training = Stopwatch(Bench._train)
    Bench._train = lambda *values: training(*values)  # type: ignore[method-assign]
    os.environ["TELLAPART_CACHE"] = str(folder / "cache")
    study = Stopwatch(run_study)
    results = study(file, source, catalog, folder / "out", StudyOptions(), ProgressSink())
    alone = Stopwatch(one_training)
    for number in range(separate):
        os.environ["TELLAPART_CACHE"] = str(folder / f"cache{number}")
        alone(folder, catalog, results.description.runtime)
    n = results.runs.height
    return {
        "pictures": len(catalog),
        "probes": n,
        "study_processor_seconds": study.processor[0],
        "study_wall_seconds": study.wall[0],
        "overhead_processor_seconds_a_cell": (study.processor[0] - sum(training.processor)) / n,
        "training_processor_seconds": spread(training.processor),
        "separate_processor_seconds": spread(alone.processor),
        "times_faster": n * float(np.mean(alone.processor)) / study.processor[0],
    }


def one_training(folder: Path, catalog: Catalog, runtime: dict[str, Any]) -> None:
    """The probe once, by itself."""
    from tellapart.experiments.train_cell import train_cell
    from tellapart.training.runtime import Runtime

    recipe, _ = read_recipe(folder / "probe.toml")
    split = StudySplits(catalog, recipe).of(recipe, 0)
    for _ in train_cell(recipe, catalog, split, Seed(0, 0, 0, 0), None, Runtime(**runtime)):
        pass


class Stopwatch:
    """A function whose calls are timed."""

    def __init__(self, work: Callable[..., Any]) -> None:
        self.work = work
        self.processor: list[float] = []
        self.wall: list[float] = []

    def __call__(self, *values: Any) -> Any:
        """Call it."""
        processor, wall = time.process_time(), time.perf_counter()
        result = self.work(*values)
        self.processor.append(time.process_time() - processor)
        self.wall.append(time.perf_counter() - wall)
        return result


if __name__ == "__main__":
    main()
