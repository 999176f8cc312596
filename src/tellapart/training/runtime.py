"""Device, precision and memory format: measured on this machine, not guessed."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import math
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import torch

from tellapart.core.environment import processor_name
from tellapart.core.files import cache_folder, write_text
from tellapart.core.hardware import n_processors
from tellapart.errors import UsageError

Precision = Literal["float32", "bfloat16"]
_MEASURED_STEPS = 2
#: So few pictures that what one layer gives is still in a processor's cache when the next one asks for it: with 64 of
#: them MobileNetV2 answers at half the speed.
_FITS_A_CACHE = 8
#: What a user may ask for: at most one of each line.
_RIVALS = (("cpu", "cuda", "mps"), ("float32", "bfloat16"), ("channels-last", "contiguous"))
_ASKED_FOR = "asked for"


@dataclass(frozen=True)
class Runtime:
    """How a network is run.

    Attributes:
        device: "cpu", "cuda" or "mps".
        precision: "float32", or "bfloat16": weights stay float32, products are computed in bfloat16.
        frozen: precision of layers that only answer: those whose activations are computed once and stored.
        channels_last: memory format of weights and activations in training; layers that only answer always have it.
        workers: threads that load pictures.
        why: one sentence on how this was chosen.
        at_once: so many pictures of a training step go through the layers at once, 0: all. The gradients are summed,
            so the step is the same but for rounding; only for layers in which pictures do not depend on each other.
    """

    device: str
    precision: Precision = "float32"
    frozen: Precision = "float32"
    channels_last: bool = True
    workers: int = 2
    why: str = ""
    at_once: int = 0

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """The context in which forward passes run."""
        if self.precision == "float32":
            return contextlib.nullcontext()
        return torch.autocast(self.device, torch.bfloat16)

    @property
    def inference(self) -> Runtime:
        """What of it is the same for all stages of a training, nothing being timed of steps."""
        return Runtime(self.device, frozen=self.frozen, workers=self.workers, why=self.why)

    @property
    def asked_for(self) -> bool:
        """Whether it is the user's wish."""
        return self.why == _ASKED_FOR

    @property
    def memory_format(self) -> torch.memory_format:
        return torch.channels_last if self.channels_last else torch.contiguous_format

    @property
    def answers_at_once(self) -> int:
        """Pictures that go through layers at once that only answer: always the same, since sums depend on it."""
        return _FITS_A_CACHE if self.device == "cpu" else 256

    @property
    def in_turn(self) -> bool:
        """Whether to load nothing while layers answer, since they run on the processors that would load.

        torch's threads wait for the slowest of them in every layer: one that decodes beside them costs them more than
        its own time.
        """
        return self.device == "cpu"

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def default_device() -> str:
    """The fastest device there is: "cuda", "mps" or "cpu"."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def default_workers() -> int:
    """Threads for loading pictures where none were timed: a processor each, at most 8 (docs/decisions/0029)."""
    return min(8, n_processors())


def plain_runtime() -> Runtime:
    """The default device in float32: what is answered so is what the exported model answers."""
    return Runtime(default_device(), workers=default_workers())


def parse(text: str) -> Runtime | None:
    """Read a user's wish such as "cpu,bfloat16,channels-last"; "auto" gives None.

    Raises:
        UsageError: an unknown word, two words that exclude each other, or a device that this machine lacks.
    """
    if text == "auto":
        return None
    known = [word for rivals in _RIVALS for word in rivals]
    words = [word.strip() for word in text.split(",")]
    unknown = [word for word in words if word not in known]
    if unknown:
        raise UsageError(
            f"--runtime {text}: '{unknown[0]}' is unknown.", f"Known: auto, or some of {', '.join(sorted(known))}."
        )
    for rivals in _RIVALS:
        named = [word for word in rivals if word in words]
        if len(named) > 1:
            raise UsageError(f"--runtime {text}: '{named[0]}' and '{named[1]}' exclude each other.", "Give only one.")
    device = next((word for word in words if word in _RIVALS[0]), default_device())
    if not _has(device):
        here = ", ".join(filter(_has, _RIVALS[0]))
        raise UsageError(
            f"--runtime {text}: this machine has no device '{device}' that torch can use.", f"Here: {here}."
        )
    precision: Precision = "bfloat16" if "bfloat16" in words else "float32"
    return Runtime(device, precision, precision, "contiguous" not in words, default_workers(), _ASKED_FOR)


def _has(device: str) -> bool:
    if device == "cuda":
        return torch.cuda.is_available()
    return device == "cpu" or torch.backends.mps.is_available()


def candidates(apart: bool) -> list[Runtime]:
    """What is worth timing on this machine; the plainest comes first.

    Args:
        apart: whether the pictures of a step may go through the layers a few at a time.
    """
    device, workers = default_device(), default_workers()
    ways = [
        Runtime(device, "float32", "float32", False, workers),
        Runtime(device, "float32", "float32", True, workers),
        Runtime(device, "bfloat16", "bfloat16", True, workers),
    ]
    if apart and device == "cpu":
        ways += [replace(way, at_once=_FITS_A_CACHE) for way in ways[1:]]
    return ways


def numbers_of_workers() -> list[int]:
    """How many threads are worth timing: more do not always load more, since they wait for each other."""
    most = min(16, n_processors())
    return [*(n for n in (2, 4, 8) if n < most), most]


def for_inference(
    key: dict[str, Any], frozen: Callable[[Runtime], None] | None, load: Callable[[Runtime], None]
) -> Runtime:
    """Time layers that only answer, and reading; training steps are not timed yet. Remembered: the next run chooses so.

    Args:
        key: all that the speed depends on (network, size, batch size); machine and versions are added.
        frozen: runs the layers that only answer, in the runtime's `frozen` precision; None where there are none.
        load: loads some pictures with the runtime's number of workers.
    """

    def choose() -> Runtime:
        best, timings = Runtime(default_device(), workers=default_workers()), list[str]()
        if frozen:
            ways = [replace(best, frozen=precision) for precision in ("float32", "bfloat16")]
            run = [(_seconds(frozen, runtime, math.inf), runtime) for runtime in ways]
            best = min(run, key=_by_time)[1]
            timings.append("the frozen layers take " + _timings([(r.frozen, s) for s, r in sorted(run, key=_by_time)]))
        if len(counts := numbers_of_workers()) > 1:
            ways = [replace(best, workers=n) for n in counts]
            run = [(_seconds(load, runtime, math.inf), runtime) for runtime in ways]
            best = min(run, key=_by_time)[1]
            threads = [(f"{r.workers} threads", s) for s, r in sorted(run, key=_by_time)]
            timings.append("reading pictures takes " + _timings(threads))
        return replace(best, why="; ".join(timings))

    return _remembered({**key, "times": "answers", "frozen": frozen is not None}, choose)


def for_training(key: dict[str, Any], base: Runtime, step: Callable[[Runtime], None], apart: bool) -> Runtime:
    """Time training steps under each candidate and take the fastest; remembered, so that the next run chooses the same.

    Args:
        key: see `for_inference`.
        base: what was found there; kept but for how steps are run.
        step: performs one training step under a runtime, without lasting effects.
        apart: see `candidates`.
    """

    def choose() -> Runtime:
        timed: list[tuple[float, Runtime]] = []
        for runtime in candidates(apart):
            timed.append((_seconds(step, runtime, min(timed, key=_by_time)[0] if timed else math.inf), runtime))
        timed.sort(key=_by_time)
        timings = "a training step takes " + _timings([(in_words(r), s) for s, r in timed])
        return replace(timed[0][1], why=timings)

    found = _remembered({**key, "times": "steps", "apart": apart}, choose)
    return replace(found, frozen=base.frozen, workers=base.workers)


def _remembered(key: dict[str, Any], choose: Callable[[], Runtime]) -> Runtime:
    """What was chosen before on this machine with these versions, or what is chosen now."""
    threads = {"threads": torch.get_num_threads(), "processors": n_processors()}
    full = {**key, "torch": torch.__version__, **threads, **_machine()}
    name = hashlib.sha256(json.dumps(full, sort_keys=True).encode()).hexdigest()[:24]
    file = cache_folder("runtime") / f"{name}.json"
    if file.is_file():
        with contextlib.suppress(OSError, ValueError, TypeError):
            return Runtime(**json.loads(file.read_text()))
    chosen = choose()
    with contextlib.suppress(OSError):  # a cache that cannot be written costs time, not the training
        write_text(file, json.dumps(chosen.as_dict()))
    return chosen


def _timings(timed: list[tuple[str, float]]) -> str:
    """The fastest, which is taken, then the others."""
    best, *others = (f"{seconds * 1000:.0f} ms in {name}" for name, seconds in timed)
    return f"{best}, instead of {', '.join(others)}" if others else best


def _by_time(timed: tuple[float, Runtime]) -> float:
    return timed[0]


def _seconds(run: Callable[[Runtime], None], runtime: Runtime, known: float) -> float:
    """The fastest of a few steps after one that warms up. The minimum, since other programs can only add time.

    One is enough where it takes far longer than what is `known` of another way.
    """
    run(runtime)
    best = math.inf
    for _ in range(_MEASURED_STEPS):
        synchronise(runtime.device)
        start = time.perf_counter()
        run(runtime)
        synchronise(runtime.device)
        best = min(best, time.perf_counter() - start)
        if best > 1.5 * known:
            break
    return best


def synchronise(device: str) -> None:
    """Wait until a device has done what it was asked to: only then does a clock say how long it took."""
    if device == "cuda":
        torch.cuda.synchronize()
    elif device == "mps":
        torch.mps.synchronize()


def in_words(runtime: Runtime) -> str:
    """How training steps are run, for people."""
    few = f" with {runtime.at_once} pictures at once" if runtime.at_once else ""
    return f"{runtime.precision} {'channels-last' if runtime.channels_last else 'contiguous'}{few}"


def _machine() -> dict[str, Any]:
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    return {"node": platform.node(), "processor": processor_name(), "gpu": gpu}


def environment() -> dict[str, Any]:
    """What a result depends on besides recipe and pictures: versions, machine, threads."""
    from tellapart.core.version import __version__

    # Asked of the installed packages, since importing them takes seconds.
    installed = {d.name.lower(): d.version for d in importlib.metadata.distributions()}
    packages = ("torchvision", "timm", "numpy", "pillow", "simplejpeg", "onnxruntime")
    return {
        "tellapart": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        **{package: installed[package] for package in packages if package in installed},
        "platform": platform.platform(),
        "threads": torch.get_num_threads(),
        **{name: value for name, value in _machine().items() if name != "node"},
    }
