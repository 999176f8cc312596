"""Explanations that a training stored in its run directory, which may come from anybody."""

from __future__ import annotations

import json
from pathlib import Path

from tellapart.report.blocks import Card, Explained, HeatMap, Label
from tellapart.report.sections.explanations import KEPT, Why, explained, keep_explained
from tellapart.runs.run import Run


def test_no_file_from_elsewhere_comes_into_the_report(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    run.figures.mkdir(parents=True)
    card = Card(0, "a.png", [Label("cat")], [Label("cat")])
    keep_explained(run, Why([Explained(card, b"picture", [HeatMap("Where", b"map", "m", "note")], [])]))
    secret = tmp_path / "explained-1.jpg"
    secret.write_bytes(b"secret")
    about = json.loads((run.figures / KEPT).read_text())
    about["explained"][0]["seen"] = "../../explained-1.jpg"
    about["explained"][0]["maps"][0]["file"] = str(secret)
    (run.figures / KEPT).write_text(json.dumps(about))
    section = explained(run)
    assert section is not None
    shown = section.blocks[0].blocks[-1]
    assert isinstance(shown, Explained)
    assert (shown.picture, shown.maps[0].jpeg) == (b"picture", b"picture")
