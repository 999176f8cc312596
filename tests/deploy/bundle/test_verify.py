"""Golden pictures: a bundle that answers otherwise than when it was written is found out."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from tellapart.core.bundle_description import DESCRIPTION, own_digest
from tellapart.deploy.bundle.golden import check_golden
from tellapart.deploy.bundle.read import GOLDEN, Bundle, describe_files
from tellapart.deploy.bundle.verify import verify
from tellapart.errors import BundleError


def with_golden(written: Path, folder: Path, tensors) -> Bundle:
    """A bundle whose files are all whole, but whose golden file holds these."""
    shutil.copytree(written, folder)
    (folder / GOLDEN).write_bytes(safetensors.numpy.save(tensors) if isinstance(tensors, dict) else tensors)
    values = json.loads((folder / DESCRIPTION).read_text()) | {"files": describe_files(folder)}
    (folder / DESCRIPTION).write_text(json.dumps(values | {"sha256": own_digest(values)}))
    return Bundle.load(folder)


@pytest.fixture
def golden_file(written):
    return safetensors.numpy.load((written / GOLDEN).read_bytes())


def test_a_new_bundle_answers_as_torch_did(written, golden, golden_file):
    assert check_golden(Bundle.load(written)) < 1e-4
    np.testing.assert_array_equal(golden_file["pictures"], golden[:8])


def test_logits_off_by_more_than_the_tolerance(written, tmp_path, golden_file):
    logits = golden_file["logits"]
    within = {**golden_file, "logits": logits + np.float32(0.0009)}
    assert check_golden(with_golden(written, tmp_path / "within", within)) == pytest.approx(0.0009, abs=1e-4)
    logits[5, 2] += 0.1
    bundle = with_golden(written, tmp_path / "beyond", {**golden_file, "logits": logits})
    with pytest.raises(BundleError, match=r"golden picture 5, class 'cat': the logit is off by 0\.1") as caught:
        check_golden(bundle)
    assert caught.value.hint


@pytest.mark.parametrize("broken", ["garbage", "no logits", "no pictures", "two of three classes"])
def test_a_golden_file_that_makes_no_sense(written, tmp_path, golden_file, broken):
    tensors = {
        "garbage": b"\xff" * 40,
        "no logits": {"pictures": golden_file["pictures"]},
        "no pictures": {name: tensor[:0] for name, tensor in golden_file.items()},
        "two of three classes": {**golden_file, "logits": golden_file["logits"][:, :2].copy()},
    }[broken]
    with pytest.raises(BundleError, match=GOLDEN):
        check_golden(with_golden(written, tmp_path / "broken", tensors))


def test_it_needs_neither_torch_nor_safetensors(written):
    script = (
        "import sys; from tellapart.deploy.bundle.read import Bundle; "
        "from tellapart.deploy.bundle.golden import check_golden; check_golden(Bundle.load(sys.argv[1])); "
        "sys.exit(any(name in sys.modules for name in ('torch', 'safetensors')))"
    )
    subprocess.run([sys.executable, "-c", script, written], check=True)


def test_in_a_process_of_its_own_it_says_the_same(written, tmp_path, golden_file):
    assert verify(written) == pytest.approx(check_golden(Bundle.load(written)), abs=1e-6)
    golden_file["logits"][5, 2] += 0.1
    with pytest.raises(BundleError, match="golden picture 5, class 'cat'") as caught:
        verify(with_golden(written, tmp_path / "beyond", golden_file).folder)
    assert caught.value.hint


def test_no_module_of_the_folder_one_works_in_is_imported(written, tmp_path, monkeypatch):
    bundle = shutil.copytree(written, tmp_path / "bundle")
    (bundle / "numpy.py").write_text("open('executed', 'w').close()")
    monkeypatch.chdir(bundle)
    assert verify(".") < 1e-3
    assert not Path("executed").exists()


def test_it_ends_in_time(written):
    with pytest.raises(BundleError, match=r"within 0\.001 seconds"):
        verify(written, seconds=0.001)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not limit a process that runs")
def test_its_memory_ends(written):
    with pytest.raises(BundleError, match="memory"):
        verify(written, gib=0.05)


@pytest.mark.parametrize(
    "pictures",
    [np.zeros((3, 12, 16, 3), np.float32), np.zeros((3, 16, 12, 3), np.uint8), np.zeros((65, 12, 16, 3), np.uint8)],
    ids=["floats", "turned", "too many"],
)
def test_golden_pictures_of_another_form(written, tmp_path, pictures):
    tensors = {"pictures": pictures, "logits": np.zeros((len(pictures), 3), np.float32)}
    with pytest.raises(BundleError, match="no pictures that the network takes"):
        check_golden(with_golden(written, tmp_path / "other", tensors))
