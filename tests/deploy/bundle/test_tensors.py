"""Our reader of .safetensors against the library's writer."""

from __future__ import annotations

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
    with pytest.raises(ValueError, match="neither float32 nor uint8"):
        read_tensors(tmp_path / "x.safetensors")
