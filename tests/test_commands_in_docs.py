"""Every command that README and docs show is one: its name, its options and their values are what the parser takes."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from tellapart.cli import main
from tellapart.cli.help import RENAMED

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
APP: Any = typer.main.get_command(main.app)
_SHELL = {"|", "||", "&&", ">", ">>", "2>", "<", ";", "&"}
_ABBREVIATED = re.compile(r"…|\.\.\.|\[|\{|<")  # a line that shows a form, not a command


def shown(text: str) -> Iterator[list[str]]:
    """The words of each command in the blocks of code: after `$`, after `&&`, over several lines."""
    for line in text.replace("\\\n", " ").split("\n"):
        code = line.strip().removeprefix("$ ")
        if not (line.startswith("    ") or "\n```" in text) or not re.match(r"(nohup )?tellapart [a-z-]", code):
            continue
        try:
            words = shlex.split(code.removeprefix("nohup "), comments=True)
        except ValueError:  # prose in a list that happens to begin so
            continue
        end = next((i for i, word in enumerate(words) if word in _SHELL), len(words))
        if not any(map(_ABBREVIATED.search, words[:end])):
            yield words[1:end]


def command_of(words: list[str]) -> tuple[Any, list[str]]:
    command, rest = APP.commands[words[0]], words[1:]
    while subcommands := getattr(command, "commands", {}):
        default = "run" if "run" in subcommands else ""
        name = rest.pop(0) if rest and rest[0] in subcommands else default
        if not name:
            return command, rest
        command = subcommands[name]
    return command, rest


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_its_commands_parse(page: Path) -> None:
    for words in shown(page.read_text(encoding="utf-8")):
        assert words[0] in APP.commands, words
        command, rest = command_of(words)
        try:
            command.make_context(words[0], [word.replace("$seed", "0") for word in rest])
        except SystemExit:
            assert set(rest) & {"-h", "--help"}
        except typer.Exit:
            continue
        except Exception as error:  # noqa: BLE001 - the parser has no public name for its errors
            pytest.fail(f"{page.name}: tellapart {shlex.join(words)}: {error}")
        old = {option for (name, option) in RENAMED if name == words[0]}
        assert not old & {word.partition("=")[0] for word in rest}, words


def test_commands_are_met_at_all() -> None:
    met = {words[0] for page in PAGES for words in shown(page.read_text(encoding="utf-8"))}
    assert {"scan", "audit", "train", "predict", "evaluate", "errors", "review", "compare", "study", "export"} <= met


def test_no_two_trainings_of_the_tour_share_a_run() -> None:
    tour = list(shown((ROOT / "README.md").read_text(encoding="utf-8").partition("## Five minutes")[2]))
    runs, made = [], set[str]()
    for words in tour:
        values = dict(itertools.pairwise(words))
        if words[0] in ("train", "cross-validate"):
            runs.append(values.get("--out", f"{words[0]} without --out"))
            made.add(runs[-1])
        made |= {values["--out"]} if words[0] == "distill" and "--out" in values else set()
    assert len(runs) == len(set(runs)) > 2
    for words in tour:
        used = [word for word in words[1:] if word.startswith("runs/") and words[words.index(word) - 1] != "--out"]
        assert set(used) <= made, words
