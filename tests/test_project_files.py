"""What hosts and hooks read of the project: it parses, and it runs what people are told to run."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import tellapart

ROOT = Path(__file__).parents[1]
FORMS = sorted(path for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml") if path.name != "config.yml")
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
REPORT = "tellapart --version --verbose"


def parsed(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def steps(workflow: Path) -> Iterator[dict[str, str]]:
    for job in parsed(workflow)["jobs"].values():
        yield from job["steps"]


def commands(workflow: Path) -> list[str]:
    return [step["run"] for step in steps(workflow) if "run" in step]


def make_targets() -> set[str]:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    return set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))


def test_there_are_forms_and_workflows() -> None:
    assert FORMS
    assert WORKFLOWS


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_a_form_asks_for_versions_and_machine(path: Path) -> None:
    form = parsed(path)
    assert {"name", "description", "body"} <= set(form)
    asked = {part["id"]: part["attributes"] for part in form["body"]}
    assert len(asked) == len(form["body"])
    assert REPORT in asked["environment"]["description"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_runs_what_make_has(path: Path) -> None:
    workflow = parsed(path)
    assert workflow[True]  # YAML 1.1 takes `on` for a truth value
    assert all(("run" in step) != ("uses" in step) for step in steps(path))
    targets = {command.split()[1] for command in commands(path) if command.startswith("make ")}
    assert targets <= make_targets()


def test_workflows_run_what_contributing_says() -> None:
    run = {command for path in WORKFLOWS for command in commands(path)}
    contributing = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for command in ("make check", "make test", "make test-all"):
        assert command in run
        assert f"    {command} " in contributing


def test_hosts_wait_for_no_job_without_end() -> None:
    jobs = [job for path in WORKFLOWS for job in parsed(path)["jobs"].values()]
    assert all(job["timeout-minutes"] <= 90 for job in jobs)


def test_hooks_run_the_linters_of_make() -> None:
    (local,) = parsed(ROOT / ".pre-commit-config.yaml")["repos"]
    assert local["repo"] == "local"
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for hook, linter in zip(local["hooks"], ("ruff check", "ruff format --check", "mypy"), strict=True):
        assert hook["entry"].startswith(f".venv/bin/{linter}")
        assert f"\t$(BIN)/{linter}" in makefile


def test_a_citation_names_the_version() -> None:
    citation = parsed(ROOT / "CITATION.cff")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert citation["version"] == tellapart.__version__
    assert citation["license"] == project["license"]
    assert citation["abstract"] == project["description"]
