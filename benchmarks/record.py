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

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("tellapart", "torch", "torchvision", "timm", "numpy", "polars", "pillow", "simplejpeg", "onnxruntime")


def machine() -> dict[str, Any]:
    """Processor, number of processors, memory."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    flags = next((line.split() for line in lines if line.startswith("flags")), [])
    special = [flag for flag in ("avx2", "avx512f", "amx_bf16") if flag in flags]
    return {
        "processor": model or platform.processor(),
        "special": special,
        "processors": os.cpu_count(),
        "memory_gib": round(memory),
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
