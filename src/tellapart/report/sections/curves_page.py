"""The page of several runs: their learning curves in one figure, and the differing keys of their recipes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import ascii_uppercase

from tellapart.core.palette import LIGHT, N_HUES
from tellapart.core.text import counted, first_few
from tellapart.evaluation.chance import at_chance
from tellapart.report import formatting
from tellapart.report.blocks import Block, Cell, Chart, Page, Section, Side, Table, Text
from tellapart.report.chart_words import best_point
from tellapart.report.charts import line_chart
from tellapart.report.curve_bands import bands_of
from tellapart.report.curves import Curves, above_sentence, loss_top
from tellapart.report.figures import new_figure, save_figure, short_name, style
from tellapart.report.lines import Line, digits, values_table
from tellapart.report.sections.band_charts import panels
from tellapart.report.sections.settings import differing, settings_section

#: The most runs: more cannot be told apart in one figure.
MOST = len(ascii_uppercase)
#: Colours of the runs.
_HUES = tuple(LIGHT[f"hue-{number}"] for number in range(1, N_HUES + 1))


@dataclass(frozen=True)
class Compared:
    """One of several runs. Scores and losses are those of the weights that were kept.

    Attributes:
        name: as the user wrote it.
        course: its learning curves.
        settings: its recipe, flat: "stages.0.epochs" → "7".
        constant: validation accuracy of the best constant answer, see `chance.constant_accuracy`; NaN: not known.
        n_validation: number of validation pictures.
    """

    name: str
    course: Curves
    settings: Mapping[str, str]
    constant: float = math.nan
    n_validation: int = 0

    @property
    def best_position(self) -> int:
        """Position of the epoch whose weights were kept; the last one where none was marked."""
        return (self.course.best or len(self.course.epoch)) - 1

    @property
    def at(self) -> int:
        """The epoch whose weights were kept, from 1."""
        return self.course.epoch[self.best_position]

    @property
    def train_accuracy(self) -> float:
        """Training accuracy of that epoch; NaN where it was not measured."""
        return self.course.train_accuracy[self.best_position]

    @property
    def accuracy(self) -> float:
        """Validation accuracy of that epoch."""
        return self.course.validation_accuracy[self.best_position]

    @property
    def highest(self) -> float:
        """Highest validation accuracy of any epoch, kept or not."""
        return max(filter(math.isfinite, self.course.validation_accuracy), default=math.nan)

    @property
    def highest_at(self) -> list[int]:
        """Every epoch with the highest validation accuracy."""
        pairs = zip(self.course.epoch, self.course.validation_accuracy, strict=True)
        return [epoch for epoch, accuracy in pairs if accuracy == self.highest]

    @property
    def gap(self) -> float:
        """Validation loss minus training loss, of that epoch."""
        return self.course.validation_loss[self.best_position] - self.course.train_loss[self.best_position]

    @property
    def at_chance(self) -> bool:
        """Whether its validation accuracy cannot be told from that of a constant answer."""
        return at_chance(self.accuracy, self.constant, self.n_validation)


def best(runs: Sequence[Compared]) -> list[int]:
    """Positions of the runs with the highest validation accuracy: several where they are equal."""
    return _first_of({i: -run.accuracy for i, run in enumerate(runs)})


def closest(runs: Sequence[Compared]) -> list[int]:
    """Positions of the runs with the smallest distance of validation and training loss.

    Runs at chance do not count: a network that has learned nothing has no gap.
    """
    return _first_of({i: abs(run.gap) for i, run in enumerate(runs) if not run.at_chance})


def _first_of(values: Mapping[int, float]) -> list[int]:
    """Keys of the smallest value; NaN does not count."""
    finite = {key: value for key, value in values.items() if math.isfinite(value)}
    return [key for key, value in finite.items() if value == min(finite.values())]


def compared_page(runs: Sequence[Compared], notes: Sequence[str] = ()) -> Page:
    """The page: figures, results, differing settings. `notes` are lines that stand on top."""
    names = [f"{ascii_uppercase[i]} ({formatting.shortened(run.name, 40)})" for i, run in enumerate(runs)]
    blocks: list[Block] = [
        *(Text(sentence, "lead") for sentence in verdict(runs, names)),
        Side([_chart(runs, "Loss"), _chart(runs, runs[0].course.accuracy_name)]),
        Text("Solid: validation. Dashed: training. Point at an epoch to read the values.", "note"),
    ]
    blocks += run_panels(runs)
    results = Section("results", "Results", [_results(runs)])
    different = settings_section(differing([run.settings for run in runs]), "Their recipes are the same.")
    title = f"{counted(len(runs), 'run')} side by side"
    return Page(title, [], [Section("curves", "Curves", blocks), results, different], notes=notes)


def run_panels(runs: Sequence[Compared]) -> list[Block]:
    """A small chart each with the gap, on one scale; none for a single run, whose curves stand above."""
    named = [
        (ascii_uppercase[i], f"{ascii_uppercase[i]}  {run.name}", curves)
        for i, run in enumerate(runs)
        if (curves := bands_of([run.course]))
    ]
    return [Side(panels(named), small=True)] if len(named) > 1 else []


def verdict(runs: Sequence[Compared], names: Sequence[str]) -> list[str]:
    """Sentences on the best score, the smallest gap and the runs at chance, each run by its name."""
    top, near, lost = best(runs), closest(runs), [i for i, run in enumerate(runs) if run.at_chance]
    sentences = []
    if top:
        epochs = _epochs([runs[i].at for i in top])
        sentences.append(
            f"{_joined(names, top)} {'has' if len(top) == 1 else 'share'} the best validation accuracy, "
            f"{formatting.percent(runs[top[0]].accuracy)} (weights kept: {epochs})."
        )
    if near:
        sentences.append(
            f"{_joined(names, near)} {'has' if len(near) == 1 else 'share'} the smallest gap between training and "
            f"validation loss, {_distance(runs[near[0]].gap)}."
        )
    for i in lost:
        constant = formatting.percent(runs[i].constant)
        sentences.append(
            f"{names[i]} cannot be told from chance: {formatting.percent(runs[i].accuracy)} of "
            f"{counted(runs[i].n_validation, 'validation picture')}, and always giving the commonest answer has "
            f"{constant}. Its gap does not count."
        )
    return sentences


def _joined(names: Sequence[str], positions: Sequence[int]) -> str:
    *most, last = (names[i] for i in positions)
    return f"{', '.join(most)} and {last}" if most else last


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
    top = math.inf if share else loss_top(*(run.course for run in runs))
    svg = line_chart(
        lines,
        title=f"{measure} of each run after each epoch, on training and validation pictures",
        x_title="epoch",
        form=formatting.short_percent if share else None,
        whole_x=True,
        y_limits=(0.0, 1.0) if share else (0.0, math.inf),
        y_top=top,
    )
    form = formatting.short_percent if share else digits
    finding = best_point([line for line in lines if not line.quiet], form, lower_is_better=not share)
    above = [] if share else [above_sentence(run.course, top) for run in runs]
    cut = [f"{ascii_uppercase[i]}: {text}" for i, text in enumerate(above) if text]
    return Chart(measure, svg, " ".join([finding, *cut]).strip(), values_table(lines, "epoch", form))


def _results(runs: Sequence[Compared]) -> Table:
    top, near = best(runs), closest(runs)
    rows = []
    for i, run in enumerate(runs):
        marks = [_mark(i, top, "best score"), "not told from chance" if run.at_chance else ""]
        sides = [_side(run.gap), _mark(i, near, "smallest")]
        rows.append(
            [
                Cell(f"{ascii_uppercase[i]}  {run.name}"),
                Cell(formatting.percent(run.accuracy), run.accuracy, ", ".join(filter(None, marks))),
                Cell(f"{run.at} of {len(run.course.epoch)}", run.at),
                Cell(formatting.percent(run.highest), run.highest, _epochs(run.highest_at)),
                Cell(formatting.percent(run.train_accuracy), run.train_accuracy),
                Cell(_distance(run.gap), abs(run.gap), ", ".join(filter(None, sides))),
                Cell(
                    formatting.duration(run.course.total_seconds),
                    run.course.total_seconds,
                    f"{formatting.duration(run.course.epoch_seconds)} an epoch",
                ),
            ]
        )
    columns = ["run", "validation accuracy", "kept epoch", "highest", "training accuracy", "gap", "time"]
    caption = (
        "Accuracies and gap are those of the epoch whose weights were kept; the recipe's monitor chose it. "
        "Highest: the best validation accuracy of any epoch, kept or not. "
        "An epoch: the median time of those after a stage's first, which decodes the pictures too. "
        "Gap: distance of validation and training loss. Where validation is well above, the run has learned its "
        "training pictures by heart; where training is above, it was made harder. "
        "Scores on validation flatter a little: the epoch was chosen on them. "
        "No differences are tested here: tellapart compare does."
    )
    return Table(columns, rows, caption, sortable=True)


def _mark(i: int, first: Sequence[int], name: str) -> str:
    """The remark beside a value that is first, alone or with others."""
    return f"{name}{', equal' if len(first) > 1 else ''}" if i in first else ""


def _epochs(epochs: Sequence[int]) -> str:
    """Epochs in words: "epoch 3", "epochs 3, 5 and 2 more"."""
    return f"epoch{'s' if len(epochs) > 1 else ''} {first_few(map(str, epochs))}" if epochs else ""


def _distance(gap: float) -> str:
    return f"{abs(gap):.3f}" if math.isfinite(gap) else "–"


def _side(gap: float) -> str:
    """Which of the two losses is higher, in words."""
    return "" if not math.isfinite(gap) or not gap else f"{'validation' if gap > 0 else 'training'} higher"


def write_compared_figure(runs: Sequence[Compared], path: Path) -> None:
    """Write loss and accuracy of all runs as one figure, a file with a suffix of `FIGURES`."""
    from matplotlib.ticker import MaxNLocator

    with style():
        figure, (left, right) = new_figure(9.6, 3.6, 2)
        for axes, measure in ((left, "Loss"), (right, runs[0].course.accuracy_name)):
            for i, run in enumerate(runs):
                train, validation = _curves_of(run, measure)
                colour, marker = _HUES[i % len(_HUES)], "o" if len(run.course.epoch) <= 30 else ""
                name = f"{ascii_uppercase[i]}  {short_name(run.name, 32)}"
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
        save_figure(figure, path)
