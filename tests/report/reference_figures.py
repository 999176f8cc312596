"""Every figure that is written as an image, drawn from made-up data; and its reference, which somebody has looked at.

A reference is small: a picture of a few thousand pixels, and the texts and numbers of shapes. Fonts and libraries of
other machines move letters by a pixel or two; that does not count as a difference.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from tellapart.core.preprocess import Preprocessing
from tellapart.data.augmentation.contact_sheet import grid
from tellapart.report.blocks import Card, Explained, HeatMap, Label
from tellapart.report.curves import curves
from tellapart.report.figures import FIGURES, write_figures, write_lr_figure
from tellapart.report.forest import Interval, write_forest_figure
from tellapart.report.sections.curves_page import Compared, write_compared_figure
from tellapart.report.thumbnail import thumbnail
from tellapart.workflows.explain import _write_sheet
from tests.report.conftest import make_data, make_events

REFERENCES = Path(__file__).parent / "references"
CONTENTS = REFERENCES / "contents.json"
_WIDTH = 96
_CLASSES = ("$5 note", "a_b^$c$", "käse")


def draw(folder: Path) -> list[Path]:
    """Write every figure in every format."""
    folder.mkdir(parents=True, exist_ok=True)
    write_figures(make_data(_CLASSES, reliability=_reliability()), folder)
    for suffix in FIGURES:
        _lr(folder / f"find-lr{suffix}", 1e-7, 10.0)
        _lr(folder / f"find-lr-narrow{suffix}", 2e-4, 9e-3)
        intervals = [
            Interval("B − A", 0.031, 0.012, 0.05, "better"),
            Interval("C − A", -0.004, -0.03, 0.02),
            Interval("C − B", -0.035, -0.06, -0.01, "worse"),
        ]
        legend = ["A: runs/$5", "B: runs/two\nlines", "C: runs/c"]
        write_forest_figure(
            intervals, folder / f"compare{suffix}", x_title="points", form=lambda v: f"{100 * v:+.1f}", legend=legend
        )
        runs = [
            Compared("runs/$one$", curves(make_events()), {}),
            Compared("runs/second_1", curves(make_events((("", 9, 1e-2),))), {}),
        ]
        write_compared_figure(runs, folder / f"curves{suffix}")
    pictures = [_picture(number) for number in range(4)]
    grid([[(each, f"эпоха {i}") for i, each in enumerate(pictures)]] * 2).save(folder / "sheet.png")
    _explained(pictures, folder)
    return sorted(folder.iterdir())


def _reliability() -> dict[str, Any]:
    def bins(off: float) -> list[dict[str, Any]]:
        return [
            {"certainty": c, "right": {"value": c - off, "low": max(0, c - off - 0.1), "high": min(1, c - off + 0.1)}}
            for c in (0.35, 0.55, 0.75, 0.95)
        ]

    return {
        "before": {"bins": bins(0.2), "error": {"value": 0.2}},
        "after": {"bins": bins(0.03), "error": {"value": 0.03}},
    }


def _lr(path: Path, first: float, last: float) -> None:
    lrs = np.geomspace(first, last, 100)
    x = np.linspace(0, 1, 100)
    smoothed = 1.1 - 0.8 * np.exp(-(((x - 0.7) / 0.15) ** 2)) + 8 * np.maximum(0, x - 0.85)
    losses = smoothed + 0.05 * np.sin(60 * x)
    write_lr_figure(lrs, losses, smoothed, {"valley": float(lrs[55])}, path, diverges=float(lrs[85]))


def _picture(number: int) -> npt.NDArray[np.uint8]:
    y, x = np.mgrid[:64, :64]
    return np.stack([x * 4, y * 4, (x + y) * number % 256], axis=-1).astype(np.uint8)


def _explained(pictures: list[npt.NDArray[np.uint8]], folder: Path) -> None:
    """The sheet of `explain --out x.png`, of two pictures with two maps and one picture alike each."""
    alike = folder / "alike.png"
    Image.fromarray(pictures[3]).save(alike)
    jpegs = [thumbnail(each, 128) for each in pictures]
    entries = [
        Explained(
            Card(row, "a.png", [], [Label("$5", 0.9)]),
            jpegs[row],
            [HeatMap("What speaks for $5", jpegs[2], "Grad-CAM"), HeatMap("for two\nlines", jpegs[1], "Grad-CAM")],
            [Card(0, "b.png", has_answer=False, note="käse: 0.97")],
        )
        for row in range(2)
    ]
    run: Any = SimpleNamespace(catalog=SimpleNamespace(path=lambda row: alike))
    network: Any = SimpleNamespace(preprocessing=Preprocessing(64, 64))
    why: Any = SimpleNamespace(explained=entries)
    _write_sheet(run, network, why, folder / "explain.png")
    alike.unlink()


def content(path: Path) -> dict[str, Any]:
    """What a figure shows, as plain values: its size in pixels (.png), or its texts and numbers of shapes."""
    if path.suffix == ".png":
        with Image.open(path) as picture:
            return {"size": list(picture.size)}
    data = path.read_bytes()
    if path.suffix == ".svg":
        text = data.decode("utf-8")
        shapes = Counter(re.findall(r'<g id="([a-zA-Z0-9]+?)_?\d+"', text))
        return {"texts": re.findall(r"<!-- (.*?) -->", text, re.S), "shapes": dict(sorted(shapes.items()))}
    lines = re.findall(rb"\[((?:[^\[\]]|\\.)*)\]\s*TJ|(\((?:[^()\\]|\\.)*\))\s*Tj", data)
    pieces = [re.findall(rb"\(((?:[^\\()]|\\.)*)\)", line or only) for line, only in lines]
    texts = ["".join(re.sub(r"[^ -~]|\\(?=[()\\])", "", p.decode("latin-1")) for p in line) for line in pieces]
    return {"texts": ["".join(texts).replace(" ", "")]}  # how it is cut into pieces depends on the font


def coarse(path: Path, height: int | None = None) -> npt.NDArray[np.float64]:
    """A figure in few grey pixels, 0..1, that letters leave a shade in: [height, `_WIDTH`]."""
    with Image.open(path) as picture:
        white = Image.new("RGBA", picture.size, "white")
        grey = Image.alpha_composite(white, picture.convert("RGBA")).convert("L")
        height = height or max(1, round(_WIDTH * picture.height / picture.width))
        return np.asarray(grey.resize((_WIDTH, height), Image.Resampling.BOX), np.float64) / 255


def write_references(paths: list[Path]) -> None:
    """Store what figures look like now."""
    REFERENCES.mkdir(exist_ok=True)
    for path in paths:
        if path.suffix == ".png":
            Image.fromarray(np.uint8(255 * coarse(path))).save(REFERENCES / path.name, optimize=True)
    text = json.dumps({path.name: content(path) for path in paths}, indent=1, ensure_ascii=False)
    CONTENTS.write_text(text + "\n", encoding="utf-8")
