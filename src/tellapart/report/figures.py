"""Figures for papers: the report's curves, confusion matrix and bars as PNG and SVG, on white.

The same data give the same bytes: no date, and a fixed salt for the names inside an SVG.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tellapart.core.files import check_suffix, replacing
from tellapart.core.fonts import installed_fonts
from tellapart.core.palette import LIGHT
from tellapart.core.scores import Evaluation
from tellapart.core.text import lr_text, visible
from tellapart.report import formatting
from tellapart.report.curves import Curves, curves, loss_top
from tellapart.report.run_data import Pictures, ReportData
from tellapart.report.sections.confusion import MOST_CLASSES, worst_classes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

ACCENT, GREY, INK, LINE = (LIGHT[name] for name in ("accent", "quiet-line", "ink", "line"))
#: Cells of a larger matrix are too small for a number.
_NUMBERED = 40
#: Formats of figures, by suffix.
FIGURES = (".png", ".svg", ".pdf")
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_BLUES = [LIGHT["card"], *(LIGHT[f"v{number}"] for number in (0, 2, 3, 4, 5, 6))]
_STYLE: Any = {
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.labelsize": 10,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "text.parse_math": False,  # a class may be called "$5 note"
    "svg.hashsalt": "tellapart",
}


def write_figures(data: ReportData, folder: Path) -> list[Path]:
    """Write the report's curves, matrices and bars.

    They are `loss`, `accuracy`, `learning_rate`, `confusion_counts`, `confusion_fractions`, `f1`, `reliability` and
    `class_counts`. Each as .png (200 dots an inch) and .svg. A figure without data is left out, and so is
    `confusion_counts` where there are too many classes for numbers.

    Args:
        data: of a training, see `ReportData`.
        folder: made if it is not there; files of these names in it are replaced.

    Returns:
        The files written.
    """
    written = []
    with style():
        for name, figure in _figures(data):
            for suffix in (".png", ".svg"):
                written.append(folder / f"{name}{suffix}")
                save_figure(figure, written[-1])
    return written


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure within `style`, in the format of its suffix; the same data give the same bytes.

    Raises:
        UsageError: the suffix is none of `FIGURES`.
    """
    form = check_suffix(path, FIGURES).lstrip(".")
    date: Any = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}[form]
    with replacing(path) as beside:
        figure.savefig(beside, format=form, dpi=200, bbox_inches="tight", metadata=date)


def write_lr_figure(
    lrs: Sequence[float] | npt.NDArray[np.float64],
    losses: Sequence[float] | npt.NDArray[np.float64],
    smoothed: Sequence[float] | npt.NDArray[np.float64],
    suggestions: Mapping[str, float],
    path: Path,
    diverges: float | None = None,
) -> None:
    """Write the plot of a learning-rate test: loss over learning rate, with the suggestions marked.

    Args:
        lrs, losses, smoothed: one value a step of the test, of the same length.
        suggestions: learning rates by name.
        path: a file with a suffix of `FIGURES`.
        diverges: the learning rate at which the loss diverges: the decade before it is shaded. None: at none.
    """
    with style():
        figure, axes = new_figure(6.4, 4.0)
        axes.plot(lrs, losses, color=GREY, lw=0.7, label="loss")
        axes.plot(lrs, smoothed, color=ACCENT, lw=1.8, label="smoothed")
        for number, (name, lr) in enumerate(suggestions.items()):
            height = float(np.interp(lr, lrs, smoothed))
            axes.plot([lr], [height], "osD^"[number % 4], ms=7, color=INK, mfc="white", label=f"{name}: {lr_text(lr)}")
        if diverges is not None:
            axes.axvspan(diverges / 10, diverges, color=LINE, alpha=0.25, lw=0, label="last decade before divergence")
        # The end, where the loss blows up, would flatten all the rest.
        low, high = float(np.min(smoothed)), float(np.max(smoothed[: max(1, len(smoothed) // 2)]))
        height = (high - low) or abs(high) or 1.0  # of a loss that never falls, too
        axes.set_ylim(low - 0.15 * height, high + 0.5 * height)
        axes.set_xscale("log")
        _label_powers(axes.xaxis, lrs)
        axes.set_xlabel("learning rate")
        axes.set_ylabel("loss")
        axes.legend(frameon=False, fontsize=8)
        save_figure(figure, path)


def _label_powers(axis: Axis, values: Sequence[float] | npt.NDArray[np.float64]) -> None:
    """Label a logarithmic axis in plain text: its own labels are formulas, and formulas are off in `style`."""
    from matplotlib.ticker import LogLocator, NullFormatter

    if np.max(values) < 100 * np.min(values):  # there are too few powers of ten to read the others off
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(lambda value, _: _power_of_ten(value))
    axis.set_minor_formatter(NullFormatter())


def _power_of_ten(value: float) -> str:
    """0.001 → "10⁻³", 0.002 → "2·10⁻³"."""
    digit, exponent = f"{value:.0e}".split("e")
    power = f"10{str(int(exponent)).translate(_SUPERSCRIPTS)}"
    return power if digit == "1" else f"{digit}·{power}"


@contextmanager
def style() -> Iterator[None]:
    """Apply the style of all figures while they are drawn and written."""
    import matplotlib

    fonts = list(installed_fonts())
    with matplotlib.rc_context({**_STYLE, "font.family": fonts}), warnings.catch_warnings():
        # Letters that no installed font has are drawn as boxes; that is all there is to do about it.
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        yield


def _figures(data: ReportData) -> Iterator[tuple[str, Figure]]:
    course = curves(data.events)
    if course.epoch:
        if _known(course.train_loss, course.validation_loss):
            yield "loss", _curves(course, course.train_loss, course.validation_loss, "loss")
        if _known(course.train_accuracy, course.validation_accuracy):
            yield "accuracy", _curves(course, course.train_accuracy, course.validation_accuracy, "accuracy")
        if course.lr:
            yield "learning_rate", _lr(course)
    evaluation = data.evaluation
    if evaluation is not None and evaluation.confusion:
        if len(evaluation.classes) <= _NUMBERED:
            yield "confusion_counts", _confusion(evaluation, fractions=False)
        yield "confusion_fractions", _confusion(evaluation, fractions=True)
    if evaluation is not None and evaluation.per_class:
        yield "f1", _f1(evaluation)
    if data.reliability:
        yield "reliability", _reliability(data.reliability)
    if data.pictures.n:
        yield "class_counts", _class_counts(data.pictures)


def _known(*values: Sequence[float]) -> bool:
    return any(math.isfinite(value) for line in values for value in line)


def short_name(text: str, most: int = 20) -> str:
    """A name in a figure, cut in the middle. Its fonts have no signs of control characters: they become escapes."""
    return formatting.shortened(visible(text), most)


def new_figure(width: float, height: float, n: int = 1) -> tuple[Figure, Any]:
    """A figure of this size in inches with axes, or several side by side, without the global state of pyplot."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    return figure, figure.subplots(1, n)


def _curves(course: Curves, train: Sequence[float], validation: Sequence[float], measure: str) -> Figure:
    figure, axes = new_figure(4.6, 3.2)
    marker = "o" if len(course.epoch) <= 30 else ""
    axes.plot(course.epoch, train, color=GREY, lw=1.3, marker=marker, ms=3, label="training")
    axes.plot(course.epoch, validation, color=ACCENT, lw=1.8, marker=marker, ms=3.5, label="validation")
    if course.best is not None and math.isfinite(validation[course.best - 1]):
        at, height = course.best, validation[course.best - 1]
        axes.plot([at], [height], "o", ms=8, mfc="white", mec=ACCENT, mew=1.8, label=f"kept: epoch {at}")
    if measure == "accuracy":
        axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")
    else:
        axes.set_ylim(bottom=0)
        _cut_off(axes, course)
    axes.set_ylabel(measure)
    _over_epochs(axes, course)
    axes.legend(frameon=False, fontsize=9)
    return figure


def _cut_off(axes: Axes, course: Curves) -> None:
    """End the axis below losses of epochs that diverged; arrow heads stand in their place."""
    top = loss_top(course)
    if math.isinf(top):
        return
    high = 1.06 * top
    axes.set_ylim(top=high)
    for losses, colour in ((course.train_loss, GREY), (course.validation_loss, ACCENT)):
        at = [epoch for epoch, loss in zip(course.epoch, losses, strict=True) if loss > high]
        axes.plot(at, [high] * len(at), "^", ms=7, color=colour, clip_on=False)
    axes.plot([], [], "^", ms=7, color=GREY, label="far above")


def _lr(course: Curves) -> Figure:
    figure, axes = new_figure(4.6, 3.2)
    axes.plot(course.lr_at, course.lr, color=ACCENT, lw=1.8)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("learning rate")
    _over_epochs(axes, course)
    return figure


def _over_epochs(axes: Axes, course: Curves) -> None:
    """Label the x axis with epochs; draw boundaries between stages, and their names above."""
    from matplotlib.ticker import MaxNLocator

    axes.set_xlim(0, course.epoch[-1] * 1.02)
    axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    axes.set_xlabel("epoch")
    axes.grid(axis="y", color=LINE, lw=0.6)
    axes.set_axisbelow(True)
    if len(course.stages) < 2:
        return
    for i, span in enumerate(course.stages):
        if i:
            axes.axvline(span.start, color=GREY, lw=0.8, ls=":")
        middle = (span.start + span.end) / 2
        axes.annotate(
            short_name(span.name, 14),
            (middle, 1.02),
            xycoords=("data", "axes fraction"),
            ha="center",
            fontsize=8,
            color=INK,
        )


def _confusion(evaluation: Evaluation, fractions: bool) -> Figure:
    """Confusion matrix; rows are given classes. Shades follow the square root of the share, to show rare errors."""
    from matplotlib.colors import LinearSegmentedColormap, PowerNorm

    counts = np.asarray(evaluation.confusion, np.int64)
    shown = worst_classes(counts, MOST_CLASSES)
    shares = (counts / np.maximum(counts.sum(axis=1, keepdims=True), 1))[np.ix_(shown, shown)]
    counts = counts[np.ix_(shown, shown)]
    names = [short_name(evaluation.classes[i]) for i in shown]
    n = len(names)
    side = n * (max(0.5, 2.6 / n) if n <= 20 else 0.3 if n <= _NUMBERED else 0.16)
    figure, axes = new_figure(side * 1.3, side * 1.3)
    colours = LinearSegmentedColormap.from_list("tellapart", _BLUES)
    image = axes.imshow(shares, cmap=colours, norm=PowerNorm(0.5, 0, 1))
    size = 9 if n <= 20 else 7
    for i, j in np.argwhere(counts) if n <= _NUMBERED else ():
        share = shares[i, j]
        text = (f"{share:.2f}" if n <= 20 else f"{share:.2f}".lstrip("0")) if fractions else f"{counts[i, j]}"
        axes.text(j, i, text, ha="center", va="center", fontsize=size, color="white" if share > 0.25 else INK)
    axes.set_xticks(range(n), names, rotation=0 if n <= 4 else 90, fontsize=size)
    axes.set_yticks(range(n), names, fontsize=size)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    axes.set_xlabel("answered")
    axes.set_ylabel("given")
    bar = figure.colorbar(image, ax=axes, shrink=min(1.0, 4 / side), ticks=[0, 0.05, 0.2, 0.5, 1])
    bar.outline.set_visible(False)
    bar.set_label("share of the given class")
    return figure


def _f1(evaluation: Evaluation) -> Figure:
    """F1 of each class with its 95 % interval, the best class on top."""
    scores = [entry["f1"] for entry in evaluation.per_class]
    order = sorted(range(len(scores)), key=lambda i: scores[i].value)
    figure, axes = _bars_for(len(order))
    values = np.array([scores[i].value for i in order])
    low = values - [min(scores[i].low, scores[i].value) for i in order]
    high = np.array([max(scores[i].high, scores[i].value) for i in order]) - values
    axes.errorbar(
        values,
        range(len(order)),
        xerr=np.stack([low, high]),
        fmt="o",
        ms=4.5,
        color=ACCENT,
        elinewidth=1.2,
        ecolor=GREY,
    )
    axes.set_yticks(range(len(order)), [short_name(evaluation.classes[i], 28) for i in order])
    axes.set_xlim(0, 1.02)
    axes.set_xlabel("F1, with 95 % interval")
    return figure


def _reliability(reliability: Mapping[str, Any]) -> Figure:
    """Reliability diagram: accuracy over certainty, before and after the temperature, with 95 % intervals."""
    figure, axes = new_figure(4.2, 4.0)
    axes.plot([0, 1], [0, 1], color=GREY, lw=0.8, ls=":")
    for name, colour in (("before", GREY), ("after", ACCENT)):
        bins = reliability[name]["bins"]
        error = reliability[name]["error"]["value"]
        x = [b["certainty"] for b in bins]
        y = np.array([b["right"]["value"] for b in bins])
        spread = np.abs(np.array([[b["right"]["low"], b["right"]["high"]] for b in bins]).T - y)
        axes.errorbar(
            x, y, yerr=spread, fmt="o-", ms=4, lw=1.2, elinewidth=0.8, color=colour, label=f"{name}: {error:.1%} off"
        )
    axes.set_xlim(0, 1.02)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("certainty")
    axes.set_ylabel("share that is right")
    axes.legend(frameon=False, fontsize=9, loc="upper left")
    return figure


def _class_counts(pictures: Pictures) -> Figure:
    """Number of pictures of each class, stacked by part of the split, in the order of the classes."""
    n = len(pictures.classes)
    figure, axes = _bars_for(n)
    left: npt.NDArray[np.int64] = np.zeros(n, np.int64)
    for (name, part), colour in zip(pictures.parts.items(), (ACCENT, LIGHT["accent-2"], "white"), strict=False):
        counts = part.counts(n)
        axes.barh(
            range(n),
            counts,
            0.7,
            left,
            color=colour,
            edgecolor=ACCENT,
            lw=0.8,
            label={"train": "training"}.get(name, name),
        )
        left = left + counts
    axes.set_yticks(range(n), [short_name(name, 28) for name in pictures.classes])
    axes.invert_yaxis()
    axes.set_xlabel("pictures")
    axes.legend(frameon=False, fontsize=9, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return figure


def _bars_for(n: int) -> tuple[Figure, Axes]:
    """A figure with room for `n` horizontal bars."""
    figure, axes = new_figure(5.0, max(1.6, 0.24 * n + 0.9))
    axes.grid(axis="x", color=LINE, lw=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(axis="y", length=0)
    axes.margins(y=0.5 / max(n, 1))
    return figure, axes
