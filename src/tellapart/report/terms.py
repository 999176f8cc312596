"""Terms of the field in a page's texts: each opens its meaning, by a click, a touch or a key.

A text says a plain word, or the term where it comes from a stored run; what opens has the other one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from markupsafe import Markup, escape

from tellapart.report.formatting import visible

#: A word or phrase of a page → what it means, with the term that papers have for it.
_MEANINGS = {
    "head": ("The head is the last layer: it turns what the layers before it see into one number a class."),
    "last layer": (
        "In papers: the head, or classifier. It turns what the layers before it see into one number a class."
    ),
    "frozen": ("Frozen layers stay as they are; only the others learn. So a picture runs through them once."),
    "temperature": (
        "One number by which the network's outputs are divided, so that its certainties come true on average "
        "(temperature scaling, Guo et al. 2017)."
    ),
    "its correction": (
        "In papers: temperature scaling (Guo et al. 2017). The network's outputs are divided by one number, "
        "fitted on the validation pictures, so that its certainties come true on average."
    ),
    "strengths": (
        "Strengths of regularisation: how much the last layer pays for large weights. Several are tried, and "
        "the best one is kept."
    ),
    "penalty on large weights": (
        "In papers: the strength of (L2) regularisation. A larger one makes a simpler classifier."
    ),
    "strangeness": (
        "How unlike all known classes a picture is, by its features; in papers: an out-of-distribution score."
    ),
    "expected calibration error": (
        "Answers are sorted into groups by certainty; in each, certainty is compared with the share that is "
        "right; this is the mean distance (Guo et al. 2017)."
    ),
    "augmentation": (
        "Each epoch shows every picture a little changed, such as mirrored or cut, so that it is not learned by heart."
    ),
    "overfitting": ("It learns its training pictures by heart: on them it gets ever better, on others worse."),
    "loss on validation": (
        "How far its answers are from the labels, on pictures that it does not learn from; lower is better."
    ),
    "label smoothing": (
        "The right class counts a little less than 1 and the others a little more than 0, so that the network "
        "is not taught to be too sure."
    ),
}
_ANY = re.compile(rf"\b({'|'.join(sorted(_MEANINGS, key=len, reverse=True))})\b")


@dataclass
class Terms:
    """The terms that one page uses, gathered while it is rendered."""

    used: set[str] = field(default_factory=set)

    def marked(self, text: str) -> Markup:
        """A text, escaped, in which the first of each term is a button that opens its meaning."""
        seen: set[str] = set()

        def button(match: re.Match[str]) -> str:
            term = match[1]
            if term in seen:
                return term
            seen.add(term)
            self.used.add(term)
            return f'<button type="button" class="term" popovertarget="{_anchor(term)}">{term}</button>'

        # After escaping, no term can stand within a tag: there is none but those made here.
        return Markup(_ANY.sub(button, str(escape(visible(text)))))

    def meanings(self) -> list[tuple[str, str, str]]:
        """Anchor, term and meaning of each term that was marked."""
        return [(_anchor(term), term, _MEANINGS[term]) for term in _MEANINGS if term in self.used]


def _anchor(term: str) -> str:
    return f"term-{term.replace(' ', '-')}"
