"""The page of several runs: their learning curves in one figure, and the differing keys of their recipes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import ascii_uppercase

from tellapart.core.files import replacing
from tellapart.core.text import counted
from tellapart.report import formatting
from tellapart.report.blocks import Block, Cell, Chart, Fold, Page, Section, Side, Table, Text
from tellapart.report.charts import Line, line_chart
from tellapart.report.curves import Curves
from tellapart.report.figures import new_figure, style

#: The most runs: more cannot be told apart in one figure.
MOST = len(ascii_uppercase)
#: The most differing settings shown; more of them open by a click.
_FEW = 12
#: Colours of the runs in the figure; `style.css` has those of the page.
_HUES = ("#1a5a96", "#b4540a", "#217a4b", "#7d4a9e", "#b02a4c", "#5f6a1f")


@dataclass(frozen=True)
class Compared:
    """One of several runs.

    Attributes:
        name: as the user wrote it.
        course: its learning curves.
        settings: its recipe, flat: "stages.0.epochs" → "7".
    """

    name: str
    course: Curves
    settings: Mapping[str, str]

    @property
    def best_position(self) -> int:
        """Position of the epoch whose weights were kept; the last one where none was marked."""
        return (self.course.best or len(self.course.epoch)) - 1

    @property
    def train_accuracy(self) -> float:
        """Highest training accuracy of any epoch; NaN where it was not measured."""
        return _highest(self.course.train_accuracy)

    @property
    def accuracy(self) -> float:
        """Highest validation accuracy of any epoch."""
        return _highest(self.course.validation_accuracy)

    @property
    def at(self) -> int:
        """The epoch with the highest validation accuracy, from 1."""
        return self.course.epoch[self.course.validation_accuracy.index(self.accuracy)]

    @property
    def gap(self) -> float:
        """Validation loss minus training loss, at the epoch whose weights were kept."""
        return self.course.validation_loss[self.best_position] - self.course.train_loss[self.best_position]


def _highest(values: Sequence[float]) -> float:
    return max(filter(math.isfinite, values), default=math.nan)


def differing(runs: Sequence[Compared]) -> dict[str, list[str]]:
    """Settings that differ between runs → the value in each run; "–" where a recipe has no such setting."""
    names = dict.fromkeys(name for run in runs for name in run.settings if name != "about")
    values = {name: [run.settings.get(name, "–") for run in runs] for name in names}
    return {name: each for name, each in values.items() if len(set(each)) > 1}


def best(runs: Sequence[Compared]) -> int:
    """Position of the run with the highest validation accuracy; the first of equals."""
    return max(range(len(runs)), key=lambda i: runs[i].accuracy)


def closest(runs: Sequence[Compared]) -> int | None:
    """Position of the run with the smallest gap between training and validation loss; None without any gap."""
    known = [i for i, run in enumerate(runs) if math.isfinite(run.gap)]
    return min(known, key=lambda i: abs(runs[i].gap), default=None)


def compared_page(runs: Sequence[Compared], notes: Sequence[str] = ()) -> Page:
    """The page: figures, results, differing settings. `notes` are lines that stand on top."""
    different = differing(runs)
    blocks: list[Block] = [
        Text(_verdict(runs), "lead"),
        Side([_chart(runs, "Loss"), _chart(runs, runs[0].course.accuracy_name)]),
        Text("Solid: validation. Dashed: training. Point at an epoch to read the values.", "note"),
    ]
    results = Section("results", "Results", [_results(runs)])
    sections = [Section("curves", "Curves", blocks), results, _settings(runs, different)]
    title = f"{len(runs)} runs side by side"
    return Page(title=title, subtitle=[], sections=sections, notes=notes)


def _verdict(runs: Sequence[Compared]) -> str:
    top, near = best(runs), closest(runs)
    sentences = [f"{_called(runs, top)} has the best validation accuracy, {formatting.percent(runs[top].accuracy)}."]
    if near is not None:
        sentences.append(
            f"{_called(runs, near)} has the smallest gap between training and validation loss, "
            f"{_signed(runs[near].gap)}."
        )
    return " ".join(sentences)


def _called(runs: Sequence[Compared], i: int) -> str:
    return f"{ascii_uppercase[i]} ({formatting.shortened(runs[i].name, 40)})"


def _curves_of(run: Compared, measure: str) -> tuple[Sequence[float], Sequence[float]]:
    course = run.course
    if measure == "Loss":
        return course.train_loss, course.validation_loss
    return course.train_accuracy, course.validation_accuracy


def _chart(runs: Sequence[Compared], measure: str) -> Chart:
    lines = []
    for i, run in enumerate(runs):
        train, validation = _curves_of(run, measure)
        letter, hue = ascii_uppercase[i], i % len(_HUES) + 1
        lines.append(Line(f"{letter} training", run.course.epoch, train, quiet=True, hue=hue, end=""))
        lines.append(Line(f"{letter} validation", run.course.epoch, validation, hue=hue, end=letter))
    share = measure != "Loss"
    svg = line_chart(
        lines,
        title=f"{measure} of each run after each epoch, on training and validation pictures",
        x_title="epoch",
        form=formatting.short_percent if share else None,
        whole_x=True,
        y_limits=(0.0, 1.0) if share else (0.0, math.inf),
    )
    return Chart(measure, svg)


def _results(runs: Sequence[Compared]) -> Table:
    top, near = best(runs), closest(runs)
    rows = [
        [
            Cell(f"{ascii_uppercase[i]}  {run.name}"),
            Cell(formatting.percent(run.train_accuracy), run.train_accuracy),
            Cell(formatting.percent(run.accuracy), run.accuracy, "best score" if i == top else ""),
            Cell(str(run.at), run.at),
            Cell(_signed(run.gap), run.gap, "smallest gap" if i == near else ""),
            Cell(str(len(run.course.epoch)), len(run.course.epoch)),
            Cell(formatting.duration(run.course.total_seconds), run.course.total_seconds),
        ]
        for i, run in enumerate(runs)
    ]
    columns = ["run", "best training accuracy", "best validation accuracy", "at epoch", "gap", "epochs", "time"]
    caption = (
        "Gap: validation loss minus training loss at the epoch whose weights were kept. Well above 0, the run has "
        "learned its training pictures by heart; below 0, training was made harder than validation. "
        "Scores on validation flatter a little: the best epoch was chosen on them."
    )
    return Table(columns, rows, caption, sortable=True)


def _signed(gap: float) -> str:
    return f"{gap:+.3f}".replace("-", "−") if math.isfinite(gap) else "–"


def _settings(runs: Sequence[Compared], different: Mapping[str, Sequence[str]]) -> Section:
    if not different:
        return Section("settings", "What differs", [Text("Their recipes are the same in every setting.")], "Settings")
    letters = [ascii_uppercase[i] for i in range(len(runs))]
    rows = [[Cell(name), *map(Cell, values)] for name, values in different.items()]
    table = Table(["setting", *letters], rows, "Settings that are the same in all runs are left out.")
    blocks: list[Block] = [table]
    if len(different) > _FEW:
        blocks = [Fold(f"{counted(len(different), 'setting')} differ", [table])]
    return Section("settings", "What differs", blocks, "Settings")


def write_compared_figure(runs: Sequence[Compared], path: Path) -> None:
    """Write loss and accuracy of all runs as one figure, .png or .svg."""
    from matplotlib.ticker import MaxNLocator

    form = path.suffix.lower().lstrip(".")
    about = {"Software": None} if form == "png" else {"Date": None}
    with style():
        figure, (left, right) = new_figure(9.6, 3.6, 2)
        for axes, measure in ((left, "Loss"), (right, runs[0].course.accuracy_name)):
            for i, run in enumerate(runs):
                train, validation = _curves_of(run, measure)
                colour, marker = _HUES[i % len(_HUES)], "o" if len(run.course.epoch) <= 30 else ""
                name = f"{ascii_uppercase[i]}  {formatting.shortened(run.name, 32)}"
                axes.plot(run.course.epoch, train, "--", color=colour, lw=1.1)
                axes.plot(run.course.epoch, validation, color=colour, lw=1.8, marker=marker, ms=3, label=name)
            axes.set_xlabel("epoch")
            axes.set_ylabel(measure.lower())
            axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
            axes.grid(axis="y", lw=0.6, alpha=0.5)
        left.set_ylim(bottom=0)
        right.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")
        columns = len(runs) if len(runs) < 4 else 2
        figure.legend(
            *left.get_legend_handles_labels(),
            frameon=False,
            fontsize=9,
            loc="lower center",
            ncols=columns,
            bbox_to_anchor=(0.5, 0.98),
        )
        figure.text(0.5, 0.0, "solid: validation, dashed: training", ha="center", va="top", fontsize=9)
        figure.tight_layout()
        with replacing(path) as beside:
            figure.savefig(beside, format=form, dpi=200, bbox_inches="tight", metadata=about)
