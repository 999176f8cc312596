"""The verb `export`: a classifier in another format, checked on its golden pictures when it is written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tellapart.core.files import naming
from tellapart.deploy.bundle.read import Bundle
from tellapart.deploy.bundle.record_export import record_export
from tellapart.deploy.export.exported import Exported
from tellapart.deploy.export.html import export_html
from tellapart.errors import UsageError


@dataclass(frozen=True)
class ExportOptions:
    """Options that some formats take.

    Attributes:
        browser_engine: for "html": a folder with the engine that runs in a browser; None to look for it.
    """

    browser_engine: Path | None = None


@dataclass(frozen=True)
class _Format:
    """A format: the name of the file that is written where none is asked for, and the function that writes it."""

    file: str
    write: Callable[[Bundle, Path, ExportOptions], Exported]


FORMATS: dict[str, _Format] = {
    "html": _Format("classifier.html", lambda bundle, path, options: export_html(bundle, path, options.browser_engine)),
}


def export(run: Path, to: str, out: Path | None = None, options: ExportOptions | None = None) -> Exported:
    """Export a classifier.

    Args:
        run: a run directory or a bundle.
        to: the format, a key of `FORMATS`.
        out: the file or folder to write; by default in the folder `exports` beside the bundle.
        options: of some formats.

    Raises:
        UsageError: there is no such format.
        BundleError: there is no bundle, or the export answers otherwise than it.
    """
    if to not in FORMATS:
        raise UsageError(f"There is no format {to!r}.", f"Possible: {', '.join(FORMATS)}.")
    bundle = Bundle.load(run)
    path = out or bundle.folder.parent / "exports" / FORMATS[to].file
    with naming(path):
        exported = FORMATS[to].write(bundle, path, options or ExportOptions())
    record_export(bundle.folder, to, exported.path, exported.difference)
    return exported
