"""KServe's open inference protocol, version 2, over HTTP, with its extension for binary tensors.

https://github.com/kserve/open-inference-protocol: specification/protocol/inference_rest.md
https://kserve.github.io/website/docs/concepts/architecture/data-plane/v2-protocol/binary-tensor-data-extension

The model takes one tensor `pictures` of BYTES [n], the contents of picture files, as binary data: pixels as JSON are
refused. It gives `label` and `unknown` BYTES [n], `certainty` FP32 [n] and `probabilities` FP32 [n, n_classes], in the
order of the classes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from tellapart.core import checks
from tellapart.core.plain_json import parse_json
from tellapart.core.version import __version__
from tellapart.deploy.answer import Answer
from tellapart.web.serve.bodies import MOST_PICTURES, Refused

HEADER_LENGTH = "Inference-Header-Content-Length"
INPUT = "pictures"
SERVER = {"name": "tellapart", "version": __version__, "extensions": ["binary_tensor_data"]}
_MOST_HEADER = 1_000_000
_LENGTH = 4  # bytes that say how long an element of BYTES is

_NAME = checks.text(1000)
_SIZE = checks.integer(0, 1 << 40)
#: Those that count here; others may be there.
_PARAMETERS = checks.record(
    {
        "binary_data_size": (checks.none_or(_SIZE), lambda: None),
        "binary_data": (checks.none_or(checks.boolean), lambda: None),
        "binary_data_output": (checks.boolean, lambda: False),
    }
)
_NO_PARAMETERS = partial(_PARAMETERS, {})
_INPUT = checks.record(
    {
        "name": _NAME,
        "shape": checks.listed(_SIZE, range(9)),
        "datatype": _NAME,
        "parameters": (_PARAMETERS, _NO_PARAMETERS),
        "data": (lambda data: data, lambda: None),
    }
)
_OUTPUT = checks.record({"name": _NAME, "parameters": (_PARAMETERS, _NO_PARAMETERS)})
_REQUEST = checks.record(
    {
        "id": (checks.none_or(_NAME), lambda: None),
        "inputs": checks.listed(_INPUT, range(9)),
        "outputs": (checks.listed(_OUTPUT, range(33)), list),
        "parameters": (_PARAMETERS, _NO_PARAMETERS),
    }
)


@dataclass(frozen=True)
class Inference:
    """A request that has been read.

    Attributes:
        pictures: contents of the files.
        id: to be given back; None where it has none.
        outputs: names of the tensors that are wanted, in order, and whether as binary data.
    """

    pictures: Sequence[bytes]
    id: str | None
    outputs: Mapping[str, bool]


def describe_model(name: str, classes: Sequence[str]) -> dict[str, Any]:
    """The model's metadata: its tensors, and its classes, which the protocol has no place for."""
    return {
        "name": name,
        "platform": "onnx",
        "inputs": [{"name": INPUT, "datatype": "BYTES", "shape": [-1]}],
        "outputs": [
            {"name": output, "datatype": datatype, "shape": [-1, len(classes)] if output == "probabilities" else [-1]}
            for output, datatype in _OUTPUTS.items()
        ],
        "parameters": {"classes": json.dumps(classes, ensure_ascii=False)},
    }


_OUTPUTS = {"label": "BYTES", "certainty": "FP32", "probabilities": "FP32", "unknown": "BYTES"}


def read_inference(body: bytes, header_length: str | None) -> Inference:
    """Read a request's body.

    Args:
        body: the JSON, and behind it the binary data; or a picture alone.
        header_length: the header `Inference-Header-Content-Length`: bytes of the JSON. 0: the body is one picture.
            None: all of it is JSON.

    Raises:
        Refused: not such a request, or no pictures as binary data in it.
    """
    n_header = _header_bytes(header_length, len(body))
    if header_length is not None and not n_header:
        return Inference([body], None, dict.fromkeys(_OUTPUTS, False))
    try:
        request = _REQUEST(parse_json(body[:n_header]))
    except ValueError as error:
        raise Refused(400, f"The request is not as the protocol has it: {str(error)[:200]}") from None
    pictures = _pictures(request["inputs"], memoryview(body)[n_header:])
    wanted = request["outputs"] or [_OUTPUT({"name": name}) for name in _OUTPUTS]
    if unknown := next((output["name"] for output in wanted if output["name"] not in _OUTPUTS), None):
        raise Refused(400, f"There is no output {unknown[:100]!r}. Possible: {', '.join(_OUTPUTS)}.")
    binary = request["parameters"]["binary_data_output"]
    asked = {output["name"]: output["parameters"]["binary_data"] for output in wanted}
    as_binary = {name: binary if own is None else own for name, own in asked.items()}
    return Inference(pictures, request["id"], as_binary)


def _header_bytes(stated: str | None, n_body: int) -> int:
    if stated is None:
        return min(n_body, _MOST_HEADER)
    if not stated.isdecimal() or len(stated) > 10 or int(stated) > min(n_body, _MOST_HEADER):
        raise Refused(400, f"{HEADER_LENGTH} is no number of bytes within the body.")
    return int(stated)


def _pictures(inputs: Sequence[Mapping[str, Any]], data: memoryview) -> list[bytes]:
    """The elements of the one input tensor."""
    if [(tensor["name"], tensor["datatype"]) for tensor in inputs] != [(INPUT, "BYTES")]:
        raise Refused(400, f"The model takes one input: {INPUT}, of BYTES [n], the contents of picture files.")
    (tensor,) = inputs
    size, shape = tensor["parameters"]["binary_data_size"], tensor["shape"]
    if tensor["data"] is not None or size is None:
        raise Refused(400, f"Send {INPUT} as binary data (binary_data_size), not in the JSON.")
    if size != len(data):
        raise Refused(400, f"binary_data_size says {size:,} bytes; {len(data):,} came.")
    if len(shape) != 1 or not shape[0]:
        raise Refused(400, f"The shape of {INPUT} is [n], with at least one picture.")
    if shape[0] > MOST_PICTURES:
        raise Refused(413, f"A request may have at most {MOST_PICTURES} pictures.")
    pictures = []
    for _ in range(shape[0]):
        length = int.from_bytes(data[:_LENGTH], "little")
        pictures.append(bytes(data[_LENGTH : _LENGTH + length]))
        if len(data) < _LENGTH + length:
            raise Refused(400, f"The binary data of {INPUT} end within a picture.")
        data = data[_LENGTH + length :]
    if len(data):
        raise Refused(400, f"The binary data of {INPUT} hold more than {shape[0]} pictures.")
    return pictures


def write_inference(
    name: str, classes: Sequence[str], inference: Inference, answers: Sequence[Answer]
) -> tuple[bytes, int | None]:
    """The response's body, and the bytes of its JSON where binary data follow.

    Args:
        name: of the model.
        classes: in the order of the probabilities.
        inference: the request.
        answers: to its pictures, with all labels.

    Raises:
        Refused: a picture could not be read. The protocol has no place for a reason beside answers.
    """
    for number, answer in enumerate(answers, start=1):
        if answer.problem is not None:
            raise Refused(422, f"Picture {number} of {len(answers)}: {answer.problem}")
    tensors = _tensors(classes, answers)
    outputs, data = [], b""
    for output, binary in inference.outputs.items():
        values = tensors[output]
        entry: dict[str, Any] = {"name": output, "datatype": _OUTPUTS[output], "shape": list(values.shape)}
        if binary:
            part = _packed(values)
            entry["parameters"], data = {"binary_data_size": len(part)}, data + part
        else:
            entry["data"] = values.ravel().tolist()
        outputs.append(entry)
    response = {"model_name": name, "id": inference.id, "outputs": outputs}
    if inference.id is None:
        del response["id"]
    header = json.dumps(response, ensure_ascii=False, allow_nan=False).encode("utf-8", "backslashreplace")
    return header + data, len(header) if any(inference.outputs.values()) else None


def _tensors(classes: Sequence[str], answers: Sequence[Answer]) -> dict[str, npt.NDArray[Any]]:
    probabilities = [[dict(answer.labels)[name] for name in classes] for answer in answers]
    return {
        "label": np.array([answer.label for answer in answers], object),
        "certainty": np.array([answer.certainty for answer in answers], np.float32),
        "probabilities": np.array(probabilities, np.float32).reshape(len(answers), len(classes)),
        "unknown": np.array([answer.unknown or "" for answer in answers], object),
    }


def _packed(values: npt.NDArray[Any]) -> bytes:
    """A tensor as binary data: little-endian; before each element of BYTES its length."""
    if values.dtype != object:
        return values.astype("<f4").tobytes()
    texts = [text.encode("utf-8", "backslashreplace") for text in values]
    return b"".join(len(text).to_bytes(_LENGTH, "little") + text for text in texts)
