"""Hints where a name is not known; and the spelling of all hints in the source."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import typer

from tellapart.cli import main
from tellapart.core.suggest import did_you_mean, suggest

SOURCE = Path(__file__).parents[2] / "src" / "tellapart"
#: Spellings that mean the same as "Did you mean …?" and "Possible: …".
OTHERS = re.compile(r"(Known|Possible here|There are|They are|Shells are|Layouts are|Try one of|Maybe you): ?|Perhaps ")
_COMMAND = re.compile(r"(?<!import )\btellapart ([a-z][a-z-]*)")


@cache
def texts() -> list[tuple[str, str]]:
    """Every string of the source that is no docstring, with its file; what is filled in is an ellipsis."""
    strings = []
    for path in sorted(SOURCE.rglob("*.py")):
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        passed_over = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
        passed_over |= {id(part) for node in nodes if isinstance(node, ast.JoinedStr) for part in node.values}
        for node in nodes:
            if id(node) in passed_over:
                continue
            if isinstance(node, ast.JoinedStr):
                strings.append(
                    (path.name, "".join(p.value if isinstance(p, ast.Constant) else "…" for p in node.values))
                )
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                strings.append((path.name, node.value))
    return strings


def test_a_near_name_is_asked_for() -> None:
    assert suggest("trnsfer", {"fast": 1, "transfer": 2}) == "Did you mean 'transfer'?"
    assert did_you_mean("resnet_34", ["resnet34", "resnet18", "mlp"], 2) == "Did you mean 'resnet34' or 'resnet18'?"
    assert did_you_mean("zzz", ["fast"]) == ""


def test_else_the_names_are_listed() -> None:
    assert suggest("zzz", ["fast", "transfer"]) == "Possible: fast, transfer."
    assert suggest("zzz", map(str, range(1000, 1050))).endswith("1019, and 30 more.")


def test_a_long_name_costs_nothing() -> None:
    assert suggest("x" * 10_000_000, ["fast"]) == "Possible: fast."


def test_hints_have_one_spelling() -> None:
    assert [(file, text) for file, text in texts() if OTHERS.match(text) or OTHERS.search(text[1:])] == []
    asking = {file for file, text in texts() if "Did you mean" in text}
    assert asking == {"suggest.py"}


def test_commands_in_hints_are_commands() -> None:
    named = [(file, match[1], text) for file, text in texts() for match in _COMMAND.finditer(text)]
    known = set(typer.main.get_command(main.app).commands)  # type: ignore[attr-defined]
    assert len({command for _, command, _ in named}) > 10
    assert [(file, text) for file, command, text in named if command not in known] == []
