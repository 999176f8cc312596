"""How a network is run: device, precision, memory format, threads. `fast.autotune` measures what is fastest."""

from __future__ import annotations

import contextlib
import importlib.metadata
import platform
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import torch

from tellapart.core.environment import processor_name
from tellapart.core.events import ASKED_FOR
from tellapart.core.hardware import n_processors
from tellapart.core.openvino_quiet import has_openvino
from tellapart.errors import UsageError

Precision = Literal["float32", "bfloat16"]
Engine = Literal["torch", "openvino", "onnxruntime"]
ENGINES: tuple[Engine, ...] = ("torch", "openvino", "onnxruntime")
#: So many pictures leave a layer's output in a processor's cache until the next layer reads it. With 64 of them at once
#: MobileNetV2 answers at half the speed.
FITS_A_CACHE = 8
#: Words that a user may ask with: at most one of each line.
_RIVALS = (
    ("cpu", "cuda", "mps"),
    ("float32", "bfloat16"),
    ("channels-last", "contiguous"),
    ENGINES,
)


@dataclass(frozen=True)
class Runtime:
    """How a network is run.

    Attributes:
        device: "cpu", "cuda" or "mps".
        precision: "float32", or "bfloat16": weights stay float32, products are computed in bfloat16.
        frozen: precision of frozen layers, whose features are computed once and stored.
        channels_last: memory format of weights and activations in training. In inference it is always channels-last.
        workers: threads that load pictures.
        why: one sentence on how this was chosen.
        micro_batch: pictures of a training step that go through the layers together; 0 means all. Gradients are summed
            over the micro-batches, so a step is the same but for rounding. Only for layers in which pictures do not
            depend on each other.
        engine: what runs frozen layers whose output is stored. All else is run by torch.
    """

    device: str
    precision: Precision = "float32"
    frozen: Precision = "float32"
    channels_last: bool = True
    workers: int = 2
    why: str = ""
    micro_batch: int = 0
    engine: Engine = "torch"

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """The context in which forward passes run."""
        if self.precision == "float32":
            return contextlib.nullcontext()
        return torch.autocast(self.device, torch.bfloat16)

    @property
    def inference(self) -> Runtime:
        """What all stages of a training share: device, threads, precision of frozen layers; nothing about steps."""
        return Runtime(self.device, frozen=self.frozen, workers=self.workers, why=self.why, engine=self.engine)

    @property
    def with_plain_frozen(self) -> Runtime:
        """The same, but that torch runs frozen layers in float32: what any machine can."""
        return replace(self, engine="torch", frozen="float32")

    @property
    def asked_for(self) -> bool:
        """Whether the user asked for it."""
        return self.why == ASKED_FOR

    @property
    def memory_format(self) -> torch.memory_format:
        return torch.channels_last if self.channels_last else torch.contiguous_format

    @property
    def inference_batch(self) -> int:
        """Pictures that go through the layers together in inference: always the same, since sums depend on it."""
        return FITS_A_CACHE if self.device == "cpu" else 256

    @property
    def sequential(self) -> bool:
        """Whether to load nothing during inference, which runs on the processors that would load.

        torch's threads wait for the slowest of them in every layer. One that decodes beside them costs them more than
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


def multiplies_bfloat16(device: str) -> bool:
    """Whether torch has products in bfloat16 for a device. Without them it computes number by number: for minutes."""
    return device != "cpu" or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def default_workers() -> int:
    """Threads for loading pictures where none were timed: a processor each, at most 8 (docs/decisions/0029)."""
    return min(8, n_processors())


def plain_runtime() -> Runtime:
    """The default device in float32: inference gives what the exported model gives."""
    return Runtime(default_device(), workers=default_workers())


def parse(text: str) -> Runtime | None:
    """Read what a user asks for, such as "cpu,bfloat16,channels-last"; "auto" gives None.

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
            f"--runtime {text}: '{unknown[0]}' is unknown.", f"Possible: auto, or some of {', '.join(sorted(known))}."
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
    engine: Engine = next((engine for engine in ENGINES if engine in words), "torch")
    if engine != "torch" and device != "cpu":
        raise UsageError(f"--runtime {text}: '{engine}' runs layers on the processor alone.", f"Add cpu: cpu,{engine}.")
    if engine == "openvino" and not has_openvino():
        raise UsageError(f"--runtime {text}: OpenVINO is not installed.", "Install it: pip install openvino")
    channels_last = "contiguous" not in words
    return Runtime(device, precision, precision, channels_last, default_workers(), ASKED_FOR, engine=engine)


def _has(device: str) -> bool:
    if device == "cuda":
        return torch.cuda.is_available()
    return device == "cpu" or torch.backends.mps.is_available()


def synchronise(device: str) -> None:
    """Wait until a device has done what it was asked to: only then does a clock say how long it took."""
    if device == "cuda":
        torch.cuda.synchronize()
    elif device == "mps":
        torch.mps.synchronize()


def machine() -> dict[str, Any]:
    """Name of this machine, and its processors."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    return {"node": platform.node(), "processor": processor_name(), "gpu": gpu}


def environment() -> dict[str, Any]:
    """Versions, machine and threads: what a result depends on besides recipe and pictures."""
    from tellapart.core.version import __version__

    packages = ("torchvision", "timm", "numpy", "pillow", "simplejpeg", "onnxruntime", "openvino")
    return {
        "tellapart": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        **{package: version for package in packages if (version := _installed(package))},
        "platform": platform.platform(),
        "threads": torch.get_num_threads(),
        **{name: value for name, value in machine().items() if name != "node"},
    }


def _installed(package: str) -> str:
    """The version of a package, "" without it. Importing it would take seconds."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""
