"""What the site has beyond the files in docs/: the commands' help, the changes, all decisions, a classifier to try."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
DECISIONS = ROOT / "docs" / "decisions"
CLASSIFIER = ROOT / "build" / "docs" / "classifier.html"
#: Where a page has the classifier, if there is one.
MARK = "<!-- the classifier -->"
_FRAME = """
<iframe class="classifier" src="classifier.html" title="A classifier of handwritten digits in one file" loading="lazy">
</iframe>
[Open it on a page of its own](classifier.html)
"""
_NONE = "\n*This copy of the documentation was made without it: the engine for browsers was not at hand.*\n"


def on_config(config: Any) -> Any:
    """Put the decisions into the navigation."""
    records = [{_title(path): f"decisions/{path.name}"} for path in sorted(DECISIONS.glob("0*.md"))]
    config.nav.append({"Decisions": ["decisions/README.md", *records]})
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are written here, and the classifier."""
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    files.append(File.generated(config, "commands.md", content=commands()))
    files.append(File.generated(config, "changes.md", content=changes.replace("# Changelog", "# Changes", 1)))
    if CLASSIFIER.is_file():
        files.append(File.generated(config, CLASSIFIER.name, abs_src_path=str(CLASSIFIER)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the classifier where a page marks its place."""
    return markdown.replace(MARK, _FRAME if CLASSIFIER.is_file() else _NONE)


def commands() -> str:
    """A page with the help of each command, in the groups of `tellapart --help`."""
    import typer

    from tellapart.cli.help import GROUPS
    from tellapart.cli.main import app

    whole: Any = typer.main.get_command(app)
    parts = ["# Commands", "What `tellapart COMMAND -h` prints."]
    for title, names in GROUPS.items():
        parts.append(f"## {title}")
        for name in names:
            parts += [f"### {name}", *_help(whole.commands[name], f"tellapart {name}")]
    return "\n\n".join(parts) + "\n"


def _help(command: Any, name: str) -> list[str]:
    """The help of a command, and of those below it."""
    context = command.context_class(command, info_name=name, terminal_width=80, help_option_names=["-h", "--help"])
    text = command.get_help(context)
    parts = [f"```text\n{text}\n```"]
    for below, each in getattr(command, "commands", {}).items():
        parts += [f"#### {name.removeprefix('tellapart ')} {below}", *_help(each, f"{name} {below}")]
    return parts


def _title(path: Path) -> str:
    """A decision's number and title."""
    title = re.sub(r"^# *(\d+[.:]? *)?", "", path.read_text(encoding="utf-8").partition("\n")[0])
    return f"{int(path.name[:4])} · {title}"
