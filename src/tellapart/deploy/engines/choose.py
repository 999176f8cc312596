"""The fastest engine that answers rightly on this machine: timed once, remembered by network, machine and versions."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import math
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tellapart.core.cache import read_note, write_note
from tellapart.core.environment import processor_name, special_instructions
from tellapart.core.files import cache_folder
from tellapart.core.hardware import n_processors
from tellapart.core.openvino_quiet import has_openvino
from tellapart.core.predictions import Floats
from tellapart.core.preprocess import Pixels
from tellapart.core.text import percent
from tellapart.deploy.bundle.golden import check_golden, read_golden
from tellapart.deploy.bundle.read import Bundle
from tellapart.deploy.engines.names import AT_ONCE, BF16_DISTANCE, BF16_PROBABILITY, ENGINES, EngineName
from tellapart.errors import BundleError

#: Instructions without which bfloat16 is computed in float32, piece by piece, and gains nothing.
_BF16_INSTRUCTIONS = {"amx_bf16", "avx512_bf16"}
_REPETITIONS = 3
#: Another engine is taken where it is at least so many times faster: differences below that are chance.
_WORTHWHILE = 1.05
_MOST_NOTES = 500


@dataclass(frozen=True)
class EngineChoice:
    """An engine, and why it was chosen.

    Attributes:
        engine: that answers.
        speeds: pictures a second in the network alone, by engine, of those that were timed.
        refused: why an engine may not answer, by engine.
        remembered: whether it was timed by an earlier process.
    """

    engine: EngineName
    speeds: Mapping[str, float] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    remembered: bool = False

    def lines(self) -> list[str]:
        """For people: the engine with its speed beside the others', then a line for each that was refused."""
        others = ", ".join(f"{name} {speed:,.0f}" for name, speed in self.speeds.items() if name != self.engine)
        beside = f" ({others})" if others else ""
        since = ", as timed before" if self.remembered else ""
        chosen = (
            f"Engine: {self.engine}, {self.speeds[self.engine]:,.0f} pictures a second in the network{beside}{since}."
        )
        return [chosen, *(f"Engine {name} is not used: {reason}" for name, reason in self.refused.items())]


def candidates() -> list[EngineName]:
    """The engines that are at hand and may gain on this processor, the plainest first."""
    names: list[EngineName] = ["onnxruntime"]
    if has_openvino():
        names.append("openvino")
        if has_bfloat16():
            names.append("openvino-bf16")
    return names


def has_bfloat16() -> bool:
    """Whether this processor has instructions for bfloat16 that OpenVINO uses."""
    return bool(_BF16_INSTRUCTIONS & set(special_instructions()))


def recall(bundle: Bundle) -> EngineChoice | None:
    """What `choose` found on this machine for this network; None where it has not, or that is damaged."""
    note = read_note(_memory(bundle))
    try:
        if note is None or note["engine"] not in ENGINES:
            return None
        speeds = {name: float(speed) for name, speed in note["speeds"].items() if name in ENGINES}
        refused = {name: str(reason) for name, reason in note["refused"].items() if name in ENGINES}
        if not 0 < speeds[note["engine"]] < math.inf:
            return None
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    return EngineChoice(note["engine"], speeds, refused, remembered=True)


def choose(bundle: Bundle, pixels: Pixels) -> tuple[EngineChoice, Bundle]:
    """Check and time the engines, keep the fastest, and remember it. It takes a few seconds.

    Args:
        bundle: on any engine.
        pixels: uint8 [n, height, width, 3]: a batch of the size that is to come.

    Returns:
        The choice, and the bundle on its engine, which is loaded.

    Raises:
        BundleError: no engine gives the golden answers on this machine.
    """
    loaded: dict[str, Bundle] = {}
    refused: dict[str, str] = {}
    expected: Floats | None = None
    for name in candidates():
        own = bundle if bundle.engine == name else replace(bundle, engine=name)  # loaded once is enough
        try:
            check_engine(own, expected)
            expected = golden_distance(own) if name == "onnxruntime" else expected
        except BundleError as error:
            refused[name] = error.message
        else:
            loaded[name] = own
    if not loaded:
        raise BundleError(next(iter(refused.values())), "No engine of this machine gives the answers of this bundle.")
    speeds = _speeds(loaded, pixels)
    fastest, plainest = max(speeds, key=speeds.__getitem__), next(iter(loaded))
    engine = fastest if speeds[fastest] >= _WORTHWHILE * speeds[plainest] else plainest
    choice = EngineChoice(loaded[engine].engine, speeds, refused)
    _remember(bundle, choice)
    return choice, loaded[engine]


def golden_distance(bundle: Bundle) -> Floats | None:
    """The golden pictures' distances [k] to the known classes, which are not stored; None where it knows none.

    Asked before another engine is loaded: two networks at once take twice the memory.
    """
    return None if bundle.known is None else bundle.predict_distance(read_golden(bundle)[0])[1]


def check_engine(bundle: Bundle, expected: Floats | None = None) -> None:
    """Compare an engine's answers with the golden ones, on this machine.

    Args:
        bundle: on the engine.
        expected: `golden_distance` of a float32 engine; None where that is this one, or there is none.

    Raises:
        BundleError: they differ by more than the tolerance: see `engines.names`.
    """
    if bundle.engine != "openvino-bf16":
        check_golden(bundle)
    pictures, logits = read_golden(bundle)
    answered, distance = bundle.predict_distance(pictures)
    off = float(np.abs(bundle.probabilities(answered) - bundle.probabilities(logits)).max())
    if off > BF16_PROBABILITY:
        raise BundleError(
            f"{bundle.engine} is off by {off:.3f} in a probability of the golden pictures on this machine "
            f"(allowed: {BF16_PROBABILITY:g}).",
            "Answer with --engine onnxruntime.",
        )
    if expected is not None:
        share = float((np.abs(distance - expected) / np.maximum(expected, 1e-6)).max())
        if share > BF16_DISTANCE:
            raise BundleError(
                f"{bundle.engine} is off by {percent(share)} in a distance to the known classes on this machine "
                f"(allowed: {percent(BF16_DISTANCE, 0)}).",
                "Answer with --engine onnxruntime.",
            )


def _speeds(loaded: Mapping[str, Bundle], pixels: Pixels) -> dict[str, float]:
    """Pictures a second: in turn, so that a slow moment hits all; the best turn, since others can only slow it down."""
    seconds = dict.fromkeys(loaded, math.inf)
    batches = AT_ONCE * [pixels]  # at a time, as `predict` and `serve` run them
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for _ in range(_REPETITIONS + 1):  # the first turn warms up, and is never the best
            for name, bundle in loaded.items():
                start = time.perf_counter()
                list(pool.map(partial(bundle.predict_distance, batch_size=len(pixels)), batches))
                seconds[name] = min(seconds[name], time.perf_counter() - start)
    return {name: len(pixels) * len(batches) / max(taken, 1e-9) for name, taken in seconds.items()}


def _memory(bundle: Bundle) -> Path:
    """The file that remembers the choice: its name is a digest of all that the speed depends on."""
    versions = {name: _version(name) for name in ("onnxruntime", "openvino")}
    machine = {"processor": processor_name(), "special": special_instructions(), "threads": n_processors()}
    key = {"network": bundle.digest, "candidates": candidates(), **versions, **machine}
    name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32]
    return cache_folder("engines") / f"{name}.json"


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _remember(bundle: Bundle, choice: EngineChoice) -> None:
    """A memory that cannot be written costs a timing the next time, and nothing else."""
    values: dict[str, Any] = {"engine": choice.engine, "speeds": dict(choice.speeds), "refused": dict(choice.refused)}
    file = _memory(bundle)
    with contextlib.suppress(OSError):
        write_note(file, values)
        notes = sorted(file.parent.glob("*.json"), key=lambda path: path.stat().st_mtime)
        for old in notes[:-_MOST_NOTES]:
            old.unlink(missing_ok=True)
