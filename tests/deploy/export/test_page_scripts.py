"""The scripts of the classifier's page beside the Python that they are a second writing of."""

import base64
import io
import struct

import numpy as np
import pytest

from tellapart.core.predictions import average_logits, probabilities
from tellapart.core.preprocess import Preprocessing, preprocess
from tellapart.data.augmentation.tta import copies
from tellapart.data.decoding.decode import decode
from tellapart.data.decoding.jpeg import exif_orientation, valid_orientation
from tellapart.evaluation.open_set import KnownClasses


def as_js(pixels):
    return {"width": pixels.shape[1], "height": pixels.shape[0], "data": pixels.ravel().tolist()}


def in_browser(scripts, pixels, call, *values):
    """Runs `call` on a picture, given as `picture`, and other values, given as `values`."""
    body = (
        "([picture, values]) => { picture.data = Uint8Array.from(picture.data);"
        f" const made = {call}; return (Array.isArray(made) ? made : [made])"
        ".map((p) => [p.height, p.width, Array.from(p.data)]); }"
    )
    made = scripts.evaluate(body, [as_js(pixels), list(values)])
    return [np.array(data, np.uint8).reshape(height, width, 3) for height, width, data in made]


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize("fit", ["crop", "squash", "pad"])
def test_the_browser_gives_the_network_the_same_bytes(scripts, fit, interpolation):
    random = np.random.default_rng(0)
    for height, width, side, crop in [
        (40, 64, 24, 0.875),
        (17, 9, 32, 1.0),
        (24, 24, 24, 1.0),
        (61, 30, 7, 0.7),
        (1, 5, 6, 0.9),
    ]:
        pixels = random.integers(0, 256, (height, width, 3), np.uint8)
        settings = Preprocessing(side, side + 3, fit, crop, interpolation, background=(9, 80, 200))
        (theirs,) = in_browser(scripts, pixels, "preprocess(picture, values[0])", settings.as_dict())
        np.testing.assert_array_equal(theirs, preprocess(pixels, settings))


@pytest.mark.parametrize("flip", [False, True])
def test_the_browser_makes_the_same_changed_copies(scripts, flip):
    pixels = np.random.default_rng(1).integers(0, 256, (24, 20, 3), np.uint8)
    theirs = in_browser(scripts, pixels, "changedCopies(picture, 8, values[0], 'bicubic')", flip)
    mine = [version[0] for version in copies(pixels[None], 8, flip)][1:]
    np.testing.assert_array_equal(theirs, mine)


@pytest.mark.parametrize("multilabel", [False, True])
@pytest.mark.parametrize("mean", ["logits", "probabilities"])
def test_the_browser_averages_and_calibrates_as_python_does(scripts, multilabel, mean):
    versions = np.random.default_rng(2).normal(0, 20, (4, 5))
    temperature = [0.5, 1.0, 2.0, 3.0, 4.0] if multilabel else 1.7
    model = {"multilabel": multilabel, "tta_mean": mean, "temperature": temperature}
    theirs = scripts.evaluate(
        "([versions, model]) => probabilitiesOf(averageLogits(versions, model), model)", [versions.tolist(), model]
    )
    average = average_logits(list(versions[:, None]), multilabel, mean)
    mine = probabilities(average, multilabel, tuple(temperature) if multilabel else temperature)[0]
    np.testing.assert_allclose(theirs, mine, rtol=1e-9, atol=1e-15)


def test_the_browser_measures_the_same_distance_to_known_classes(scripts):
    random = np.random.default_rng(3)
    basis = np.linalg.qr(random.normal(size=(12, 4)))[0].astype(np.float32)
    means = random.normal(size=(3, 12)).astype(np.float32)
    known = KnownClasses(means, basis, np.array([2, 1, 0.5, 0.2], np.float32), 0.05)
    features = random.normal(size=(6, 12)).astype(np.float32)
    features[5] = 0
    tensors = {name: tensor.ravel().tolist() for name, tensor in known.tensors().items()}
    theirs = scripts.evaluate(
        "([rows, known]) => rows.map((row) => distanceToKnown(row, known))", [features.tolist(), tensors]
    )
    np.testing.assert_allclose(theirs, known.distance(features), rtol=1e-5)


@pytest.mark.parametrize(
    ("probability", "text"), [(0.0004, "< 0.1 %"), (0.004, "0.4 %"), (0.5, "50 %"), (1.0, "99.9 %")]
)
def test_the_browser_writes_shares_as_python_does(scripts, probability, text):
    from tellapart.deploy.answer import percent

    assert scripts.evaluate("(p) => share(p)", probability) == percent(probability) == text


def exif_data(order, *entries):
    """A TIFF directory of (kind, count, value) entries for the orientation; a value of 4 bytes stands as it is."""
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, len(entries))
    values = [
        v if isinstance(v, bytes) else struct.pack(order + ("I" if kind == 4 else "H2x"), v) for kind, _, v in entries
    ]
    return head + b"".join(
        struct.pack(f"{order}HHI", 0x0112, kind, count) + value
        for (kind, count, _), value in zip(entries, values, strict=True)
    )


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    "entries",
    [
        [(3, 1, 6)],
        [(4, 1, 6)],
        [(2, 2, b"6\0\0\0")],  # a text, which is no orientation
        [(2, 2, b"\6\0\6\0")],
        [(3, 2, 6)],
        [(3, 1, 0)],
        [(3, 1, 9)],
        [(3, 1, 6), (3, 1, 8)],
        [(4, 1, 65536 + 6)],
    ],
    ids=str,
)
def test_an_orientation_counts_in_the_browser_where_it_counts_in_python(scripts, order, entries):
    tiff = exif_data(order, *entries)
    chunk = struct.pack(">I", len(tiff)) + b"eXIf" + tiff + bytes(4)
    theirs = scripts.evaluate(
        "bytes => orientationOfPng(new DataView(Uint8Array.from(bytes).buffer))", list(b"\x89PNG\r\n\x1a\n" + chunk)
    )
    assert theirs == valid_orientation(exif_orientation(tiff))


def test_what_is_cut_off_in_mid_orientation_is_upright(scripts):
    tiff = exif_data(">", (3, 1, 6))
    chunk = struct.pack(">I", len(tiff)) + b"eXIf" + tiff[:-3]
    read = "bytes => orientationOfPng(new DataView(Uint8Array.from(bytes).buffer))"
    assert scripts.evaluate(read, list(b"\x89PNG\r\n\x1a\n" + chunk)) == 1


READ = """async ([text, settings]) => {
  const bytes = Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0));
  const { width, height, data } = await readPicture(new Blob([bytes]), settings);
  return [height, width, Array.from(data)];
}"""


@pytest.mark.parametrize(("size", "side"), [((160, 120), 60), ((161, 123), 30), ((130, 200), 16), ((90, 120), 80)])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_a_jpeg_is_read_at_pythons_scale_but_for_rounding(scripts, scene, size, side, subsampling):
    file = io.BytesIO()
    scene(3, *size).save(file, "JPEG", quality=90, subsampling=subsampling)
    settings = Preprocessing(side, side)
    text = base64.b64encode(file.getvalue()).decode()
    height, width, data = scripts.evaluate(READ, [text, settings.as_dict()])
    theirs = np.array(data, float).reshape(height, width, 3)
    mine = decode(file.getvalue(), at_least=settings.decode_at_least).astype(float)
    assert theirs.shape == mine.shape
    # Means of blocks of all channels at once, without a word on how colours are stored, would be off by 1.5.
    assert np.abs(theirs - mine).mean() < 0.6
    assert abs((theirs - mine).mean()) < 0.1
