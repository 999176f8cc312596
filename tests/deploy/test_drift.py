"""From `predict --monitor` to `drift`: what is said of new pictures beside those of validation."""

import json
from dataclasses import replace

import numpy as np
import pytest

from tellapart.core.predictions import Predictions
from tellapart.deploy.answer import Answer
from tellapart.deploy.bundle.read import Bundle
from tellapart.deploy.monitor import Monitor
from tellapart.deploy.predictor import answers
from tellapart.errors import RunError, UsageError
from tellapart.evaluation.evaluate import evaluate_predictions
from tellapart.evaluation.open_set import KnownClasses, OodScore
from tellapart.evaluation.reliability import reliability
from tellapart.runs.run import Run
from tellapart.workflows.drift import drift

KNOWN = KnownClasses(np.eye(3, dtype=np.float32), np.empty((3, 0), np.float32), np.empty(0, np.float32), 1.0)
SCORE = OodScore((0.0, 1.0), (0.0, 1.0), 0.5, 0.99, 300)


def pictures(shares, n, seed=0):
    """One-coloured pictures of red, green and blue in these shares."""
    rng = np.random.default_rng(seed)
    colours = np.eye(3)[rng.choice(3, n, p=shares)] * rng.integers(60, 256, (n, 1))
    return [np.full((8, 8, 3), colour, np.uint8) for colour in colours]


@pytest.fixture(scope="module")
def run(make_bundle, tmp_path_factory) -> Run:
    """A finished run as far as `drift` needs it: a bundle, its answers to 300 validation pictures, its evaluation."""
    run = Run(tmp_path_factory.mktemp("drift") / "run")
    make_bundle(run.bundle, known=KNOWN, ood_score=SCORE.as_dict(), temperature=2.0)
    (run.directory / "recipe.toml").touch()
    bundle = Bundle.load(run.bundle)
    logits = bundle.predict_pixels(np.stack(pictures((0.4, 0.3, 0.3), 300)))
    predictions = Predictions.of(np.arange(300), logits, logits.argmax(1), bundle.classes)
    run.predictions_file("validation").parent.mkdir()
    predictions.save(run.predictions_file("validation"))
    accepted = {"value": 0.99, "low": 0.97, "high": 1.0, "n": 300}
    reliable = {"before": reliability(predictions).as_dict(), "after": reliability(predictions, 2.0).as_dict()}
    values = {
        "certainty": {"validation": {**reliable, "unknown": {"accepted": accepted}}},
        "temperature": 2.0,
        "thresholds": None,
        "ood_score": SCORE.as_dict(),
        "evaluations": {"validation": evaluate_predictions(predictions, on="validation").as_dict()},
    }
    run.write_json(run.evaluation_file, values)
    return run


def monitored(run, path, given, n_odd=0):
    bundle = Bundle.load(run.directory)
    list(Monitor(path, bundle, n_odd).counting(answers(bundle, given, top=1)))
    return drift(run.directory, path)


def test_pictures_like_those_of_validation_are_said_to_be_so(run, tmp_path):
    found = monitored(run, tmp_path / "m.json", pictures((0.4, 0.3, 0.3), 200, seed=1))
    assert [each.name for each in found.differences] == ["unknown", "certainty", "classes"]
    assert found.verdict == "No difference from validation is beyond chance."
    assert not found.drifted
    assert (found.n, found.n_validation, found.notes) == (200, 300, ())


def test_other_shares_of_classes_are_found_and_said_in_words(run, tmp_path):
    found = monitored(run, tmp_path / "m.json", pictures((0.05, 0.15, 0.8), 200, seed=1))
    assert found.drifted
    assert "shares of classes" in found.verdict
    assert "blue 80" in found.text() or "blue 7" in found.text() or "blue 8" in found.text()
    assert "instead of" in found.text()
    assert json.loads(json.dumps(found.as_dict()))["drifted"] is True


def test_certainty_is_that_of_the_answers_to_validation(run, tmp_path):
    bundle = Bundle.load(run.directory)
    found = monitored(run, tmp_path / "m.json", pictures((0.4, 0.3, 0.3), 300))
    given = [a.certainty for a in answers(bundle, pictures((0.4, 0.3, 0.3), 300))]
    assert found.certainty == pytest.approx([np.mean(given)] * 2, abs=0.025)
    assert [each.distance for each in found.differences[1:]] == [0, 0]


def test_strange_pictures_are_unknown_and_their_names_are_shown(run, tmp_path):
    bundle = Bundle.load(run.directory)
    strange = [
        Answer(f"odd/{number}.png", (), (("red", 0.4),), 0.4, ood_score=number + 1.0, unknown="far")
        for number in range(50)
    ]
    list(Monitor(tmp_path / "m.json", bundle, 12).counting(strange))
    found = drift(run.directory, tmp_path / "m.json")
    assert found.differences[0].proven
    assert "100.0 % are unlike all classes, instead of 1.0 %" in found.text()
    assert "odd/49.png" in found.text()
    assert "odd/39.png" not in found.text()
    assert any("only a large difference" in note for note in found.notes)


def test_what_cannot_be_compared_is_an_error_for_people_or_a_note(run, tmp_path):
    with pytest.raises(UsageError, match="does not exist"):
        drift(run.directory, tmp_path / "nothing")
    with pytest.raises(UsageError, match="no answers yet"):
        monitored(run, tmp_path / "m.json", [])
    with pytest.raises(RunError):
        drift(tmp_path, tmp_path / "m.json")


def test_without_an_out_of_distribution_score_the_rest_is_compared(run, tmp_path, monkeypatch):
    loaded = Bundle.load(run.directory)
    monkeypatch.setattr(Bundle, "load", classmethod(lambda cls, path: replace(loaded, ood_score=None)))
    found = monitored(run, tmp_path / "m.json", pictures((0.4, 0.3, 0.3), 150, seed=1))
    assert [each.name for each in found.differences] == ["certainty", "classes"]
    assert "no out-of-distribution score" in found.notes[0]
