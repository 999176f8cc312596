"""The server's page in a real browser: a whole story with the keyboard alone, on a phone, with a check by axe."""

import sys

import pytest

from tellapart.data.corrections import read_corrections, standing
from tellapart.web.serve.explainer import Explainer
from tellapart.web.serve.picture_store import PictureStore
from tests.web.serve.conftest import Running, picture

# Explains every picture in the same way.
CHILD = """
import json, sys
dot = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"
why = {"picture": dot, "method": "Grad-CAM", "maps": [{"label": "green", "picture": dot, "note": ""}],
       "alike": [{"labels": ["<b>green</b>"], "similarity": 0.93, "picture": dot}], "notes": ["A note."]}
def send(answer):
    sys.stdout.buffer.write(len(answer).to_bytes(4, "big") + answer)
    sys.stdout.buffer.flush()
send(b"")
while head := sys.stdin.buffer.read(4):
    sys.stdin.buffer.read(int.from_bytes(head, "big"))
    send(json.dumps(why).encode())
"""


@pytest.fixture
def whole(run, tmp_path):
    store = PictureStore(tmp_path / "kept", 1_000_000)
    started = Running(run, store=store, explainer=Explainer((sys.executable, "-c", CHILD)))
    yield started
    started.stop()


def press(page, name):
    """Go to a button with the keyboard, and press it."""
    button = page.get_by_role("button", name=name, exact=True)
    for _ in range(40):
        page.keyboard.press("Tab")
        if button.evaluate("node => node === document.activeElement"):
            page.keyboard.press("Enter")
            return
    raise AssertionError(f"the keyboard does not come to {name}")


@pytest.mark.slow
@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (1200, "dark")])
def test_a_person_sees_why_and_says_what_is_wrong(whole, chromium, tmp_path, width, scheme):
    playwright = pytest.importorskip("playwright.sync_api")
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    (tmp_path / "leaf.png").write_bytes(picture((20, 220, 30)))
    with playwright.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": 844}, color_scheme=scheme)
        problems, requests = [], []
        page.on("console", lambda message: problems.append(message.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(whole.address)
        page.get_by_text("Ready.").wait_for(timeout=60_000)
        assert page.locator("#drop").get_by_text("are kept there").is_visible()
        page.set_input_files("#files", str(tmp_path / "leaf.png"))
        page.get_by_text("1 picture answered.").wait_for(timeout=60_000)
        press(page, "Why?")
        page.get_by_text("<b>green</b>, 93 % alike").wait_for(timeout=60_000)
        page.get_by_text("Warm colours mark what the answer rests on (Grad-CAM).").wait_for()
        press(page, "Wrong? Say what it is")
        page.get_by_label("It is").focus()
        page.keyboard.type("blue")
        press(page, "Save")
        page.get_by_text("Saved: blue. Thank you.").wait_for(timeout=60_000)
        assert axe.run(page).response["violations"] == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        browser.close()
    assert problems == []
    assert all(url.startswith((whole.address, "blob:", "data:")) for url in requests)
    (correction,) = standing(read_corrections(tmp_path / "kept" / "corrections.csv")).values()
    assert (correction.before, correction.after, correction.decision) == ("", "blue", "relabel")
