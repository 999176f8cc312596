"""From a folder of pictures to a classifier that answers.

    import tellapart as ta

    catalog = ta.scan("photos/")
    split = ta.split(catalog, validation=0.2, seed=0)
    run = ta.train(catalog, split, recipe="transfer", out="runs/first")
    print(ta.evaluate(run).table())
    print(ta.load("runs/first").predict("new.jpg"))

The names below are loaded when they are first used, so that `import tellapart` costs nothing.
"""

from typing import TYPE_CHECKING

from tellapart.core.version import __version__

if TYPE_CHECKING:
    from tellapart.auditing.findings import Audit as Audit
    from tellapart.auditing.findings import Finding as Finding
    from tellapart.core.predictions import Predictions as Predictions
    from tellapart.core.scores import Evaluation as Evaluation
    from tellapart.core.scores import Metric as Metric
    from tellapart.data.catalog import Catalog as Catalog
    from tellapart.data.scan import scan as scan
    from tellapart.data.splitting.split import Split as Split
    from tellapart.data.splitting.split import split as split
    from tellapart.deploy.answer import Answer as Answer
    from tellapart.deploy.bundle.verify import verify as verify
    from tellapart.deploy.predictor import Classifier as Classifier
    from tellapart.deploy.predictor import load as load
    from tellapart.deploy.predictor import predict as predict
    from tellapart.errors import TellapartError as TellapartError
    from tellapart.evaluation.comparison import Comparison as Comparison
    from tellapart.evaluation.slices import Slices as Slices
    from tellapart.experiments.close import close_study as close_study
    from tellapart.experiments.list_runs import list_runs as list_runs
    from tellapart.experiments.study import StudyOutcome as StudyOutcome
    from tellapart.experiments.study import study as study
    from tellapart.recipe.load import list_recipes as list_recipes
    from tellapart.recipe.load import load_recipe as load_recipe
    from tellapart.recipe.load import recipe_text as recipe_text
    from tellapart.recipe.schema import Recipe as Recipe
    from tellapart.web.serve.client import Client as Client
    from tellapart.workflows.audit import audit as audit
    from tellapart.workflows.average import average as average
    from tellapart.workflows.compare import compare as compare
    from tellapart.workflows.cross_validate import CrossValidation as CrossValidation
    from tellapart.workflows.cross_validate import cross_validate as cross_validate
    from tellapart.workflows.curves import curves as curves
    from tellapart.workflows.distill import distill as distill
    from tellapart.workflows.drift import Drift as Drift
    from tellapart.workflows.drift import drift as drift
    from tellapart.workflows.errors import list_errors as list_errors
    from tellapart.workflows.evaluate import evaluate as evaluate
    from tellapart.workflows.explain import explain as explain
    from tellapart.workflows.export import export as export
    from tellapart.workflows.look import ahead as ahead
    from tellapart.workflows.look import augment as augment
    from tellapart.workflows.look import find_lr as find_lr
    from tellapart.workflows.look import summary as summary
    from tellapart.workflows.models import list_models as list_models
    from tellapart.workflows.picture_classifier import PictureClassifier as PictureClassifier
    from tellapart.workflows.review import review as review
    from tellapart.workflows.serve import serve as serve
    from tellapart.workflows.slices import slices as slices
    from tellapart.workflows.train import train as train

# Where each public name lives. No name may be that of a module beside this file: importing the module would
# put the module in the name's place.
_PUBLIC = {
    "Answer": "tellapart.deploy.answer",
    "Audit": "tellapart.auditing.findings",
    "Catalog": "tellapart.data.catalog",
    "Classifier": "tellapart.deploy.predictor",
    "Client": "tellapart.web.serve.client",
    "Comparison": "tellapart.evaluation.comparison",
    "CrossValidation": "tellapart.workflows.cross_validate",
    "Drift": "tellapart.workflows.drift",
    "Evaluation": "tellapart.core.scores",
    "Finding": "tellapart.auditing.findings",
    "Metric": "tellapart.core.scores",
    "PictureClassifier": "tellapart.workflows.picture_classifier",
    "Predictions": "tellapart.core.predictions",
    "Recipe": "tellapart.recipe.schema",
    "Slices": "tellapart.evaluation.slices",
    "Split": "tellapart.data.splitting.split",
    "StudyOutcome": "tellapart.experiments.study",
    "TellapartError": "tellapart.errors",
    "ahead": "tellapart.workflows.look",
    "audit": "tellapart.workflows.audit",
    "augment": "tellapart.workflows.look",
    "average": "tellapart.workflows.average",
    "close_study": "tellapart.experiments.close",
    "compare": "tellapart.workflows.compare",
    "cross_validate": "tellapart.workflows.cross_validate",
    "curves": "tellapart.workflows.curves",
    "distill": "tellapart.workflows.distill",
    "drift": "tellapart.workflows.drift",
    "evaluate": "tellapart.workflows.evaluate",
    "explain": "tellapart.workflows.explain",
    "export": "tellapart.workflows.export",
    "find_lr": "tellapart.workflows.look",
    "list_errors": "tellapart.workflows.errors",
    "list_models": "tellapart.workflows.models",
    "list_recipes": "tellapart.recipe.load",
    "list_runs": "tellapart.experiments.list_runs",
    "load": "tellapart.deploy.predictor",
    "load_recipe": "tellapart.recipe.load",
    "predict": "tellapart.deploy.predictor",
    "recipe_text": "tellapart.recipe.load",
    "review": "tellapart.workflows.review",
    "scan": "tellapart.data.scan",
    "serve": "tellapart.workflows.serve",
    "slices": "tellapart.workflows.slices",
    "split": "tellapart.data.splitting.split",
    "study": "tellapart.experiments.study",
    "summary": "tellapart.workflows.look",
    "train": "tellapart.workflows.train",
    "verify": "tellapart.deploy.bundle.verify",
}

__all__ = ["__version__", *_PUBLIC]

if not TYPE_CHECKING:  # hidden from type checkers, so that they report names that do not exist

    def __getattr__(name):
        """Load a public name on first use (PEP 562).

        Raises:
            AttributeError: there is no such name.
            MissingExtraError: it needs a package that is not installed.
        """
        if name not in _PUBLIC:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        try:
            value = getattr(import_module(_PUBLIC[name]), name)
        except ModuleNotFoundError as error:
            missing = (error.name or "").partition(".")[0]
            if missing in ("", __name__):
                raise
            from tellapart.errors import MissingExtraError

            raise MissingExtraError(f"{__name__}.{name}", "train", missing) from error
        globals()[name] = value
        return value

    def __dir__():
        return sorted(__all__)
