"""Charts of learning curves with bands over seeds: several settings in one, and a small panel for each.

Studies, comparisons and `tellapart curves` show the same ones.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from tellapart.core.palette import N_HUES
from tellapart.report import formatting
from tellapart.report.blocks import Block, Chart, Side
from tellapart.report.chart_words import best_point
from tellapart.report.charts import line_chart
from tellapart.report.curve_bands import Band, Banded
from tellapart.report.curves import common_top, cut_off
from tellapart.report.lines import Line, digits, values_table

_MEASURES = ("accuracy", "loss")
#: What the panels show, in a sentence.
LEGEND = (
    "Blue: validation. Grey: training, in training mode and on augmented pictures. Bands reach from the lowest seed to "
    "the highest; only epochs that all seeds reached are drawn."
)

#: A short name, its full name, and its curves.
Named = tuple[str, str, Banded]


def together(settings: Sequence[Named]) -> list[Block]:
    """Validation accuracy and loss of several settings, a chart each; a hue for each, over again after six."""
    return _present(_together(settings, measure) for measure in _MEASURES)


def panels(settings: Sequence[Named]) -> list[Block]:
    """A small chart each: training and validation accuracy on one scale for all, with the gap between them."""
    scale = _scale([curves for _, _, curves in settings])
    return _present(_panel(name, curves, "accuracy", scale) for _, name, curves in settings)


def pair(name: str, curves: Banded) -> Side:
    """Accuracy and loss of one setting, side by side."""
    return Side(_present(_panel(name, curves, measure) for measure in _MEASURES))


def _present(charts: Iterable[Chart | None]) -> list[Block]:
    return [chart for chart in charts if chart is not None]


def _together(settings: Sequence[Named], measure: str) -> Chart | None:
    lines = []
    for i, (short, name, curves) in enumerate(settings):
        band = curves.bands[f"validation_{measure}"]
        full = f"{short} ({formatting.shortened(name, 30)})"
        lines.append(_line(full, curves.epochs, band, hue=i % N_HUES + 1, end=short))
    drawn = [line for line in lines if line is not None]
    words = settings[0][2].accuracy_name.lower() if measure == "accuracy" else measure
    top = math.inf if measure == "accuracy" else _top_of_all([line.y for line in drawn])
    finding = best_point(drawn, formatting.short_percent if measure == "accuracy" else digits, measure == "loss")
    return _chart(f"Validation {words}", drawn, measure, f"{finding} {_above(drawn, top)}".strip(), top=top)


def _top_of_all(means: Sequence[Sequence[float]]) -> float:
    """Where the losses of several settings end: without epochs that diverged, nor a setting that did as a whole."""
    each = [common_top([[(loss,) for loss in mean]]) for mean in means]
    highest = [
        max((loss for loss in mean if math.isfinite(loss)), default=-math.inf) if math.isinf(top) else top
        for top, mean in zip(each, means, strict=True)
    ]
    whole = cut_off([-math.inf, *highest])  # no setting is the first one, from which the others fall
    return whole if math.isfinite(whole) or all(map(math.isinf, each)) else max(highest)


def _above(lines: Sequence[Line], top: float) -> str:
    """What a chart cuts off, in words; "" where it shows all."""
    cut = [(line.at_end, max(y for y in line.y if y > top)) for line in lines if any(y > top for y in line.y)]
    named = "; ".join(f"{name} up to {loss:.4g}" for name, loss in cut)
    return f"Arrow heads: losses far above the others ({named})." if cut else ""


def _panel(name: str, curves: Banded, measure: str, scale: tuple[float, ...] = ()) -> Chart | None:
    lines = [
        _line("training", curves.epochs, curves.bands[f"training_{measure}"], quiet=True, end="train"),
        _line("validation", curves.epochs, curves.bands[f"validation_{measure}"], end="val"),
    ]
    at = min(curves.best, len(curves.epochs))
    gap = f"Gap at epoch {at}: {100 * curves.gap:+.1f} points.".replace("-", "−") if math.isfinite(curves.gap) else ""
    title = formatting.shortened(name, 60)
    drawn = [line for line in lines if line is not None]
    if measure == "accuracy":
        return _chart(title, drawn, measure, gap or best_point(drawn, formatting.short_percent), scale)
    top = common_top([list(zip(*(line.y for line in drawn), strict=True))])
    finding = best_point(drawn, digits, lower_is_better=True)
    return _chart(title, drawn, measure, f"{finding} {_above(drawn, top)}".strip(), top=top)


def _line(
    name: str, epochs: Sequence[int], band: Band, quiet: bool = False, hue: int = 0, end: str = ""
) -> Line | None:
    """A curve with its band; None where nothing was measured."""
    mean, low, high = (values.tolist() for values in (band.mean, band.low, band.high))
    return Line(name, epochs, mean, quiet, hue, end, low, high) if any(map(math.isfinite, mean)) else None


def _chart(
    title: str,
    lines: Sequence[Line],
    measure: str,
    caption: str = "",
    scale: tuple[float, ...] = (),
    top: float = math.inf,
) -> Chart | None:
    if not lines:
        return None
    share = measure == "accuracy"
    form = formatting.short_percent if share else digits
    svg = line_chart(
        lines,
        title=title,
        x_title="epoch",
        form=formatting.short_percent if share else None,
        whole_x=True,
        y_limits=(0.0, 1.0) if share else (0.0, math.inf),
        y_include=scale,
        y_top=top,
    )
    return Chart(title, svg, caption, values_table(lines, "epoch", form))


def _scale(every: Sequence[Banded]) -> tuple[float, ...]:
    """Lowest and highest accuracy of all panels."""
    bands = [curves.bands[f"{part}_accuracy"] for curves in every for part in ("training", "validation")]
    values = [v for band in bands for v in (*band.low, *band.high) if math.isfinite(v)]
    return (min(values), max(values)) if values else ()
