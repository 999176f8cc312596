"""What a bundle says and answers once it lies on the disk; and that a damaged one is refused in plain words."""

import contextlib
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from tellapart.core.bundle_description import DESCRIPTION, own_digest
from tellapart.core.preprocess import Preprocessing
from tellapart.deploy.bundle.read import GOLDEN, KNOWN, MODEL, WEIGHTS, Bundle
from tellapart.errors import BundleError, UsageError

VOUCHED = (DESCRIPTION, MODEL, WEIGHTS, GOLDEN)


def rewrite(folder: Path, **changes) -> None:
    """Change bundle.json as its writer would have, digest included."""
    values = json.loads((folder / DESCRIPTION).read_text()) | changes
    values["sha256"] = own_digest(values)
    (folder / DESCRIPTION).write_text(json.dumps(values))


def test_it_says_what_it_was_written_with(written):
    bundle = Bundle.load(written)
    assert bundle.classes == ("apple", "bèe & <b>", "cat")
    assert not bundle.multilabel
    assert bundle.preprocessing == Preprocessing(12, 16, crop=0.9, std=(0.1, 0.2, 0.3))
    assert (bundle.temperature, bundle.thresholds) == (1.5, ())
    assert bundle.architecture["name"] == "tiny_net"


def test_a_run_directory_or_the_bundle_itself_by_path_or_text(written):
    assert Bundle.load(written.parent).folder == Bundle.load(str(written)).folder == written


def test_the_bundle_in_the_current_folder(written, monkeypatch):
    monkeypatch.chdir(written)
    assert Bundle.load(".").classes[0] == "apple"


def test_the_size_of_batches_does_not_change_the_logits(written, golden):
    bundle = Bundle.load(written)
    whole = bundle.predict_pixels(golden)
    assert whole.dtype == np.float32
    assert whole.shape == (10, 3)
    for batch_size in (1, 3, 10):
        np.testing.assert_allclose(bundle.predict_pixels(golden, batch_size), whole, rtol=1e-5, atol=1e-5)
    assert bundle.predict_pixels(golden[:0]).shape == (0, 3)


def test_pictures_need_not_be_contiguous(written, golden):
    bundle = Bundle.load(written)
    mirrored = golden[:, :, ::-1]
    np.testing.assert_array_equal(bundle.predict_pixels(mirrored), bundle.predict_pixels(mirrored.copy()))


@pytest.mark.parametrize(
    "pictures",
    [np.zeros((2, 12, 16, 3), np.float32), np.zeros((12, 16, 3), np.uint8), np.zeros((2, 16, 12, 3), np.uint8)],
    ids=["floats", "one picture", "turned"],
)
def test_pictures_of_another_form_are_refused(written, pictures):
    with pytest.raises(ValueError, match=r"must be uint8 \[n, 12, 16, 3\]"):
        Bundle.load(written).predict_pixels(pictures)


def test_probabilities_use_the_temperature(written):
    logits = np.array([[3.0, 1.5, 0.0]])
    expected = np.exp([2.0, 1.0, 0.0]) / np.exp([2.0, 1.0, 0.0]).sum()
    np.testing.assert_allclose(Bundle.load(written).probabilities(logits), [expected])


@pytest.mark.parametrize("name", VOUCHED)
@pytest.mark.parametrize("damage", ["missing", "empty", "truncated", "longer", "one bit"])
def test_any_damage_to_any_file_is_found(copied, name, damage):
    path = copied / name
    content = bytearray(path.read_bytes())
    if damage == "missing":
        path.unlink()
    else:
        middle = len(content) // 2
        content[middle] ^= 1
        path.write_bytes(
            {"empty": b"", "truncated": content[:-1], "longer": bytes(content) + b"\0", "one bit": content}[damage]
        )
    for place in (copied, copied.parent):
        with pytest.raises(BundleError, match=rf"{name}|damaged") as caught:
            Bundle.load(place)
        assert caught.value.hint


@pytest.mark.parametrize("bit", range(8))
def test_a_bit_anywhere_in_the_description_counts(copied, bit):
    path = copied / DESCRIPTION
    content = path.read_bytes()
    values = json.loads(content)
    for position in range(0, len(content), 7):
        changed = bytearray(content)
        changed[position] ^= 1 << bit
        path.write_bytes(changed)
        with contextlib.suppress(ValueError):
            if json.loads(bytes(changed)) == values:  # a blank between entries became another blank
                continue
        with pytest.raises(BundleError):
            Bundle.load(copied)


def test_the_card_may_be_edited(copied):
    (copied / "README.md").write_text("mine")
    assert Bundle.load(copied)


def test_a_newer_format_asks_for_a_newer_version(copied):
    rewrite(copied, format=4, tellapart="9.1")
    with pytest.raises(BundleError, match=r"format 4.*9\.1.*up to 3") as caught:
        Bundle.load(copied)
    assert "upgrade" in caught.value.hint


@pytest.mark.parametrize("changes", [{"classes": 5}, {"preprocessing": {}}, {"tolerance": {}}, {"temperature": "x"}])
def test_a_description_that_lacks_something(copied, changes):
    rewrite(copied, **changes)
    with pytest.raises(BundleError, match="lacks or garbles"):
        Bundle.load(copied)


@pytest.mark.parametrize("files", [None, [], {}, {"../../secret": {"bytes": 1, "sha256": ""}}])
def test_only_the_files_of_a_bundle_are_looked_at(copied, files):
    rewrite(copied, files=files)
    with pytest.raises(BundleError, match="does not name the files"):
        Bundle.load(copied)


def test_files_of_formats_not_known_here_are_left_out(copied):
    files = json.loads((copied / DESCRIPTION).read_text())["files"]
    rewrite(copied, files={**files, "model.mlpackage": {"bytes": 1, "sha256": ""}, "../secret": {}})
    assert Bundle.load(copied).classes


@pytest.mark.parametrize("text", ["[]", "3", "{}", '{"format": "1"}'])
def test_a_description_that_is_something_else(copied, text):
    (copied / DESCRIPTION).write_text(text)
    with pytest.raises(BundleError, match="not the description of a bundle"):
        Bundle.load(copied)


def test_a_model_of_another_size_than_described(copied):
    rewrite(copied, classes=["one", "two"])
    with pytest.raises(BundleError, match="2 classes"):
        _ = Bundle.load(copied).session


def test_a_model_that_is_no_model(copied):
    (copied / MODEL).write_bytes(b"not a network")
    files = json.loads((copied / DESCRIPTION).read_text())["files"]
    files[MODEL] = {"bytes": 13, "sha256": hashlib.sha256(b"not a network").hexdigest()}
    rewrite(copied, files=files)
    with pytest.raises(BundleError, match="cannot be run"):
        _ = Bundle.load(copied).session


def test_places_without_a_bundle(tmp_path):
    (tmp_path / "run").mkdir()
    with pytest.raises(BundleError, match="holds no bundle") as caught:
        Bundle.load(tmp_path / "run")
    assert "tellapart train" in caught.value.hint
    with pytest.raises(BundleError, match="does not exist"):
        Bundle.load(tmp_path / "rnu")
    (tmp_path / "file").touch()
    with pytest.raises(BundleError, match="is a file"):
        Bundle.load(tmp_path / "file")


def test_a_bundle_file_given_instead_of_its_folder(written):
    with pytest.raises(BundleError, match="is a file"):
        Bundle.load(written / MODEL)


SCORE = {"distance": [1.0, 0.5], "doubt": [0.1, 0.1], "limit": 3.0, "share": 0.99, "n": 100}


def test_a_file_that_is_not_listed_is_not_read(copied):
    """Nothing vouches for it: whoever puts it there could change every answer."""
    known = {"means": np.ones((3, 8)), "basis": np.ones((8, 1)), "spread": np.ones(1), "rest": np.ones(1)}
    save_file({name: tensor.astype(np.float32) for name, tensor in known.items()}, copied / KNOWN)
    rewrite(copied, ood_score=SCORE)
    with pytest.raises(BundleError, match=f"no {KNOWN}"):
        Bundle.load(copied)


@pytest.mark.parametrize(
    "entry", [{}, None, 3, {"bytes": "1", "sha256": ""}, {"bytes": 1}, {"bytes": -1, "sha256": ""}]
)
def test_an_entry_of_a_file_that_makes_no_sense(copied, entry):
    files = json.loads((copied / DESCRIPTION).read_text())["files"]
    rewrite(copied, files={**files, MODEL: entry})
    with pytest.raises(BundleError, match="does not name the files"):
        Bundle.load(copied)


@pytest.mark.parametrize("tta", [-1, 33, 1_000_000_000])
def test_copies_without_bound_are_refused(written, tta):
    with pytest.raises(UsageError, match="0 to 32"):
        Bundle.load(written).averaging(tta, None)


def describe_files_of(folder):
    names = (MODEL, WEIGHTS, GOLDEN, *([KNOWN] if (folder / KNOWN).exists() else []))
    content = {name: (folder / name).read_bytes() for name in names}
    return {name: {"bytes": len(c), "sha256": hashlib.sha256(c).hexdigest()} for name, c in content.items()}


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("means", np.ones((3, 7))),
        ("means", np.ones(8)),
        ("means", np.ones((0, 8))),
        ("means", np.full((3, 8), np.nan)),
        ("basis", np.ones((7, 1))),
        ("spread", np.zeros(1)),
        ("spread", np.ones(2)),
        ("rest", np.zeros(1)),
        ("rest", np.ones(0)),
        ("more", np.ones(1)),
    ],
)
def test_known_classes_that_make_no_sense(copied, golden, name, tensor):
    known = {"means": np.ones((3, 8)), "basis": np.ones((8, 1)), "spread": np.ones(1), "rest": np.ones(1)}
    save_file({n: t.astype(np.float32) for n, t in (known | {name: tensor}).items()}, copied / KNOWN)
    rewrite(copied, ood_score=SCORE, files=describe_files_of(copied))
    with pytest.raises(BundleError):
        Bundle.load(copied).predict_distance(golden)
