"""The model card: README.md of a bundle, filled from its run, fit to be published as it is."""

from __future__ import annotations

import html
import re
from typing import Any

from tellapart.core.own_paths import without_folders
from tellapart.core.scores import Metric, interval_text, score_text
from tellapart.core.text import counted, visible

_MANY = 100
_NOT_STATED = "not stated"

_PURPOSE = """\
To sort pictures of the kind that it was trained on into the classes above, or to suggest one to a person. It is not \
made to decide alone where a wrong answer does harm: its scores are averages over many pictures."""
_USE = """\
Neither way needs torch, only `pip install tellapart`:

```sh
tellapart predict THIS_FOLDER new.jpg more/
```

```python
import tellapart as ta

print(ta.load("THIS_FOLDER").predict("new.jpg"))
```"""

_ONE_LIMIT = "* **A picture of none of these classes still gets an answer**, and often a certain one."
_UNKNOWN_LIMIT = (
    "* **A picture of none of these classes may still get an answer**, and a certain one: only what is unlike all that "
    "it knows can be answered with “unknown”."
)
_SEVERAL_LIMIT = '* A picture of something else may still get a label; "none" means no label reached its threshold.'
_LIMITS = """\
* It knows pictures like those it was trained on. On others (another camera, season, place) the scores above do \
not hold.
* It repeats the mistakes and the one-sidedness of its training pictures and labels.
* The licence of the weights that training began from, and the rights to the training pictures, were not checked: \
check both before passing this on. This file may be edited; the others may not."""


def card(description: dict[str, Any]) -> str:
    """Markdown on a bundle: its purpose, data, scores, failures, use and limits, without a path of any machine.

    Args:
        description: the content of bundle.json. Names of classes and all other texts are escaped.
    """
    description = without_folders(description)
    about = description["about"]
    name = _text(description["architecture"]["name"])
    multilabel = description["multilabel"]
    parts = [
        f"# {name}, {len(description['classes'])} classes",
        f"Tells pictures apart: {_classes(description['classes'])}.",
        "A picture has none, one or several of these labels." if multilabel else "A picture has exactly one of these.",
        "## What it is for",
        _PURPOSE,
        "## Data",
        _data(about),
        "## Where it comes from",
        f"* Network: {name}\n"
        f"* Training began from: {_text(description['weights_source'])}\n"
        f"* Command: {_text(about.get('command', _NOT_STATED))}\n"
        f"* Written by Tellapart {_text(description['tellapart'])}",
        "## How good it is",
        _scores(about.get("evaluation")),
        "## How it fails",
        _failures(about),
        "## How to ask it",
        _USE,
        "## What it takes and gives",
        _interface(description),
        "## Limits",
        "\n".join([_SEVERAL_LIMIT if multilabel else _unknown_limit(description), _LIMITS]),
    ]
    return "\n\n".join(parts) + "\n"


def _unknown_limit(description: dict[str, Any]) -> str:
    return _UNKNOWN_LIMIT if description.get("ood_score") else _ONE_LIMIT


def _classes(classes: list[str]) -> str:
    shown = ", ".join(map(_text, classes[:_MANY]))
    return shown if len(classes) <= _MANY else f"{shown} and {len(classes) - _MANY} more (all in bundle.json)"


def _scores(evaluation: dict[str, Any] | None) -> str:
    if not evaluation:
        return "Not evaluated when this was written."
    lines = [f"| on {_text(evaluation['on'])}, {evaluation['n']:,} pictures | value | 95 % interval |", "|---|---|---|"]
    scores = {name: Metric(m["value"], m["low"], m["high"], m["n"]) for name, m in evaluation["metrics"].items()}
    lines += [f"| {_text(k)} | {score_text(k, m.value)} | {interval_text(k, m)} |" for k, m in scores.items()]
    notes = [f"\n{_text(note)}" for note in evaluation.get("notes") or () if isinstance(note, str)]
    return "\n".join([*lines, *notes])


def _data(about: dict[str, Any]) -> str:
    """The pictures that it learnt from and was judged by."""
    lines = [f"* Trained on: {_text(about.get('trained_on', _NOT_STATED))}"]
    data = about.get("data") or {}
    lines += [
        f"* {name}: {counted(int(data[part]), 'picture')}"
        for part, name in (("validation", "Epochs were chosen by"), ("test", "Judged by"))
        if isinstance(data.get(part), int) and data[part]
    ]
    lines += [f"* {_text(data[key])}" for key in ("layout", "divided") if data.get(key)]
    return "\n".join(lines)


def _failures(about: dict[str, Any]) -> str:
    """Sentences on its failures, as the run measured them."""
    lines = about.get("failures")
    if not isinstance(lines, list):
        return "Not measured when this was written."
    if not lines:
        return "No answer to the pictures above was wrong; on more of them, some will be."
    return "\n".join(f"* {_text(line)}" for line in lines)


def _interface(description: dict[str, Any]) -> str:
    preprocessing = description["preprocessing"]
    fit = {
        "crop": "scaled to cover the frame and cut in the middle "
        f"(the frame keeps {preprocessing['crop']:.3g} of the side)",
        "pad": "scaled to fit within, the rest filled with the background",
        "squash": "scaled to it without regard to the aspect ratio",
    }[preprocessing["fit"]]
    tolerance = description["tolerance"]
    certainty = "sigmoid" if description["multilabel"] else "softmax"
    size, n_classes = f"[n, {preprocessing['height']}, {preprocessing['width']}, 3]", len(description["classes"])
    return (
        f"`model.onnx` (opset {description['onnx_opset']}, float32): input `pictures`, uint8 {size}, RGB; "
        f"output `logits`, float32 [n, {n_classes}], and `features`, what the last layer makes them from.\n\n"
        "* A picture is turned upright (EXIF), "
        f"transparency laid over {tuple(preprocessing['background'])}, then {fit}; "
        f"filter: {preprocessing['interpolation']}. The network itself subtracts mean and deviation.\n"
        f"* Certainty: {certainty} of logits / {_temperature(description['temperature'])}.\n"
        f"* Checked when written: onnxruntime against torch on the pictures of `golden.safetensors`, within "
        f"{tolerance['absolute']:g} + {tolerance['relative']:g} × the logit's size."
    )


def _temperature(value: float | list[float]) -> str:
    if isinstance(value, list):
        return "the class's temperature (`temperature` in bundle.json)"
    return f"{value:.4g}"


def _text(value: object) -> str:
    """Any text as Markdown that shows it as it is: on one line, no markup, no HTML."""
    line = visible(" ".join(str(value).split()))
    return re.sub(r"([\\`*_\[\]|#~])", r"\\\1", html.escape(line, quote=False))
