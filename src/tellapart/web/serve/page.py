"""The server's page: that of the export to one file, with a script that asks the server instead of an engine."""

from __future__ import annotations

from typing import Any

from tellapart.core.text import json_in_html
from tellapart.deploy.bundle.read import Bundle
from tellapart.deploy.page.describe import describe, fill, scripts

_PRIVACY = "Your pictures are sent to the server of this page, and are not kept there."
#: Nothing from elsewhere, and no script but the server's own.
POLICY = (
    "default-src 'none'; img-src 'self' blob: data:; media-src blob:; style-src 'self' 'unsafe-inline'; "
    "script-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class Page:
    """The page of a model.

    Attributes:
        about: the model, as plain values.
    """

    def __init__(self, bundle: Bundle) -> None:
        self.about: dict[str, Any] = describe(bundle, _PRIVACY)
        data = f'<script type="application/json" id="model">{json_in_html(self.about)}</script>'
        page = fill(bundle, "", data, '<script src="page/script.js"></script>')
        script = scripts("answer.js", "remote_engine.js", "classifier.js")
        self._parts = {"page.html": (page, "text/html"), "script.js": (script, "text/javascript")}

    def part(self, name: str) -> tuple[str, str] | None:
        """Text and type of a part; None where there is none of this name."""
        return self._parts.get(name)
