"""The page itself: written whole, opened from a file in a real browser, beside the answers of Python."""

import json
import re

import numpy as np
import pytest
from onnx import numpy_helper
from PIL import Image

from tellapart.deploy.bundle.read import Bundle
from tellapart.deploy.export import html
from tellapart.deploy.export.browser_engine import BrowserEngine, browser_engine
from tellapart.deploy.export.html import export_html
from tellapart.deploy.predictor import load
from tellapart.errors import BundleError
from tellapart.workflows.export import export
from tests.bundles import change


@pytest.fixture
def no_engine(monkeypatch):
    """The page is written with an engine that does nothing: for tests of all else."""
    monkeypatch.setattr(html.browser_engine, "browser_engine", lambda folder=None: BrowserEngine("", b""))


@pytest.fixture(scope="module")
def _real_engine():
    try:
        browser_engine()
    except BundleError as error:
        pytest.skip(f"needs the browser's engine: {error.message}")


def test_what_was_exported_is_written_down_and_the_bundle_stays_whole(exportable, no_engine):
    exported = export(exportable, "html")
    assert exported.path == exportable / "exports" / "classifier.html"
    written = json.loads((exportable / "bundle" / "bundle.json").read_text())["exports"]["html"]
    assert written["bytes"] == exported.path.stat().st_size
    assert written["difference"] == exported.difference < 0.01
    assert Bundle.load(exportable).classes == ("red", "green", "blue")


def test_a_name_cannot_become_part_of_the_page(exportable, no_engine):
    evil = "</script><img src=x onerror=alert(1)>"
    change(exportable / "bundle", classes=[evil, "$title & <b>", "blue\u202e"])
    text = export(exportable, "html").path.read_text(encoding="utf-8")
    assert evil not in text
    assert "<img src" not in text
    assert "\u202e" not in text
    described = json.loads(re.search(r'id="model">(.*?)</script>', text)[1])
    assert described["classes"][:2] == [evil, "$title & <b>"]


def test_the_page_may_fetch_nothing(exportable, no_engine):
    text = export(exportable, "html").path.read_text(encoding="utf-8")
    assert f'<meta http-equiv="Content-Security-Policy" content="{html.POLICY}">' in text
    assert "connect-src" not in html.POLICY
    assert "http" not in html.POLICY
    assert not re.search(r'(src|href)="(?!data:|#)', text)


def spoil(model):
    for weight in model.graph.initializer:
        if weight.name == "scale":
            weight.CopyFrom(numpy_helper.from_array(np.float32(9), "scale"))


def test_a_network_that_answers_otherwise_is_no_page(exportable, no_engine, monkeypatch):
    monkeypatch.setattr(html, "half_weights", spoil)
    with pytest.raises(BundleError, match="off by"):
        export_html(Bundle.load(exportable), exportable / "page.html")
    assert not (exportable / "page.html").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("_real_engine")
def test_the_file_classifies_in_a_browser_as_python_does(exportable, browser, tmp_path):
    folder = tmp_path / "new"
    folder.mkdir()
    random = np.random.default_rng(4)
    colours = {"red": (230, 20, 30), "dark": (5, 4, 6), "blue": (40, 60, 220)}
    for name, colour in colours.items():
        pixels = np.clip(random.normal(colour, 20, (33, 47, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.png")
    translucent = random.integers(0, 256, (20, 30, 4), np.uint8)
    Image.fromarray(translucent).save(folder / "translucent.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(translucent[..., :3]).save(folder / "turned.png", exif=exif)
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    paths = sorted(folder.iterdir())

    page, requests = browser.new_page(), []
    page.on("request", lambda request: requests.append(request.url))
    page.goto(export(exportable, "html").path.resolve().as_uri())
    page.get_by_text("Ready.").wait_for(timeout=120_000)
    page.set_input_files("#files", [str(path) for path in paths])
    page.get_by_text("6 pictures answered.").wait_for(timeout=120_000)

    theirs = dict(page.evaluate("answered.map((a) => [a.name, a.answer])"))
    for answer in load(exportable).predict(paths):
        browsers = theirs[answer.path.rpartition("/")[2]]
        assert bool(browsers.get("problem")) == (answer.problem is not None)
        if answer.problem is None:
            assert tuple(browsers["chosen"]) == answer.chosen
            assert browsers["certainty"] == pytest.approx(answer.certainty, abs=1e-4)
            assert browsers["ood_score"] == pytest.approx(answer.ood_score, abs=1e-3)
            assert bool(browsers["unknown"]) == (answer.unknown is not None)
    assert all(url.startswith(("file:", "blob:", "data:")) for url in requests)

    with page.expect_download() as download:
        page.get_by_role("button", name="Save as a table").click()
    table = download.value.path().read_text(encoding="utf-8-sig").splitlines()
    assert table[0] == "file_name,label,certainty,note"
    assert len(table) == 7
    page.get_by_role("button", name="Clear").click()
    assert page.locator(".answer").count() == 0
