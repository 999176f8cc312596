"""The documentation as a whole: every page has its place, every link leads somewhere, every picture is shown."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from markdown.extensions.toc import slugify

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md")] + sorted(DOCS.rglob("*.md"))
#: Pages that `docs/site/hooks.py` writes.
GENERATED = {"commands.md", "changes.md"}
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_MOST_BYTES = 1_500_000


def links(page: Path) -> list[str]:
    text = re.sub(r"```[^`]*```|`[^`\n]*`|^    .*$", "", page.read_text(encoding="utf-8"), flags=re.M)
    return [link for link in _LINK.findall(text) if not link.startswith(("http://", "https://", "mailto:"))]


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ +(.+?) *$", page.read_text(encoding="utf-8"), re.M)
    return {slugify(re.sub(r"[`*]", "", heading), "-") for heading in headings}


def in_nav(entries: list[Any]) -> Iterator[str]:
    for entry in entries:
        value = entry if isinstance(entry, str) else next(iter(entry.values()))
        yield from [value] if isinstance(value, str) else in_nav(value)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link
        # The site has what lies in docs/ alone.
        assert page.is_relative_to(DOCS) <= target.resolve().is_relative_to(DOCS), link


def test_the_navigation_names_every_page_once() -> None:
    nav = list(in_nav(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]))
    own = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md") if path.parent.name != "decisions"}
    assert sorted(nav) == sorted(own | GENERATED)


def test_the_first_page_leads_to_every_other() -> None:
    first = {link.partition("#")[0] for link in links(DOCS / "README.md")}
    own = {path.name for path in DOCS.glob("*.md")} - {"README.md"}
    assert own <= first


def test_decisions_are_listed() -> None:
    listed = set(links(DOCS / "decisions" / "README.md"))
    assert {path.name for path in (DOCS / "decisions").glob("0*.md")} == listed


def test_pictures_are_shown_and_small() -> None:
    pictures = {path.resolve() for path in (DOCS / "images").iterdir()}
    shown = {(page.parent / link).resolve() for page in PAGES for link in links(page) if "images/" in link}
    assert pictures == shown
    assert sum(path.stat().st_size for path in pictures) < _MOST_BYTES


def test_lists_and_tables_stand_apart_from_the_paragraph_before() -> None:
    """GitHub shows them either way; the site's Markdown needs the empty line."""
    missing = []
    for page in PAGES:
        code = False
        for before, line in itertools.pairwise(page.read_text(encoding="utf-8").split("\n")):
            code ^= before.startswith("```")
            begins = re.match(r"(\* |- |\d+\. |\|)", line)
            if begins and not code and before and not re.match(r"(\* |- |\d+\. |\||    |  |#)", before):
                missing.append(f"{page.name}: {line}")
    assert missing == []


@pytest.mark.slow
def test_the_site_is_built_strictly_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    subprocess.run(build, cwd=ROOT, check=True, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"})
    pages = sorted((tmp_path / "site").rglob("*.html"))
    assert {"index.html", "tour.html", "commands.html", "changes.html"} <= {page.name for page in pages}
    loads = re.compile(r"<(?:script|img|iframe|link|source)\b[^>]*?\b(?:src|href)=[\"']?(?:https?:)?//[^\"' >]+")
    asked = {page.name: loads.findall(page.read_text(encoding="utf-8")) for page in pages}
    assert {name: found for name, found in asked.items() if found} == {}
