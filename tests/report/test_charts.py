import math
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tellapart.report.charts import Line, line_chart, linear_axis, log_axis, round_step, tick_form

SVG = "{http://www.w3.org/2000/svg}"


def parse(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(str(svg).replace("<svg ", f'<svg xmlns="{SVG[1:-1]}" ', 1))


@given(st.floats(1e-9, 1e9))
def test_steps_are_round_and_not_too_small(rough: float) -> None:
    step = round_step(rough)
    mantissa = step / 10 ** math.floor(math.log10(step) + 1e-9)
    assert any(math.isclose(mantissa, m, rel_tol=1e-6) for m in (1, 2, 2.5, 5, 10))
    assert rough * 0.999 <= step <= rough * 10.001


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20), st.booleans(), st.booleans())
def test_axis_holds_all_values_and_few_ticks(values: list[float], whole: bool, tight: bool) -> None:
    axis = linear_axis(values, 0, 100, whole=whole, tight=tight)
    assert 1 <= len(axis.ticks) <= 8
    for value in values:
        assert -1e-6 <= axis.position(value) <= 100 + 1e-6
    if whole:
        assert all(tick == round(tick) for tick in axis.ticks)


def test_axis_of_a_share_does_not_go_beyond_one() -> None:
    axis = linear_axis([0.62, 0.997], 0, 100, limits=(0, 1))
    assert axis.high <= 1


def test_ticks_have_the_same_decimals() -> None:
    assert [tick_form([0, 0.25, 0.5])(v) for v in (0, 0.25, 0.5)] == ["0", "0.25", "0.50"]
    assert [tick_form([0, 2e-5, 4e-5])(v) for v in (0, 2e-5, 4e-5)] == ["0", "2e-5", "4e-5"]
    assert tick_form([0, 2000, 4000])(4000) == "4,000"


def test_log_axis_ends_at_powers_of_ten() -> None:
    axis = log_axis([3e-5, 0.02], 0, 100)
    assert (axis.low, axis.high) == (pytest.approx(1e-5), pytest.approx(0.1))
    assert axis.position(1e-3) == pytest.approx(50)


def test_the_name_of_a_short_last_stage_may_reach_beyond_the_curves() -> None:
    x = list(range(1, 13))
    svg = line_chart(
        [Line("", x, x)], title="Loss", x_title="epoch", spans=[("linear head", 0, 9), ("last layers", 9, 12)]
    )
    assert "last layers" in [text.text for text in parse(svg).iter(f"{SVG}text")]


def test_chart_has_curves_names_boundaries_and_the_best_point() -> None:
    x = [1, 2, 3, 4]
    svg = parse(
        line_chart(
            [Line("training", x, [4, 3, 2, 1], quiet=True), Line("validation", x, [4, 3, 2.5, 2.6])],
            title="Loss",
            x_title="epoch",
            spans=[("head", 0, 2), ("all of it", 2, 4)],
            best=(3, 2.5, "best"),
        )
    )
    texts = [text.text for text in svg.iter(f"{SVG}text")]
    assert {"training", "validation", "head", "all of it", "best", "epoch"} <= set(texts)
    assert len(svg.findall(f"{SVG}path[@class='bound']")) == 1
    assert svg.find(f"{SVG}circle[@class='best']") is not None
    said = [title.text for title in svg.iter(f"{SVG}title")]
    assert "epoch 3: training 2, validation 2.5" in said


def test_points_that_are_not_finite_break_the_curve() -> None:
    svg = parse(line_chart([Line("", [1, 2, 3, 4], [1, math.nan, 2, 3])], title="t", x_title="x"))
    path = svg.find(f"{SVG}g[@class='line loud']/{SVG}path")
    assert path is not None
    assert path.get("d", "").count("M") == 2


def test_names_at_the_ends_do_not_cover_each_other() -> None:
    lines = [Line(f"run {i}", [1, 2], [1, 2]) for i in range(5)]
    svg = parse(line_chart(lines, title="t", x_title="x"))
    heights = sorted(float(text.get("y", 0)) for text in svg.iter(f"{SVG}text") if "name" in text.get("class", ""))
    assert all(b - a >= 15 for a, b in pairwise(heights))


@pytest.mark.parametrize("values", [[0.5], [0.0, 0.0], [1e-8], [5.0, 5.0, 5.0]])
def test_single_and_constant_values_can_be_drawn(values: list[float]) -> None:
    parse(line_chart([Line("a", list(range(1, len(values) + 1)), values)], title="t", x_title="x", whole_x=True))


def test_names_are_escaped() -> None:
    bad = "</text><script>alert(1)</script>&\"'"
    svg = line_chart(
        [Line(bad, [1, 2], [1, 2])],
        title=bad,
        x_title=bad,
        spans=[(bad, 0, 1), (bad, 1, 2)],
        best=(1, 1, bad),
    )
    assert "<script" not in svg
    parse(svg)
