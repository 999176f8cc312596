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

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("tellapart", "torch", "torchvision", "timm", "numpy", "polars", "pillow", "simplejpeg", "onnxruntime")


def machine() -> dict[str, Any]:
    """Processor, number of processors, memory."""
    return {
        "processor": processor_name(),
        "special": special_instructions(),
        "processors": os.cpu_count(),
        "memory_gib": round(memory_gib() or 0),
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


def write(name: str, figures: dict[str, Any]) -> None:
    """Write benchmarks/results/NAME.json and print it."""
    result = {
        "script": " ".join([f"benchmarks/{Path(sys.argv[0]).name}", *map(_without_folder, sys.argv[1:])]),
        "date": datetime.date.today().isoformat(),
        "machine": machine(),
        "versions": versions(),
        "figures": figures,
    }
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps(result, indent=1) + "\n"
    (RESULTS / f"{name}.json").write_text(text)
    print(text)
