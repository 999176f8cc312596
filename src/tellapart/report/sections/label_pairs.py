"""Multilabel: which labels occur together on the pictures of a training."""

from __future__ import annotations

import numpy as np

from tellapart.evaluation.label_pairs import cut_note, together
from tellapart.report import formatting
from tellapart.report.blocks import Block, Cell, Matrix, MatrixCell, Table
from tellapart.report.run_data import Pictures

#: The most labels of the matrix, and pairs of the table: those of most pictures.
_MOST, _PAIRS = 30, 10


def labels_together(pictures: Pictures) -> list[Block]:
    """Counts of pictures with two labels; on the diagonal, with one. Nothing where no picture has two."""
    target = np.concatenate([part.target for part in pictures.parts.values()])
    pairs = together(target, pictures.classes)
    if not pairs:
        return []
    number = {name: i for i, name in enumerate(pictures.classes)}
    counts = np.diag((target == 1).sum(axis=0, dtype=np.int64))
    for pair in pairs:
        i, j = (number[name] for name in pair["labels"])
        counts[i, j] = counts[j, i] = pair["n"]
    paired = counts.sum(axis=0) - counts.diagonal()
    shown = sorted(np.argsort(-paired, kind="stable")[:_MOST].tolist())
    cells = [[_cell(int(counts[i, j]), int(counts[i, i])) for j in shown] for i in shown]
    names = [pictures.classes[i] for i in shown]
    caption = (
        "Pictures of all parts that have both labels; on the diagonal, pictures that have the label. "
        "Fractions are of the pictures with the row's label."
    )
    caption = f"{caption} {cut_note(pairs)}".strip()
    if len(shown) < len(pictures.classes):
        caption += f" Shown are the {_MOST} labels that stand beside others most often, of {len(pictures.classes)}."
    rows = []
    for pair in pairs[:_PAIRS]:
        first, second = (int(counts[number[name], number[name]]) for name in pair["labels"])
        shares = [Cell(formatting.percent(pair["n"] / n), pair["n"] / n) for n in (first, second)]
        rows.append([*map(Cell, pair["labels"]), Cell(formatting.count(pair["n"]), pair["n"]), *shares])
    note = f"The first {len(rows)} of {formatting.count(len(pairs))} pairs." if len(pairs) > len(rows) else ""
    columns = ["label", "with", "pictures", "of the first", "of the second"]
    table = Table(columns, rows, note, title="Most often together")
    corner = ("label", "with")
    return [Matrix("Which labels occur together", names, names, corner, cells, [], caption=caption), table]


def _cell(n: int, total: int) -> MatrixCell:
    return MatrixCell(n, n / max(1, total))
