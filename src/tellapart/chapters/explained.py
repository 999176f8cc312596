"""Why some pictures were answered as they were: maps, and training pictures alike, as the training left them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tellapart.files import replacing
from tellapart.report import words
from tellapart.report.blocks import Block, Card, Explained, HeatMap, Label, Section, Text
from tellapart.run_directory import Run, read_json

#: Where it is kept, in the run's folder of figures; its pictures lie beside it.
KEPT = "explained.json"
#: Rank correlation with the maps of random weights from which a map is not to be relied on.
HARDLY_CHANGES = 0.5


@dataclass(frozen=True)
class Why:
    """Explained pictures, and how far the maps can be trusted.

    Attributes:
        explained: the pictures.
        method: in words.
        agreement: mean rank correlation of the maps with those of random weights; n_checked: pictures it comes from.
        n_training: training pictures among which alike ones were looked for.
        why_not: why there are none.
    """

    explained: Sequence[Explained] = ()
    method: str = ""
    agreement: float = 0.0
    n_checked: int = 0
    n_training: int = 0
    why_not: str = ""

    @property
    def trusted(self) -> bool:
        """Whether random weights change the maps."""
        return self.agreement < HARDLY_CHANGES

    @property
    def check(self) -> str:
        """What random weights do to the maps, in a sentence or two."""
        correlation = f"{self.agreement:.2f}".replace("-", "\u2212")
        of = f"rank correlation {correlation}, {words.some(self.n_checked, 'picture')}"
        if self.trusted:
            return f"With random weights the map changes ({of}), so it shows what was learned."
        return (
            f"With random weights the map hardly changes ({of}): it shows edges of the picture or how the network is "
            "built rather than what was learned. Do not rely on it."
        )


def explained(run: Run) -> Section | None:
    """The section of a report; None where the training kept nothing."""
    path = run.figures / KEPT
    if not path.is_file():
        return None
    about = read_json(path, "explained", "why_not")
    if about["why_not"]:
        return Section("why", "Why it answered so", [Text(about["why_not"], "note")], "Why")
    return Section("why", "Why it answered so", why_blocks(_kept(run, about)), "Why")


def why_blocks(why: Why) -> list[Block]:
    """How to read the maps, whether to trust them, and the pictures."""
    blocks: list[Block] = [Text(_how(why)), Text(why.check, "" if why.trusted else "warning")]
    return [*blocks, *why.explained]


def keep_explained(run: Run, why: Why) -> None:
    """Write what `explained` reads."""
    entries = []
    for i, entry in enumerate(why.explained, start=1):
        seen, maps = f"explained-{i}.jpg", []
        _write(run, seen, entry.seen)
        for j, warm in enumerate(entry.maps, start=1):
            name = f"explained-{i}-{j}.jpg"
            _write(run, name, warm.jpeg)
            maps.append({"title": warm.title, "file": name, "said": warm.said})
        entries.append(
            {"card": asdict(entry.card), "seen": seen, "maps": maps, "alike": [asdict(card) for card in entry.alike]}
        )
    about = {name: getattr(why, name) for name in ("method", "agreement", "n_checked", "n_training", "why_not")}
    run.write_json(run.figures / KEPT, {**about, "explained": entries})


def _write(run: Run, name: str, jpeg: bytes) -> None:
    with replacing(run.figures / name) as beside:
        beside.write_bytes(jpeg)


def _kept(run: Run, about: dict[str, Any]) -> Why:
    shown = [
        Explained(
            _card(entry["card"]),
            (run.figures / entry["seen"]).read_bytes(),
            [HeatMap(m["title"], (run.figures / m["file"]).read_bytes(), m["said"]) for m in entry["maps"]],
            [_card(card) for card in entry["alike"]],
        )
        for entry in about["explained"]
    ]
    return Why(shown, about["method"], about["agreement"], about["n_checked"], about["n_training"])


def _card(values: dict[str, Any]) -> Card:
    labels = {name: [Label(**label) for label in values[name]] for name in ("given", "answered")}
    return Card(**{**values, **labels})


def _how(why: Why) -> str:
    alike = (
        " Beside it the training pictures whose features are most alike, with their labels and the cosine similarity "
        f"(1 is the same), among {words.some(why.n_training, 'training picture')}."
        if why.n_training
        else ""
    )
    return (
        f"Each picture as the network sees it, and in colours the parts of it that speak for a class ({why.method}): "
        "for the answer, and where that is wrong also for the label given. Much is the most in that picture for that "
        f"class: the colours of two maps cannot be compared.{alike}"
    )
