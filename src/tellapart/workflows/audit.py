"""An audit from end to end: scan, measure, find, and write page and tables. What needs torch is imported late."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tellapart.auditing import audit as room
from tellapart.auditing.banded import Joining, near_hashes
from tellapart.auditing.findings import KINDS, Audit
from tellapart.core.text import as_lines, counted
from tellapart.data.catalog import Catalog
from tellapart.data.statistics import Floats, Measured, Measures, measures_file, save_measured
from tellapart.errors import UsageError
from tellapart.workflows.progress import ProgressSink, progress_sink
from tellapart.workflows.scan import scan

if TYPE_CHECKING:
    from tellapart.data.splitting.split import Split

_EXAMPLES = 3
_MOST_CLASSES = 40


def audit(
    pictures: str | Path | Catalog,
    split: Split | None = None,
    *,
    features: Floats | None = None,
    shortcuts: bool = True,
    progress: bool = False,
) -> Audit:
    """Find what is odd about pictures and their labels before anything is trained. Nothing is changed.

    Args:
        pictures: a folder, a table of files and labels, or what `scan` gave.
        split: what `split` gave: leaks are looked for in it. By default, in the parts that the data bring along.
        features: float32 [n, d], of each picture by a pretrained network: they find more near duplicates.
        shortcuts: look for facts about the files that tell the class.
        progress: show progress on standard error.

    Raises:
        DataError: no pictures, or a table that cannot be used.
    """
    sink = progress_sink(progress)
    measured = None
    if isinstance(pictures, str | Path):
        catalog, measured = measured_scan(pictures, sink)
    else:
        catalog = pictures
    if features is not None and len(features) != len(catalog):
        raise UsageError(f"There are features of {len(features):,} pictures, and {len(catalog):,} pictures.")
    return sink.watch(room.audit(catalog, split, measured=measured, features=features, shortcuts=shortcuts))


def measured_scan(pictures: str | Path, progress: ProgressSink, **options: Any) -> tuple[Catalog, Measured]:
    """Scan and measure in one pass; the figures are stored for later audits of the same pictures."""
    measures = Measures()
    catalog = scan(pictures, progress, measures=measures, **options)
    measured = measures.finish()
    save_measured(measured, measures_file(catalog.table["sha256"].to_list()))
    return catalog, measured


def grouped_scan(pictures: str | Path, progress: ProgressSink, model: str | None = None, **options: Any) -> Catalog:
    """Scan, and tie copies, near duplicates and pictures of one scene into groups, which a split keeps on one side.

    Args:
        pictures: the folder or table.
        progress: where it is shown.
        model: name of a pretrained network whose features are to find more of them.
        options: as for `scan`.
    """
    catalog, _ = measured_scan(pictures, progress, **options)
    features = _features(catalog, model, progress) if model else None
    tied, untied = progress.watch(room.tie_duplicates(catalog, features))
    groups = tied.table["group"].drop_nulls()
    progress.say(
        f"{len(groups):,} pictures in {groups.n_unique():,} groups that stay on one side: copies, near duplicates, "
        "one scene"
    )
    if untied:
        progress.note(room.untied_note(untied))
    return tied


def summary_text(audit: Audit) -> str:
    """The findings, in lines for a terminal."""
    facts = audit.facts
    lines = []
    if "sizes" in facts:
        (w0, h0), (w1, h1), (w, h) = facts["smallest"], facts["largest"], facts["mean"]
        lines.append(f"Sizes: smallest {w0} × {h0}, largest {w1} × {h1}, mean {w:.0f} × {h:.0f}")
        shown = ", ".join(f"{w} × {h}: {n:,}" for w, h, n in facts["sizes"][:5])
        rest = len(facts["sizes"]) - 5
        lines.append(f"  {shown}{f', and {rest:,} other sizes' if rest > 0 else ''}")
    counts = Counter(finding.kind for finding in audit.all_findings)
    if not counts:
        lines.append("Nothing odd was found.")
    width = max((len(kind) for kind in counts), default=0)
    for kind in KINDS:
        if not counts[kind]:
            continue
        severity = min((f.weight for f in audit.of(kind)), key=("error", "warning", "note").index)
        lines.append(f"{severity:<8} {kind:<{width}} {counts[kind]:>6,}  {KINDS[kind].title}")
        for finding in audit.of(kind)[:_EXAMPLES]:
            lines.append(f"{'':<8} {'':<{width}} {'':>6}  · {_line(audit, finding.row, finding.other, finding.detail)}")
    return as_lines([*lines, *audit.notes])


def _line(audit: Audit, row: int | None, other: int | None, detail: str) -> str:
    names = [audit.catalog.name(r) for r in (row, other) if r is not None]
    return f"{' = '.join(names)}{': ' if names else ''}{detail}"


@dataclass(frozen=True)
class Written:
    """Files of an audit.

    Attributes:
        page: the report. table: of the pictures to train on, if one was asked for.
        train: arguments of `tellapart train` that train on the table.
        n_pictures: in the table, or in all.
        classes: name, and numbers of pictures kept and excluded, of each class, where kinds were excluded.
    """

    page: Path
    table: Path | None
    train: tuple[Path | str, ...]
    n_pictures: int
    classes: tuple[tuple[str, int, int], ...] = ()

    def class_lines(self) -> list[str]:
        """The classes as lines for a terminal."""
        width = max(map(len, ("class", *(name for name, _, _ in self.classes))), default=0)
        lines = [
            f"  {name:<{width}}  {n_kept:>9,}  {n_excluded:>9,}"
            for name, n_kept, n_excluded in self.classes[:_MOST_CLASSES]
        ]
        if len(self.classes) > _MOST_CLASSES:
            lines.append(f"  … and {counted(len(self.classes) - _MOST_CLASSES, 'more class', 'more classes')}")
        return [f"  {'class':<{width}}  {'kept':>9}  {'excluded':>9}", *lines] if lines else []


def scan_and_audit(
    pictures: str | Path,
    progress: ProgressSink,
    model: str | None = None,
    shortcuts: bool = True,
    joining: Joining = near_hashes,
    **options: Any,
) -> Audit:
    """Scan, measure and audit a folder or table.

    Args:
        pictures: the folder or table.
        progress: where it is shown.
        model: name of a pretrained network whose features are to find more near duplicates.
        shortcuts: look for shortcuts too.
        joining: finds near hashes among very many pictures.
        options: as for `scan`.
    """
    catalog, measured = measured_scan(pictures, progress, **options)
    features = _features(catalog, model, progress) if model else None
    work = room.audit(catalog, measured=measured, features=features, shortcuts=shortcuts, joining=joining)
    return progress.watch(work)


def _features(catalog: Catalog, model: str, progress: ProgressSink) -> Floats:
    """Features of each picture by a pretrained network, float32 [n, d]; zeros where it cannot be read."""
    from tellapart.training.extract_features import features_by_fastest
    from tellapart.workflows.pretrained import pretrained_network

    network = pretrained_network(model, len(catalog.classes), progress)
    rows = catalog.readable
    values = progress.watch(features_by_fastest(network, catalog, rows, "features"))
    whole = np.zeros((len(catalog), values.shape[1]), np.float32)
    whole[rows] = values
    return whole


def write(audit: Audit, out: Path, exclude: Iterable[str], group: bool, table: Path | None) -> Written:
    """Write page and tables; and one of the pictures to train on, if any are excluded or tied into groups."""
    from tellapart.auditing.export_table import write_findings, write_table
    from tellapart.report.page import write_page
    from tellapart.report.sections.audit import audit_page
    from tellapart.report.thumbnail import thumbnails_of

    out.mkdir(parents=True, exist_ok=True)
    write_findings(audit, out)
    when = datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M")
    page = out / "audit.html"
    write_page(audit_page(audit, when), page, thumbnails_of(audit.catalog))
    excluded = set(exclude)
    if not excluded and not group:
        return Written(page, None, (), len(audit.catalog))
    catalog = audit.grouped() if group else audit.catalog
    before = catalog.counts()
    catalog = catalog.without(audit.rows(excluded))
    after = catalog.counts()
    classes = tuple((name, after[name], n - after[name]) for name, n in before.items()) if excluded else ()
    path = table or out / "pictures.csv"
    root = write_table(catalog, path)
    inside = root.resolve() == path.parent.resolve()
    train: tuple[Path | str, ...] = (path,) if inside else (root, "--labels", path)
    return Written(page, path, train, len(catalog), classes)
