"""Our reader of .safetensors against the library's writer."""

from __future__ import annotations

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from tellapart.deploy.bundle.tensors import read_tensors


def test_what_the_library_writes_is_read(tmp_path):
    random = np.random.default_rng(0)
    tensors = {"a": random.normal(size=(3, 4)).astype(np.float32), "b": np.empty((0, 2), np.float32)}
    tensors |= {"c ü": np.float32([7]), "d": random.integers(0, 256, (2, 5), np.uint8)}
    save_file(tensors, tmp_path / "x.safetensors", metadata={"made": "here"})
    read = read_tensors(tmp_path / "x.safetensors")
    assert read.keys() == tensors.keys()
    assert all(
        np.array_equal(read[name], tensor) and read[name].shape == tensor.shape for name, tensor in tensors.items()
    )


@pytest.mark.parametrize("cut", [0, 5, 40, -4])
def test_a_file_that_is_cut_off_is_an_error(tmp_path, cut):
    path = tmp_path / "x.safetensors"
    save_file({"a": np.ones((3, 4), np.float32)}, path)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ValueError):  # noqa: PT011
        read_tensors(path)


def test_other_types_are_an_error(tmp_path):
    save_file({"a": np.ones(3)}, tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match="'F32' or 'U8'"):
        read_tensors(tmp_path / "x.safetensors")


def with_header(path, header, data=b"\0" * 48):
    path.write_bytes(len(header).to_bytes(8, "little") + header + data)
    return path


WHOLE = {"dtype": "F32", "shape": [3, 4], "data_offsets": [0, 48]}


@pytest.mark.parametrize(
    "changes",
    [
        {"shape": [-1, 4]},
        {"shape": [3.0, 4]},
        {"shape": [True, 12]},
        {"shape": "34"},
        {"shape": [1 << 62, 4]},
        {"shape": [1] * 60 + [12]},
        {"data_offsets": [0]},
        {"data_offsets": [-48, 0]},
        {"data_offsets": [48, 0]},
        {"data_offsets": [0, 1 << 62]},
        {"data_offsets": None},
        {"dtype": ["F32"]},
        {"dtype": "O"},
        {"more": 1},
    ],
    ids=str,
)
def test_an_entry_that_makes_no_sense_is_an_error(tmp_path, changes):
    path = tmp_path / "x.safetensors"
    assert read_tensors(with_header(path, json.dumps({"a": WHOLE}).encode()))["a"].shape == (3, 4)
    with pytest.raises(ValueError):  # noqa: PT011
        read_tensors(with_header(path, json.dumps({"a": WHOLE | changes}).encode()))


@pytest.mark.parametrize(
    "header",
    [b"3", b"[]", b"null", b'"a"', b"[" * 200_000, b'{"a": 3}', b'{"a": {}}', b"\xff", b"{", b"9" * 5000],
    ids=lambda header: header[:10],
)
def test_a_header_that_is_something_else_is_an_error(tmp_path, header):
    with pytest.raises(ValueError):  # noqa: PT011
        read_tensors(with_header(tmp_path / "x.safetensors", header))
