"""Descriptions of bundles for tests, signed as their writer signs them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tellapart.core.bundle_description import DESCRIPTION, FORMAT, own_digest

FILES = ("model.onnx", "model.safetensors", "golden.safetensors")


def sign(folder: Path, values: dict[str, Any]) -> None:
    """Write bundle.json with the digest that fits."""
    signed = values | {"sha256": own_digest(values)}
    (folder / DESCRIPTION).write_text(json.dumps(signed), encoding="utf-8")


def change(folder: Path, **changes: Any) -> None:
    """Change entries of bundle.json as its writer would have, digest included."""
    sign(folder, json.loads((folder / DESCRIPTION).read_text(encoding="utf-8")) | changes)


def describe(folder: Path, architecture: dict[str, Any], **changes: Any) -> None:
    """Write a whole bundle.json without the files that it vouches for."""
    folder.mkdir(parents=True, exist_ok=True)
    values = {
        "format": FORMAT,
        "tellapart": "0.1.0",
        "architecture": architecture,
        "weights_source": "random initial weights",
        "classes": [f"class {number}" for number in range(architecture["n_classes"])],
        "multilabel": False,
        "preprocessing": architecture["preprocessing"],
        "temperature": 1.0,
        "thresholds": [],
        "tolerance": {"absolute": 1e-3, "relative": 1e-3},
        "onnx_opset": 18,
        "sets": {},
        "n_validation": 0,
        "ood_score": None,
        "about": {},
        "tta": 0,
        "flip": False,
        "tta_mean": "logits",
        "files": {name: {"bytes": 1, "sha256": "0" * 64} for name in FILES},
    }
    sign(folder, values | changes)
