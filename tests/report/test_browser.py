"""The page in a real browser: what is clicked, pressed and seen."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tellapart.evaluation.study_summary import FactorEffect, LevelEffect, Span
from tellapart.report.page import write_page, write_report
from tellapart.report.run_data import ReportData
from tellapart.report.sections.study_page import study_page
from tests.report.sections.test_study_page import cell, details, summary

Make = Callable[..., ReportData]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    with playwright.sync_playwright() as p:
        started = p.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield started
        started.close()


class Opened:
    """A page, with everything it said and asked for."""

    def __init__(self, browser: Any, path: Path, width: int = 1400, **context: Any) -> None:
        self.context = browser.new_context(viewport={"width": width, "height": 800}, **context)
        self.context.set_default_timeout(120_000)  # milliseconds, on a machine that may be busy
        self.page = self.context.new_page()
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("dialog", lambda dialog: self.said.append(dialog.message))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(path.as_uri())

    def value(self, script: str) -> Any:
        return self.page.evaluate(script)

    def close(self) -> None:
        self.context.close()
        assert self.said == []
        assert all(url.startswith(("file:", "data:")) for url in self.asked)


def test_a_click_on_a_cell_shows_its_pictures(browser: Any, make_data: Make, tmp_path: Path) -> None:
    data = make_data()
    opened = Opened(browser, write_report(data, tmp_path))
    page = opened.page
    assert data.evaluation is not None
    n = data.evaluation.confusion[0][1]
    page.click('.matrix [data-key="0-1"]')
    assert page.inner_text(".panel h3") == "Cherry, answered Strawberry"
    assert page.inner_text(".panel .note").startswith(f"{n} pictures")
    images = page.locator(".panel img")
    assert images.count() == min(n, 12)
    page.wait_for_function("[...document.querySelectorAll('.panel img')].every(i => i.complete && i.naturalWidth > 0)")

    page.click(".panel .thumb >> nth=0")
    assert page.is_visible("dialog")
    first = page.inner_text("dialog figcaption")
    assert "pictures/" in first
    page.keyboard.press("ArrowRight")
    assert page.inner_text("dialog figcaption") != first
    page.keyboard.press("Escape")
    assert not page.is_visible("dialog")

    page.click(".opens >> nth=0")
    assert page.get_attribute(".matrix [aria-current]", "data-key") == page.get_attribute(".opens >> nth=0", "data-key")
    opened.close()


@pytest.mark.slow
def test_the_matrix_by_keyboard_and_as_fractions(browser: Any, make_data: Make, tmp_path: Path) -> None:
    data = make_data()
    opened = Opened(browser, write_report(data, tmp_path))
    page = opened.page
    assert page.locator('.matrix button[tabindex="0"]').count() == 1
    page.focus('.matrix [data-key="1-1"]')
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    assert opened.value("document.activeElement.dataset.key") == "2-2"
    page.keyboard.press("Enter")
    assert page.inner_text(".panel h3") == "Tomato, answered right"

    assert data.evaluation is not None
    counts = data.evaluation.confusion[2]
    page.click("[data-show=share]")
    assert page.inner_text('.matrix [data-key="2-2"]') == f"{counts[2] / sum(counts):.2f}"
    assert page.inner_text(".opens >> nth=0").isdigit()
    page.click("[data-show=n]")
    assert page.inner_text('.matrix [data-key="2-2"]') == str(counts[2])
    opened.close()


@pytest.mark.slow
def test_a_column_is_sorted_by_a_click(browser: Any, make_data: Make, tmp_path: Path) -> None:
    opened = Opened(browser, write_report(make_data(tuple("abcdefgh"), 400), tmp_path))
    column = "[...document.querySelectorAll('.sortable tbody tr')].map(r => Number(r.cells[1].dataset.v))"
    opened.page.click("summary:has-text('Every class')")
    opened.page.click(".sortable thead button >> nth=1")
    assert opened.value(column) == sorted(opened.value(column))
    opened.page.click(".sortable thead button >> nth=1")
    assert opened.value(column) == sorted(opened.value(column), reverse=True)
    assert opened.page.get_attribute(".sortable thead th >> nth=1", "aria-sort") == "descending"
    opened.close()


@pytest.mark.slow
def test_dark_by_the_system_and_by_the_button(browser: Any, make_data: Make, tmp_path: Path) -> None:
    path = write_report(make_data(), tmp_path)
    colour = "getComputedStyle(document.body).backgroundColor"
    light = Opened(browser, path, color_scheme="light")
    dark = Opened(browser, path, color_scheme="dark")
    bright, dim = light.value(colour), dark.value(colour)
    assert bright != dim
    light.page.click("#ta-theme")
    assert light.value(colour) == bright
    light.page.click("#ta-theme")
    assert light.value(colour) == dim
    light.page.reload()
    assert light.value(colour) == dim
    light.page.emulate_media(media="print")
    assert light.value("getComputedStyle(document.documentElement).getPropertyValue('--ink').trim()") == "#1b1d20"
    light.close()
    dark.close()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["one", "several", "many", "hostile"])
def test_nothing_sticks_out_on_a_phone(browser: Any, make_data: Make, tmp_path: Path, kind: str) -> None:
    data = {
        "one": lambda: make_data(),
        "several": lambda: make_data(multilabel=True),
        "many": lambda: make_data(tuple(f"a rather long name {i}" for i in range(81)), 600),
        "hostile": lambda: make_data(
            ("<script>alert(1)</script>", "'\"&", "x" * 200, "日本の柴犬"), name=lambda row: "n" * 300
        ),
    }[kind]()
    opened = Opened(browser, write_report(data, tmp_path), width=360, color_scheme="dark")
    opened.page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert opened.value("document.documentElement.scrollWidth") <= 360
    opened.close()


@pytest.mark.slow
def test_it_can_be_read_without_scripts(browser: Any, make_data: Make, tmp_path: Path) -> None:
    opened = Opened(browser, write_report(make_data(), tmp_path), java_script_enabled=False)
    assert opened.page.is_visible("noscript p")
    assert opened.page.locator("svg.chart").count() == 3
    assert opened.page.is_visible(".matrix")
    assert not opened.page.is_visible(".switch")
    opened.close()


@pytest.mark.slow
def test_a_picture_that_is_gone_has_an_empty_frame(browser: Any, make_data: Make, tmp_path: Path) -> None:
    def jpeg(row: int) -> bytes:
        raise OSError("gone")

    opened = Opened(browser, write_report(make_data(jpeg=jpeg), tmp_path))
    assert opened.page.locator(".panel .thumb.missing").count() > 0
    opened.close()


def test_a_study_page_says_its_values_and_opens_runs(browser: Any, tmp_path: Path) -> None:
    cells = [cell(0, 0.7), cell(1, 0.9, "better", leading=True), cell(2, 0.8)]
    levels = [LevelEffect(f"{i}e-3", {0: 0.7, 1: 0.8}, Span(0.75, 0.7, 0.8, 2), 1) for i in (0, 1)]
    page = study_page(details(summary(*cells, effects=[FactorEffect("stages.0.lr", levels)])))
    write_page(page, tmp_path / "study.html", lambda row: b"")
    for number in range(3):
        for seed in range(3):
            (tmp_path / "cells" / f"c{number}" / str(seed)).mkdir(parents=True)
    opened = Opened(browser, tmp_path / "study.html", width=390)
    assert opened.value("document.documentElement.scrollWidth") == 390
    dot = opened.page.locator("#effects a .dot").first
    dot.hover()
    assert opened.page.locator("#effects output").first.inner_text() == "0e-3, seed 0: 70\u202f%"
    opened.page.locator("#settings thead button").nth(1).click()
    assert opened.page.locator("#settings tbody tr").first.inner_text().startswith("lr = 0e-3")
    links = opened.value("[...document.querySelectorAll('main a')].map((a) => a.getAttribute('href'))")
    assert set(links) >= {"cells/c0/", "cells/c1/", "cells/c0/0/", "cells/c1/0/"}
    assert all((tmp_path / link).is_dir() for link in links if link.startswith("cells/"))
    opened.close()
