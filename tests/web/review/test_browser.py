"""The review page in a real browser: keyboard, undo, reload in the middle, two tabs, hostile names."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tellapart.data.corrections import read_corrections, standing

PATIENCE = 120  # seconds, on a machine that may be busy


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as p:
        started = p.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        yield started
        started.close()


class Tab:
    """A tab, with everything it said and asked for."""

    def __init__(self, context: Any, address: str) -> None:
        self.page = context.new_page()
        self.address, self.said, self.asked = address, [], []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("dialog", lambda dialog: self.said.append(dialog.message))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(address)
        self.waits("#review:not([hidden]), #done:not([hidden])")

    def waits(self, selector: str) -> None:
        self.page.wait_for_selector(selector)

    def press(self, key: str, count: int) -> None:
        """Press a key, and wait until so many pictures are decided."""
        self.page.keyboard.press(key)
        self.counts(count)

    def counts(self, count: int) -> None:
        self.until(lambda: self.text("#count").startswith(f"{count} of"))

    def until(self, met: Callable[[], bool]) -> None:
        """Wait in small steps: the page's own policy forbids to evaluate a condition within it."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            if met():
                return
            self.page.wait_for_timeout(20)
        raise AssertionError(self.text("body"))

    def text(self, selector: str) -> str:
        return str(self.page.inner_text(selector))

    def close(self) -> None:
        assert self.said == []
        # Nothing from elsewhere; a browser may still ask its own favicon.
        assert all(url.startswith((self.address, "data:")) for url in self.asked)
        self.page.close()


@pytest.fixture
def context(browser: Any) -> Iterator[Any]:
    made = browser.new_context(viewport={"width": 1200, "height": 800})
    made.set_default_timeout(1000 * PATIENCE)
    yield made
    made.close()


def decisions(session: Any) -> list[tuple[str, str]]:
    found = standing(read_corrections(session.log.path))
    return [(found[i.file].decision, found[i.file].after) for i in session.items if i.file in found]


def tab_name(file: str) -> str:
    """A file's name as the page shows it: control characters as pictures of themselves, runs of blanks as one."""
    return " ".join(re.sub("[\0-\x1f]", lambda match: chr(0x2400 + ord(match[0])), file).split(" "))


@pytest.mark.slow
def test_axe_finds_nothing_on_the_review(browser: Any, make_session: Any, serve_session: Any) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    # The page's own policy refuses every script but its own, so axe's too.
    context = browser.new_context(bypass_csp=True)
    context.set_default_timeout(1000 * PATIENCE)
    served = serve_session(make_session(n=1))
    tab = Tab(context, served.address)
    problems = [axe.Axe().run(tab.page).response["violations"]]
    tab.press("x", 1)
    tab.press("2", 2)
    tab.press("Space", 3)
    tab.waits("#done:not([hidden])")
    problems.append(axe.Axe().run(tab.page).response["violations"])
    context.close()
    assert [(one["id"], one["nodes"][0]["html"][:200]) for found in problems for one in found] == []


def test_a_review_by_keyboard_from_begin_to_end(context: Any, make_session: Any, serve_session: Any) -> None:
    served = serve_session(make_session(n=2, report=Path(__file__)))
    session, classes = served.session, served.session.classes
    tab = Tab(context, served.address)
    assert tab.text("#count") == "0 of 6"
    tab.until(lambda: tab.page.evaluate("document.getElementById('picture').naturalWidth") > 0)
    tab.press("Space", 1)
    tab.press("3", 2)
    tab.press("x", 3)
    tab.press("u", 4)
    tab.press("a", 5)
    assert tab.page.is_visible("#review")
    tab.page.keyboard.press("/")
    tab.page.keyboard.type('a "')
    tab.page.keyboard.press("Enter")
    tab.counts(6)
    tab.waits("#done:not([hidden])")
    assert decisions(session) == [
        ("keep", session.items[0].labels[0]),
        ("relabel", classes[2]),
        ("exclude", ""),
        ("unsure", ""),
        ("relabel", session.items[4].suggested[0]),
        ("relabel", 'a "b", c'),
    ]
    assert tab.page.locator("#sums dd").all_inner_texts() == ["1", "3", "1", "1"]
    assert tab.text("#command") == "tellapart train x"
    assert tab.page.locator("#links button").all_inner_texts() == [
        tab_name(session.items[i].file) for i in (1, 2, 4, 5)
    ]
    assert tab.page.is_visible("#report")
    tab.page.click("#copy")
    tab.until(lambda: tab.text("#copy") in ("Copied", "Selected"))
    tab.page.click("#open-left")
    tab.page.keyboard.press("Space")
    tab.waits("#done:not([hidden])")
    assert decisions(session)[3][0] == "keep"
    tab.close()


@pytest.mark.slow
def test_undo_goes_back_one_by_one(context: Any, make_session: Any, serve_session: Any) -> None:
    served = serve_session(make_session())
    tab = Tab(context, served.address)
    first = tab.text("#file")
    tab.press("x", 1)
    tab.press("2", 2)
    tab.press("z", 1)
    tab.until(lambda: not tab.page.is_visible("#standing"))
    tab.press("z", 0)
    assert tab.text("#file") == first
    tab.page.keyboard.press("z")  # there is nothing more
    tab.press("Space", 1)
    assert decisions(served.session) == [("keep", served.session.items[0].labels[0])]
    tab.close()


@pytest.mark.slow
def test_quick_fingers_lose_no_key(context: Any, make_session: Any, serve_session: Any) -> None:
    served = serve_session(make_session())
    tab = Tab(context, served.address)
    for key in ("x", "u", "Space", "3", "z", "x"):
        tab.page.keyboard.press(key)
    tab.until(lambda: len(served.session.log.read()) == 6)
    assert [decision for decision, _ in decisions(served.session)] == ["exclude", "unsure", "keep", "exclude"]
    tab.close()


@pytest.mark.slow
def test_a_reload_in_the_middle_goes_on(context: Any, make_session: Any, serve_session: Any) -> None:
    served = serve_session(make_session())
    tab = Tab(context, served.address)
    tab.press("Space", 1)
    tab.press("x", 2)
    third = tab.text("#file")
    tab.page.reload()
    tab.counts(2)
    assert tab.text("#file") == third
    tab.page.keyboard.press("ArrowLeft")
    assert tab.text("#standing") == "Excluded"
    tab.close()


@pytest.mark.slow
def test_two_tabs_agree(context: Any, make_session: Any, serve_session: Any) -> None:
    served = serve_session(make_session())
    one, two = Tab(context, served.address), Tab(context, served.address)
    one.page.bring_to_front()
    one.press("x", 1)
    two.page.bring_to_front()
    two.counts(1)
    assert two.text("#standing") == "Excluded"
    two.page.keyboard.press("ArrowRight")
    two.press("Space", 2)
    one.page.bring_to_front()
    one.counts(2)
    assert len(read_corrections(served.session.log.path)) == 2
    one.close()
    two.close()


@pytest.mark.slow
def test_hostile_names_are_only_text(context: Any, make_session: Any, serve_session: Any) -> None:
    served = serve_session(make_session(n=1))
    tab = Tab(context, served.address)
    for _ in served.session.items:
        assert tab.page.title() == "Review: <b>fruit</b>"
        assert tab.page.locator("#review script, #review b").count() == 0
        assert any("<script>" in text for text in tab.page.locator("#classes button").all_inner_texts())
        tab.page.keyboard.press("ArrowRight")
    assert any("␊" in text for text in tab.page.locator("#classes button").all_inner_texts())
    tab.press("3", 1)
    assert decisions(served.session) == [("relabel", "томат\n1")]
    tab.close()


@pytest.mark.slow
def test_several_labels_are_toggled(context: Any, make_session: Any, serve_session: Any) -> None:
    served = serve_session(make_session(n=1, multilabel=True))
    session = served.session
    tab = Tab(context, served.address)
    tab.page.keyboard.press("1")
    tab.page.keyboard.press("2")
    tab.page.keyboard.press("3")
    assert tab.page.locator('#classes [aria-pressed="true"]').count() == 2
    tab.press("Enter", 1)
    tab.press("Enter", 2)
    found = session.state()["decisions"]
    assert sorted(found["0"]["to"]) == sorted(set(session.classes) - set(session.items[0].labels))
    assert found["1"]["decision"] == "keep"
    tab.close()


@pytest.mark.slow
def test_a_server_that_stopped_is_said_and_nothing_is_lost(context: Any, make_session: Any, serve_session: Any) -> None:
    """Stopped in earnest: a browser that is set offline may still let the next request through."""
    served = serve_session(make_session())
    tab = Tab(context, served.address)
    tab.press("Space", 1)
    served.stop()
    tab.page.keyboard.press("x")
    tab.waits("#trouble:not([hidden])")
    assert "Not saved" in tab.text("#trouble")
    assert tab.text("#count") == "1 of 9"
    served.start()
    tab.press("x", 2)
    tab.said.clear()  # the browser tells of the failed requests
    tab.close()
    assert [decision for decision, _ in decisions(served.session)] == ["keep", "exclude"]


@pytest.mark.slow
def test_an_answer_that_a_decision_has_overtaken_is_not_shown(
    context: Any, make_session: Any, serve_session: Any
) -> None:
    served = serve_session(make_session())
    held: list[tuple[Any, Any]] = []
    context.route("**/state", lambda route: held.append((route, route.fetch())))
    tab = Tab(context, served.address)
    tab.until(lambda: len(held) > 0)  # the tab asks what others decided; the answer is under way
    tab.press("Space", 1)
    route, answer = held[0]
    route.fulfill(response=answer)
    asked = len(held)
    tab.until(lambda: len(held) > asked + 1)  # a second later it asks again
    assert tab.text("#count") == "1 of 9"
    for route, answer in held[1:]:
        route.fulfill(response=answer)
    context.unroute_all(behavior="wait")
    tab.close()


@pytest.mark.slow
def test_a_narrow_page_has_no_sideways_scroll(browser: Any, make_session: Any, serve_session: Any) -> None:
    served = serve_session(make_session(n=1))
    context = browser.new_context(viewport={"width": 400, "height": 800}, color_scheme="dark")
    context.set_default_timeout(1000 * PATIENCE)
    tab = Tab(context, served.address)
    assert tab.page.evaluate("document.documentElement.scrollWidth") <= 400
    tab.page.click("#help-button")
    assert tab.page.is_visible("#help")
    tab.close()
    context.close()
