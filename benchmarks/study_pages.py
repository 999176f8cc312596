"""docs/studies/: our table of each study beside that of its report, from benchmarks/results/study_*.json."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

from benchmarks.record import RESULTS

PAGES = Path(__file__).parents[1] / "docs" / "studies"
#: What the reports say, of one run each: level → figure, in their words; and what their single runs could not show.
THEIRS: dict[str, dict[str, str]] = {
    "fruit-batch": {"8": "74.5 %", "64": "71.7 %", "256": "66.0 %"},
    "fruit-rate": {"1e-05": "63.2 %", "0.0001": "74.5 %", "0.001": "67.2 %", "0.01": "33.5 %"},
    "fruit-dropout": {"0.0": "75.5 %", "0.5": "74.5 % (its rate is not known)"},
    "fruit-networks": {"MLP": "51.6 %", "CNN": "74.5 %"},
    "cifar-augmentation": {"0.06/0.03": "82.26 % after 100 epochs; chosen for the smallest gap"},
    "cifar-networks": {"own": "82.26 %, 100 epochs", "MobileNetV3-small": "92.79 %, MobileNetV3-Large, 14 epochs"},
    "labels-balance": {"balanced": "F1 0.70 to 0.715; 0.624 with pictures without a label repeated too"},
    "labels-ensemble": {"both": "F1 0.7731, ResNeXt-101 and DenseNet-201"},
    "cars": {"all eight": "99.18 %, ResNet-34 at 224 pixels"},
}


def write_pages() -> list[Path]:
    """Write a page for each result, and the list of them. Returns the files."""
    every = {path.stem.removeprefix("study_"): json.loads(path.read_text()) for path in sorted(_results())}
    pages = []
    for name, result in every.items():
        pages.append(PAGES / f"{name}.md")
        PAGES.mkdir(parents=True, exist_ok=True)
        pages[-1].write_text(page(name, result), encoding="utf-8")
    if every:
        lines = [f"- [{name}]({name}.md): {result['figures']['finding'][0]}" for name, result in every.items()]
        (PAGES / "README.md").write_text(_INDEX + "\n".join(lines) + "\n", encoding="utf-8")
    return pages


_INDEX = """# Studies of the five reports

The studies that come with Tellapart, run on pictures of the kinds of the reports. Each file states its deviations
from the report and why. Written by `benchmarks/study_reports.py`; no number is typed.

"""


def _results() -> list[Path]:
    return [path for path in RESULTS.glob("study_*.json") if path.stem != "study_simulation"]


def page(name: str, result: dict[str, Any]) -> str:
    """One study in Markdown."""
    figures, machine = result["figures"], result["machine"]
    theirs = THEIRS.get(name, {})
    factors = _factors(figures["cells"])
    heads = ["setting", "ours", "seeds", "difference", "verdict", *(["the report, one run"] if theirs else [])]
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    for cell in figures["cells"]:
        setting = ", ".join(f"{factor} {cell[factor]}" for factor in factors if cell[factor] is not None)
        score, share = cell[figures["metric"]], figures["metric"] != "log_loss"
        half = None if cell["high"] is None or score is None else cell["high"] - score
        row = [setting, _score(score, half, share), str(cell["seeds"]), _difference(cell, share), cell["verdict"]]
        if theirs:
            row.append(next((theirs[cell[f]] for f in factors if cell[f] in theirs), ""))
        lines.append(f"| {' | '.join(row)} |")
    sentences = wrapped(f"**{' '.join(figures['finding'])}**")
    notes = "".join(f"\n\n{wrapped(note)}" for note in figures["notes"])
    minutes = figures["seconds_of_trainings"] / 60
    about = (
        f"Trainings took {minutes:.0f} minutes on {machine['processors']} processors ({machine['processor']}; load "
        f"{machine['load']}). What differs from the report, and why, stands in "
        f"`src/tellapart/recipe/shipped/studies/{name}.toml`. Figures: `benchmarks/results/study_{name}.json`."
    )
    parts = [f"# {name}", wrapped(figures["about"]), sentences, "\n".join(lines) + notes]
    return "\n\n".join([*parts, wrapped(figures["methods"]), wrapped(about)]) + "\n"


def wrapped(text: str) -> str:
    """A paragraph in lines that are no longer than those of the other docs."""
    return textwrap.fill(text, 119, break_long_words=False, break_on_hyphens=False)


def _factors(cells: list[dict[str, Any]]) -> list[str]:
    """Names of the factors: the columns between the id and the score."""
    names = list(cells[0])
    return names[1 : names.index("low") - 1]


def _score(score: float | None, half: float | None, share: bool) -> str:
    if score is None:
        return "–"
    scale, decimals = (100, 1) if share else (1, 3)
    spread = "" if half is None else f" ± {scale * half:.{decimals}f}"
    return f"{scale * score:.{decimals}f}{spread}"


def _difference(cell: dict[str, Any], share: bool) -> str:
    if cell["difference"] is None:
        return "–"
    scale, decimals = (100, 1) if share else (1, 3)
    text = f"{scale * cell['difference']:+.{decimals}f}"
    if cell["difference_low"] is not None:
        text += f" ({scale * cell['difference_low']:+.{decimals}f} to {scale * cell['difference_high']:+.{decimals}f})"
    return text.replace("-", "−")
