"""Runs a bundle's network in OpenVINO, in float32 or bfloat16. Nothing is written outside the process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tellapart.core.bundle_description import AGAIN
from tellapart.core.extras import require
from tellapart.core.hardware import give_back, n_processors
from tellapart.core.openvino_quiet import has_openvino, load_openvino
from tellapart.core.preprocess import Pixels
from tellapart.deploy.bundle.session import check_network
from tellapart.errors import BundleError

#: uint8 [n, height, width, 3] and names of outputs → those outputs, float32, the first dimension n.
Run = Callable[[Pixels, Sequence[str]], list[npt.NDArray[np.float32]]]


def open_openvino(path: Path, bfloat16: bool = False) -> Run:
    """Compile a network for this processor.

    Args:
        path: the ONNX file; its graph is checked as for onnxruntime.
        bfloat16: the precision inside; float32 otherwise. Inputs and outputs are the same.

    Returns:
        A function that runs it; calls from several threads wait for each other.

    Raises:
        BundleError: the file holds what no network of ours needs, or OpenVINO cannot run it.
        MissingExtraError: OpenVINO is not installed.
    """
    if not has_openvino():
        require("openvino", "The engine openvino", "fast")
    check_network(path)
    # Stated, since on some processors the default is half precision. Threads are not tied to processors: those that
    # decode the next pictures need them too.
    config = {
        "INFERENCE_PRECISION_HINT": "bf16" if bfloat16 else "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": n_processors(),
        "ENABLE_CPU_PINNING": False,
    }
    try:
        core = load_openvino().Core()
        compiled = core.compile_model(core.read_model(path), "CPU", config)
        numbers = {output.get_any_name(): number for number, output in enumerate(compiled.outputs)}
        request = compiled.create_infer_request()
    except Exception as error:  # OpenVINO's errors share no base but Exception
        raise BundleError(f"{path} cannot be run by OpenVINO: {_first_line(error)}", AGAIN) from error
    lock = threading.Lock()
    give_back()  # what reading and compiling took

    def run(pictures: Pixels, outputs: Sequence[str]) -> list[npt.NDArray[np.float32]]:
        with lock:
            request.infer({0: pictures}, share_inputs=True)
            # Copies, since the next call writes into the same memory.
            return [_array(request.get_output_tensor(numbers[name]).data) for name in outputs]

    return run


def _array(data: Any) -> npt.NDArray[np.float32]:
    return np.array(data, np.float32)


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
