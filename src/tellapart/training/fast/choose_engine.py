"""Which engine runs frozen layers fastest here, of those whose output is good enough: measured, and remembered.

An engine other than torch has to convert the layers first, which takes seconds. So it is tried only where there is
enough to compute, and taken only where the conversion, counted in, pays.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from tellapart.core.cache import read_note, write_note
from tellapart.core.events import Computing
from tellapart.models.network import Network
from tellapart.training.dataset import Dataset
from tellapart.training.fast.engines import (
    NAMES,
    EngineError,
    InferenceLayers,
    full,
    inference_layers,
    missing,
    version,
    weights_hash,
)
from tellapart.training.fast.probe_check import no_worse
from tellapart.training.fast.remembered import note_file
from tellapart.training.pixels import plain
from tellapart.training.runtime import Engine, Precision, Runtime, multiplies_bfloat16, synchronise

Way = tuple[Engine, Precision]
_PLAINEST: Way = ("torch", "float32")
#: How frozen layers may run, the plainest first: it is taken where two are as fast.
WAYS: tuple[Way, ...] = (
    _PLAINEST,
    ("torch", "bfloat16"),
    ("openvino", "float32"),
    ("openvino", "bfloat16"),
    ("onnxruntime", "float32"),
)
#: The least mean cosine between what a way gives of a picture and what the plainest gives.
LEAST_COSINE: Mapping[Precision, float] = {"float32": 0.9999, "bfloat16": 0.998}
#: Seconds that a conversion may take, as long as nobody has measured it; and the share of the fastest way's time that
#: an engine may save: the first one about half, a further one little.
_CONVERSION: Mapping[Engine, float] = {"torch": 0.0, "openvino": 3.0, "onnxruntime": 8.0}
_MAY_SAVE, _MAY_SAVE_MORE = 0.5, 0.15
_ROUNDS = 3
#: A way that takes so many times the fastest one's time is not timed again.
_HOPELESS = 1.5
#: Batches that are timed.
_TIMED = 2
_POLL_SECONDS = 0.2
_TASK = "timing engines"


@dataclass(frozen=True)
class Timing:
    """One way to run some frozen layers, as measured.

    Attributes:
        engine, precision: the way.
        seconds: a picture; 0 where it has not run.
        preparing: seconds of the conversion, once a process.
        cosine: the mean one between its output for a picture and that of torch in float32.
        fault: why it must not be used, as the end of a sentence; "": it may.
    """

    engine: Engine
    precision: Precision
    seconds: float = 0.0
    preparing: float = 0.0
    cosine: float = 1.0
    fault: str = ""

    @property
    def way(self) -> Way:
        return self.engine, self.precision

    def total(self, n: int) -> float:
        """Seconds for so many pictures, the conversion counted in."""
        return self.preparing + n * self.seconds


@dataclass(frozen=True)
class FrozenWork:
    """Frozen layers, and what they will be asked for.

    Attributes:
        network: what the layers belong to.
        layers: from the input on, in evaluation mode.
        until: name of the layer before which they end; "head" for the whole backbone.
        dataset: its training pictures are tried.
        n: number of pictures to come, each view counted.
    """

    network: Network
    layers: nn.Module
    until: str
    dataset: Dataset
    n: int


@dataclass(frozen=True)
class EngineChoice:
    """How frozen layers run.

    Attributes:
        runtime: with `engine`, `frozen`, and the reasons in `why`.
        seconds: a picture, without reading it.
        preparing: seconds of the conversion, once a process.
    """

    runtime: Runtime
    seconds: float
    preparing: float

    def total(self, n: int) -> float:
        """Seconds for so many pictures, the conversion counted in."""
        return self.preparing + n * self.seconds


def choose_engine(work: FrozenWork, base: Runtime) -> Generator[Computing, None, EngineChoice]:
    """Choose engine and precision of frozen layers: the fastest whose output is good enough.

    Good enough in float32: a cosine of 0.9999 to torch's float32; in bfloat16: one of 0.998, and a linear probe on it
    is no worse on a sample. What was measured is remembered by network, weights, size, machine and versions.

    Args:
        work: the layers, and how much they have to do.
        base: gives device and workers.

    Yields:
        Computing, at times, as conversions take seconds.
    """
    layers, size = work.layers, base.inference_batch
    load, rows = plain(work.dataset), work.dataset.train[: _TIMED * size]
    pictures = torch.from_numpy(np.stack([load(int(row)) for row in rows]))
    inputs = full(work.network.normalise(pictures.to(work.network.scale.device)), math.ceil(len(rows) / size) * size)
    key = {
        "network": work.network.architecture.as_dict(),
        "until": work.until,
        "weights": weights_hash(layers),
        "inputs": list(inputs.shape),
        "device": base.device,
        "engines": [version("openvino"), version("onnxruntime")],
    }
    timings = yield from _timings(work, base, list(torch.split(inputs, size)), note_file({**key, "times": "engines"}))
    allowed = [timing for timing in timings if not timing.fault]
    refused = [timing for timing in timings if timing.fault]
    while (best := min(allowed, key=lambda timing: timing.total(work.n))).precision == "bfloat16":
        way = replace(base, engine=best.engine, frozen=best.precision)
        if (yield from no_worse(layers, work.dataset, work.network, way, key)):
            break
        allowed.remove(best)
        refused.append(replace(best, fault="a linear probe on it is worse"))
    why = _in_words(best, [timing for timing in allowed if timing is not best], refused)
    return EngineChoice(replace(base, engine=best.engine, frozen=best.precision, why=why), best.seconds, best.preparing)


def _in_words(best: Timing, others: Sequence[Timing], refused: Sequence[Timing]) -> str:
    """Why a way was taken. Of those refused, what is slower anyway is not spoken of."""

    def pace(timing: Timing, a_picture: str = "") -> str:
        return f"{timing.seconds * 1000:,.3g} ms{a_picture} with {words(timing)}"

    def words(timing: Timing) -> str:
        return f"{NAMES[timing.engine]} in {timing.precision}"

    ready = f", which converts them in {best.preparing:.1f} s" if best.preparing else ""
    instead = ", ".join(pace(timing) for timing in sorted(others, key=lambda timing: timing.seconds))
    first = f"the frozen layers take {pace(best, ' a picture')}{ready}{instead and f', instead of {instead}'}"
    faults = [f"not {words(timing)}: {timing.fault}" for timing in refused if timing.seconds <= best.seconds]
    return "; ".join([first, *faults])


def _timings(
    work: FrozenWork, base: Runtime, batches: list[Tensor], file: Path
) -> Generator[Computing, None, list[Timing]]:
    """The ways as measured, the plainest first: remembered ones, and those that may pay and were not tried before."""
    timings, ready = _recall(file), dict[Way, InferenceLayers]()
    for way in WAYS:
        if way in timings or not _may_pay(way, timings, work.n) or (way[0] != "torch" and base.device != "cpu"):
            continue
        if way == ("torch", "bfloat16") and not multiplies_bfloat16(base.device):
            continue
        if reason := missing(*way):
            if way[1] == "float32":  # that a processor has no bfloat16 need not be told
                timings[way] = Timing(*way, fault=reason)
            continue
        # A fault is remembered while it is tried: where it takes the process down, the next one does without it.
        ended = f"a process ended while it tried {NAMES[way[0]]}"
        _remember(file, {**timings, way: Timing(*way, fault=ended)} if way[0] != "torch" else timings)
        forward = inference_layers(work.layers, replace(base, engine=way[0], frozen=way[1]))
        plainest = ready.setdefault(_PLAINEST, forward if way == _PLAINEST else _plainest(work.layers, base))
        try:
            timings[way] = yield from _tried(way, forward, plainest, batches, base.device)
        finally:
            _remember(file, timings)
        if not timings[way].fault:
            ready[way] = forward
    for _ in range(_ROUNDS):  # in turn, so that a slow moment of the machine hits all alike
        fastest = min((timings[way].seconds for way in ready), default=0.0)
        for way, forward in ready.items():
            if timings[way].seconds <= _HOPELESS * fastest:
                seconds = min(timings[way].seconds, _timed(forward, batches, base.device)[0])
                timings[way] = replace(timings[way], seconds=seconds)
    if ready:
        _remember(file, timings)
    return [timings[way] for way in WAYS if way in timings]


def _may_pay(way: Way, timings: Mapping[Way, Timing], n: int) -> bool:
    """Whether a way may save more than its conversion costs."""
    if any(timing.engine == way[0] != "torch" and timing.fault for timing in timings.values()):
        return False
    usable = [timing for timing in timings.values() if not timing.fault]
    if not usable or (wanted := _CONVERSION[way[0]]) == 0:
        return True
    if way[0] in {timing.engine for timing in usable}:  # its other precision has shown what a conversion costs
        wanted = max(timing.preparing for timing in usable if timing.engine == way[0])
    may_save = _MAY_SAVE if all(timing.engine == "torch" for timing in usable) else _MAY_SAVE_MORE
    return may_save * min(timing.total(n) for timing in usable) > wanted


def _plainest(layers: nn.Module, base: Runtime) -> InferenceLayers:
    return inference_layers(layers, replace(base, engine=_PLAINEST[0], frozen=_PLAINEST[1]))


def _tried(
    way: Way, forward: InferenceLayers, plainest: InferenceLayers, batches: list[Tensor], device: str
) -> Generator[Computing, None, Timing]:
    """A way as measured once, its output compared with that of the plainest."""
    start, number = time.perf_counter(), WAYS.index(way)
    try:
        forward.begin(tuple(batches[0].shape))
        while not forward.wait(_POLL_SECONDS):
            yield Computing(-1, _TASK, number, len(WAYS))
        preparing = time.perf_counter() - start if way[0] != "torch" else 0.0
        forward(batches[0])  # the first run of many a library is slow
        seconds, outputs = _timed(forward, batches, device)
    except EngineError as error:
        return Timing(*way, fault=str(error))
    cosine = _cosine(torch.cat(outputs), torch.cat([plainest(batch) for batch in batches]))
    yield Computing(-1, _TASK, number + 1, len(WAYS))
    fault = "" if cosine >= LEAST_COSINE[way[1]] else f"its output is another (cosine {cosine:.4f})"
    return Timing(*way, seconds, preparing, cosine, fault)


def _cosine(one: Tensor, other: Tensor) -> float:
    """The mean cosine between two outputs for each picture; -1 where they cannot be compared."""
    if one.shape != other.shape:
        return -1.0
    one, other = one.flatten(1).double(), other.flatten(1).double()
    if torch.equal(one, other):  # also where all are 0, or not finite
        return 1.0
    return float(torch.cosine_similarity(one, other).nan_to_num(-1.0).mean())


def _timed(forward: InferenceLayers, batches: list[Tensor], device: str) -> tuple[float, list[Tensor]]:
    """Seconds a picture of one run over the batches, and its outputs."""
    synchronise(device)
    start = time.perf_counter()
    outputs = [forward(batch) for batch in batches]
    synchronise(device)
    return (time.perf_counter() - start) / sum(map(len, batches)), outputs


def _remember(file: Path, timings: Mapping[Way, Timing]) -> None:
    with contextlib.suppress(OSError):  # a memory that cannot be written costs time, not the training
        write_note(file, {"timings": [asdict(timing) for timing in timings.values()]})


def _recall(file: Path) -> dict[Way, Timing]:
    """What a file remembers; nothing where it is missing or damaged."""
    with contextlib.suppress(TypeError, KeyError, AttributeError):
        timings = [Timing(**values) for values in (read_note(file) or {"timings": []})["timings"]]
        return {timing.way: timing for timing in timings if timing.way in WAYS}
    return {}
