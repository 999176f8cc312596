"""Opens a bundle's network in onnxruntime: its graph is checked first, and its memory is bounded."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from tellapart.core.bundle_description import AGAIN
from tellapart.core.environment import memory_gib
from tellapart.core.hardware import give_back, processor_limit
from tellapart.core.onnxruntime_quiet import load_onnxruntime
from tellapart.deploy.bundle.onnx_check import check_graph
from tellapart.deploy.bundle.onnx_graph import read_graph
from tellapart.deploy.bundle.onnx_outline import outline
from tellapart.errors import BundleError

_WEIGHTS_FOLDER = "session.model_external_initializers_file_folder_path"
_SHARE = 0.75  # of the machine's memory
_OTHERWISE = 8.0  # GiB, where the machine does not tell
# It computes whatever follows from constants, which may take any time. Our exporter has done that for small ones.
_NOT_WHEN_LOADED = ["ConstantFolding"]


def check_network(path: Path) -> None:
    """Check a network's graph before any engine sees it.

    Raises:
        BundleError: the file holds what no network of ours needs.
    """
    try:
        check_graph(read_graph(path))
    except (OSError, ValueError) as error:
        raise BundleError(f"{path} cannot be run: {error}", AGAIN) from error


def open_session(path: Path) -> Any:
    """The `onnxruntime.InferenceSession` of a file, on the processor.

    Raises:
        BundleError: the file holds what no network of ours needs, or onnxruntime cannot run it.
    """
    check_network(path)
    onnxruntime = load_onnxruntime()

    _bound_memory()
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = processor_limit() or 0  # 0: as many as there are
    # Threads that wait by spinning would take the processors from those that decode the next pictures.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.use_env_allocators", "1")
    # One piece of memory for a whole batch takes half as much again, since each size of batch wants its own, and saves
    # no time.
    options.enable_mem_pattern = False
    try:
        real = path.resolve()
        model = outline(real)
        if model is not None:
            options.add_session_config_entry(_WEIGHTS_FOLDER, str(real.parent))
        session = onnxruntime.InferenceSession(
            model or path,
            sess_options=options,
            providers=["CPUExecutionProvider"],
            disabled_optimizers=_NOT_WHEN_LOADED,
        )
        inputs, outputs = session.get_inputs(), session.get_outputs()
    except Exception as error:  # onnxruntime's errors share no base but Exception
        raise BundleError(f"{path} cannot be run: {error}", AGAIN) from error
    names = [value.name for value in outputs]
    if [(value.name, value.type) for value in inputs] != [("pictures", "tensor(uint8)")] or names not in (
        ["logits"],
        ["logits", "features"],
    ):
        raise BundleError(f"{path} cannot be run: it is no network from pictures to logits.", AGAIN)
    give_back()  # what optimizing the graph took, twice the weights
    return session


@cache
def _bound_memory() -> None:
    """Let all sessions of this process share so much memory: one that wants more fails, and the process goes on."""
    onnxruntime = load_onnxruntime()

    most = int((memory_gib() or _OTHERWISE) * _SHARE * 2**30)
    memory = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    # The other values are onnxruntime's own.
    arena = {"max_mem": most, "arena_extend_strategy": 1, "initial_chunk_size_bytes": -1}
    onnxruntime.create_and_register_allocator(memory, onnxruntime.OrtArenaCfg(arena | {"max_dead_bytes_per_chunk": -1}))
