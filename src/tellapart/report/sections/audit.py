"""Findings of an audit, as sections of its own page and of a run's report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import polars as pl

from tellapart.auditing.audit import audited
from tellapart.auditing.findings import KINDS, PAIRS, SEVERITIES, Audit, Finding
from tellapart.core.text import counted
from tellapart.data.catalog import Catalog
from tellapart.report import formatting
from tellapart.report.blocks import Block, Card, Cell, Fold, Gallery, Page, Pairs, Section, Table, Text
from tellapart.report.sections.image_sizes import size_table
from tellapart.runs.run import Run

#: The most pictures, and pairs, of one kind that a page shows.
_MOST, _MOST_PAIRS = 42, 30
_MOST_CLASSES = 30  # classes whose co-occurrence is shown
_ANCHORS = (
    ("leaks", "Across the split", ("leak", "near-leak", "scene-leak")),
    ("contradictions", "Across classes", ("contradiction", "near-contradiction")),
    (
        "labels",
        "Classes and labels",
        ("shortcut", "alike-names", "small-class", "imbalance", "unlabelled", "no-labels"),
    ),
    ("odd", "Odd pictures", ("placeholder", "blank", "dark", "blurred", "tiny", "greyscale", "odd-size", "odd-shape")),
    ("copies", "Copies", ("duplicate", "near-duplicate", "scene")),
    ("files", "Files", ("unreadable", "wrong-extension", "animated", "rotated")),
)
_TITLES = {"odd": "Odd pictures", "copies": "Pictures that are there more than once", "files": "Odd files"}


def audit_page(audit: Audit, when: str = "") -> Page:
    """The page of an audit."""
    catalog = audit.catalog
    sections: list[Section | None] = [_overview(audit)]
    for anchor, title, kinds in _ANCHORS:
        blocks = [block for kind in kinds for block in kind_blocks(audit, kind)]
        if anchor == "labels":
            blocks += _label_tables(audit)
        if blocks:
            sections.append(Section(anchor, _TITLES.get(anchor, title), blocks, title))
    sections.append(_sizes(catalog))
    counts = Counter(finding.weight for finding in audit.all_findings)
    facts = [("pictures", formatting.count(len(catalog)), ""), ("classes", formatting.count(len(catalog.classes)), "")]
    facts += [(counted(counts[s], s).partition(" ")[2], formatting.count(counts[s]), "") for s in SEVERITIES]
    return Page(
        title=f"{catalog.root.name}: what is odd",
        subtitle=[text for text in (catalog.layout, when) if text],
        facts=facts,
        notes=[note for note in audit.notes if "not divided" not in note],
        sections=[section for section in sections if section is not None],
    )


def leak_section(audit: Audit) -> Section | None:
    """Findings among the pictures of a training: leaks first, then contradictions, shortcuts and a table of all."""
    blocks: list[Block] = []
    leaks = [block for kind in ("leak", "near-leak") for block in kind_blocks(audit, kind)]
    n = len(audit.of("leak")) + len(audit.of("near-leak"))
    if leaks:
        warning = f"{counted(n, 'pair')} of one picture on two sides of the split: the score may be flattered."
        blocks += [Text(warning, "warning"), *leaks]
    else:
        blocks.append(Text("No picture stands on two sides of the split, exactly or nearly."))
    if scenes := audit.of("scene-leak"):
        text = f"{counted(len(scenes), 'pair')} of one scene on two sides of the split: the score may be flattered."
        blocks += [Text(text, "warning"), *kind_blocks(audit, "scene-leak")]
    wrong = [block for kind in ("contradiction", "near-contradiction") for block in kind_blocks(audit, kind)]
    blocks += wrong
    blocks += [Text(finding.detail + ".", "warning") for finding in audit.of("shortcut") if finding.weight == "warning"]
    if audit.all_findings:
        blocks.append(Fold("Everything the audit found", [_table(audit)]))
    return Section("pictures", "What is odd about the pictures", blocks, "Pictures")


def audit_section(run: Run) -> Section | None:
    """The audit of a run's pictures in its own split, from stored statistics or after reading the files again."""
    return leak_section(audited(run.catalog, run.split))


def _overview(audit: Audit) -> Section:
    if not audit.all_findings:
        return Section("overview", "Nothing odd was found", [Text(note) for note in audit.notes], "Overview")
    notes: list[Block] = [Text(note, "note") for note in audit.notes if "not divided" in note]
    return Section("overview", "What was found", [_table(audit), *notes], "Overview")


def _table(audit: Audit) -> Table:
    """Number of findings of each kind."""
    rows = []
    for name, kind in KINDS.items():
        findings = audit.of(name)
        if findings:
            severity = min((finding.weight for finding in findings), key=SEVERITIES.index)
            rows.append([Cell(kind.title, quiet=f"{name}: {kind.meaning}"), Cell(severity), _number(len(findings))])
    return Table(["what", "severity", "findings"], rows)


def _sizes(catalog: Catalog) -> Section | None:
    readable = catalog.table.filter(pl.col("problem").is_null())
    if not readable.height:
        return None
    summary, table = size_table(readable)
    return Section("sizes", "Sizes", [Text(f"{summary}."), Fold("Every size, the commonest first", [table])])


def kind_blocks(audit: Audit, kind: str) -> list[Block]:
    """The findings of one kind as blocks: pairs, a gallery or a table."""
    findings = audit.of(kind)
    if not findings:
        return []
    n = counted(len(findings), "finding")
    title, caption = f"{KINDS[kind].title} ({formatting.count(len(findings))})", KINDS[kind].meaning
    if kind in PAIRS:
        shown = sorted(findings, key=lambda finding: -(finding.score or 0))[:_MOST_PAIRS]
        caption += f" The first {len(shown)} of {n}." if len(findings) > len(shown) else ""
        return [Pairs(title, [_pair(audit, finding) for finding in shown], caption)]
    if kind == "unreadable" or findings[0].row is None:
        rows = [
            [*([Cell(audit.catalog.name(f.row))] if f.row is not None else []), Cell(f.detail)] for f in findings[:200]
        ]
        columns = ["file", "why"] if findings[0].row is not None else ["what"]
        return [Table(columns, rows, caption, title=title)]
    shown = _spread(findings)
    caption += f" Here are {len(shown)} of {n}." if len(findings) > len(shown) else ""
    cards = [_card(audit, finding.row, finding.detail) for finding in shown if finding.row is not None]
    return [Gallery(title, cards, caption, named=True)]


def _spread(findings: Sequence[Finding]) -> list[Finding]:
    """Some of the findings, evenly from first to last."""
    n = min(_MOST, len(findings))
    return [findings[i * len(findings) // n] for i in range(n)]


def _pair(audit: Audit, finding: Finding) -> tuple[Card, Card, str]:
    assert finding.row is not None
    assert finding.other is not None
    cards = [_card(audit, row, audit.named(row)) for row in (finding.row, finding.other)]
    alike = (
        "" if finding.score is None or finding.score >= 1 else f" ({formatting.number(finding.score, 0)} of 100 alike)"
    )
    return cards[0], cards[1], finding.detail + alike


def _card(audit: Audit, row: int, note: str) -> Card:
    table = audit.catalog.table
    width, height = table["width"][row], table["height"][row]
    size = f"{width} × {height}" if width else ""
    caption = " · ".join(part for part in (note, size) if part and not (part == size and size in note))
    return Card(row, audit.catalog.name(row), has_answer=False, link=audit.catalog.link(row), note=caption)


def _label_tables(audit: Audit) -> list[Block]:
    """Counts of classes. Multilabel: also the number of labels a picture, and the co-occurrence of labels."""
    facts = audit.facts
    if not facts["classes"]:
        return []
    total = max(1, facts["n"])
    ordered = sorted(facts["classes"].items(), key=lambda item: -item[1])
    counts = [[Cell(name), _number(n), Cell(formatting.percent(n / total), n / total)] for name, n in ordered]
    noun = "label" if facts["multilabel"] else "class"
    (most, n_most), (least, n_least) = ordered[0], ordered[-1]
    blocks: list[Block] = [
        Text(
            f"From {counted(n_least, 'picture')} of {formatting.visible(least)} to {counted(n_most, 'picture')} of "
            f"{formatting.visible(most)}."
        ),
        Fold(f"Pictures of each {noun}", [Table([noun, "pictures", "share"], counts, sortable=True)]),
    ]
    if "labels_a_picture" in facts:
        rows = [[Cell(k if k != "0" else "none"), _number(n)] for k, n in facts["labels_a_picture"].items()]
        blocks.append(Table(["labels", "pictures"], rows, title="How many labels a picture has"))
    together = facts.get("together")
    if together and 1 < len(together) <= _MOST_CLASSES:
        names = audit.catalog.classes
        lines = [[Cell(name), *(_number(n) for n in line)] for name, line in zip(names, together, strict=True)]
        caption = "Pictures that have both labels; on the diagonal, all that have the label."
        blocks.append(Table(["", *names], lines, caption, title="Which labels come together"))
    return blocks


def _number(n: int) -> Cell:
    return Cell(formatting.count(n), n)
