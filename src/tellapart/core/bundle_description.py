"""bundle.json, the description of a bundle: its one reader, for whoever needs anything of it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from tellapart.core.old_names import current_keys
from tellapart.errors import BundleError

FORMAT = 3
DESCRIPTION = "bundle.json"
AGAIN = "Copy it again from where it came from, or make it anew by training again."


def own_digest(values: dict[str, Any]) -> str:
    """SHA-256 over everything in bundle.json but the digest itself."""
    rest = {key: value for key, value in values.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def read_description(folder: Path) -> dict[str, Any]:
    """bundle.json, checked to be whole and of a format that is understood.

    Args:
        folder: the bundle's.

    Raises:
        BundleError: it is missing, damaged, or was written by a newer Tellapart.
    """
    path = folder / DESCRIPTION
    try:
        values = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise BundleError(f"{path} cannot be read: {error}", AGAIN) from error
    if not isinstance(values, dict) or not isinstance(values.get("format"), int):
        raise BundleError(f"{path} is not the description of a bundle.", AGAIN)
    if values["format"] > FORMAT:
        raise BundleError(
            f"{folder} has format {values['format']}, written by Tellapart {values.get('tellapart', 'unknown')}; "
            f"this version reads formats up to {FORMAT}.",
            "Install a newer version: pip install --upgrade tellapart",
        )
    if values.get("sha256") != own_digest(values):
        raise BundleError(f"{path} is damaged, or was changed after it was written.", AGAIN)
    return current_keys(values)
