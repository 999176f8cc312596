"""What follows a training: predictions, certainty, scores, bundle, report."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from tellapart.records import Computing, Evaluation, Predictions
from tellapart.run_directory import Run

if TYPE_CHECKING:
    from tellapart.data.catalog import Catalog
    from tellapart.data.split import Split
    from tellapart.models.network import Network
    from tellapart.recipe import Recipe

Rows = npt.NDArray[np.int64]
_GOLDEN = 8


def conclude(
    run: Run, network: Network, recipe: Recipe, catalog: Catalog, split: Split
) -> Generator[Computing, None, None]:
    """Predictions, certainty, scores, bundle, report."""
    from tellapart.evaluation.calibrate import fit_temperature, thresholds
    from tellapart.evaluation.evaluate import evaluate_predictions
    from tellapart.infer.predict import predict
    from tellapart.retelling import report
    from tellapart.runtime import Runtime, default_device, default_workers

    # float32, as the exported model computes: the score is that of the model that will answer.
    runtime = Runtime(default_device(), workers=default_workers())
    predictions: dict[str, Predictions] = {}
    for on, rows in (("validation", split.validation), ("test", split.test)):
        if len(rows := unbroken(run, catalog, rows)):
            predictions[on] = yield from predict(network, catalog, rows, runtime, f"answers on the {on} pictures")
            predictions[on].save(run.predictions_file(on))
    temperature = fit_temperature(predictions["validation"])
    limits = tuple(thresholds(predictions["validation"], temperature)) if catalog.several else None
    evaluations = {
        on: evaluate_predictions(predictions[on], on=on, temperature=temperature, thresholds=limits)
        for on in reversed(predictions)
    }
    about = {"temperature": temperature, "thresholds": limits}
    run.write_json(run.evaluation_file, {**about, "evaluations": {on: e.as_dict() for on, e in evaluations.items()}})
    yield Computing(-1, "bundle", 0, 1)
    _bundle(run, network, recipe, catalog, split, temperature, limits, next(iter(evaluations.values())))
    yield Computing(-1, "bundle", 1, 1)
    yield Computing(-1, "report", 0, 1)
    report(Run(run.directory))  # as it lies on disk now
    yield Computing(-1, "report", 1, 1)


def _bundle(
    run: Run,
    network: Network,
    recipe: Recipe,
    catalog: Catalog,
    split: Split,
    temperature: float,
    limits: tuple[float, ...] | None,
    evaluation: Evaluation,
) -> None:
    from tellapart.bundle.write import write_bundle
    from tellapart.data.decode import read_picture

    rows = unbroken(run, catalog, split.validation)
    spread = np.unique(rows[np.linspace(0, len(rows) - 1, _GOLDEN).astype(int)])
    golden = [read_picture(catalog.path(row), network.preprocessing) for row in spread]
    about = {
        "model": recipe.model.name,
        "weights": network.weights_source,
        "architecture": network.architecture.as_dict(),
        "trained_on": f"{len(split.train)} pictures of {catalog.root.name}, {len(catalog.classes)} classes",
        "command": run.environment["command"],
        "evaluation": evaluation.as_dict(),
        "recipe": recipe.model_dump(),
        "columns": catalog.columns,
    }
    write_bundle(
        run.bundle,
        network,
        catalog.classes,
        catalog.several,
        temperature=temperature,
        thresholds=limits,
        about=about,
        golden=np.stack(golden),
    )


def unbroken(run: Run, catalog: Catalog, rows: Rows) -> Rows:
    """Those of the rows whose pictures have not been left out."""
    broken = catalog.table["path"].gather(rows).is_in([entry["path"] for entry in run.skipped])
    kept: Rows = rows[~broken.to_numpy()]
    return kept
