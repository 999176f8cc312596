"""Explanations of answers: attribution maps and the nearest training pictures, stored by the training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tellapart.core.files import replacing
from tellapart.core.text import counted
from tellapart.errors import RunError
from tellapart.report.blocks import Block, Card, Explained, Fold, HeatMap, Label, Section, Text
from tellapart.runs.json_files import ExplanationsFile, read_checked
from tellapart.runs.run import Run

#: Name of the stored file in the run's folder of figures; its images lie beside it.
KEPT = "explained.json"
#: Rank correlation with maps of random weights from which a method is not to be trusted.
HARDLY_CHANGES = 0.5


@dataclass(frozen=True)
class Check:
    """Sanity check of an attribution method against random weights.

    Attributes:
        method: its name.
        agreement: mean rank correlation of its maps with those of random weights, -1 to 1. n: number of pictures.
    """

    method: str
    agreement: float
    n: int

    @property
    def trusted(self) -> bool:
        """True where random weights change the maps."""
        return self.agreement < HARDLY_CHANGES

    def __str__(self) -> str:
        """The result in a sentence or two."""
        correlation = f"{self.agreement:.2f}".replace("-", "\u2212")
        of = f"rank correlation {correlation}, {counted(self.n, 'picture')}"
        if self.trusted:
            return f"{self.method}: with random weights the map changes ({of}), so it depends on what was learned."
        return (
            f"{self.method}: with random weights the map hardly changes ({of}). It shows edges of the picture or how "
            "the network is built rather than what was learned. Do not rely on it."
        )


@dataclass(frozen=True)
class Why:
    """Explained pictures, and the checks of the methods.

    Attributes:
        explained: the pictures.
        method: the attribution methods, in words.
        checks: one a method.
        n_training: number of training pictures among which the nearest were searched.
        notes: what could not be shown, and why.
    """

    explained: Sequence[Explained] = ()
    method: str = ""
    checks: Sequence[Check] = ()
    n_training: int = 0
    notes: Sequence[str] = ()


def explained(run: Run) -> Section | None:
    """The section of a report; None where the training stored no explanations."""
    path = run.figures / KEPT
    if not path.is_file():
        return None
    about = read_checked(path, ExplanationsFile)
    if about["checks"] is None:
        about = _of_one_method(about)
    try:
        why = _stored(run, about)
    except OSError as error:
        raise RunError(
            f"{path} names a picture that cannot be read: {error}.",
            "tellapart explain makes the pictures anew; without that file the report has no such section.",
        ) from error
    summary = f"Why it answered so: what it looked at in {counted(len(why.explained), 'picture')}"
    return Section("errors", "Where it fails", [Fold(summary, why_blocks(why))], "Failures")


def why_blocks(why: Why) -> list[Block]:
    """Blocks: how to read the maps, whether to trust them, and the pictures."""
    blocks: list[Block] = [Text(_reading(why))] if why.explained else []
    blocks += [Text(str(check), "" if check.trusted else "warning") for check in why.checks]
    blocks += [Text(note, "note") for note in why.notes]
    return [*blocks, *why.explained]


def keep_explained(run: Run, why: Why) -> None:
    """Store explanations in a run directory, where `explained` reads them."""
    entries = []
    for i, entry in enumerate(why.explained, start=1):
        picture, maps = f"explained-{i}.jpg", []
        _write(run, picture, entry.picture)
        for j, warm in enumerate(entry.maps, start=1):
            name = f"explained-{i}-{j}.jpg"
            _write(run, name, warm.jpeg)
            maps.append({"title": warm.title, "file": name, "method": warm.method, "said": warm.note})
        entries.append(
            {"card": asdict(entry.card), "seen": picture, "maps": maps, "alike": [asdict(card) for card in entry.alike]}
        )
    about = {"method": why.method, "n_training": why.n_training, "notes": list(why.notes)}
    checks = [asdict(check) for check in why.checks]
    run.write_json(run.figures / KEPT, {**about, "checks": checks, "explained": entries})


def _write(run: Run, name: str, jpeg: bytes) -> None:
    with replacing(run.figures / name) as beside:
        beside.write_bytes(jpeg)


def _read(run: Run, name: str) -> bytes:
    # The name comes from a file, which may be anybody's: a path would bring any file of this machine into the report.
    return (run.figures / Path(name).name).read_bytes()


def _stored(run: Run, about: dict[str, Any]) -> Why:
    shown = [
        Explained(
            _card(entry["card"]),
            _read(run, entry["seen"]),
            [HeatMap(m["title"], _read(run, m["file"]), m["method"], m["said"]) for m in entry["maps"]],
            [_card(card) for card in entry["alike"]],
        )
        for entry in about["explained"]
    ]
    checks = [Check(**check) for check in about["checks"]]
    return Why(shown, about["method"], checks, about["n_training"], about["notes"])


def _of_one_method(about: dict[str, Any]) -> dict[str, Any]:
    """Stored explanations of an older version, which had Grad-CAM alone, in today's form."""
    name = about["method"]
    checks = [{"method": name, "agreement": about["agreement"], "n": about["n_checked"]}] if about["explained"] else []
    shown = [{**entry, "maps": [{**m, "method": name} for m in entry["maps"]]} for entry in about["explained"]]
    notes = [about["why_not"]] if about["why_not"] else []
    return {**about, "method": f"{name} says which region.", "checks": checks, "notes": notes, "explained": shown}


def _card(values: dict[str, Any]) -> Card:
    labels = {name: [Label(**label) for label in values[name]] for name in ("labels", "answered")}
    return Card(**{**values, **labels})


def _reading(why: Why) -> str:
    alike = (
        " Beside it the training pictures whose features are most alike, with their labels and the cosine similarity "
        f"(1 is the same), among {counted(why.n_training, 'training picture')}."
        if why.n_training
        else ""
    )
    return (
        "Each picture as the network sees it, and in colours the parts of it that speak for a class: for the answer, "
        f"and where that is wrong also for the label given. {why.method} Much is the most in that picture for that "
        f"class and method: the colours of two maps cannot be compared.{alike}"
    )
