"""JPEG photographs in the page of `export --to html` beside Python: how far certainty is apart.

TELLAPART_TEST_DATA=… python -m benchmarks.page_jpegs RUN [--pictures 72]

RUN is a trained run of one label a picture. The largest real JPEGs of the test data are written again in several sizes,
qualities and subsamplings, and answered by Chromium and by Python.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import sync_playwright

import tellapart as ta
from benchmarks import record
from tellapart.workflows.export import export


def photographs(root: Path, n: int) -> list[Path]:
    """The n largest JPEGs, by their shorter side."""
    sized = []
    for path in sorted([*root.glob("animals/images/*"), *root.glob("breeds/*/*.jpg")]):
        with Image.open(path) as image:
            if image.format == "JPEG" and image.mode == "RGB":
                sized.append((min(image.size), path))
    return [path for _, path in sorted(sized, key=lambda each: -each[0])[:n]]


def variants(paths: list[Path], folder: Path) -> list[Path]:
    """Each written once, at one of four sizes, three qualities and three subsamplings; every fifth progressive."""
    files = []
    for number, path in enumerate(paths):
        share = (1.0, 0.85, 0.7, 0.6)[number % 4]
        with Image.open(path) as opened:
            image = opened.convert("RGB")
        image = image.resize((int(image.width * share), int(image.height * share)), Image.Resampling.LANCZOS)
        files.append(folder / f"{number:03}_{image.width}x{image.height}.jpg")
        quality = (75, 90, 95)[number // 3 % 3]
        image.save(files[-1], quality=quality, subsampling=number % 3, progressive=number % 5 == 0)
    return files


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--pictures", type=int, default=72)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        files = variants(photographs(Path(os.environ["TELLAPART_TEST_DATA"]), options.pictures), Path(name))
        page_file = export(options.run, "html", Path(name) / "classifier.html").path
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(page_file.as_uri())
        page.get_by_text("Ready.").wait_for(timeout=300_000)
        page.set_input_files("#files", [str(file) for file in files])
        page.get_by_text(f"{len(files)} pictures answered.").wait_for(timeout=600_000)
        theirs = dict(page.evaluate("answered.map((a) => [a.name, a.answer])"))
        browser.close()
        points, same = [], 0
        for answer in ta.load(options.run, engine="onnxruntime").predict(files):
            other = theirs[Path(answer.path).name]
            points.append(100 * abs(other["certainty"] - answer.certainty))
            same += tuple(other["chosen"]) == answer.chosen
        record.write(
            "page_jpegs",
            {
                "pictures": len(files),
                "same answer": same,
                "points of certainty apart": record.spread([round(value, 3) for value in points]),
                "more than half a point": int((np.array(points) > 0.5).sum()),
                "megabytes of the page": round(page_file.stat().st_size / 1e6, 2),
            },
        )


if __name__ == "__main__":
    main()
