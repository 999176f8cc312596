"""From pictures of any kind to answers, in the order given, whatever can or cannot be read."""

import io
import itertools
import math
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tellapart.deploy import read_pictures
from tellapart.deploy.answer import Answer, percent
from tellapart.deploy.predictor import Classifier, answers, load
from tellapart.errors import BundleError, UsageError


@pytest.fixture
def classifier(bundle) -> Classifier:
    return Classifier(bundle)


def softmax(*logits):
    e = np.exp(logits)
    return e / e.sum()


# --- One answer --------------------------------------------------------------------------------------------------


def test_an_answer_has_label_and_certainty(classifier, plain):
    path = plain("new.png", (255, 51, 0))
    answer = classifier.predict(path)
    expected = softmax(10.0, 2.0, 0.0)
    assert (answer.path, answer.label, answer.chosen, answer.problem) == (str(path), "red", ("red",), None)
    assert answer.certainty == pytest.approx(expected[0], rel=1e-5)
    assert [name for name, _ in answer.labels] == ["red", "green", "blue"]
    np.testing.assert_allclose([p for _, p in answer.labels], expected, rtol=1e-4)
    assert str(answer) == "red 99.9 %"


def test_load_takes_a_run_directory_or_a_bundle(bundle_folder, plain):
    path = plain("green.png", (0, 255, 0))
    for place in (bundle_folder, bundle_folder.parent, str(bundle_folder.parent)):
        assert load(place).predict(path).label == "green"
    assert load(bundle_folder).classes == ("red", "green", "blue")
    with pytest.raises(BundleError):
        load(bundle_folder / "nothing")


@pytest.mark.parametrize(("top", "listed"), [(1, ["red"]), (2, ["red", "green"]), (9, ["red", "green", "blue"])])
def test_top_limits_the_labels_listed(classifier, plain, top, listed):
    answer = classifier.predict(plain("a.png", (255, 51, 0)), top=top)
    assert [name for name, _ in answer.labels] == listed
    assert answer.certainty == answer.labels[0][1]


def test_equal_probabilities_keep_the_order_of_the_classes(classifier, plain):
    assert [name for name, _ in classifier.predict(plain("grey.png", (9, 9, 9))).labels] == ["red", "green", "blue"]


def test_the_temperature_counts(make_bundle, plain, tmp_path):
    cooler = load(make_bundle(tmp_path / "bundle", temperature=4.0))
    assert cooler.predict(plain("a.png")).certainty == pytest.approx(softmax(2.5, 0, 0)[0], rel=1e-5)


def test_several_labels(tagger, plain):
    tag = Classifier(tagger).predict
    both = tag(plain("yellow.png", (255, 204, 0)))
    assert (both.chosen, both.label) == (("red", "green"), "red, green")
    assert both.certainty == pytest.approx(1 / (1 + math.exp(-3)), rel=1e-5)  # of the less probable one
    assert str(both) == "red 99.3 %, green 95 %"
    none = tag(plain("dark.png", (0, 51, 0)))
    assert (none.chosen, none.label, str(none)) == ((), "none", "none")
    assert none.certainty == pytest.approx(1 - 1 / (1 + math.exp(3)), rel=1e-5)


def test_each_label_has_its_own_threshold(tagger, plain):
    """Blue needs 0.9: at 0.88 it does not count, where green counts at 0.73."""
    answer = Classifier(tagger).predict(plain("a.png", (0, 153, 178)), top=2)
    assert answer.chosen == ("green",)
    assert [name for name, _ in answer.labels] == ["blue", "green"]
    assert answer.certainty == pytest.approx(dict(answer.labels)["green"])


@pytest.mark.parametrize(
    ("probability", "text"),
    [
        (0.9999999, "99.9 %"),
        (1.0, "99.9 %"),
        (0.998, "99.8 %"),
        (0.98, "98 %"),
        (0.5, "50 %"),
        (0.012, "1 %"),
        (0.003, "0.3 %"),
        (0.0, "< 0.1 %"),
    ],
)
def test_percentages_for_people(probability, text):
    assert percent(probability) == text


@given(st.floats(0, 1))
def test_no_certainty_is_complete(probability):
    text = percent(probability)
    assert text.endswith(" %")
    assert 0 <= float(text.removeprefix("< ").removesuffix(" %")) < 100


# --- Kinds of pictures -------------------------------------------------------------------------------------------


def test_paths_bytes_pixels_and_images_give_the_same_answer(classifier, plain):
    path = plain("a.png", (200, 60, 10), (30, 20))
    kinds = [path, str(path), path.read_bytes(), np.asarray(Image.open(path)), Image.open(path)]
    given = classifier.predict(kinds)
    assert [a.path for a in given] == [str(path), str(path), "", "", ""]
    assert len({a.labels for a in given}) == 1
    assert [classifier.predict(kind) for kind in kinds] == given
    assert classifier.predict(iter(kinds)) == given
    assert classifier.predict([]) == []


def image_of(mode):
    """A picture of a mode, with a transparent part where the mode has one."""
    random = np.random.default_rng(3)
    colours = Image.fromarray(random.integers(0, 256, (20, 30, 3), np.uint8))
    if mode == "I;16":
        return Image.fromarray(random.integers(0, 65536, (20, 30)).astype(np.uint16))
    if mode in ("I", "F"):
        return Image.fromarray(random.integers(0, 65536, (20, 30)).astype({"I": np.int32, "F": np.float32}[mode]))
    if mode == "LAB":
        return Image.merge("LAB", colours.split())
    if mode in ("RGBA", "LA"):
        colours.putalpha(Image.fromarray(random.integers(0, 256, (20, 30), np.uint8)))
    image = colours.convert(mode)
    if mode == "P":
        image.info["transparency"] = 3
    return image


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "CMYK", "LAB", "I", "F"])
def test_an_image_is_seen_as_the_file_it_could_be_saved_to(classifier, tmp_path, mode):
    image = image_of(mode)
    path = tmp_path / ("a.tif" if mode in ("CMYK", "LAB", "I", "F") else "a.png")
    image.save(path)
    expected = classifier.predict(path)
    assert expected.problem is None
    assert classifier.predict(image).labels == classifier.predict(Image.open(path)).labels == expected.labels


@pytest.mark.parametrize("mode", ["HSV", "YCbCr"])
def test_an_image_of_a_mode_without_a_file(classifier, mode):
    image = image_of(mode)
    assert classifier.predict(image).labels == classifier.predict(image.convert("RGB")).labels


def test_an_opened_image_is_turned_upright(bundle, tmp_path):
    image = Image.new("RGB", (40, 8))
    image.paste("white", (0, 0, 20, 8))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "a.png", exif=exif)
    how = replace(bundle.preprocessing, height=40, width=8)
    pixels = read_pictures._pixels(Image.open(tmp_path / "a.png"), how)
    assert pixels.shape == (40, 8, 3)
    assert pixels[:20].min() == 255


def test_an_opened_image_that_turns_out_damaged(classifier, plain):
    content = plain("a.png", "blue", (300, 300)).read_bytes()
    answer = classifier.predict(Image.open(io.BytesIO(content[: len(content) // 2])))
    assert "damaged" in answer.problem


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((8, 8, 3), np.float32),
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((2, 8, 8, 3), np.uint8),
        np.zeros((0, 8, 3), np.uint8),
    ],
    ids=["floats", "grey", "alpha", "batch", "empty"],
)
def test_arrays_that_are_no_picture(classifier, pixels):
    with pytest.raises(UsageError, match="uint8, height × width × 3"):
        classifier.predict(pixels)


def test_things_that_are_no_picture(classifier):
    with pytest.raises(UsageError, match="int is not a picture"):
        classifier.predict([5])


# --- Streams -----------------------------------------------------------------------------------------------------


def test_what_cannot_be_read_has_an_answer_in_its_place(bundle, plain, tmp_path):
    (tmp_path / "text.jpg").write_text("no picture at all")
    (tmp_path / "empty.png").touch()
    paths = [
        tmp_path / "text.jpg",
        plain("a.png"),
        tmp_path / "gone.png",
        tmp_path,
        tmp_path / "empty.png",
        plain("b.png"),
    ]
    given = list(answers(bundle, paths, batch_size=2))
    assert [a.path for a in given] == [str(p) for p in paths]
    assert [a.problem is None for a in given] == [False, True, False, False, False, True]
    broken = given[0]
    assert (broken.label, broken.chosen, broken.labels, str(broken)) == ("", (), (), f"unreadable: {broken.problem}")
    assert math.isnan(broken.certainty)
    assert "does not exist" in given[2].problem


def test_nothing_but_unreadable_files(bundle, tmp_path):
    assert [a.problem is None for a in answers(bundle, [tmp_path / "gone.png"] * 5, batch_size=2)] == [False] * 5


def test_real_pictures_and_nasty_ones(bundle, test_data):
    paths = sorted((test_data / "nasty").iterdir())
    given = list(answers(bundle, paths, top=1))
    assert [a.path for a in given] == [str(p) for p in paths]
    problems = {Path(a.path).name: a.problem for a in given if a.problem}
    assert "truncated" in problems["truncated_jpeg.jpg"]
    assert "pixels" in problems["decompression_bomb.gif"]
    assert {"hopper.jpg", "pil_sample_cmyk.jpg", "iss634.gif", "16bit.cropped.tif"}.isdisjoint(problems)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 16])
@pytest.mark.parametrize("workers", [1, 4])
def test_the_order_is_that_of_the_input_when_the_first_is_slow(bundle, plain, batch_size, workers):
    colours = ["red", "lime", "blue", "lime", "red", "blue", "blue"]
    paths = [plain(f"{i}.png", colour, (3000, 2000) if i == 0 else (9, 9)) for i, colour in enumerate(colours)]
    given = list(answers(bundle, paths, batch_size=batch_size, workers=workers))
    assert [a.path for a in given] == [str(p) for p in paths]
    assert [a.label for a in given] == [{"lime": "green"}.get(c, c) for c in colours]


def test_the_first_picture_may_come_last(bundle, plain, monkeypatch):
    """The first file is not ready before all others have been read; still its answer is the first."""
    others_read = threading.Semaphore(0)
    read_picture = read_pictures.read_picture

    def slow(path, *args):
        if path.name == "0.png":
            for _ in range(5):
                assert others_read.acquire(timeout=20)
        else:
            others_read.release()
        return read_picture(path, *args)

    monkeypatch.setattr(read_pictures, "read_picture", slow)
    paths = [plain(f"{i}.png") for i in range(6)]
    assert [a.path for a in answers(bundle, paths, workers=2)] == [str(p) for p in paths]


def test_an_endless_stream_is_read_only_a_little_ahead(bundle):
    drawn = itertools.count()
    picture = np.zeros((8, 8, 3), np.uint8)
    given = answers(bundle, (picture for _ in drawn), batch_size=4, workers=2)
    assert len(list(itertools.islice(given, 40))) == 40
    assert next(drawn) <= 40 + 3 * 4
    given.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("read")]


def test_a_stream_that_fails_stops_the_threads(bundle):
    def pictures():
        yield np.zeros((8, 8, 3), np.uint8)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(answers(bundle, pictures()))
    assert not [t for t in threading.enumerate() if t.name.startswith("read")]


# --- Starting ----------------------------------------------------------------------------------------------------


def test_answering_needs_neither_torch_nor_a_table_library(bundle_folder, plain):
    script = """
import sys
import tellapart as ta
from tellapart.deploy.find_pictures import find_pictures
from tellapart.deploy.predictor import answers
from tellapart.deploy.output_formats import write_answers

run, picture, *formats = sys.argv[1:]
classifier = ta.load(run)
assert classifier.predict(picture).label == "red"
for name in formats:
    write_answers(answers(classifier.bundle, find_pictures([picture])), name)
heavy = {"torch", "torchvision", "timm", "polars", "sklearn", "safetensors", "onnx"} & set(sys.modules)
assert not heavy, heavy
"""
    command = [sys.executable, "-c", script, bundle_folder, plain("new.png"), "csv", "jsonl", "table"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("new.png") == 3


def test_an_answer_is_a_plain_value():
    answer = Answer("a.png", ("x",), (("x", 0.98),), 0.98)
    assert answer == Answer("a.png", ("x",), (("x", 0.98),), 0.98)
    assert str(answer) == "x 98 %"
    with pytest.raises(AttributeError):
        answer.path = "b"
