"""Commands that train a run again. They name the run's own recipe: it holds every choice that a plan made by timing."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from tellapart.runs.run import Run

#: Options of `train` that the run's own recipe and another run directory take the place of.
_REPLACED = ("--recipe", "--set", "--minutes", "--model", "--weights", "--seed", "--out")
_SHORT = ("-r", "-s", "-m", "-o")
_FLAGS = re.compile("--resume-anyway|--json|--quiet|--verbose|--no-explain|-[qv]+")


def training_command(run: Run, out: Path | None = None, corrections: Path | None = None) -> str:
    """The command that trains a run again: the same pictures and options, its own recipe, another directory.

    A fold of a cross-validation has none; for it, this is the command of the whole.

    Args:
        out: the other directory; by default beside the run.
        corrections: instead of those that the run was trained with.
    """
    words = shlex.split(run.environment["command"])
    if words[:2] != ["tellapart", "train"]:
        if words:
            return shlex.join(words)
        words = ["tellapart", "train", str(run.catalog.root)]  # it was not started by a command
    replaced = (*_REPLACED, "--corrections") if corrections else _REPLACED
    words = _without(words, (*replaced, *_SHORT))
    words += ["--corrections", str(corrections)] if corrections else []
    other = out or run.directory.with_name(f"{run.directory.name}-again")
    return shlex.join([*words, "--recipe", str(run.recipe_file), "--out", str(other)])


def _without(words: list[str], options: tuple[str, ...]) -> list[str]:
    """The words of a command without these options and their values, and without flags of no lasting effect."""
    rest: list[str] = []
    skip = False
    for word in words:
        if skip:
            skip = False
        elif word in options:
            skip = True
        elif not word.startswith((*(f"{option}=" for option in options), *_SHORT)) and not _FLAGS.fullmatch(word):
            rest.append(word)
    return rest
