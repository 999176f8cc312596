"""What version 0.1 wrote under other names. Whoever reads a file of a run or a bundle asks here first."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeVar

T = TypeVar("T")

#: Keys of JSON objects.
_KEYS = {"several": "multilabel", "strangeness": "ood_score", "told": "sentence"}
#: Names of events, and keys of an event by its name of today.
_EVENTS = {"RateFound": "LrFound"}
_EVENT_KEYS = {
    "StageStarted": {"plan": "description"},
    "LrFound": {"rate": "lr", "rates": "lrs"},
    "Validated": {"rates": "lrs"},
    "Retrained": {"rates": "lrs"},
}
_RUNTIME_KEYS = {"at_once": "micro_batch"}
_STATE_KEYS = {"seen": "n_pictures", "found": "found_lrs"}
#: Beginnings of the names of a network's layers, outermost first.
_LAYERS = (
    (re.compile(r"^body\.members\.(\d+)\.body\."), r"backbone.members.\1.backbone."),
    (re.compile(r"^body\."), "backbone."),
)


def current_keys(values: Mapping[str, T]) -> dict[str, T]:
    """The same values under the keys of today; a key of today is left as it is."""
    return {_KEYS.get(key, key): value for key, value in values.items()}


def current_event(values: Mapping[str, Any]) -> dict[str, Any]:
    """One line of a run's event log, under the names of today."""
    name = _EVENTS.get(values["event"], values["event"])
    keys = _EVENT_KEYS.get(name, {})
    event = {keys.get(key, key): value for key, value in current_keys(values).items()} | {"event": name}
    if isinstance(event.get("runtime"), dict):
        event["runtime"] = current_runtime(event["runtime"])
    return event


def current_runtime(values: Mapping[str, T]) -> dict[str, T]:
    """The fields of a runtime, of an event or as it was remembered, under the names of today."""
    return {_RUNTIME_KEYS.get(key, key): value for key, value in values.items()}


def current_state(values: Mapping[str, T]) -> dict[str, T]:
    """The fields of a checkpoint's state, under the names of today."""
    return {_STATE_KEYS.get(key, key): value for key, value in values.items()}


def current_layers(tensors: Mapping[str, T]) -> dict[str, T]:
    """The same tensors, or whatever belongs to layers, under the layers' names of today."""
    return {current_layer(name): value for name, value in tensors.items()}


def current_layer(name: str) -> str:
    """One layer's name of today."""
    for pattern, replacement in _LAYERS:
        name = pattern.sub(replacement, name)
    return name
