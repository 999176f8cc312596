"""The order of a page's pictures: those that a reader sees at once come first."""

from __future__ import annotations

from collections.abc import Sequence

from tellapart.report.blocks import Block, Card, Classes, Explained, Fold, Gallery, Matrix, Pairs, Side


def in_order_of_need(blocks: Sequence[Block]) -> list[Card]:
    """All cards, those that a reader sees at once first. Where room is short, the last get no thumbnail."""
    needed = [_needed(block) for block in _flat(blocks)]
    return [card for first, _ in needed for card in first] + _in_turn([rest for _, rest in needed])


def _flat(blocks: Sequence[Block]) -> list[Block]:
    """All blocks, those inside other blocks too."""
    return [inner for block in blocks for inner in (_flat(_inside(block)) or [block])]


def _inside(block: Block) -> list[Block]:
    if isinstance(block, Side):
        return [inner for column in block.columns for inner in column]
    return list(block.blocks) if isinstance(block, Fold) else []


def _needed(block: Block) -> tuple[Sequence[Card], Sequence[Card]]:
    """The cards of a block that a reader sees at once, and the others."""
    if isinstance(block, Gallery):
        return block.cards, ()
    if isinstance(block, Explained):
        return block.alike, ()
    if isinstance(block, Pairs):
        return [card for one, two, _ in block.pairs for card in (one, two)], ()
    if isinstance(block, Classes):
        return [card for c in block.shown for card in c.cards], _in_turn([c.cards for c in block.folded])
    if isinstance(block, Matrix):
        # Open at the start, or linked from the table; then the wrong ones; then the right ones.
        linked = {block.first, *(cell.opens for row in (block.table.rows if block.table else ()) for cell in row)}
        first = [card for group in block.groups if group.key in linked for card in group.cards]
        wrong = _in_turn([group.cards for group in block.groups if not group.right])
        return first, wrong + _in_turn([group.cards for group in block.groups if group.right])
    return (), ()


def _in_turn(groups: Sequence[Sequence[Card]]) -> list[Card]:
    """Round robin: the first of each group, then the second of each, so that all get some before one gets many."""
    most = max(map(len, groups), default=0)
    return [group[i] for i in range(most) for group in groups if i < len(group)]
