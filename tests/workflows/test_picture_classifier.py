"""The estimator for scikit-learn: what it takes, what it answers, and how it lives in pipelines, searches and files."""

from __future__ import annotations

import gc
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import estimator_checks_generator

import tellapart as ta
from tellapart.errors import UnreadableError, UsageError
from tellapart.workflows.picture_classifier import LABELS_FILE, PictureClassifier

pytestmark = pytest.mark.usefixtures("short_ends")

RECIPE = ta.Recipe.model_validate(
    {
        "data": {"size": 16, "validation": 0.3},
        "model": {"name": "mlp", "pretrained": False},
        "stages": [{"epochs": 2, "lr": 1e-3}],
        "evaluation": {"explain": False},
    }
)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory, pictures_at: Callable[..., Path]) -> list[Path]:
    """Pictures of three classes, sorted by class."""
    return sorted(pictures_at(tmp_path_factory.mktemp("estimator") / "photos", n=8).glob("*/*.png"))


@pytest.fixture(scope="module")
def fitted(short_ends: None, photos: list[Path]) -> PictureClassifier:
    """Fitted to paths; the classes are numbers, not in the order of their names."""
    return PictureClassifier(RECIPE, random_state=3).fit(photos, [30 - 10 * (i // 8) for i in range(24)])


def labels(photos: list[Path]) -> list[str]:
    return [path.parent.name for path in photos]


def test_paths_arrays_and_pillow_images_have_the_same_answers(fitted: PictureClassifier, photos: list[Path]) -> None:
    opened = [Image.open(path) for path in photos]
    pixels = np.stack([np.asarray(image) for image in opened])
    wanted = fitted.predict_proba(photos)
    assert wanted.shape == (24, 3)
    assert np.allclose(wanted.sum(axis=1), 1)
    for others in (opened, list(pixels), pixels, np.array([str(path) for path in photos])[:, None]):
        assert np.array_equal(fitted.predict_proba(others), wanted)


def test_classes_keep_order_and_type_and_the_answer_is_the_most_probable(
    fitted: PictureClassifier, photos: list[Path]
) -> None:
    assert fitted.classes_.tolist() == [10, 20, 30]
    answers = fitted.predict(photos)
    assert answers.dtype == np.int64
    assert np.array_equal(answers, fitted.classes_[fitted.predict_proba(photos).argmax(axis=1)])
    assert fitted.score(photos, answers) == 1
    # The run's own classifier says the same: a class is found by its name.
    single = ta.load(fitted.run_.directory).predict(photos[5], unknown=False)
    assert single.label == str(answers[5])


def test_pictures_in_memory_are_trained_on_without_loss(photos: list[Path]) -> None:
    pixels = [np.asarray(Image.open(path)) for path in photos]
    mixed = [*pixels[:10], pixels[10][..., 0], *(Image.open(path) for path in photos[11:20]), *photos[20:]]
    model = PictureClassifier(RECIPE).fit(mixed, labels(photos))
    catalog = model.run_.catalog
    trained = [np.asarray(Image.open(catalog.path(row))) for row in range(24)]
    assert np.array_equal(trained[10], np.repeat(pixels[10][..., :1], 3, axis=2))
    assert all(np.array_equal(trained[i], pixels[i]) for i in range(24) if i != 10)
    assert catalog.target().tolist() == [i // 8 for i in range(24)]


def test_no_picture_is_kept_from_training_for_a_test(fitted: PictureClassifier) -> None:
    split = fitted.run_.split
    assert len(split.test) == 0
    assert len(split.train) + len(split.validation) == 24
    assert fitted.run_.recipe.seed == 3


def test_saving_keeps_the_run_and_no_pickle(fitted: PictureClassifier, photos: list[Path], tmp_path: Path) -> None:
    run = fitted.save(tmp_path / "kept")
    assert run.finished
    assert all(b"\x80\x04" not in path.read_bytes()[:2] for path in run.directory.rglob("*") if path.is_file())
    loaded = PictureClassifier.load(tmp_path / "kept")
    assert loaded.classes_.tolist() == [10, 20, 30]
    assert np.array_equal(loaded.predict_proba(photos), fitted.predict_proba(photos))
    assert clone(loaded).recipe == run.recipe
    with pytest.raises(ta.TellapartError, match="exists"):
        fitted.save(tmp_path / "kept")
    # Without the file of labels it is a run as any other, whose classes are text.
    (run.directory / LABELS_FILE).unlink()
    assert PictureClassifier.load(tmp_path / "kept").classes_.tolist() == ["10", "20", "30"]


@pytest.mark.parametrize(
    "text", ["{", '{"kind": "int", "classes": [1, 2, 3]}', '{"kind": "int", "classes": ["os"]}', "[]"]
)
def test_a_damaged_file_of_labels_is_refused(fitted: PictureClassifier, tmp_path: Path, text: str) -> None:
    run = fitted.save(tmp_path / "kept")
    (run.directory / LABELS_FILE).write_text(text)
    with pytest.raises(ta.TellapartError, match=LABELS_FILE):
        PictureClassifier.load(run.directory)


def test_a_copy_in_another_process_carries_the_bundle_and_folders_go_with_their_estimator(
    fitted: PictureClassifier, photos: list[Path]
) -> None:
    copy = pickle.loads(pickle.dumps(fitted))
    folder = copy.run_.directory
    assert folder != fitted.run_.directory
    assert np.array_equal(copy.predict_proba(photos), fitted.predict_proba(photos))
    assert folder.is_dir()
    del copy
    gc.collect()
    assert not folder.exists()
    assert fitted.run_.report.is_file()


def test_a_search_over_changes_of_the_recipe_in_a_pipeline(photos: list[Path], tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text(RECIPE.to_toml())
    bright = FunctionTransformer(lambda paths: [Image.open(path).convert("L") for path in paths])
    pipeline = make_pipeline(bright, PictureClassifier(tmp_path / "recipe.toml"))
    grid = {"pictureclassifier__changes": [["stages.0.epochs=1"], ["stages.0.epochs=2"]]}
    odd = [(list(range(0, 24, 2)), list(range(1, 24, 2)))]
    search = GridSearchCV(pipeline, grid, cv=odd, error_score="raise", refit=False).fit(photos, labels(photos))
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_several_labels_are_columns_of_zero_and_one(photos: list[Path]) -> None:
    target = np.array([[i // 8 == 0, i % 2, i // 8 == 2] for i in range(24)], int)
    model = PictureClassifier(RECIPE).fit(photos, target)
    assert model.run_.catalog.multilabel
    assert np.array_equal(model.run_.catalog.target(), target)
    assert model.predict(photos).shape == model.predict_proba(photos).shape == (24, 3)
    assert set(np.unique(model.predict(photos))) <= {0, 1}
    assert 0 <= model.score(photos, target) <= 1


def test_mistakes_are_said_in_words(fitted: PictureClassifier, photos: list[Path], tmp_path: Path) -> None:
    new = PictureClassifier(RECIPE)
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    with pytest.raises(NotFittedError):
        new.predict(photos)
    with pytest.raises(UsageError, match="one picture"):
        fitted.predict(photos[0])
    with pytest.raises(UsageError, match=r"X\[0\] is not a picture: float64"):
        fitted.predict(np.zeros((2, 8, 8, 3)))
    with pytest.raises(UsageError, match=r"X\[1\] is not a picture: int"):
        fitted.predict([photos[0], 7])
    with pytest.raises(UsageError, match="no list of pictures"):
        fitted.predict(7)
    with pytest.raises(UnreadableError, match=r"broken\.png"):
        fitted.predict([photos[0], broken])
    with pytest.raises(UnreadableError, match=r"broken\.png"):
        new.fit([*photos, broken], [*labels(photos), "circle"])
    with pytest.raises(UnreadableError, match=r"nowhere\.png"):
        new.fit([*photos, tmp_path / "nowhere.png"], [*labels(photos), "circle"])
    with pytest.raises(UsageError, match="one class only: circle"):
        new.fit(photos[:4], ["circle"] * 4)
    with pytest.raises(ValueError, match="inconsistent"):
        new.fit(photos, ["circle"])
    with pytest.raises(UsageError, match="written alike"):
        new.fit(photos[:2], ["caf\u00e9", "cafe\u0301"])
    with pytest.raises(UsageError, match="Changes are for"):
        PictureClassifier(RECIPE, changes=["seed=1"]).fit(photos, labels(photos))
    assert fitted.predict([]).shape == (0,)


ONE_TRAINING = {
    "check_estimators_fit_returns_self",
    "check_dont_overwrite_parameters",
    "check_estimators_overwrite_params",
    "check_readonly_memmap_input",
    "check_estimators_pickle",
    "check_n_features_in_after_fitting",
    "check_methods_sample_order_invariance",
    "check_methods_subset_invariance",
    "check_dict_unchanged",
    "check_fit_check_is_fitted",
}
NO_TRAINING = {
    "check_estimator_cloneable",
    "check_estimator_tags_renamed",
    "check_valid_tag_types",
    "check_estimator_repr",
    "check_no_attributes_set_in_init",
    "check_estimators_unfitted",
    "check_do_not_raise_errors_in_init_or_set_params",
    "check_mixin_order",
    "check_complex_data",
    "check_estimators_empty_data_messages",
    "check_estimator_sparse_array",
    "check_parameters_default_constructible",
    "check_get_params_invariance",
    "check_set_params",
    "check_classifiers_regression_target",
    "check_supervised_y_no_nan",
    "check_requires_y_none",
    "check_fit1d",
}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
@pytest.mark.parametrize("names", [NO_TRAINING, pytest.param(ONE_TRAINING, marks=pytest.mark.slow)])
def test_checks_of_scikit_learn(names: set[str]) -> None:
    """Those that need few trainings: benchmarks/estimator_checks.py has all of them, and lists those that fail."""
    from benchmarks.estimator_checks import RECIPE as SMALL
    from benchmarks.estimator_checks import OfRows

    passed = set()
    for estimator, check in estimator_checks_generator(OfRows(SMALL)):
        name = getattr(check, "func", check).__name__
        if name in names:
            check(estimator)
            passed.add(name)
    assert passed == names
