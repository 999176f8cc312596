"""What the command line says of itself: commands in groups, options in words, an example, old spellings."""

from __future__ import annotations

import inspect
import re
from typing import Any

import typer
import typer.core

from tellapart.cli.options import label_options
from tellapart.core.output import print_err
from tellapart.core.suggest import did_you_mean

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


#: Options that tell how labels are read.
LABEL_OPTIONS = tuple(inspect.signature(label_options).parameters)
#: What is written after an option of each type.
_VALUES = {"path": "PATH", "int": "N", "float": "NUMBER"}
_LAST = "`tellapart COMMAND -h` lists a command's options. The usual way: scan, audit, train, open, review, predict."


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

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write where to go on."""
        formatter.write_paragraph()
        formatter.write_text(_LAST)


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
        except Exception as error:
            if names := getattr(error, "possibilities", None):  # an option that there is not
                error.message += f". {did_you_mean(error.option_name, names)}"  # type: ignore[attr-defined]
                error.possibilities = None  # type: ignore[attr-defined]
            raise

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """The words after the command's name."""
        pieces = ["[OPTIONS]"]
        for each in filter(_is_argument, self.params):
            pieces.append(_argument(each) if each.required else f"[{_argument(each)}]")
        return pieces

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write arguments, options, and the options on labels, which many commands share, apart."""
        shown: list[Any] = self.get_params(ctx)  # of the copy of click within typer, which has no types
        own = [each for each in shown if not each.hidden]
        options = [each for each in own if not _is_argument(each)]
        sections = {
            "Arguments": [(_argument(each), each.help or "") for each in own if _is_argument(each)],
            "Options": [_option(each, ctx) for each in options if each.name not in LABEL_OPTIONS],
            "Where the labels are not found by themselves": [
                _option(each, ctx) for each in options if each.name in LABEL_OPTIONS
            ],
        }
        for title, lines in sections.items():
            if lines:
                with formatter.section(title):
                    formatter.write_dl(lines)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write an example, and what the command adds to it."""
        if self.name in EXAMPLES:
            with formatter.section("For example"):
                formatter.write_text(EXAMPLES[self.name])
        super().format_epilog(ctx, formatter)


def _is_argument(parameter: Any) -> bool:
    return bool(parameter.param_type_name == "argument")


def _argument(parameter: Any) -> str:
    """The name of an argument, as RUN; as PICTURES… where there may be several."""
    return f"{parameter.name.upper()}{'…' if parameter.nargs == -1 else ''}"


def _option(option: Any, ctx: Any) -> tuple[str, str]:
    """The names of an option with the kind of its value; and its help, with bounds in words."""
    names, text = option.get_help_record(ctx)
    names = re.sub(r"<(?:list\[)?(\w+)[^>]*>", lambda match: _VALUES.get(match[1], "TEXT"), names)
    text = re.sub(r"([\d.]+)<=x<=([\d.]+)(?=[];])", r"\1 to \2", text)
    return names, re.sub(r"x>=([\d.]+)(?=[];])", r"at least \1", text).replace("  [at least 0]", "")


def _renamed(command: str, word: str) -> str:
    """An option under its present name; a line says which that is."""
    name, equals, value = word.partition("=")
    new = RENAMED.get((command, name))
    if new is None:
        return word
    print_err(f"{name} of {command} is called {new} now.")
    return f"{new}{equals}{value}"
