"""The report of a run with 10,000 test pictures: how large it is, and how long a browser takes to open it.

TELLAPART_TEST_DATA=… python -m benchmarks.report_size --chromium /usr/bin/chromium

A small network is trained for one epoch on 3,000 pictures of CIFAR-10 and judged on all 10,000 test pictures. Each
time, a browser that has just been started opens the file: from the request until the page has both loaded (the load
event) and been painted. Writes benchmarks/results/report_size.json. Needs playwright.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from cifar_competition import pictures
from playwright.sync_api import sync_playwright

from benchmarks import record
from tellapart.runs.run import Run

A_CLASS = 300  # training pictures
QUICK = ("model.name=cnn8", "data.size=32", "stages.0.epochs=1")
TIMES = 5
#: Milliseconds from the request to the load event, and to the first paint.
OPENED = """() => new Promise((done) => new PerformanceObserver((list) => done({
  load: performance.getEntriesByType("navigation")[0].loadEventEnd,
  paint: list.getEntriesByName("first-contentful-paint")[0].startTime,
})).observe({ type: "paint", buffered: true }))"""


def train(folder: Path) -> Run:
    """A quick training, in `folder`, whose test part has 10,000 pictures."""
    seen: Counter[tuple[str, str]] = Counter()
    for part, label, content in pictures(Path(os.environ["TELLAPART_TEST_DATA"]) / "cifar10.tar.gz"):
        number = seen[part, label]
        seen[part, label] += 1
        if part == "test" or number < A_CLASS:
            place = folder / "cifar10" / part / label
            place.mkdir(parents=True, exist_ok=True)
            (place / f"{number}.jpg").write_bytes(content)
    changes = [word for change in QUICK for word in ("--set", change)]
    command = [sys.executable, "-m", "tellapart", "train", folder / "cifar10", "--recipe", "scratch", *changes]
    environment = {**os.environ, "TELLAPART_CACHE": str(folder / "cache")}
    subprocess.run([*command, "--out", folder / "run"], check=True, env=environment)
    return Run(folder / "run")


def seconds_to_open(page: Path, chromium: str | None) -> dict[str, float]:
    """Seconds to the load event and to the first paint, in a browser that has just been started.

    Raises:
        SystemExit: the page asks for something outside of itself.
    """
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        tab = browser.new_page(viewport={"width": 1280, "height": 800})
        asked: list[str] = []
        tab.on("request", lambda request: asked.append(request.url))
        tab.goto(page.as_uri())
        took: dict[str, float] = tab.evaluate(OPENED)
        browser.close()
    if others := [url for url in asked if url != page.as_uri() and not url.startswith("data:")]:
        sys.exit(f"{page} is not all there is to it: it asks for {others[0]}")
    return {name: value / 1000 for name, value in took.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chromium", default=os.environ.get("CHROMIUM"), help="the browser; else playwright's own")
    chromium = parser.parse_args().chromium
    with tempfile.TemporaryDirectory() as folder:
        run = train(Path(folder).resolve())
        took = [seconds_to_open(run.report, chromium) for _ in range(TIMES)]
        figures: dict[str, Any] = {
            "n_test": len(run.split.test),
            "n_validation": len(run.split.validation),
            "report_mb": round(run.report.stat().st_size / 1e6, 3),
            "open_s": record.spread([round(max(each.values()), 3) for each in took]),
            "load_s": record.spread([round(each["load"], 3) for each in took]),
            "first_paint_s": record.spread([round(each["paint"], 3) for each in took]),
        }
    record.write("report_size", figures)


if __name__ == "__main__":
    main()
