"""What a chart shows, in a sentence: its best and worst values, and what is proven."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from tellapart.report.formatting import visible
from tellapart.report.lines import Line, digits

Form = Callable[[float], str]


def best_and_worst(values: Sequence[tuple[str, float]], form: Form, lower_is_better: bool = False) -> str:
    """Best and worst of named values: "Best: 0.01 with 92 %; worst: 1 with 40 %."; "" where there is none."""
    finite = [(value, name) for name, value in values if math.isfinite(value)]
    if not finite:
        return ""
    ends = min(finite, key=lambda pair: pair[0]), max(finite, key=lambda pair: pair[0])
    worst, best = ends[::-1] if lower_is_better else ends
    if best[0] == worst[0]:
        return f"All have {form(best[0])}." if len(finite) > 1 else f"{visible(best[1])} has {form(best[0])}."
    return f"Best: {visible(best[1])} with {form(best[0])}; worst: {visible(worst[1])} with {form(worst[0])}."


def best_point(lines: Sequence[Line], form: Form, lower_is_better: bool = False) -> str:
    """The best point of several curves over epochs: "Highest: B validation, 92 % at epoch 5."; "" without points."""
    points = [(y, line.name, x) for line in lines for x, y in zip(line.x, line.y, strict=True) if math.isfinite(x + y)]
    if not points:
        return ""
    choose, word = (min, "Lowest") if lower_is_better else (max, "Highest")
    y, name, x = choose(points, key=lambda point: point[0])
    return f"{word}: {visible(name)}, {form(y)} at epoch {digits(x)}."
