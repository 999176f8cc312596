"""Writes down in bundle.json what a bundle was exported to, and how near its answers are to the golden ones."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from tellapart.core.bundle_description import DESCRIPTION, read_description, signed_text
from tellapart.core.files import write_text
from tellapart.core.plain_json import read_json_file
from tellapart.core.version import __version__


def record_export(folder: Path, name: str, path: Path, difference: float) -> None:
    """Add an entry to "exports" in bundle.json; it takes the place of an older one of the same format.

    Args:
        folder: the bundle's.
        name: of the format.
        path: of the file or folder that was written.
        difference: the largest one between its logits and the golden ones.

    Raises:
        BundleError: bundle.json is damaged.
        OSError: it cannot be written.
    """
    read_description(folder)
    values: dict[str, Any] = read_json_file(folder / DESCRIPTION)
    entry: dict[str, Any] = {"file": path.name, "difference": difference, "tellapart": __version__}
    if path.is_file():
        with path.open("rb") as file:
            entry |= {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
    earlier = values.get("exports")
    values["exports"] = {**(earlier if isinstance(earlier, dict) else {}), name: entry}
    write_text(folder / DESCRIPTION, signed_text(values))
