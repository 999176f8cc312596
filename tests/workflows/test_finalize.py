"""What the end of a training says of its own scores."""

from __future__ import annotations

from tellapart.core.scores import Evaluation, Metric
from tellapart.data.scan import scan
from tellapart.data.splitting.split import split
from tellapart.workflows.finalize import _honesty_notes
from tellapart.workflows.progress import ProgressSink


def of_accuracy(on: str, right: int, n: int) -> Evaluation:
    return Evaluation(on, False, n, ("circle", "square"), {"accuracy": Metric(right / n, 0, 1, n)})


def test_a_validation_part_that_promises_too_much_is_called_so_with_reasons(picture_folder):
    photos = picture_folder("photos/train", classes=("circle", "square"), n=10)
    picture_folder("photos/test", classes=("circle", "square"), n=4, seed=1)
    catalog = scan(photos.parent)
    divided = split(catalog)
    evaluations = {"test": of_accuracy("test", 69, 100), "validation": of_accuracy("validation", 96, 100)}
    (note,) = ProgressSink().watch(_honesty_notes(catalog, divided, evaluations))
    assert note.startswith("Validation says 96.0 %, the test 69.0 %: more than chance allows (p < 0.001).")
    assert "photographs of one scene may stand in both" in note
    assert "--group-duplicates" in note
    alike = evaluations | {"validation": of_accuracy("validation", 71, 100)}
    assert ProgressSink().watch(_honesty_notes(catalog, divided, alike)) == []
