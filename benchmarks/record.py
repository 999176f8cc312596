"""What every benchmark writes beside its figures: versions, machine, command, spread."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
import statistics
import sys
from pathlib import Path
from typing import Any

from tellapart.core.environment import memory_gib, processor_name, special_instructions
from tellapart.recipe.schema import Recipe

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("tellapart", "torch", "torchvision", "timm", "numpy", "polars", "pillow", "simplejpeg", "onnxruntime")


def machine() -> dict[str, Any]:
    """Processor and its special instructions, number of processors, memory, load of the last minute."""
    return {
        "processor": processor_name(),
        "special": special_instructions(),
        "processors": os.cpu_count(),
        "memory_gib": round(memory_gib() or 0),
        "load": round(os.getloadavg()[0], 1),
    }


def versions() -> dict[str, str]:
    """Of Python and the packages that matter."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def spread(values: list[float]) -> dict[str, Any]:
    """n, median, mean, deviation, smallest, largest."""
    return {
        "n": len(values),
        "median": statistics.median(values),
        "mean": statistics.fmean(values),
        "deviation": statistics.stdev(values) if len(values) > 1 else 0.0,
        "min": min(values),
        "max": max(values),
        "values": values,
    }


def _without_folder(argument: str) -> str:
    """A path of this machine says nothing to others; its last part does."""
    return Path(argument).name if argument.startswith("/") else argument


def backbone(recipe: Recipe) -> str | None:
    """The pretrained network of a run, by its recipe, which names what a plan chose; None of one from scratch."""
    names = [member.name for member in recipe.model.members] or [recipe.model.name]
    return " and ".join(names) if recipe.model.pretrained else None


def write(name: str, figures: dict[str, Any], network: str = "") -> None:
    """Write benchmarks/results/NAME.json and print it.

    Args:
        name: of the file.
        figures: what was measured.
        network: the backbone, where there is one. What the file says of another one is not lost: it moves to `before`,
            newest first, so that pages can show what the backbone alone brought.
    """
    result: dict[str, Any] = {
        "script": " ".join([f"benchmarks/{Path(sys.argv[0]).name}", *map(_without_folder, sys.argv[1:])]),
        "date": datetime.date.today().isoformat(),
        "machine": machine(),
        "versions": versions(),
    }
    path = RESULTS / f"{name}.json"
    if network:
        result["backbone"] = network
    result["figures"] = figures
    if network and (before := _others(path, network)):
        result["before"] = before
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps(result, indent=1) + "\n"
    path.write_text(text)
    print(text)


def _others(path: Path, network: str) -> list[dict[str, Any]]:
    """What a file says of other backbones than `network`."""
    if not path.is_file():
        return []
    last = json.loads(path.read_text())
    return [result for result in (last, *last.pop("before", [])) if result.get("backbone") != network]
