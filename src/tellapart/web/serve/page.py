"""The server's page: that of the export to one file, with a script that asks the server instead of an engine."""

from __future__ import annotations

from typing import Any

from tellapart.core.text import json_in_html
from tellapart.deploy.bundle.read import Bundle
from tellapart.deploy.page.describe import describe, fill, read, scripts
from tellapart.web.guard import policy

_NOT_KEPT = "Your pictures are sent to the server of this page, and are not kept there."
_KEPT = "Your pictures are sent to the server of this page, and are kept there, with what you say about them."
PAGE_POLICY = policy("'self' blob: data:", "'self' 'unsafe-inline'")


class Page:
    """The page of a model.

    Args:
        bundle: the model.
        keeps: whether pictures are kept.
        explains: whether answers can be explained.

    Attributes:
        about: the model, as plain values.
    """

    def __init__(self, bundle: Bundle, keeps: bool = False, explains: bool = False) -> None:
        self.about: dict[str, Any] = describe(bundle, _KEPT if keeps else _NOT_KEPT)
        # The page shows names that are safe to show, and sends them as they are.
        self.about |= {"keeps": keeps, "explains": explains, "names": list(bundle.classes)}
        data = f'<script type="application/json" id="model">{json_in_html(self.about)}</script>'
        style = f"<style>{read('more_answers.css')}</style>"
        page = fill(bundle, style, data, '<script src="page/script.js"></script>')
        script = scripts("answer.js", "remote_engine.js", "classifier.js", "more_answers.js")
        self._parts = {"page.html": (page, "text/html"), "script.js": (script, "text/javascript")}

    def part(self, name: str) -> tuple[str, str] | None:
        """Text and type of a part; None where there is none of this name."""
        return self._parts.get(name)
