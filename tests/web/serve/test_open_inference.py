"""The open inference protocol, as its specification has it: JSON, binary tensors, errors."""

import json

import httpx
import numpy as np
import pytest

from tellapart.deploy.predictor import load
from tests.web.serve.conftest import picture

RED, GREEN, BLUE = (230, 20, 30), (20, 220, 30), (10, 20, 240)
MODEL = "/v2/models/colours"
LENGTH = "Inference-Header-Content-Length"


def elements(*contents):
    """A tensor of BYTES as binary data: before each element its length, four bytes, the least significant first."""
    return b"".join(len(content).to_bytes(4, "little") + content for content in contents)


def body_of(*contents, data=None, size=None, **request):
    data = elements(*contents) if data is None else data
    tensor = {"name": "pictures", "datatype": "BYTES", "shape": [len(contents)]}
    tensor["parameters"] = {"binary_data_size": len(data) if size is None else size}
    header = json.dumps({"inputs": [tensor], **request}).encode()
    return header + data, {LENGTH: str(len(header)), "content-type": "application/octet-stream"}


def infer(running, body, headers):
    return httpx.post(running.address + MODEL + "/infer", content=body, headers=headers, timeout=60)


def read_binary(response):
    """Tensors of a response, read by the specification."""
    n_header = int(response.headers[LENGTH])
    header, data, tensors = json.loads(response.content[:n_header]), response.content[n_header:], {}
    for output in header["outputs"]:
        if "data" in output:
            tensors[output["name"]] = output["data"]
            continue
        part, data = data[: output["parameters"]["binary_data_size"]], data[output["parameters"]["binary_data_size"] :]
        if output["datatype"] == "FP32":
            tensors[output["name"]] = np.frombuffer(part, "<f4").reshape(output["shape"])
        else:
            texts = []
            while part:
                length = int.from_bytes(part[:4], "little")
                texts.append(part[4 : 4 + length].decode())
                part = part[4 + length :]
            assert output["shape"] == [len(texts)]
            tensors[output["name"]] = texts
    assert not data
    return header, tensors


def test_server_and_model_describe_themselves(running):
    def get(path):
        response = httpx.get(running.address + path)
        assert response.status_code == 200
        return response.json()

    assert get("/v2")["extensions"] == ["binary_tensor_data"]
    assert get("/v2/health/live")["live"]
    assert get("/v2/health/ready")
    assert get(f"{MODEL}/ready") == {"name": "colours", "ready": True}
    model = get(MODEL)
    assert model["inputs"] == [{"name": "pictures", "datatype": "BYTES", "shape": [-1]}]
    assert {output["name"]: output["shape"] for output in model["outputs"]}["probabilities"] == [-1, 3]
    assert json.loads(model["parameters"]["classes"]) == ["red", "green", "blue"]
    for path in ("/v2/models/other", "/v2/models/other/ready", "/v2/nothing"):
        assert httpx.get(running.address + path).status_code == 404


@pytest.mark.parametrize("binary", [True, False])
def test_answers_are_those_of_predict(running, run, binary):
    contents = [picture(GREEN), picture(BLUE, "JPEG"), picture(RED)]
    body, headers = body_of(*contents, id="42", parameters={"binary_data_output": binary})
    response = infer(running, body, headers)
    assert response.status_code == 200
    if binary:
        header, tensors = read_binary(response)
    else:
        header = response.json()
        assert LENGTH not in response.headers
        tensors = {output["name"]: np.reshape(output["data"], output["shape"]) for output in header["outputs"]}
    assert (header["model_name"], header["id"]) == ("colours", "42")
    mine = load(run, "onnxruntime").predict(contents)
    assert list(tensors["label"]) == [answer.label for answer in mine]
    assert tensors["certainty"] == pytest.approx([answer.certainty for answer in mine], abs=1e-6)
    expected = [[dict(answer.labels)[name] for name in ("red", "green", "blue")] for answer in mine]
    np.testing.assert_allclose(tensors["probabilities"], expected, atol=1e-6)
    assert list(tensors["unknown"]) == ["", "", ""]


def test_outputs_come_as_they_are_asked_for(running):
    outputs = [{"name": "probabilities", "parameters": {"binary_data": True}}, {"name": "label"}]
    header, tensors = read_binary(infer(running, *body_of(picture(RED), outputs=outputs)))
    assert list(tensors) == ["probabilities", "label"]
    assert tensors["label"] == ["red"]
    assert "id" not in header


def test_a_body_may_be_one_picture_alone(running):
    response = infer(running, picture(GREEN), {LENGTH: "0", "content-type": "application/octet-stream"})
    labels = {output["name"]: output["data"] for output in response.json()["outputs"]}
    assert labels["label"] == ["green"]


BAD = {
    "no JSON": (b"{", {}),
    "no inputs": (b"{}", {}),
    "pixels": (b'{"inputs": [{"name": "pictures", "datatype": "UINT8", "shape": [1, 2, 2, 3], "data": [1, 2]}]}', {}),
    "data in the JSON": (b'{"inputs": [{"name": "pictures", "datatype": "BYTES", "shape": [1], "data": ["x"]}]}', {}),
    "header longer than the body": (b"{}", {LENGTH: "99"}),
    "header no number": (b"{}", {LENGTH: "-1"}),
    "deep": (b"[" * 100_000, {}),
    "too short": body_of(data=elements(b"x")[:3], size=3),
    "size lies": body_of(b"x", size=4),
    "another output": body_of(b"x", outputs=[{"name": "pixels"}]),
    "no pictures": body_of(),
    "numbers as text": body_of(b"x", parameters={"binary_data_output": "yes"}),
    "id no text": body_of(b"x", id=7),
    "element ends early": body_of(b"x", data=(9).to_bytes(4, "little") + b"x"),
    "more than shape says": body_of(b"x", data=elements(b"x", b"y")),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_request_is_refused_with_a_reason(running, name):
    response = infer(running, *BAD[name])
    assert response.status_code == 400
    assert response.json()["error"]


def test_an_unreadable_picture_is_named_and_too_many_are_refused(running):
    response = infer(running, *body_of(picture(), b"no picture"))
    assert response.status_code == 422
    assert response.json()["error"].startswith("Picture 2 of 2: ")
    assert infer(running, *body_of(*[b"x"] * 65)).status_code == 413
