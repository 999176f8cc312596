"""Puts a classifier's page together: its description, and the template filled with scripts and data."""

from __future__ import annotations

import html
import string
from datetime import date
from pathlib import Path
from typing import Any

from tellapart.core.palette import css
from tellapart.core.text import counted, percent, visible
from tellapart.core.version import __version__
from tellapart.deploy.bundle.read import Bundle

PAGE = Path(__file__).parent
_FEW = 4


def fill(bundle: Bundle, head: str, data: str, script: str) -> str:
    """The page as HTML.

    Args:
        bundle: for the title.
        head: more for the head, such as a policy.
        data: elements with what the scripts need.
        script: the last element: the scripts, or a link to them.
    """
    return string.Template(read("page.html")).substitute(
        head=head,
        version=__version__,
        title=html.escape(_title(bundle)),
        style=css() + read("style.css"),
        data=data,
        script=script,
    )


def scripts(*names: str) -> str:
    """Scripts of the page, as one."""
    return '"use strict";\n' + "\n".join(map(read, names)).replace('"use strict";\n', "")


def read(name: str) -> str:
    """A part of the page."""
    return (PAGE / name).read_text(encoding="utf-8")


def describe(bundle: Bundle, privacy: str) -> dict[str, Any]:
    """All that the page's scripts know of a classifier, as plain values."""
    safest = max(bundle.sets, default=None)
    n = len(bundle.classes)
    one = f"It says which of {n} classes a picture shows, and how sure it is."
    several = f"It says which of {n} labels a picture has (none, one or several), and how sure it is."
    return {
        "title": _title(bundle),
        "subtitle": several if bundle.multilabel else one,
        "privacy": privacy,
        "facts": _facts(bundle),
        "classes": [visible(name) for name in bundle.classes],
        "multilabel": bundle.multilabel,
        "preprocessing": bundle.preprocessing.as_dict(),
        "temperature": bundle.temperature,
        "thresholds": bundle.thresholds,
        "set": None if safest is None else {"coverage": safest, "threshold": bundle.sets[safest]},
        "ood_score": bundle.ood_score.as_dict() if bundle.ood_score else None,
        "known": bundle.known and {name: tensor.size for name, tensor in bundle.known.tensors().items()},
        "tta": bundle.tta,
        "flip": bundle.flip,
        "tta_mean": bundle.tta_mean,
    }


def _title(bundle: Bundle) -> str:
    names = [visible(name) for name in bundle.classes]
    if len(names) > _FEW:
        return f"Tells {len(names)} kinds of pictures apart"
    return f"{', '.join(names[:-1])} or {names[-1]}?" if len(names) > 1 else f"{names[0]}?"


def _facts(bundle: Bundle) -> list[tuple[str, str]]:
    """Terms and facts about the classifier, for people."""
    about, facts = bundle.about, [("Classes", ", ".join(map(visible, bundle.classes)))]
    if quality := _quality(about.get("evaluation")):
        facts.append(("How good it is", quality))
    if isinstance(about.get("trained_on"), str):
        facts.append(("Trained on", visible(about["trained_on"])))
    name = bundle.architecture.get("name")
    sides = f"{bundle.preprocessing.width} × {bundle.preprocessing.height} pixels"
    facts.append(("Network", f"{visible(str(name))}, which sees {sides}"))
    facts.append(("Limits", "It knows pictures like those it was trained on; on others its certainty does not hold."))
    facts.append(("Made with", f"Tellapart {__version__}, {date.today().isoformat()}"))
    return facts


def _quality(evaluation: Any) -> str:
    """A sentence on the first score of an evaluation; empty where there is none. A bundle may hold anything here."""
    try:
        name, metric = next(iter(evaluation["metrics"].items()))
        words = visible(name).replace("_", " ").capitalize()
        n = counted(evaluation["n"], "picture")
        span = f"{percent(metric['low'])} to {percent(metric['high'])} with 95 % confidence"
        return f"{words} {percent(metric['value'])} on {n} that it had not seen ({span})"
    except (TypeError, KeyError, ValueError, AttributeError, StopIteration):
        return ""
