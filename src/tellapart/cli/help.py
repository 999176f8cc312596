"""What the command line says of itself: commands in groups, an example where something is missing, old spellings."""

from __future__ import annotations

from typing import Any

import typer
import typer.core

from tellapart.core.output import print_err

#: Commands in the order in which a user meets them.
GROUPS: dict[str, tuple[str, ...]] = {
    "Look": ("scan", "audit"),
    "Train": ("train", "cross-validate", "distill", "study"),
    "Prepare": ("recipes", "models", "summary", "augment", "ahead", "find-lr"),
    "Judge": ("open", "evaluate", "errors", "explain", "slices", "compare", "average", "curves", "runs"),
    "Mend": ("review",),
    "Use": ("predict", "serve", "export", "verify", "drift"),
    "Housekeeping": ("cache", "completion"),
}
#: What one may type, where a command lacks what it needs.
EXAMPLES = {
    "scan": "tellapart scan photos/",
    "audit": "tellapart audit photos/",
    "train": "tellapart train photos/ --out runs/first",
    "cross-validate": "tellapart cross-validate photos/ --folds 5",
    "distill": "tellapart distill runs/first --model small-cnn",
    "study": "tellapart study photos/ --vary stages.2.lr=1e-4,1e-3 --seeds 3",
    "find-lr": "tellapart find-lr photos/",
    "augment": "tellapart augment photos/",
    "ahead": "tellapart ahead photos/ --set data.ahead=eightfold",
    "open": "tellapart open runs/first",
    "evaluate": "tellapart evaluate runs/first --on newer_photos/",
    "errors": "tellapart errors runs/first",
    "explain": "tellapart explain runs/first new.jpg",
    "slices": "tellapart slices runs/first",
    "compare": "tellapart compare runs/first runs/second",
    "curves": "tellapart curves runs/first runs/second",
    "review": "tellapart review runs/first",
    "predict": "tellapart predict runs/first new.jpg more/",
    "serve": "tellapart serve runs/first",
    "export": "tellapart export runs/first --to html",
    "verify": "tellapart verify runs/first",
    "drift": "tellapart drift runs/first monitor.json",
    "average": "tellapart average runs/first runs/second --out runs/both",
    "completion": "tellapart completion bash",
}
#: Options that had another name: each now means one thing in all commands.
RENAMED = {
    ("average", "--weights"): "--shares",
    ("review", "--by"): "--reviewer",
    ("audit", "--table"): "--write-table",
}


class Group(typer.core.TyperGroup):
    """The commands below their groups' names."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names in the order of `--help`."""
        return [name for names in GROUPS.values() for name in names if name in self.commands]

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write a section a group."""
        width = max(map(len, self.commands))
        for title, names in GROUPS.items():
            with formatter.section(title):
                shown = [(name, self.commands[name]) for name in names]
                room = formatter.width - width - 6
                formatter.write_dl([(f"{name:<{width}}", each.get_short_help_str(room)) for name, each in shown])


class Command(typer.core.TyperCommand):
    """A command that names what to type where something is missing, and takes its options' old names."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse, old names first."""
        name = self.name or ""
        try:
            return super().parse_args(ctx, [_renamed(name, word) for word in args])
        except typer.BadParameter as error:
            # Only what is missing comes without a message; typer has no public name for that error.
            if not error.message and name in EXAMPLES:
                error.message = f"For example: {EXAMPLES[name]}"
            raise


def _renamed(command: str, word: str) -> str:
    """An option under its present name; a line says which that is."""
    name, equals, value = word.partition("=")
    new = RENAMED.get((command, name))
    if new is None:
        return word
    print_err(f"{name} of {command} is called {new} now.")
    return f"{new}{equals}{value}"
