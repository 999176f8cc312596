"""The end of a training: predictions, certainty, scores, bundle, report."""

from __future__ import annotations

import copy
from collections.abc import Generator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from tellapart.core.events import Computing, Note
from tellapart.core.scores import BEFORE_RETRAINING, Evaluation, with_interval, with_notes
from tellapart.errors import RecipeError
from tellapart.runs.commands import training_command
from tellapart.runs.run import Run

if TYPE_CHECKING:
    from tellapart.core.predictions import Predictions
    from tellapart.data.catalog import Catalog
    from tellapart.data.splitting.split import Split
    from tellapart.evaluation.calibration_summary import Certainty
    from tellapart.evaluation.open_set import KnownClasses
    from tellapart.models.network import Network
    from tellapart.recipe.schema import Recipe
    from tellapart.training.parallel.workers import Workers
    from tellapart.training.predict import Answered
    from tellapart.training.runtime import Runtime

Rows = npt.NDArray[np.int64]
_GOLDEN = 8


@dataclass(frozen=True)
class Answers:
    """What the finished network says of the "validation" and "test" pictures, and the classes it knows."""

    answered: dict[str, Answered]
    known: KnownClasses | None


def answer(
    run: Run, network: Network, recipe: Recipe, catalog: Catalog, split: Split, workers: Workers | None = None
) -> Generator[Computing | Note, None, Answers]:
    """Ask the finished network; workers, all of which call this, share the pictures."""
    from tellapart.training.predict import predict_fully
    from tellapart.training.runtime import plain_runtime

    # float32, as the exported model computes: the score is that of the model that will answer.
    runtime = plain_runtime()
    known = None if catalog.multilabel else (yield from _known(run, network, catalog, split, runtime, workers))
    config, flip = recipe.evaluation, flips(recipe)
    answered: dict[str, Answered] = {}
    for on, rows in (("validation", split.validation), ("test", split.test)):
        if len(rows := unbroken(run, catalog, rows)):
            task = f"answers on the {on} pictures"
            # Where it was trained again on the validation pictures too, the network before that answers these.
            answering, own = network if on == "test" else validated(run, network, recipe), known
            if known and answering is not network:
                own = yield from _known(run, answering, catalog, split, runtime, workers)
            answered[on] = yield from predict_fully(
                answering, catalog, rows, runtime, task, own, config.tta, flip, config.tta_mean, workers
            )
    return Answers(answered, known)


def conclude(
    run: Run,
    network: Network,
    recipe: Recipe,
    catalog: Catalog,
    split: Split,
    workers: Workers | None = None,
    explain: bool = True,
) -> Generator[Computing | Note, None, None]:
    """Write predictions, certainty, scores, bundle and report; yield progress, and notes on the scores.

    Args:
        workers: those that take a share of the pictures; they call `answer`.
        explain: whether some answers are explained, where the recipe leaves it open.
    """
    from tellapart.evaluation.calibration_summary import check_certainty, fit_certainty, keeps_its_share, tta_gain
    from tellapart.report.run_report import report
    from tellapart.workflows.explain_for_report import explain_for_report
    from tellapart.workflows.settle import settle

    answers = yield from answer(run, network, recipe, catalog, split, workers)
    config, answered, known = recipe.evaluation, answers.answered, answers.known
    for on, each in answered.items():
        each.predictions.save(run.predictions_file(on))
    predictions = {on: each.predictions for on, each in answered.items()}
    distance = {on: each.distance for on, each in answered.items()}
    certainty = fit_certainty(predictions["validation"], distance["validation"], config.thresholds, config.known)
    if "test" in predictions:
        certainty = keeps_its_share(certainty, predictions["test"], distance["test"])
    names = {"validation": BEFORE_RETRAINING} if recipe.retrain else {}
    evaluations = {
        on: _evaluated(run, predictions[on], on, names.get(on, on), certainty) for on in reversed(predictions)
    }
    first = next(iter(evaluations))
    notes = [*certainty.notes, *(yield from _honesty_notes(catalog, split, evaluations))]
    yield from map(Note, notes[len(certainty.notes) :])
    about = {
        **asdict(certainty),
        "notes": notes,
        "tta": tta_gain(answered[first].plain, evaluations[first], certainty, config.tta, config.tta_mean)
        if config.tta
        else None,
        "certainty": {on: check_certainty(certainty, predictions[on], distance[on]) for on in evaluations},
    }
    run.write_json(run.evaluation_file, {**about, "evaluations": {on: e.as_dict() for on, e in evaluations.items()}})
    yield Computing(-1, "bundle", 0, 1)
    _bundle(run, network, recipe, catalog, split, certainty, known, next(iter(evaluations.values())))
    yield Computing(-1, "bundle", 1, 1)
    near = _known_rows(run, catalog, split) if known else None
    if explain if config.explain is None else config.explain:
        yield from explain_for_report(Run(run.directory), network, first, near)
    yield Computing(-1, "report", 0, 1)
    settle(run, recipe)
    report(Run(run.directory))  # as it lies on disk now
    yield Computing(-1, "report", 1, 1)


def _honesty_notes(
    catalog: Catalog, split: Split, evaluations: dict[str, Evaluation]
) -> Generator[Computing | Note, None, list[str]]:
    """Why the scores may be flattered: scenes in two parts; and whether validation and test differ beyond chance.

    Every picture is looked at for it. Its measures are kept, and the report's audit rests on them too.
    """
    from tellapart.auditing.scene_leaks import scene_leaks, scene_sentences
    from tellapart.evaluation.parts_differ import parts_differ

    leaks = yield from scene_leaks(catalog, split)
    notes = scene_sentences(leaks, split)
    differ = parts_differ(evaluations["validation"], evaluations["test"]) if "test" in evaluations else ""
    if not differ:
        return notes
    own_test = catalog.table["split"].gather(split.test).is_not_null().any()
    own_validation = catalog.table["split"].gather(split.validation).eq("validation").any()
    reasons = ["the best epoch was chosen on validation"]
    if own_test and not own_validation:
        reasons.insert(
            0,
            "validation was drawn from the training pictures, so photographs of one scene may stand in both, and the "
            "test, which is the data's own, may be of other scenes, days or cameras",
        )
    if not leaks["validation"]:
        reasons.append("tellapart audit --model finds scenes by a network's features, and --group-duplicates ties them")
    return [f"{differ} Why it may be: {'; '.join(reasons)}.", *notes]


def _evaluated(run: Run, predictions: Predictions, part: str, on: str, certainty: Certainty) -> Evaluation:
    """The evaluation of a part; where it holds copies of training pictures, a note gives the score without them."""
    from tellapart.evaluation.evaluate import evaluate_predictions
    from tellapart.evaluation.metrics import take
    from tellapart.runs.trained_on import known_pictures

    def scored(answers: Predictions) -> Evaluation:
        return evaluate_predictions(answers, on=on, temperature=certainty.temperature, thresholds=certainty.thresholds)

    evaluation = scored(predictions)
    contents = run.catalog.table["sha256"].gather(predictions.row).to_list()
    copies = known_pictures(run, contents, ("train", "validation") if part == "test" else ("train",))
    if not copies.n:
        return evaluation
    if copies.n == len(predictions):
        return with_notes(evaluation, f"{copies}: the score says nothing about new pictures.")
    name, without = scored(take(predictions, ~copies.either)).headline
    return with_notes(evaluation, f"{copies}; without them: {name} {with_interval(name, without)}.")


def _known(
    run: Run, network: Network, catalog: Catalog, split: Split, runtime: Runtime, workers: Workers | None
) -> Generator[Computing | Note, None, KnownClasses]:
    """The classes' distributions in feature space, fitted to some training pictures."""
    from tellapart.evaluation.fit_open_set import fit_known
    from tellapart.training.extract_features import features

    rows = _known_rows(run, catalog, split)
    vectors = yield from features(network, catalog, rows, runtime, "features of known pictures", workers)
    return fit_known(vectors, catalog.target(rows), len(catalog.classes))


def _known_rows(run: Run, catalog: Catalog, split: Split) -> Rows:
    """The training pictures that these distributions are fitted to."""
    from tellapart.evaluation.calibration_summary import sample

    return sample(unbroken(run, catalog, split.train), len(catalog.classes))


def _bundle(
    run: Run,
    network: Network,
    recipe: Recipe,
    catalog: Catalog,
    split: Split,
    certainty: Certainty,
    known: KnownClasses | None,
    evaluation: Evaluation,
) -> None:
    from tellapart.data.decoding.decode import read_picture
    from tellapart.deploy.bundle.write import write_bundle
    from tellapart.evaluation.failures import failures

    rows = unbroken(run, catalog, split.validation)
    spread = np.unique(rows[np.linspace(0, len(rows) - 1, _GOLDEN).astype(int)])
    golden = [read_picture(catalog.path(row), network.preprocessing) for row in spread]
    n = len(split.train) + (len(split.validation) if recipe.retrain else 0)
    about = {
        "model": recipe.model.name,
        "weights": network.weights_source,
        "architecture": network.architecture.as_dict(),
        "trained_on": f"{n:,} pictures of {catalog.root.name}, {len(catalog.classes)} classes",
        "command": training_command(run),
        "evaluation": evaluation.as_dict(),
        "failures": failures(evaluation),
        "data": {
            "validation": len(split.validation),
            "test": len(split.test),
            "layout": catalog.layout,
            "divided": split.description,
        },
        "recipe": recipe.model_dump(),
        "columns": catalog.columns,
    }
    write_bundle(
        run.bundle,
        network,
        catalog.classes,
        catalog.multilabel,
        certainty,
        golden=np.stack(golden),
        about=about,
        known=known,
        tta=recipe.evaluation.tta,
        flip=flips(recipe),
        tta_mean=recipe.evaluation.tta_mean,
    )


def validated(run: Run, network: Network, recipe: Recipe) -> Network:
    """The network that the validation pictures may evaluate: after a retraining on them, the one before it.

    Certainty and thresholds are fitted on its answers.
    """
    if not recipe.retrain:
        return network
    from tellapart.training.checkpoint import load_checkpoint

    before = copy.deepcopy(network)
    load_checkpoint(run.checkpoint("validated"), before)
    return before


def unbroken(run: Run, catalog: Catalog, rows: Rows) -> Rows:
    """The rows without pictures that broke after the scan and were left out."""
    broken = catalog.table["path"].gather(rows).is_in([entry["path"] for entry in run.skipped])
    whole: Rows = rows[~broken.to_numpy()]
    return whole


def flips(recipe: Recipe) -> bool:
    """Whether training showed mirrored pictures: only then may test-time augmentation mirror them."""
    shown = [*recipe.augment, *(change for stage in recipe.stages for view in stage.views for change in view)]
    return any(change.transform == "horizontal_flip" for change in shown)


def check_evaluation(recipe: Recipe, catalog: Catalog) -> None:
    """Refuse a rule for thresholds that would be ignored.

    Raises:
        RecipeError: thresholds are for several labels, and the pictures have one each.
    """
    if recipe.evaluation.thresholds != "f1" and not catalog.multilabel:
        raise RecipeError(
            "evaluation.thresholds is for pictures with several labels; these have one each.",
            "Leave it out: the most probable class is the answer. For sets of classes: tellapart predict --coverage",
        )
