"""The model card of a bundle: what people need, filled from the run, without folders of its machine."""

import json

from tellapart.deploy.bundle.card import card
from tellapart.deploy.bundle.read import CARD, Bundle


def test_the_card_tells_people_what_they_need(written):
    text = (written / CARD).read_text(encoding="utf-8")
    for part in (
        "tiny\\_net, 3 classes",
        "bèe &amp; &lt;b&gt;",
        "2,525 pictures",
        "random &lt;numbers&gt;",
        "| accuracy | 92.3\u202f% | 90.1 to 94.2\u202f% |",
        "## What it is for",
        "## How it fails\n\nNot measured when this was written.",
        "none of these classes still gets an answer",
        "licence",
        "tellapart predict",
        "ta.load",
        "0.001 + 0.001",
    ):
        assert part in text
    assert "confusion" not in Bundle.load(written).about["evaluation"]


def test_the_card_fills_itself_from_the_run_without_its_folders(written):
    description = json.loads((written / "bundle.json").read_text(encoding="utf-8"))
    description["weights_source"] = "/mnt/weights/best.safetensors, without its classifier"
    description["about"] |= {
        "data": {"validation": 90, "test": 1, "layout": "One folder a class.", "divided": "Drawn by class."},
        "failures": ["Of 20 pictures given the class <i>, 60 % were answered with it."],
        "command": "tellapart train '/mnt/my photos' --out runs/first",
    }
    text = card(description)
    assert "/mnt" not in text
    for part in (
        "Training began from: best.safetensors, without its classifier",
        "* Epochs were chosen by: 90 pictures\n* Judged by: 1 picture\n* One folder a class.\n* Drawn by class.",
        "## How it fails\n\n* Of 20 pictures given the class &lt;i&gt;, 60 % were answered with it.",
        "tellapart train 'my photos' --out runs/first",
    ):
        assert part in text, text
    description["about"]["failures"] = []
    assert "No answer to the pictures above was wrong" in card(description)
