"""The settings of several runs, as far as they differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from string import ascii_uppercase

from tellapart.core.text import counted
from tellapart.report.blocks import Block, Cell, Fold, Section, Table, Text

#: The most differing settings shown; more of them open by a click.
_FEW = 12
#: Stands where a recipe has no such setting, or where it does nothing.
UNUSED = "–"


def differing(runs: Sequence[Mapping[str, str]]) -> dict[str, list[str]]:
    """Settings that are not the same in all runs → the value in each; `UNUSED` where a run has no such setting."""
    names = dict.fromkeys(name for run in runs for name in run)
    values = {name: [run.get(name, UNUSED) for run in runs] for name in names}
    return {name: each for name, each in values.items() if len(set(each)) > 1}


def settings_section(different: Mapping[str, Sequence[str]], alike: str) -> Section:
    """The table of settings that differ, one column a run; the sentence `alike` where none does."""
    if not different:
        return Section("settings", "What differs", [Text(alike)], "Settings")
    n_runs = len(next(iter(different.values())))
    rows = [[Cell(name), *map(Cell, values)] for name, values in different.items()]
    caption = "Settings that are the same in all are left out. "
    caption += f"Each value is the one in effect; {UNUSED}: the recipe does not use it."
    table = Table(["setting", *ascii_uppercase[:n_runs]], rows, caption)
    blocks: list[Block] = [table]
    if len(different) > _FEW:
        blocks = [Text(f"{counted(len(different), 'setting')} differ."), Fold("Each of them", [table])]
    return Section("settings", "What differs", blocks, "Settings")
