"""What values show in a notebook: well-formed HTML in which names are text."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import polars as pl
import pytest

from tellapart.auditing.findings import Audit
from tellapart.core.notebook import html_table
from tellapart.core.predictions import Predictions
from tellapart.core.text import percent
from tellapart.data.catalog import Catalog
from tellapart.runs.run import Run

RUNS = Path(__file__).parents[1] / "compatibility" / "v0_1" / "runs"


def text_of(html: str) -> str:
    return " ".join("".join(ElementTree.fromstring(f"<x>{html}</x>").itertext()).split())


def test_names_are_text() -> None:
    html = html_table("<b>title", ["a&b"], [("<script>", "\x1b[31m")] * 50, ["", "note"])
    assert "<script>" not in html
    assert "\x1b" not in html
    shown = text_of(html)
    assert shown.count("<script>") == 40
    assert shown.endswith("… and 10 morenote")


@pytest.mark.parametrize("name", ["plain", "labels"])
def test_a_run_and_what_it_holds(name: str) -> None:
    run = Run(RUNS / name)
    if not run.started:
        pytest.skip("no such run of version 0.1")
    on, evaluation = next(iter(run.evaluations.items()))
    assert percent(evaluation.headline[1].value).replace("\u202f", " ") in text_of(evaluation._repr_html_())
    assert on in text_of(run._repr_html_())
    catalog: Catalog = run.catalog
    shown = text_of(catalog._repr_html_())
    assert all(text in shown for text in catalog.classes)
    assert f"training{len(run.split.train)}" in text_of(run.split._repr_html_()).replace(" ", "").replace(",", "")
    assert text_of(Audit(catalog, ())._repr_html_()).startswith("0 findings in")


@pytest.mark.parametrize("name", ["plain", "labels"])
def test_the_predictions_as_a_table(name: str) -> None:
    run = Run(RUNS / name)
    if not run.started:
        pytest.skip("no such run of version 0.1")
    on = next(iter(run.evaluations))
    predictions, table = run.predictions(on), run.predictions_table(on)
    assert table["row"].to_list() == predictions.row.tolist()
    assert table["file"].to_list() == [run.catalog.name(row) for row in predictions.row]
    if not predictions.multilabel:
        answers = [predictions.classes[k] for k in predictions.logits.argmax(axis=1)]
        assert table["answers"].list.first().to_list() == answers
        assert table["certainty"].to_list() == pytest.approx(
            table.select(predictions.classes).max_horizontal().to_list()
        )
    right = table.select((pl.col("labels") == pl.col("answers")).mean()).item()
    accuracy = run.evaluations[on].metrics.get("accuracy")
    assert accuracy is None or right == pytest.approx(accuracy.value)


def test_predictions_as_plain_values() -> None:
    made = Predictions.of([4, 2], [[1.0, 0.0], [0.0, 1.0]], [0, 1], ("a", "b"))
    assert made.to_dict() == {
        "classes": ["a", "b"],
        "row": [2, 4],
        "target": [1, 0],
        "logits": [[0.0, 1.0], [1.0, 0.0]],
    }
    some = Predictions.of([1], [[1.0, 0.0]], np.array([[1, 0]]), ("a", "b"), np.array([[False, True]]))
    assert some.to_dict()["unknown"] == [[False, True]]
