"""Training and answers as an estimator of scikit-learn."""

from __future__ import annotations

import json
import shutil
import tempfile
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import check_consistent_length, check_is_fitted, column_or_1d

from tellapart.core.files import write_text
from tellapart.core.unicode_names import composed
from tellapart.deploy.predictor import Classifier, load
from tellapart.deploy.read_pictures import Picture, lossless_file
from tellapart.errors import RunError, UnreadableError, UsageError
from tellapart.runs.run import Run

if TYPE_CHECKING:
    from tellapart.data.catalog import Catalog
    from tellapart.recipe.schema import Recipe

#: Beside a saved run: the labels as they were, which the run has as text.
LABELS_FILE = "estimator.json"


class _Labels(BaseModel):
    """estimator.json: the classes, and the type of their array."""

    model_config = ConfigDict(extra="forbid", strict=True)

    kind: Literal["str", "bool", "int", "float"]
    classes: Annotated[list[str | bool | int | float], Field(min_length=1, max_length=100_000)]


class PictureClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A classifier of pictures for scikit-learn's pipelines, searches and cross-validation.

    `X` is a list or array of paths, of Pillow images, or of pixels (uint8, height × width × 3, RGB, upright, or height
    × width for grey; pictures of one size may be one array [n, height, width, 3]). `y` holds a class a picture, or for
    several labels a picture 0 and 1 [n, n_classes].

    What is held out to judge it is the caller's: `fit` takes no picture for a test. The recipe's share for validation
    is drawn from the pictures given; it chooses the best epoch and calibrates the certainty.

    Args:
        recipe: the name of a shipped recipe, a TOML file, or a `Recipe`.
        changes: "key=value" changes to it, such as "stages.0.epochs=2"; a search may try several lists of them.
        random_state: the recipe's seed; None: as the recipe has it.
        progress: show progress of `fit` on standard error.

    Attributes:
        classes_: the classes, sorted [n_classes]; with several labels, the numbers of the columns of `y`.
        run_: the run: `run_.report` shows how good it is. It lies in a temporary folder that goes with the estimator;
            `save` keeps it.
    """

    def __init__(
        self,
        recipe: str | Path | Recipe = "fast",
        *,
        changes: Sequence[str] | None = None,
        random_state: int | None = None,
        progress: bool = False,
    ) -> None:
        self.recipe = recipe
        self.changes = changes
        self.random_state = random_state
        self.progress = progress

    def fit(self, X: Any, y: Any) -> Self:  # noqa: N803
        """Train on pictures and their labels.

        Raises:
            UsageError: something that is no picture, or labels of fewer than two classes.
            ValueError: as many labels as there are no pictures, or what are no classes.
            UnreadableError: a picture that cannot be read.
            TellapartError: see `tellapart.train`.
        """
        pictures = _as_pictures(X)
        check_consistent_length(pictures, y)
        labels = _as_labels(y)
        self._forget()
        folder = _own_folder(self)
        catalog = _catalog(pictures, labels, folder / "pictures")
        self.run_ = _train(self, catalog, folder / "run")
        self._open()
        self.classes_ = labels.classes
        return self

    def predict_proba(self, X: Any) -> npt.NDArray[np.float64]:  # noqa: N803
        """Calibrated probabilities [n, n_classes], 0 to 1; they sum to 1 unless pictures have several labels.

        Raises:
            NotFittedError: it has not been fitted.
            UsageError: something that is no picture.
            UnreadableError: a picture that cannot be read.
        """
        check_is_fitted(self)
        pictures = _as_pictures(X)
        classifier = self._loaded
        probabilities = np.empty((len(pictures), len(classifier.classes)))
        for row, answer in enumerate(classifier.predict(pictures, unknown=False) if pictures else []):
            if answer.problem is not None:
                raise UnreadableError(answer.path or f"picture {row}", answer.problem)
            named = dict(answer.labels)
            probabilities[row] = [named[name] for name in classifier.classes]
        return probabilities

    def predict(self, X: Any) -> npt.NDArray[Any]:  # noqa: N803
        """The most probable class of each picture [n]; with several labels, 0 and 1 [n, n_classes].

        A label is 1 from the threshold on that was fitted for it. "Unknown" is no class here: see `tellapart.load`.

        Raises:
            NotFittedError, UsageError, UnreadableError: as `predict_proba`.
        """
        probabilities = self.predict_proba(X)
        bundle = self._loaded.bundle
        if bundle.multilabel:
            return (probabilities >= np.asarray(bundle.thresholds)).astype(np.int64)
        chosen: npt.NDArray[Any] = self.classes_[probabilities.argmax(axis=1)]
        return chosen

    def save(self, directory: str | Path) -> Run:
        """Keep the run under another name: report, bundle, checkpoints. Nothing in it is a pickle.

        Returns:
            The run, which all verbs of Tellapart take.

        Raises:
            NotFittedError: it has not been fitted.
            RunError: the directory exists.
        """
        check_is_fitted(self)
        directory = Path(directory)
        if directory.exists():
            raise RunError(f"{directory} exists.", "Name a folder that does not exist yet.")
        labels = _Labels(kind=_kind(self.classes_), classes=self.classes_.tolist())
        # Written beside and renamed: a folder of that name is whole.
        beside = directory.with_name(f".{directory.name}.partial")
        shutil.rmtree(beside, ignore_errors=True)
        shutil.copytree(self.run_.directory, beside, ignore=shutil.ignore_patterns(".lock"))
        write_text(beside / LABELS_FILE, labels.model_dump_json() + "\n")
        beside.rename(directory)
        return Run(directory)

    @classmethod
    def load(cls, directory: str | Path) -> Self:
        """A fitted classifier from what `save` wrote, or from any run directory or bundle; the labels are text then.

        The files are read where they lie, and stay there. A clone of it is trained by the same recipe.

        Raises:
            BundleError: there is no bundle, or it is damaged.
            RunError: the file of labels is damaged.
        """
        run = Run(Path(directory))
        loaded = cls(recipe=run.recipe) if run.recipe_file.is_file() else cls()
        loaded.run_ = run
        loaded._open()
        bundle = loaded._loaded.bundle
        loaded.classes_ = np.arange(len(bundle.classes)) if bundle.multilabel else np.asarray(bundle.classes)
        if (file := run.directory / LABELS_FILE).is_file():
            loaded.classes_ = _read_labels(file, bundle.classes)
        return loaded

    def _open(self) -> None:
        """Load the bundle, for one engine always, so that an answer does not depend on how many are asked for."""
        self._loaded: Classifier = load(self.run_.directory, "onnxruntime")

    def _forget(self) -> None:
        for name in ("_loaded", "run_", "classes_"):
            self.__dict__.pop(name, None)
        if "_remove" in self.__dict__:
            self.__dict__.pop("_remove")()

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "classes_")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        tags.classifier_tags.multi_label = True
        return tags

    # A copy, in another process of a parallel search for instance, carries the bundle's files: the temporary folder
    # goes with this one. They are checked when they are loaded, as those of any bundle are.
    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = dict(super().__getstate__())
        for name in ("_loaded", "_remove", "run_"):
            state.pop(name, None)
        if hasattr(self, "run_"):
            folder = self._loaded.bundle.folder
            state["_bundle"] = {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        files = state.pop("_bundle", None)
        super().__setstate__(state)
        if files is not None:
            bundle = _own_folder(self) / "run" / "bundle"
            bundle.mkdir(parents=True)
            for name, content in files.items():
                (bundle / Path(name).name).write_bytes(content)
            self.run_ = Run(bundle.parent)
            self._open()


def _own_folder(estimator: PictureClassifier) -> Path:
    """A temporary folder that is removed with the estimator, or when the process ends."""
    folder = Path(tempfile.mkdtemp(prefix="tellapart-"))
    estimator._remove = weakref.finalize(estimator, shutil.rmtree, folder, ignore_errors=True)
    return folder


def _as_pictures(X: Any) -> list[Picture]:  # noqa: N803
    """The pictures of `X`, one by one.

    Raises:
        UsageError: it is a single picture, or no list of pictures.
    """
    if isinstance(X, (str, Path, bytes, Image.Image)):
        raise UsageError("X is one picture.", "Give a list, also for one: [picture].")
    if isinstance(X, np.ndarray) and X.ndim == 2 and X.shape[1] == 1 and X.dtype.kind in "OU":
        X = X[:, 0]  # noqa: N806 - a column of paths, as a table has
    try:
        return [_as_picture(number, value) for number, value in enumerate(X)]
    except TypeError as error:
        raise UsageError(
            f"X is no list of pictures: {error}.", "Give a list of paths, arrays or Pillow images."
        ) from error


def _as_picture(number: int, value: Any) -> Picture:
    if isinstance(value, (str, Path)):
        return Path(value)
    if isinstance(value, Image.Image):
        return value
    if isinstance(value, np.ndarray) and value.dtype == np.uint8 and value.size:
        value = value[..., None] if value.ndim == 2 else value
        if value.ndim == 3 and value.shape[2] in (1, 3):
            return np.ascontiguousarray(np.broadcast_to(value, (*value.shape[:2], 3)))
    about = f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__
    raise UsageError(
        f"X[{number}] is not a picture: {about}.",
        "Give paths, Pillow images, or arrays: uint8, height × width × 3 (RGB) or height × width.",
    )


@dataclass(frozen=True)
class _Target:
    """The classes, the numbers of each picture's labels, and whether it may have none or several."""

    classes: npt.NDArray[Any]
    numbers: list[list[int]]
    multilabel: bool = False


def _as_labels(y: Any) -> _Target:
    """The labels of `y`.

    Raises:
        UsageError: there are fewer than two classes, or two that are written alike.
        ValueError: these are not classes.
    """
    check_classification_targets(y)
    if type_of_target(y) == "multilabel-indicator":
        marks = np.asarray(y.todense() if hasattr(y, "todense") else y)
        return _Target(np.arange(marks.shape[1]), [np.flatnonzero(row).tolist() for row in marks], multilabel=True)
    classes, numbers = np.unique(column_or_1d(y, warn=True), return_inverse=True)
    if len(classes) < 2:
        raise UsageError(
            f"y has one class only: {', '.join(map(str, classes))}.", "A classifier needs pictures of at least two."
        )
    if classes.dtype.kind == "O" and not all(isinstance(name, str) for name in classes):
        raise UsageError("y mixes text and other things.", "Give classes of one kind: text, or numbers.")
    if len({composed(str(name)) for name in classes}) < len(classes):
        raise UsageError("Two classes of y are written alike.", "Give each class a name of its own.")
    return _Target(classes, [[number] for number in numbers.tolist()])


def _catalog(pictures: list[Picture], labels: _Target, folder: Path) -> Catalog:
    """The pictures as a catalog; those that are no files are written into a folder first, without loss.

    Raises:
        UnreadableError: the first that cannot be read.
    """
    from tellapart.data.scan import catalog_of

    folder.mkdir(parents=True)
    paths = [_as_file(number, picture, folder) for number, picture in enumerate(pictures)]
    names = [str(name) for name in labels.classes]
    origin = "pictures and labels were passed from Python"
    catalog = catalog_of(paths, labels.numbers, names, labels.multilabel, origin)
    for path, problem in catalog.table.select("path", "problem").iter_rows():
        if problem is not None:
            raise UnreadableError(str(catalog.root / path), problem)
    return catalog


def _as_file(number: int, picture: Picture, folder: Path) -> Path:
    if isinstance(picture, Path):
        return picture
    image = Image.fromarray(picture) if isinstance(picture, np.ndarray) else picture
    assert isinstance(image, Image.Image)
    path = folder / f"{number:06}.png"
    path.write_bytes(lossless_file(image))  # a TIFF at times: pictures are known by their content
    return path


def _train(estimator: PictureClassifier, catalog: Catalog, directory: Path) -> Run:
    from tellapart.recipe.load import load_recipe
    from tellapart.recipe.schema import Recipe
    from tellapart.workflows.train import train

    asked = estimator.recipe
    changes = list(estimator.changes or [])
    if isinstance(asked, Recipe) and changes:
        raise UsageError("Changes are for a recipe that is named.", "Change the `Recipe` itself, or give its file.")
    recipe = asked if isinstance(asked, Recipe) else load_recipe(asked, changes)
    update: dict[str, Any] = {"data": recipe.data.model_copy(update={"test": 0.0})}
    update |= {} if estimator.random_state is None else {"seed": int(estimator.random_state)}
    return train(catalog, None, recipe.model_copy(update=update), directory, progress=estimator.progress)


def _kind(classes: npt.NDArray[Any]) -> Any:
    return {"b": "bool", "i": "int", "u": "int", "f": "float"}.get(classes.dtype.kind, "str")


def _read_labels(file: Path, names: Sequence[str]) -> npt.NDArray[Any]:
    """The labels as they were.

    Raises:
        RunError: the file is damaged, or of another run.
    """
    try:
        labels = _Labels.model_validate(json.loads(file.read_bytes()))
        kinds = {"str": str, "bool": bool, "int": int, "float": float}
        classes: npt.NDArray[Any] = np.array([kinds[labels.kind](value) for value in labels.classes])
    except (ValueError, ValidationError) as error:
        raise RunError(f"{file} is damaged: {error}.", "Delete it: the labels are text then.") from error
    if [str(name) for name in classes] != list(names):
        raise RunError(f"{file} belongs to another model.", "Delete it: the labels are text then.")
    return classes
