"""Every static page, checked by axe in a browser: contrast, names, headings, keyboard; light and dark, all unfolded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import sync_playwright

import tellapart as ta
from tellapart.core.predictions import Predictions
from tellapart.report.answers import Answers
from tellapart.report.blocks import Page, Section
from tellapart.report.curves import curves
from tellapart.report.page import write_page, write_report
from tellapart.report.run_data import ReportData
from tellapart.report.sections.audit import audit_page
from tellapart.report.sections.curves_page import Compared, compared_page
from tellapart.report.sections.galleries import right_galleries, wrong_galleries
from tellapart.report.sections.study_page import study_page
from tellapart.report.thumbnail import thumbnails_of
from tests.report.conftest import make_events, make_jpeg
from tests.report.sections.test_study_page import cell, details, summary

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
        ("study", study_page(details(summary(cell(0, 0.7), cell(1, 0.9, "better", leading=True)))), make_jpeg),
    ):
        write_page(page, folder / f"{name}.html", jpeg)
        written.append(folder / f"{name}.html")
    return written


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
