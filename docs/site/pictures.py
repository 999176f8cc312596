"""Take the pictures of docs/images: each page that Tellapart makes, of real runs, in a headless browser.

`make docs-pictures` runs this; it takes some minutes, and needs Chromium. The pictures are committed.
"""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import markdown
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright
from runs import (
    CLASSIFIER,
    DIGITS,
    FIRST,
    FOLDER,
    ROOT,
    SECOND,
    SMALL,
    environment,
    export_classifier,
    tellapart,
    train_first,
    train_second,
)

IMAGES = ROOT / "docs" / "images"
SIZE = {"width": 1120, "height": 760}
_SECONDS = 120
_QUALITY = 72


def main() -> None:
    """Make what is to be shown, then take the pictures."""
    train_first()
    train_second()
    make_pages()
    IMAGES.mkdir(exist_ok=True)
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        files(browser)
        live(browser)
        browser.close()
    sheets()
    for digit in (3, 5, 8):  # to be tried in the classifier of the documentation
        shutil.copyfile(_last(digit), IMAGES / f"digit-{digit}.png")


def make_pages() -> None:
    """Every page and sheet that a command writes to a file."""
    tellapart("audit", "digits", "--out", "audit")
    tellapart("errors", FIRST)
    tellapart("explain", FIRST, "--limit", "4")
    tellapart("compare", FIRST, SECOND)
    tellapart("curves", FIRST, SECOND)
    tellapart("study", "digits", *SMALL, "--set", "stages.0.epochs=6", "--vary", "stages.0.lr=0.001,0.01",
              "--seeds", "3", "--out", "studies/lr")  # fmt: skip
    tellapart("augment", "digits", *SMALL)
    tellapart("ahead", "digits", *SMALL, "--set", "data.ahead=eightfold")
    tellapart("find-lr", "digits", *SMALL)
    export_classifier()


def files(browser: Browser) -> None:
    """The pages that are files."""
    card = markdown.markdown(
        _without_head((FOLDER / FIRST / "bundle" / "README.md").read_text()), extensions=["tables"]
    )
    (FOLDER / "card.html").write_text(_CARD.format(card), encoding="utf-8")
    pages = {
        "report": FIRST / "report.html",
        "audit": Path("audit/audit.html"),
        "errors": FIRST / "errors.html",
        "explain": FIRST / "explain.html",
        "compare": Path("compare.html"),
        "curves": Path("curves.html"),
        "study": Path("studies/lr/study.html"),
        "card": Path("card.html"),
    }
    for name, path in pages.items():
        page = _opened(browser, (FOLDER / path).as_uri())
        page.wait_for_load_state("load")
        _save(name, page)
    if CLASSIFIER.is_file():
        page = _opened(browser, CLASSIFIER.as_uri())
        _ask(page)
        _save("classifier", page)


def live(browser: Browser) -> None:
    """The pages that a server shows."""
    with _serving("serve", FIRST, "--port", "0") as address:
        page = _opened(browser, address)
        _ask(page)
        _save("serve", page)
    with _serving("review", FIRST, "--no-browser") as address:
        page = _opened(browser, address)
        page.wait_for_selector("main img")
        page.wait_for_load_state("networkidle")
        _save("review", page)


def sheets() -> None:
    """Contact sheets and plots, which are pictures already."""
    for name in ("augment", "find-lr"):
        sheet = Image.open(FOLDER / f"{name}.png").convert("RGB")
        sheet.thumbnail((SIZE["width"], SIZE["width"]))
        _write(name, sheet)


def _opened(browser: Browser, address: str) -> Page:
    page = browser.new_page(viewport=SIZE, color_scheme="light")  # type: ignore[arg-type]
    page.set_default_timeout(_SECONDS * 1000)
    page.goto(address)
    return page


def _ask(page: Page) -> None:
    """Give the page two digits, and a picture of nothing that it knows; the last one is shown first."""
    page.get_by_text("Ready.").wait_for()
    nothing = ROOT / "docs" / "images" / "lr-finder.png"
    page.set_input_files("#files", [str(path) for path in (nothing, _last(9), _last(4))])
    page.get_by_text("3 pictures answered.").wait_for()


def _last(digit: int) -> Path:
    """The last picture of a digit in scikit-learn's order."""
    return sorted((DIGITS / str(digit)).glob("0*.png"))[-1]


def _save(name: str, page: Page) -> None:
    _write(name, Image.open(io.BytesIO(page.screenshot())).convert("RGB"))
    page.close()


def _write(name: str, picture: Image.Image) -> None:
    path = IMAGES / f"{name}.webp"
    picture.save(path, "WEBP", quality=_QUALITY, method=6)
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1000:.0f} kB", flush=True)


@contextmanager
def _serving(*words: str | Path) -> Iterator[str]:
    """A command that serves, as long as this lasts; its address."""
    command = [sys.executable, "-m", "tellapart", *map(str, words)]
    with subprocess.Popen(command, cwd=FOLDER, env=environment(), stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield next(found[0] for line in process.stdout if (found := re.search(r"http://\S+", line)))
        finally:
            process.terminate()


def _without_head(text: str) -> str:
    """A model card without the lines that a hub reads."""
    return text.split("---\n", 2)[-1] if text.startswith("---\n") else text


#: As a hub shows it.
_CARD = """<!doctype html><meta charset="utf-8"><style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 52rem; margin: 2rem auto; padding: 0 1rem; color: #222; }}
table {{ border-collapse: collapse; }} td, th {{ border: 1px solid #ddd; padding: .3rem .7rem; }}
code, pre {{ background: #f4f4f4; border-radius: 4px; padding: .1rem .3rem; }} img {{ max-width: 100%; }}
</style>{}"""


if __name__ == "__main__":
    main()
