"""What `tellapart --version --verbose` says: against other ways to the same facts, and on machines that say less."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import tellapart
from tellapart.core import environment

INTEL = "processor\t: 0\nmodel name\t: Intel(R) Xeon(R): Gold\nflags\t\t: fpu avx avx2 avx512f\nmodel name\t: other\n"
ARM = "processor\t: 0\nBogoMIPS\t: 50.00\nFeatures\t: fp asimd sve bf16\n"


@pytest.fixture
def cpuinfo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(environment, "_CPUINFO", tmp_path / "cpuinfo")
    return tmp_path / "cpuinfo"


def test_processor_of_a_list(cpuinfo: Path) -> None:
    cpuinfo.write_text(INTEL)
    assert environment.processor_name() == "Intel(R) Xeon(R): Gold"
    assert environment.special_instructions() == ["avx2", "avx512f"]


@pytest.mark.parametrize("text", [ARM, None])
def test_processor_without_a_name(cpuinfo: Path, monkeypatch: pytest.MonkeyPatch, text: str | None) -> None:
    if text is not None:
        cpuinfo.write_text(text)
    monkeypatch.setattr("platform.processor", lambda: "")
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert environment.processor_name() == "aarch64"
    assert environment.special_instructions() == (["asimd", "sve", "bf16"] if text else [])


@pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="needs Linux's own figure")
def test_memory_is_what_linux_says() -> None:
    kib = int(Path("/proc/meminfo").read_text().split("MemTotal:")[1].split()[0])
    assert environment.memory_gib() == pytest.approx(kib / 2**20, rel=1e-6)


def test_memory_where_the_system_does_not_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sysconf", raising=False)
    assert environment.memory_gib() is None
    assert "memory        unknown" in environment.describe_environment()


@pytest.fixture
def nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts a program of that name, with the given commands, before all others."""

    def put(commands: str) -> None:
        program = tmp_path / "nvidia-smi"
        program.write_text(f"#!/bin/sh\n{commands}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)

    return put


@pytest.mark.skipif(os.name == "nt", reason="needs a shell script")
@pytest.mark.parametrize(
    ("commands", "names"),
    [
        (
            "echo 'NVIDIA H100, 81559 MiB, 570.1'; echo ' T4, 1 MiB, 5'",
            ["NVIDIA H100, 81559 MiB, 570.1", "T4, 1 MiB, 5"],
        ),
        ("exit 9", ["nvidia-smi fails"]),
        ("exec sleep 600", ["nvidia-smi fails"]),
    ],
)
def test_gpus_are_asked_of_the_driver(nvidia_smi, monkeypatch, commands, names) -> None:
    monkeypatch.setattr(environment, "_LONGEST_QUERY", 0.5 if "sleep" in commands else 60.0)
    nvidia_smi(commands)
    assert environment.gpu_names() == names


def test_no_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert environment.gpu_names() == []


def test_every_requirement_stands_in_its_extra() -> None:
    asked = [Requirement(line) for line in importlib.metadata.requires("tellapart") or []]
    extras = environment.extras()
    assert {"", "train", "dev"} <= set(extras)
    for extra, packages in extras.items():
        wanted = [r.name for r in asked if (r.marker.evaluate({"extra": extra}) if r.marker else not extra)]
        assert packages == {name: importlib.metadata.version(name) for name in wanted}


def test_a_missing_package_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = [
        "numpy>=2",
        "torch>=2; extra == 'train'",
        "not-there-9; extra == 'train'",
        "tellapart[train]; extra == 'a'",
    ]
    monkeypatch.setattr("importlib.metadata.requires", lambda name: asked)
    assert environment.extras()["train"]["not-there-9"] is None
    lines = environment.describe_environment().splitlines()
    assert "extra train: incomplete" in lines
    assert ["not-there-9", "not", "installed"] in [line.split() for line in lines]
    assert not any(line.startswith("extra a") for line in lines)


def test_it_loads_no_torch_and_tells_nothing_of_the_user() -> None:
    code = "import sys; from tellapart.cli.main import main\ntry: main()\nfinally: assert 'torch' not in sys.modules"
    secret = dict.fromkeys(("HOME", "USER", "LOGNAME", "HOSTNAME", "USERPROFILE"), "very-secret")
    program = [sys.executable, "-c", code, "--version", "--verbose"]
    said = subprocess.run(program, env={**os.environ, **secret}, capture_output=True, text=True, check=True).stdout
    assert said.startswith(f"tellapart     {tellapart.__version__}\n")
    assert "very-secret" not in said
    assert str(Path(sys.executable).parent) not in said


def test_version_alone_is_one_line(here) -> None:
    assert here("--version").stdout == f"tellapart {tellapart.__version__}\n"


def test_verbose_goes_with_version_alone(here) -> None:
    done = here("--verbose", "models")
    assert done.returncode == 2
    assert "goes with --version" in done.stderr
