"""The environment that an answer or a fault depends on: versions, processor, memory, GPU, installed extras."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

from tellapart.core.hardware import n_processors
from tellapart.core.text import as_lines
from tellapart.core.version import __version__

#: Instructions that decide which kernels of torch and onnxruntime run.
_INSTRUCTIONS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "sve", "bf16")
_LONGEST_QUERY = 10.0  # seconds; a driver that hangs must not hang the command
_CPUINFO = Path("/proc/cpuinfo")


def processor_name() -> str:
    """The processor's model, as far as the system names it."""
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def special_instructions() -> list[str]:
    """Vector and matrix instructions of the processor; empty where the system does not list them."""
    flags = set(f"{_cpuinfo('flags')} {_cpuinfo('Features')}".split())
    return [name for name in _INSTRUCTIONS if name in flags]


def memory_gib() -> float | None:
    """Memory of the machine in GiB, None where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf
        return None


def gpu_names() -> list[str]:
    """Name, memory and driver of each NVIDIA GPU. Asked of the driver: torch would take seconds to load."""
    import shutil
    import subprocess

    if not (program := shutil.which("nvidia-smi")):
        return []
    query = [program, "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(
            query, capture_output=True, text=True, errors="replace", check=True, timeout=_LONGEST_QUERY
        )
    except (OSError, subprocess.SubprocessError):
        return ["nvidia-smi fails"]
    return [line.strip() for line in done.stdout.splitlines() if line.strip()]


def extras() -> dict[str, dict[str, str | None]]:
    """The packages of each extra and their versions, None if missing. The extra "" holds what is always needed."""
    import importlib.metadata

    groups: dict[str, dict[str, str | None]] = {}
    for requirement in importlib.metadata.requires("tellapart") or []:
        name = re.match(r"[\w.-]+", requirement)
        extra = re.search(r"""extra\s*==\s*["']([\w-]+)["']""", requirement)
        if name and name[0] != "tellapart":  # an extra may be made of others
            groups.setdefault(extra[1] if extra else "", {})[name[0]] = _version(name[0])
    return groups


def describe_environment() -> str:
    """All of it as lines for a bug report. No path and no name of the user or the machine is among them."""
    memory = memory_gib()
    lines = [
        f"tellapart     {__version__}",
        f"python        {platform.python_version()} ({platform.python_implementation()})",
        f"system        {platform.platform()}",
        f"processor     {processor_name()}",
        f"instructions  {', '.join(special_instructions()) or 'not listed'}",
        f"cores         {n_processors()} of {os.cpu_count()}",
        f"memory        {'unknown' if memory is None else f'{memory:.1f} GiB'}",
        *(f"GPU           {name}" for name in gpu_names() or ["no NVIDIA GPU"]),
    ]
    for extra, packages in extras().items():
        missing = [name for name, version in packages.items() if version is None]
        state = "incomplete" if missing else "installed"
        lines += ["", f"extra {extra}: {state}" if extra else "always needed:"]
        lines += [f"  {name:<26}{version or 'not installed'}" for name, version in packages.items()]
    return as_lines(lines)


def _version(package: str) -> str | None:
    import importlib.metadata

    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cpuinfo(key: str) -> str:
    """The first value of a key in Linux's list of processors, "" without such a list."""
    try:
        lines = _CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    pairs = (line.partition(":") for line in lines)
    return next((value.strip() for name, _, value in pairs if name.strip() == key), "")
