"""Engines that run layers which only answer: torch, OpenVINO, onnxruntime. `choose_engine` measures which is fastest.

An engine turns layers into a function of batches of one shape. With a fixed batch and fixed threads, what it gives for
a picture has the same bits whatever else is in the batch, so that it can be stored (see `feature_cache`).
"""

from __future__ import annotations

import copy
import hashlib
import importlib.metadata
import warnings
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tellapart.core.onnxruntime_quiet import load_onnxruntime
from tellapart.core.openvino_quiet import has_openvino, load_openvino
from tellapart.training.fast.forward import Forward
from tellapart.training.fast.fuse_batchnorm import folded
from tellapart.training.runtime import ENGINES, Engine, Precision, Runtime

#: As people write them.
NAMES = {"torch": "torch", "openvino": "OpenVINO", "onnxruntime": "onnxruntime"}
#: Layers that were converted last, by what they are: whoever times them needs them again at once.
_READY: OrderedDict[tuple[Any, ...], Future[Forward]] = OrderedDict()
_MOST_READY = 2
_LONGEST = 150  # characters of an engine's own words that a person is shown
#: Warnings about what OpenVINO's converter still uses.
_DEPRECATED = (r"`torch\.jit\.trace",)


class EngineError(Exception):
    """An engine cannot run some layers; the text says why, as the end of a sentence. Torch can."""


class InferenceLayers:
    """Layers made fast for answering: inputs [n, …] → outputs. They are left as they are.

    They are made ready for the shape of the first batch, and take no other one. "bfloat16" has the weights in it too,
    so its result differs a little from training's "bfloat16" as from float32.

    Args:
        layers: in any mode, on the runtime's device.
        runtime: its `engine` and `frozen` count.
    """

    def __init__(self, layers: nn.Module, runtime: Runtime) -> None:
        self._layers, self._engine, self._precision = layers, runtime.engine, runtime.frozen
        self._forward: Future[Forward] | None = None

    def begin(self, shape: tuple[int, ...]) -> None:
        """Begin to convert the layers for inputs of a shape, in a thread, while the caller reads pictures."""
        if self._engine != "torch" and self._forward is None:
            example = torch.randn(shape, generator=torch.Generator().manual_seed(0))
            self._forward = _converted(self._engine, self._layers, example, self._precision)

    def wait(self, seconds: float) -> bool:
        """Wait for the conversion, but no longer than so; whether it is over."""
        return self._forward is None or bool(wait([self._forward], seconds).done)

    def __call__(self, inputs: Tensor) -> Tensor:
        """Run the layers.

        Raises:
            EngineError: the engine cannot.
        """
        if self._forward is None and self._engine == "torch":
            self._forward = Future()
            self._forward.set_result(_torch(self._layers, inputs, self._precision))
        self.begin(tuple(inputs.shape))
        assert self._forward is not None
        try:
            with torch.no_grad():
                return self._forward.result()(inputs)
        except Exception as error:  # an engine's errors share no base but Exception
            if self._engine == "torch":
                raise
            raise EngineError(f"{NAMES[self._engine]} cannot run these layers ({_in_a_line(error)})") from error


def inference_layers(layers: nn.Module, runtime: Runtime) -> InferenceLayers:
    """See `InferenceLayers`."""
    return InferenceLayers(layers, runtime)


def full(batch: Tensor, size: int) -> Tensor:
    """A batch of so many: how sums are ordered depends on a batch's size, so a smaller one is filled up."""
    n = len(batch)
    return batch if n == size else batch.index_select(0, torch.arange(size, device=batch.device).clamp(max=n - 1))


def missing(engine: Engine, precision: Precision) -> str:
    """Why an engine cannot be had here in a precision, as the end of a sentence; "" where it can."""
    if engine not in ENGINES:  # of a run that was begun by another version
        return f"there is no engine '{engine}' here"
    if engine == "torch":
        return ""
    if engine == "onnxruntime":
        return "" if precision == "float32" else "onnxruntime has no bfloat16"
    if not has_openvino():
        return "OpenVINO is not installed: pip install openvino"
    if precision == "float32":
        return ""
    try:
        able = "BF16" in load_openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    except Exception as error:  # noqa: BLE001 - an engine's errors share no base
        return f"OpenVINO does not start ({_in_a_line(error)})"
    return "" if able else "OpenVINO has no bfloat16 on this processor"


def version(engine: Engine) -> str:
    """The version of an engine; "" where it is not installed."""
    try:
        return importlib.metadata.version(engine)
    except importlib.metadata.PackageNotFoundError:
        return ""


def weights_hash(module: nn.Module) -> str:
    """SHA-256 over the names, types and values of a module's tensors."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        data = tensor.detach().cpu().contiguous()
        digest.update(f"{name}{data.dtype}{list(data.shape)}".encode())
        digest.update(data.flatten().view(torch.uint8).numpy().tobytes() if data.ndim else str(data.item()).encode())
    return digest.hexdigest()


def _in_a_line(error: BaseException) -> str:
    """The error at the bottom as a few words: OpenVINO's reason follows a dash, others' stands in the first line."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    line = next((line[3:] for line in lines if line.startswith("-- ")), lines[0] if lines else "no reason")
    return f"{type(error).__name__}: {line[:_LONGEST]}"


def _converted(engine: Engine, layers: nn.Module, example: Tensor, precision: Precision) -> Future[Forward]:
    """Layers converted in a thread, or equal ones as they were converted before.

    The thread draws no random numbers: trainings depend on torch's.
    """
    plain = copy.deepcopy(layers).cpu().float().eval().requires_grad_(False)
    key = (engine, precision, tuple(example.shape), str(plain), weights_hash(plain), torch.get_num_threads())
    if key not in _READY:
        for message in _DEPRECATED:  # not `catch_warnings`, which must not be used beside other threads
            warnings.filterwarnings("ignore", message=message)
        warnings.filterwarnings("ignore", category=torch.jit._trace.TracerWarning)
        pool = ThreadPoolExecutor(1, "tellapart-engine")
        _READY[key] = pool.submit(_CONVERTERS[engine], plain, example, precision)
        pool.shutdown(wait=False)
    _READY.move_to_end(key)
    while len(_READY) > _MOST_READY:
        _READY.popitem(last=False)
    return _READY[key]


def _torch(layers: nn.Module, inputs: Tensor, precision: Precision) -> Forward:
    """Folded layers in the precision, on channels-last memory."""
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    fast: nn.Module = folded(layers, inputs.float()).to(dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def run(inputs: Tensor) -> Tensor:
        inputs = inputs.contiguous(memory_format=torch.channels_last) if inputs.ndim == 4 else inputs
        outputs: Tensor = fast(inputs.to(dtype))
        return outputs

    return run


def _openvino(layers: nn.Module, example: Tensor, precision: Precision) -> Forward:
    """Layers as OpenVINO compiles them. Its frontend is called itself: `convert_model` would report to its makers."""
    openvino = load_openvino()
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    with torch.no_grad():
        traced = TorchScriptPythonDecoder(layers, example_input=example, trace_kwargs={"check_trace": False})
        frontend = FrontEndManager().load_by_framework("pytorch")
        model = frontend.convert(frontend.load(traced))
    model.reshape(list(example.shape))
    settings = {
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bfloat16" else "f32",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        # Threads that are tied to processors would wait where other programs use these.
        "ENABLE_CPU_PINNING": False,
    }
    compiled = openvino.Core().compile_model(model, "CPU", settings)
    if precision == "bfloat16" and compiled.get_property("INFERENCE_PRECISION_HINT") != openvino.Type.bf16:
        raise EngineError("it has no bfloat16 on this processor")
    request = compiled.create_infer_request()
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32  # it gives bfloat16 as float32

    def run(inputs: Tensor, _alive: object = traced) -> Tensor:  # the model's weights lie in the traced layers
        (outputs,) = request.infer([inputs.float().contiguous().numpy()], share_inputs=True).values()
        return torch.from_numpy(np.array(outputs)).to(dtype)

    return run


def _onnxruntime(layers: nn.Module, example: Tensor, precision: Precision) -> Forward:
    """Layers as onnxruntime runs them, in float32."""
    onnxruntime = load_onnxruntime()

    program = torch.onnx.export(layers, (example,), dynamo=True, verbose=False)
    assert program is not None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = torch.get_num_threads(), 1
    # As for bundles: threads that wait by spinning would take the processors from those that decode.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    model = program.model_proto.SerializeToString()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    (name,) = (value.name for value in session.get_inputs())

    def run(inputs: Tensor) -> Tensor:
        (outputs,) = session.run(None, {name: inputs.float().contiguous().numpy()})
        return torch.from_numpy(outputs)

    return run


_CONVERTERS: Mapping[Engine, Callable[[nn.Module, Tensor, Precision], Forward]] = {
    "openvino": _openvino,
    "onnxruntime": _onnxruntime,
}
