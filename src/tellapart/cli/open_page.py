"""The command `open`: parse, call, print."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from tellapart.core.output import print_out
from tellapart.errors import RunError

#: Pages of a folder, the first one there is opened: of a run, a study, folds, an audit, the errors of pictures.
PAGES = ("report.html", "study.html", "audit.html", "errors.html")


def open_page(
    run: Annotated[Path, typer.Argument(help="A run, a study, or another folder with a page; or a page.")],
    browser: Annotated[bool, typer.Option(help="Open it; else only say where it is.")] = True,
) -> None:
    """Show the report in the browser."""
    page = page_of(run)
    if browser and not webbrowser.open(page.absolute().as_uri()):
        print_out("No browser can be opened from here. The page is one file; open it on any machine:")
    print_out(str(page))


def page_of(folder: Path) -> Path:
    """The page of a run or study.

    Raises:
        RunError: there is none.
    """
    if folder.is_file() and folder.suffix.lower() in (".html", ".htm"):
        return folder
    page = next((folder / name for name in PAGES if (folder / name).is_file()), None)
    if page is None:
        lacks = f"has no page: none of {', '.join(PAGES)}" if folder.exists() else "does not exist"
        raise RunError(
            f"{folder} {lacks}.",
            "Give the folder of a finished training or study; `tellapart runs` lists them.",
        )
    return page
