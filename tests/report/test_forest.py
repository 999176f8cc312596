"""Intervals around a line that means "no difference"."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from tellapart.report.forest import Interval, forest_chart


@pytest.mark.parametrize(("low", "high"), [(-0.9, -0.6), (-0.2, 0.0), (-0.2, 0.2), (0.1, 0.9)])
def test_what_stands_above_both_sides_of_0_is_not_cut_off(low: float, high: float) -> None:
    chart = forest_chart(
        [Interval("B − A", (low + high) / 2, low, high)],
        title="Differences",
        x_title="points",
        form=lambda value: f"{100 * value:+.0f}",
        ends=("← worse", "better →"),
    )
    svg = ElementTree.fromstring(str(chart))
    width = float(svg.attrib["viewBox"].split()[2])
    said = {node.text: float(node.attrib["x"]) for node in svg.iter("text") if node.attrib.get("class") == "stage"}
    assert said["← worse"] > 50
    assert said["better →"] < width - 50
