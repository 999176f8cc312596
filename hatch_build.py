"""Lets a wheel carry the engine that runs a classifier in a browser; see `deploy/export/browser_engine.py`.

Without npm or network the wheel is built without it, and says so.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCE = Path(__file__).parent / "src"
FOLDER = Path("build") / "browser-engine"


class BrowserEngineHook(BuildHookInterface):  # type: ignore[misc]
    """Fetches the engine before a wheel is put together."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the engine's files to a wheel; an editable installation does without."""
        if self.target_name != "wheel" or version == "editable":
            return
        sys.path.insert(0, str(SOURCE))
        from tellapart.deploy.export import browser_engine
        from tellapart.errors import BundleError

        folder = Path(self.root) / FOLDER
        try:
            browser_engine.fetch(folder)
        except BundleError as error:
            self.app.display_warning(f"The wheel is built without the engine for browsers. {error.message}")
            return
        for name in browser_engine.DIGESTS:
            build_data["force_include"][str(folder / name)] = f"tellapart/deploy/page/engine/{name}"
