"""Pages as single HTML files, which need neither a network nor other files."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, pass_context
from jinja2.runtime import Context
from markupsafe import Markup

from tellapart.core.files import write_text
from tellapart.core.palette import DARK, LIGHT, css_variables
from tellapart.core.text import counted, json_in_html
from tellapart.core.version import __version__
from tellapart.report import formatting
from tellapart.report.blocks import Page
from tellapart.report.card_order import in_order_of_need
from tellapart.report.main_page import report_page
from tellapart.report.run_data import ReportData
from tellapart.report.terms import Terms
from tellapart.report.thumbnail import Thumbnails, gather

TEMPLATES = Path(__file__).parent / "templates"


def write_report(data: ReportData, folder: Path) -> Path:
    """Write `report.html` into a run directory, whole or not at all.

    Returns:
        The file's path.
    """
    path = folder / "report.html"
    write_page(report_page(data), path, data.pictures.jpeg)
    return path


def write_page(page: Page, path: Path, jpeg: Callable[[int], bytes]) -> None:
    """Write any page made of sections as one HTML file.

    Args:
        page: what it shows.
        path: of the HTML file, which is written whole or not at all.
        jpeg: row → small JPEG, for the rows of the page's cards. See `thumbnail.gather`.
    """
    blocks = [block for section in page.sections for block in section.blocks]
    rows = [card.row for card in in_order_of_need(blocks)]
    write_text(path, render(page, gather(rows, jpeg)))


def render(page: Page, thumbnails: Thumbnails) -> str:
    """HTML text of a page."""
    environment = _environment()
    theme_script = _read("theme.js")
    script = _read("script.js")
    encoded = {str(row): base64.b64encode(jpeg).decode() for row, jpeg in thumbnails.jpeg.items()}
    return environment.get_template("page.html").render(
        page=page,
        terms=Terms(),
        picture_notes=thumbnails.notes,
        has=thumbnails.jpeg.keys() | thumbnails.failed.keys(),
        pictures=Markup(json_in_html(encoded)),
        style=Markup(
            environment.get_template("style.css").render(
                light=css_variables(LIGHT, "light"), dark=css_variables(DARK, "dark")
            )
        ),
        theme_script=Markup(theme_script),
        script=Markup(script),
        # Only these two scripts may run: whatever a name smuggled in, the browser would refuse it.
        script_hashes=Markup(" ".join(map(_csp_hash, (theme_script, script)))),
        version=__version__,
    )


@cache
def _environment() -> Environment:
    """The compiled templates serve all pages; what belongs to one page stands in its context."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        visible=formatting.visible,
        terms=_marked,
        shortened=formatting.shortened,
        certainty=formatting.certainty,
        count=formatting.count,
        counted=counted,
        data_uri=lambda jpeg: f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}",
    )
    return environment


@pass_context
def _marked(context: Context, text: str) -> Markup:
    terms: Terms = context["terms"]
    return terms.marked(text)


def _read(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")


def _csp_hash(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
