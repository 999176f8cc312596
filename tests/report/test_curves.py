import math
import re
from typing import Any

import pytest

from tellapart.report.curve_bands import Banded, banded
from tellapart.report.curves import above_sentence, curves, loss_top
from tellapart.report.sections.band_charts import pair, together
from tellapart.report.sections.curves import training_section

RUNTIME = {"device": "cpu", "precision": "bfloat16", "why": "float32 9 ms, bfloat16 7 ms"}


def validated(stage: int, epoch: int, loss: float = 1.0, best: bool = False, **other: Any) -> dict[str, Any]:
    return {
        "event": "Validated",
        "stage": stage,
        "epoch": epoch,
        "epochs": 9,
        "train_loss": loss,
        "validation_loss": loss + 1,
        "train_accuracy": 0.5,
        "validation_accuracy": 0.4,
        "lrs": [0.1, 0.2],
        "best": best,
        "seconds": 2.0,
    } | other


def test_stages_follow_each_other() -> None:
    events = [
        {"event": "StageStarted", "stage": 0, "name": "head", "description": "trains the head", "runtime": RUNTIME},
        validated(0, 1, 0.9, best=True),
        validated(0, 2, 0.8, best=True),
        {"event": "StageDone", "stage": 0, "epochs": 2, "best_epoch": 2, "reason": "all epochs done"},
        validated(1, 1, 0.7, best=True),
        validated(1, 2, 0.6),
    ]
    course = curves(events)
    assert course.epoch == (1, 2, 3, 4)
    assert course.train_loss == (0.9, 0.8, 0.7, 0.6)
    assert course.best == 3
    first, second = course.stages
    assert (first.name, first.start, first.end, first.best) == ("head", 0, 2, 2)
    assert first.runtime == "bfloat16 on cpu (float32 9 ms, bfloat16 7 ms)"
    assert second.runtime == ""
    assert (first.description, first.reason, first.seconds) == ("trains the head", "all epochs done", 4.0)
    assert (second.name, second.start, second.end, second.best) == ("stage 2", 2, 4, 3)
    assert course.lr_at == (0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4)
    assert course.total_seconds == 8


def test_preparation_and_epochs_are_timed_apart() -> None:
    events = [
        {"event": "StageStarted", "stage": 0, "seconds": 3.0},
        validated(0, 1, seconds=9.5, preparation=20.0),
        validated(0, 2, seconds=2.5),
        validated(0, 3, seconds=2.0),
        validated(0, 4, seconds=60.0),  # the machine had other things to do
        {"event": "StageStarted", "stage": 1, "seconds": 0.5},
        {"event": "BeginsFrom", "stage": 1, "seconds": 0.25},
        validated(1, 1, seconds=7.0),
    ]
    course = curves(events)
    first, second = course.stages
    assert (first.preparation, first.epoch_seconds, first.seconds) == (30.0, 2.5, 67.0)  # 7 s to decode
    assert (second.preparation, second.epoch_seconds, second.seconds) == (0.75, 7.0, 7.0)  # the only one
    assert (course.preparation, course.epoch_seconds, course.total_seconds) == (30.75, 2.5, 74.0)


def test_an_epoch_done_again_after_a_resume_counts_once() -> None:
    course = curves([validated(0, 1, 0.9), validated(0, 2, 0.8), validated(0, 2, 0.5), validated(0, 3, 0.4)])
    assert course.train_loss == (0.9, 0.5, 0.4)


@pytest.mark.parametrize("missing", [None, math.nan])
def test_a_training_without_validation_has_gaps(missing: float | None) -> None:
    course = curves([validated(0, 1, validation_loss=missing, validation_accuracy=missing, best=False, seconds=None)])
    assert math.isnan(course.validation_loss[0])
    assert course.best is None
    assert course.total_seconds == 0


def test_many_rates_are_thinned_out_but_the_last_is_kept() -> None:
    lrs = [i / 10_000 for i in range(10_000)]
    course = curves([validated(0, 1, lrs=lrs)])
    assert len(course.lr) <= 801
    assert course.lr[-1] == lrs[-1]
    assert course.lr_at[-1] == 1


def test_no_events_no_curves() -> None:
    course = curves([])
    assert course.epoch == ()
    assert course.stages == ()


@pytest.mark.parametrize(("multilabel", "name"), [(False, "Accuracy"), (True, "Label accuracy")])
def test_accuracies_are_called_what_they_are(multilabel: bool, name: str) -> None:
    started = {"event": "StageStarted", "stage": 0, "multilabel": multilabel}
    assert curves([started, validated(0, 1)]).accuracy_name == name


# Epochs that diverged


@pytest.mark.parametrize(
    ("losses", "top"),
    [
        ([1.0, 0.9, 400.0, 0.8], 2.0),  # the validation loss is higher by one
        ([1.0, 0.9, 400.0, 300.0, 0.8, 0.7, 0.6, 0.5], 2.0),
        ([400.0, 0.9, 0.8, 0.7], 1.9),  # in the very first epoch
        ([6.0, 0.05, 0.04, 0.03], math.inf),  # a first epoch is high
        ([1.0, 0.9, 3.0, 0.8], math.inf),
        ([1.0, 400.0, 500.0, 600.0], math.inf),  # half of it: there is nothing else to show
        ([400.0], math.inf),
        ([], math.inf),
    ],
)
def test_a_chart_ends_below_the_losses_of_epochs_that_diverged(losses: list[float], top: float) -> None:
    course = curves([validated(0, i, loss) for i, loss in enumerate(losses, start=1)])
    assert loss_top(course) == pytest.approx(top)
    assert bool(above_sentence(course, loss_top(course))) is math.isfinite(top)
    if losses:
        loss = training_section(course).blocks[0 if course.best is None else 1].blocks[0]
        assert ("Cut off" in loss.caption) is math.isfinite(top)
        assert ('class="above"' in loss.svg) is math.isfinite(top)


def test_epochs_that_diverged_are_named_and_the_axis_shows_the_others() -> None:
    course = curves([validated(0, i, loss) for i, loss in enumerate([1.0, 0.9, 400.0, 0.8], start=1)])
    loss = training_section(course).blocks[0].blocks[0]
    assert loss.caption.endswith(
        "may still help. Cut off at its upper edge, where arrow heads stand: epoch 3: training 400, validation 401."
    )
    assert loss.svg.count('class="above"') == 2
    assert re.search(r">2\.\d+<", loss.svg)
    assert ">400<" not in loss.svg  # no tick
    assert "training 400, validation 401" in loss.svg  # but on hover


def test_a_training_that_diverged_hides_no_other_on_their_common_axis() -> None:
    """Both are there without the epoch that diverged, and the other one as a whole."""
    one = curves([validated(0, i, loss) for i, loss in enumerate([1.0, 0.9, 400.0, 0.8], start=1)])
    other = curves([validated(0, i, loss) for i, loss in enumerate([3.0, 2.0, 1.5, 1.0], start=1)])
    assert loss_top(one, other) == pytest.approx(4.0)
    assert loss_top(other, other) == math.inf


def banded_of(*losses: list[float]) -> list[tuple[str, str, Banded]]:
    epochs = [
        [{"training_loss": loss, "validation_loss": loss, "validation_accuracy": 0.5} for loss in line]
        for line in losses
    ]
    return [(f"{i}", f"setting {i}", banded([line], 0)) for i, line in enumerate(epochs, start=1)]


@pytest.mark.parametrize(
    ("losses", "above"),
    [
        ([[1.0, 0.9, 0.8, 0.7], [1.0, 0.9, 400.0, 0.8]], "2 up to 400"),  # an epoch
        ([[1.0, 0.9, 0.8, 0.7], [1.0, 0.9, 0.8, 0.7], [90.0, 95.0, 85.0, 99.0]], "3 up to 99"),  # a whole setting
        ([[1.0, 0.9, 0.8, 0.7], [3.0, 2.0, 1.0, 0.9]], ""),
    ],
)
def test_bands_end_below_what_diverged(losses: list[list[float]], above: str) -> None:
    chart = together(banded_of(*losses))[1]
    assert chart.title == "Validation loss"
    finding, _, cut = chart.caption.partition(" Arrow heads: ")
    assert finding == "Lowest: 1 (setting 1), 0.7 at epoch 4."
    assert cut == (f"losses far above the others ({above})." if above else "")
    assert ('class="above"' in chart.svg) is bool(above)
    assert re.search(r">1(\.\d+)?<", chart.svg)  # a tick near what can be read


def test_a_small_panel_of_losses_ends_below_them_too() -> None:
    name, _, course = banded_of([1.0, 0.9, 400.0, 0.8])[0]
    loss = pair(name, course).blocks[-1]
    assert loss.caption.endswith("Arrow heads: losses far above the others (train up to 400; val up to 400).")
