"""Recipes of version 0.1, read as recipes of today. For each changed key, a line says which key to write now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tellapart.recipe.networks import LAYOUTS
from tellapart.recipe.schema import L2, STEP_KEYS, Stage

#: Keys of 0.1 and their names of today, by their path; "*" stands for the number of an entry.
_RENAMED = {("stages", "*", "rate"): "lr"}

KeyPath = tuple[str, ...]


@dataclass(frozen=True)
class Outdated:
    """A part of a recipe that is written differently today.

    Attributes:
        path: its keys and numbers of entries, as text, under the names of 0.1.
        line: the sentence that says which keys to write now.
        hint: the way out where the part cannot be read; empty where it was read.
    """

    path: KeyPath
    line: str
    hint: str = ""


def upgrade(values: Any, path: KeyPath = ()) -> tuple[Any, list[Outdated]]:
    """Values of a recipe as they are written today, and which of them were not.

    Args:
        values: plain values as TOML gives them: a whole recipe, or its part at `path`.
        path: keys and numbers of entries, as text.
    """
    if isinstance(values, list):
        pairs = [upgrade(value, (*path, str(i))) for i, value in enumerate(values)]
        return [value for value, _ in pairs], [each for _, inner in pairs for each in inner]
    if not isinstance(values, dict):
        return values, []
    values, outdated = _linear_probe(values, path)
    if not path and _is_of_a_run(values):
        values, layouts = _layouts(values)
        values, mixing = _mixing(values)
        outdated += layouts + mixing
    current: dict[str, Any] = {}
    for key, value in values.items():
        before = (*path, key)
        now = current_path(before)
        if now != before:
            outdated.append(_twice(before, now) if now[-1] in values else renamed(before))
        current[now[-1]], inner = upgrade(value, now)
        outdated += inner
    return current, outdated


def renamed(path: KeyPath) -> Outdated:
    """The line for a key of 0.1 that has another name today."""
    return Outdated(path, f"'{'.'.join(path)}' is now '{'.'.join(current_path(path))}'.")


def _twice(before: KeyPath, now: KeyPath) -> Outdated:
    line = f"'{'.'.join(before)}' and '{'.'.join(now)}' are one key under two names."
    return Outdated(before, line, f"Remove '{before[-1]}': version 0.1 called it so.")


def _linear_probe(values: dict[str, Any], path: KeyPath) -> tuple[dict[str, Any], list[Outdated]]:
    """A stage with `optimizer = "lbfgs"`, whose epochs were strengths of regularisation, as a linear probe.

    Keys of a training by steps go where they stand at their default: 0.1 wrote them into the recipe of a run. It
    refused other values, and so does the recipe of today.
    """
    l2 = l2_of_epochs(values.get("epochs", 10))
    if _pattern(path) != ("stages", "*") or values.get("optimizer") != "lbfgs" or "solver" in values or not l2:
        return values, []
    names = {key: current_path((*path, key))[-1] for key in values if key not in ("optimizer", "epochs")}
    unused = [key for key, name in names.items() if name in STEP_KEYS and values[key] == _default(name)]
    current = {key: value for key, value in values.items() if key in names and key not in unused}
    others = f", and leave out {', '.join(unused)}" if unused else ""
    line = (
        f"'{'.'.join(path)}' is a linear probe: write solver = \"lbfgs\" and l2 = {_toml(l2)} instead of optimizer and "
        f"epochs{others}."
    )
    return {**current, "solver": "lbfgs", "l2": l2}, [Outdated((*path, "optimizer"), line)]


def _layouts(values: dict[str, Any]) -> tuple[dict[str, Any], list[Outdated]]:
    """A recipe that Tellapart wrote before there were layouts: its network is as version 0.1 built it."""
    model = values["model"]
    members = model["members"] if isinstance(model["members"], list) else []
    before = [entry for entry in (model, *members) if _has_no_layout(entry)]
    if not before:
        return values, []
    line = (
        f"{' and '.join(dict.fromkeys(entry['name'] for entry in before))}: this recipe is of version 0.1, so the "
        "network is as it was then (layout = 1)."
    )
    upgraded = [{**entry, "layout": 1} if _has_no_layout(entry) else entry for entry in (model, *members)]
    return {**values, "model": {**upgraded[0], "members": upgraded[1:] or model["members"]}}, [
        Outdated(("model", "name"), line)
    ]


def _mixing(values: dict[str, Any]) -> tuple[dict[str, Any], list[Outdated]]:
    """A recipe that Tellapart wrote when mixing was always drawn for a whole batch; see decision 39."""
    mix = values.get("mix")
    if not isinstance(mix, dict) or "per" in mix or not (mix.get("mixup") or mix.get("cutmix")):
        return values, []
    line = "'mix': this recipe is of version 0.1, so mixing is drawn once a batch (per = \"batch\")."
    return {**values, "mix": {**mix, "per": "batch"}}, [Outdated(("mix",), line)]


def _is_of_a_run(values: dict[str, Any]) -> bool:
    """Whether Tellapart wrote a recipe: it states all keys, those too that nobody writes, such as empty lists."""
    model = values.get("model")
    return isinstance(model, dict) and {"name", "pretrained", "head", "blocks", "members"} <= model.keys()


def _has_no_layout(network: Any) -> bool:
    return isinstance(network, dict) and network.get("name") in LAYOUTS and "layout" not in network


def l2_of_epochs(epochs: Any) -> list[float]:
    """The strengths that 0.1 tried in so many epochs: evenly spread, all of them for nine and more.

    Args:
        epochs: as a recipe has it. What is no number of epochs gives no strengths.
    """
    if type(epochs) is not int or epochs < 1:
        return []
    n = len(L2)
    return list(L2) if epochs >= n else [L2[round((i + 1) * (n + 1) / (epochs + 1)) - 1] for i in range(epochs)]


def probe_epochs(path: KeyPath, l2: list[float]) -> Outdated:
    """The line for a change to the epochs of a linear probe, which has none today."""
    return Outdated(path, f"'{'.'.join(path)}' is now '{'.'.join((*path[:-1], 'l2'))}': write {_toml(l2)}.")


def current_path(path: KeyPath) -> KeyPath:
    """The path of a key under the names of today."""
    return _replace(path, {before: (*before[:-1], now) for before, now in _RENAMED.items()})


def old_path(path: KeyPath) -> KeyPath:
    """The path of a key under the names of 0.1."""
    return _replace(path, {(*before[:-1], now): before for before, now in _RENAMED.items()})


def _replace(path: KeyPath, names: dict[KeyPath, KeyPath]) -> KeyPath:
    for pattern, replacement in names.items():
        if _pattern(path[: len(pattern)]) == pattern:
            return (*path[: len(pattern) - 1], replacement[-1], *path[len(pattern) :])
    return path


def _pattern(path: KeyPath) -> KeyPath:
    return tuple("*" if part.isdecimal() else part for part in path)


def _default(key: str) -> Any:
    return Stage.model_fields[key].default


def _toml(l2: list[float]) -> str:
    return f"[{', '.join(f'{value:g}' for value in l2)}]"
