"""What there is to begin a training with: backbones at hand, on the hub, and networks of Tellapart's own."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import polars as pl

from tellapart.core.text import as_lines
from tellapart.models.catalogue import Candidate, at_hand, not_at_hand
from tellapart.models.create import available_models
from tellapart.models.scratch import OWN
from tellapart.models.weight_packages import PACKAGES, installed


def list_models(*, everything: bool = False, offline: bool = False) -> pl.DataFrame:
    """The networks that a training can begin with, those at hand first. No hub is asked.

    Args:
        everything: every name that a recipe can have, without sizes; else those recommended.
        offline: leave out those whose weights would have to be fetched.

    Returns:
        "name", "source" ("folder", "package", "cache", "hub", "own"; of everything, the library), "at_hand"; and of
        those recommended "cost" (low, medium, high), "size_px", "macs", "n_parameters", "download_mb", "licence",
        which are null for networks of Tellapart's own.
    """
    if everything:
        table = pl.DataFrame(all_names(pretrained_only=False))
        return table.filter(pl.col("at_hand")) if offline else table
    listed = choices(offline)
    columns = ("name", "source", "at_hand", "cost", "size_px", "macs", "n_parameters", "download_mb", "licence")
    rows: list[dict[str, Any]] = [
        {"at_hand": source == "at_hand"} | values for source in ("at_hand", "hub") for values in listed[source]
    ]
    rows += [{"name": name, "source": "own", "at_hand": True} for name in listed["own"]]
    return pl.DataFrame([{column: row.get(column) for column in columns} for row in rows], infer_schema_length=None)


def choices(offline: bool) -> dict[str, Any]:
    """Plain values, for JSON: "at_hand" and "hub", a dict a backbone, and "own", names. The hub is not asked.

    Args:
        offline: leave out what is on the hub alone.
    """
    here = at_hand()
    hub = [] if offline else not_at_hand(here)
    return {"at_hand": [_plain(c) for c in here], "hub": [_plain(c) for c in hub], "own": list(OWN)}


def _plain(candidate: Candidate) -> dict[str, Any]:
    values = asdict(candidate) | {"cost": candidate.cost}
    del values["download_seconds"]  # which nobody measured here
    return values


def choices_text(offline: bool) -> str:
    """The same for people."""
    here = at_hand()
    lines = ["Pretrained, at hand. The first source that has a network is taken."]
    lines += _table(here) if here else ["  none"]
    missing = [package for name, package in PACKAGES.items() if name not in installed()]
    lines += [f"  {package.name} comes with: {package.install}" for package in missing]
    if not offline:
        lines += ["", "Pretrained, on timm's hub. --model NAME fetches it once.", *_table(not_at_hand(here))]
    lines += ["", "Tellapart's own, trained from scratch.", f"  {', '.join(OWN)}"]
    return as_lines([*lines, "", "All names of timm and torchvision: tellapart models --all"])


def _table(candidates: list[Candidate]) -> list[str]:
    width = max(len(candidate.name) for candidate in candidates)
    words = f"{'weights':<8}    MB  {'speed':<6}  params  pixels  GMACs  {'source':<7}  licence"
    return [f"  {'name':<{width}}  {words}", *(_row(candidate, width) for candidate in candidates)]


#: Cost, as JSON has it → how fast a network answers.
_SPEED = {"low": "fast", "medium": "medium", "high": "slow"}


def _row(candidate: Candidate, width: int) -> str:
    size = candidate.download_mb or 4 * candidate.n_parameters / 1e6  # bytes of a weight
    weights = "at hand" if candidate.at_hand else "to fetch"
    return (
        f"  {candidate.name:<{width}}  {weights:<8}  {size:>4.0f}  {_SPEED[candidate.cost]:<6}  "
        f"{candidate.n_parameters / 1e6:>4.1f} M  {candidate.size_px:>6}  {candidate.macs / 1e9:>5.2f}  "
        f"{candidate.source:<7}  {candidate.licence or 'not stated'}"
    )


def all_names(pretrained_only: bool) -> list[dict[str, Any]]:
    """Every network that a recipe can name: "name", "source", and whether weights are "at_hand"."""
    return [
        {"name": info.name, "source": info.source, "at_hand": info.local_weights}
        for info in available_models(pretrained_only)
    ]
