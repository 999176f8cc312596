"""Sets of classes, pictures of no known class, and averaging over copies, asked of bundles made by hand."""

from __future__ import annotations

import json
from functools import partial

import numpy as np
import pytest
from scipy.special import expit, softmax

from tellapart.data.augmentation.tta import copies
from tellapart.deploy.bundle.read import KNOWN, Bundle
from tellapart.deploy.output_formats import write_answers
from tellapart.deploy.predictor import Classifier, answers
from tellapart.errors import BundleError, UsageError
from tellapart.evaluation.fit_open_set import fit_known
from tellapart.evaluation.open_set import KnownClasses, OodScore

SETS = {"0.8": 0.5, "0.95": 0.1}


@pytest.fixture(scope="module")
def known() -> KnownClasses:
    """Pictures that are nearly red, green or blue."""
    random = np.random.default_rng(0)
    target = random.integers(0, 3, 300)
    return fit_known((np.eye(3)[target] + random.normal(0, 0.02, (300, 3))).astype(np.float32), target, 3)


def bundle_of(make_bundle, folder, known, by_default=True, **more) -> Bundle:
    ood_score = OodScore((1.0, 0.5), (0.01, 0.05), 6.0, 0.99, 200, by_default).as_dict()
    told = {"sets": SETS, "n_validation": 30, "ood_score": ood_score, **more}
    return Bundle.load(make_bundle(folder / "bundle", known=known, **told))


@pytest.fixture
def colours(make_bundle, tmp_path, known) -> Classifier:
    return Classifier(bundle_of(make_bundle, tmp_path, known))


def painted(red, green, blue):
    return np.broadcast_to(np.uint8([red, green, blue]), (8, 8, 3))


def test_what_is_unlike_all_classes_is_unknown(colours):
    answer = colours.predict(painted(255, 255, 255))
    assert (answer.label, answer.chosen) == ("unknown", ())
    assert answer.unknown.startswith("unlike all classes: its out-of-distribution score is")
    assert answer.ood_score > 6
    assert str(answer).startswith("unknown: unlike")
    assert [name for name, _ in answer.labels] == ["red", "green", "blue"]
    assert colours.predict(painted(255, 0, 0)).label == "red"
    assert colours.predict(painted(255, 0, 0)).ood_score < 6


def test_unknown_is_answered_only_where_it_is_wanted(make_bundle, tmp_path, known, colours):
    white = painted(255, 255, 255)
    plain = colours.predict(white, unknown=False)
    assert (plain.label, plain.unknown) == ("red", None)
    assert plain.ood_score > 6
    shy = Classifier(bundle_of(make_bundle, tmp_path / "shy", known, by_default=False))
    assert shy.predict(white).label == "red"
    assert shy.predict(white, unknown=True).label == "unknown"


def test_sets_hold_every_class_that_is_probable_enough(colours):
    pixels = painted(255, 235, 0)
    few, more = (colours.predict(pixels, coverage=c, unknown=False) for c in (0.8, 0.95))
    assert few.candidates == ("red",)
    assert more.candidates == ("red", "green")
    assert (more.label, str(more)) == ("red", "red or green")
    assert colours.predict(pixels).candidates == ()


@pytest.mark.parametrize(
    ("coverage", "said"),
    [
        (0.99, "at least 99 validation pictures; this model had 30"),
        (0.9, "no prediction sets of coverage 0.9"),
        (1.5, "between"),
    ],
)
def test_coverages_that_cannot_be_had_are_refused(colours, coverage, said):
    with pytest.raises(UsageError, match=said) as caught:
        colours.predict(painted(1, 2, 3), coverage=coverage)
    assert "0.8, 0.95" in caught.value.hint


def test_several_labels_have_neither_sets_nor_unknown(tagger):
    with pytest.raises(UsageError, match="one label a picture"):
        answers(tagger, [], coverage=0.95)
    with pytest.raises(UsageError, match="several labels"):
        answers(tagger, [], unknown=True)
    assert next(answers(tagger, [painted(255, 255, 255)])).ood_score is None


def test_an_older_bundle_answers_as_before_and_says_what_it_lacks(bundle):
    assert next(answers(bundle, [painted(255, 255, 255)])).label == "red"
    with pytest.raises(UsageError, match="did not learn what is known"):
        answers(bundle, [], unknown=True)
    with pytest.raises(UsageError, match=r"0\.95"):
        answers(bundle, [], coverage=0.95)


def test_copies_are_averaged_as_logits(make_bundle, tmp_path, known):
    """A picture with a red edge on the left: most crops lose some of it."""
    pixels = np.zeros((1, 8, 8, 3), np.uint8)
    pixels[:, :, :2, 0] = pixels[:, :, 2:, 1] = 255
    bundle = bundle_of(make_bundle, tmp_path, known, tta=3)
    expected = np.mean([bundle.predict_pixels(copy) for copy in copies(pixels, 3, flip=False)], axis=0)
    found, distance = bundle.predict_distance(pixels, n_copies=3)
    assert found == pytest.approx(expected, rel=1e-5)
    assert distance == pytest.approx(bundle.predict_distance(pixels)[1])
    by_default, none = (next(answers(bundle, [pixels[0]], tta=tta)) for tta in (None, 0))
    assert dict(by_default.labels)["red"] == pytest.approx(bundle.probabilities(expected)[0, 0], rel=1e-4)
    assert dict(none.labels)["red"] != dict(by_default.labels)["red"]


@pytest.mark.parametrize("multilabel", [False, True])
def test_copies_are_averaged_as_probabilities(make_bundle, tmp_path, multilabel):
    """The very mean of what the network gives for each copy, before any temperature."""
    pixels = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), np.uint8)
    labels = {"multilabel": True, "thresholds": [0.5] * 3} if multilabel else {}
    bundle = Bundle.load(make_bundle(tmp_path / "bundle", temperature=2.0, tta=3, tta_mean="probabilities", **labels))
    chance = expit if multilabel else partial(softmax, axis=-1)
    expected = np.mean(
        [chance(bundle.predict_pixels(copy).astype(float)) for copy in copies(pixels, 3, flip=False)], axis=0
    )
    found, _ = bundle.predict_distance(pixels, n_copies=3, mean="probabilities")
    np.testing.assert_allclose(chance(found.astype(float)), expected, rtol=1e-5)
    by_default, of_logits = (list(answers(bundle, pixels, tta_mean=mean)) for mean in (None, "logits"))
    logits = np.log(expected) if not multilabel else np.log(expected / (1 - expected))
    for answer, other, line in zip(by_default, of_logits, chance(logits / 2), strict=True):
        named = dict(answer.labels)
        assert [named[name] for name in bundle.classes] == pytest.approx(line, rel=1e-4)
        assert named != dict(other.labels)


def test_a_mean_that_cannot_be_had_is_refused(make_bundle, tmp_path, known):
    bundle = bundle_of(make_bundle, tmp_path, known)
    with pytest.raises(UsageError, match="no mean of 'votes'") as caught:
        answers(bundle, [], tta=2, tta_mean="votes")
    assert "logits and of probabilities" in caught.value.hint
    with pytest.raises(UsageError, match="changed copies of each picture, and there are none"):
        answers(bundle, [], tta_mean="probabilities")


def test_rows_for_programs_have_the_further_columns(colours, tmp_path):
    given = [
        colours.predict(painted(255, 255, 255)),
        colours.predict(painted(255, 235, 0), coverage=0.95, unknown=False),
    ]
    more = ("candidates", "ood_score", "unknown")
    for form in ("jsonl", "csv", "parquet", "table"):
        write_answers(given, form, 1, tmp_path / form, more)
    first, second = map(json.loads, (tmp_path / "jsonl").read_text().splitlines())
    assert (first["label"], second["candidates"]) == ("unknown", ["red", "green"])
    assert first["unknown"].startswith("unlike")
    assert second["unknown"] is None
    header, _, line = (tmp_path / "csv").read_text().splitlines()
    assert header == "path,label,certainty,problem,candidates,ood_score,unknown"
    assert "red or green" in line
    assert "unlike all classes" in (tmp_path / "table").read_text()
    with pytest.raises(UsageError, match="no columns mood"):
        write_answers(given, "csv", 1, tmp_path / "x", ("mood",))


def test_a_damaged_file_of_what_is_known_is_an_error(make_bundle, tmp_path, known):
    bundle = bundle_of(make_bundle, tmp_path, known)
    (bundle.folder / KNOWN).write_bytes(b"nothing of the kind")
    with pytest.raises(BundleError, match=r"known\.safetensors"):
        Bundle.load(bundle.folder)
    with pytest.raises(BundleError, match=r"known\.safetensors"):
        bundle.known  # noqa: B018
