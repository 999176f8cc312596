"""Every static page, checked by axe in a browser: contrast, names, headings, keyboard; light and dark, all unfolded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import sync_playwright

import tellapart as ta
from tellapart.core.predictions import Predictions
from tellapart.evaluation.compare import compare
from tellapart.evaluation.comparison import Answered, Comparison, Contender
from tellapart.report.answers import Answers
from tellapart.report.blocks import Page, Section
from tellapart.report.curve_bands import banded
from tellapart.report.curves import curves
from tellapart.report.page import write_page, write_report
from tellapart.report.run_data import ReportData
from tellapart.report.sections.audit import audit_page
from tellapart.report.sections.comparison_page import ComparisonDetails, comparison_page
from tellapart.report.sections.curves_page import Compared, compared_page
from tellapart.report.sections.galleries import right_galleries, wrong_galleries
from tellapart.report.sections.study_page import study_page
from tellapart.report.thumbnail import thumbnails_of
from tests.report.conftest import make_events, make_jpeg
from tests.report.sections.test_study_page import charts_of, whole_study

axe = pytest.importorskip("axe_playwright_python.sync_playwright")


def pages(folder: Path, make_data: Callable[..., ReportData], pictures: Path) -> list[Path]:
    """One page of each kind."""
    written = [write_report(make_data(next_step="look at the head", then=[("ask", "tellapart predict x y")]), folder)]
    audit = ta.audit(pictures)
    runs = [Compared(f"runs/{i}", curves(make_events((("", 5 + i, 1e-2),))), {"lr": str(i)}) for i in range(2)]
    data = make_data()
    assert isinstance(data.predictions, Predictions)
    answers = Answers(data.predictions, data.pictures.name)
    errors = Section("wrong", "Wrong", [*wrong_galleries(answers), *right_galleries(answers)])
    for name, page, jpeg in (
        ("audit", audit_page(audit), thumbnails_of(audit.catalog)),
        ("errors", Page("Errors", ["of a run"], [errors]), make_jpeg),
        ("curves", compared_page(runs, ["A note."]), make_jpeg),
        ("study", study_page(whole_study()), make_jpeg),
        ("compare", comparison_page(*compared()), make_jpeg),
    ):
        write_page(page, folder / f"{name}.html", jpeg)
        written.append(folder / f"{name}.html")
    return written


def compared() -> tuple[Comparison, ComparisonDetails]:
    """Two classifiers of the same pictures, one of which is better, and what the page says of them."""
    target = np.arange(120) % 3
    answers = []
    for n_wrong in (30, 4):
        logits = np.zeros((len(target), 3), np.float32)
        logits[np.arange(len(target)), np.where(np.arange(len(target)) < n_wrong, (target + 1) % 3, target)] = 3
        answers.append(Predictions.of(np.arange(len(target)), logits, target, ("cherry", "strawberry", "tomato")))
    contenders = [Contender(f"runs/{i}", (Answered(each, 1.0, None),)) for i, each in enumerate(answers)]
    shown = [Answers(each, lambda row: f"pictures/{row}.jpg") for each in answers]
    bands = banded([[{"training_loss": 1.0, "validation_loss": 1.1, "validation_accuracy": 0.5}]], 1)
    return compare(contenders, "accuracy"), ComparisonDetails("test", shown, {"lr": ["1", "2"]}, curves=[bands, bands])


def test_a_comparison_says_its_finding_and_has_its_numbers() -> None:
    page = comparison_page(*compared())
    assert page.subtitle[1:] == ["A = runs/0", "B = runs/1"]
    charts = charts_of([block for section in page.sections for block in section.blocks])
    assert charts[0].caption.startswith("B − A +21.67: proven better.")
    assert all(chart.table is not None and chart.caption for chart in charts)


@pytest.mark.slow
def test_axe_finds_nothing_on_any_page(
    make_data: Callable[..., ReportData], picture_folder: Callable[..., Path], tmp_path: Path, chromium: str
) -> None:
    paths = pages(tmp_path, make_data, picture_folder(n=6))
    problems: list[Any] = []
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        for scheme in ("light", "dark"):
            # The pages' own policy refuses every script but theirs, so axe's too.
            context = browser.new_context(color_scheme=scheme, bypass_csp=True)
            context.set_default_timeout(120_000)
            for path in paths:
                tab = context.new_page()
                tab.goto(path.as_uri())
                tab.evaluate("document.querySelectorAll('details').forEach((part) => (part.open = true))")
                found = axe.Axe().run(tab).response["violations"]
                problems += [(path.name, scheme, one["id"], one["nodes"][0]["html"][:200]) for one in found]
                tab.close()
        browser.close()
    assert problems == []


@pytest.mark.slow
def test_a_term_opens_by_key_and_by_touch(make_data: Callable[..., ReportData], tmp_path: Path, chromium: str) -> None:
    path = write_report(make_data(next_step="the head", then=[]), tmp_path)
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        context = browser.new_context(has_touch=True, viewport={"width": 390, "height": 800})
        context.set_default_timeout(120_000)
        tab = context.new_page()
        tab.goto(path.as_uri())
        term = tab.locator("#next .term")
        term.focus()
        tab.keyboard.press("Enter")
        assert tab.is_visible("#term-head")
        tab.keyboard.press("Escape")
        assert not tab.is_visible("#term-head")
        term.tap()
        assert tab.is_visible("#term-head")
        assert tab.evaluate("document.documentElement.scrollWidth") <= 390
        browser.close()
