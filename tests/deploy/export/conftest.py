from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from tellapart.core.preprocess import Preprocessing
from tellapart.deploy.bundle.read import GOLDEN, Bundle, describe_files
from tellapart.deploy.page.describe import PAGE
from tellapart.evaluation.open_set import KnownClasses, OodScore
from tests.bundles import change

SIDE = 8


def with_golden(folder: Path) -> Path:
    """A bundle made by hand, with golden answers as its own network gives them."""
    pictures = np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE, 3), np.uint8)
    logits = Bundle.load(folder).predict_pixels(pictures)
    save_file({"pictures": pictures, "logits": logits}, folder / GOLDEN)
    names = [name for name in describe_files(folder) if name not in ("bundle.json", "README.md")]
    change(folder, files={name: describe_files(folder)[name] for name in names})
    return folder


@pytest.fixture
def exportable(tmp_path, make_bundle) -> Path:
    """A run directory whose bundle says how red, green and blue a picture is, or that it is like none of these."""
    known = KnownClasses(100 * np.eye(3, dtype=np.float32), np.eye(3, 1, dtype=np.float32), np.ones(1, np.float32), 0.1)
    score = OodScore((0.5, 0.5), (0.2, 0.3), 2.0, 0.99, 100)
    folder = tmp_path / "run" / "bundle"
    make_bundle(folder, known=known, ood_score=score.as_dict(), sets={"0.95": 0.2}, n_validation=100, tta=3, flip=True)
    with_golden(folder)
    return folder.parent


@pytest.fixture(scope="module")
def browser(chromium) -> Iterator[Any]:
    """A Chromium without a page."""
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as p:
        opened = p.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def scripts(browser) -> Any:
    """A page with the functions of the classifier's page that need neither a network nor a document."""
    page = browser.new_page()
    for name in ("preprocess.js", "scaled_jpeg.js", "read_picture.js", "answer.js"):
        page.add_script_tag(content=(PAGE / name).read_text(encoding="utf-8"))
    return page


@pytest.fixture(scope="session")
def preprocessing() -> Preprocessing:
    return Preprocessing(SIDE, SIDE)
