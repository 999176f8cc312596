"""The engine that answers: the fastest that gives the golden answers on this machine, and never late with the first."""

import json
from dataclasses import replace
from functools import cached_property

import numpy as np
import pytest
from safetensors.numpy import save_file

from tellapart.core.bundle_description import DESCRIPTION, own_digest
from tellapart.core.openvino_quiet import has_openvino
from tellapart.deploy.bundle.read import GOLDEN, Bundle, describe_files
from tellapart.deploy.engines import choose as choosing
from tellapart.deploy.engines import switch as switching
from tellapart.deploy.engines.choose import EngineChoice, choose, recall
from tellapart.deploy.engines.switch import EngineSwitch
from tellapart.deploy.predictor import Classifier, answers, load
from tellapart.errors import BundleError, MissingExtraError, UsageError

PIXELS = np.random.default_rng(0).integers(0, 256, (16, 8, 8, 3), np.uint8)
needs_openvino = pytest.mark.skipif(not has_openvino(), reason="OpenVINO is not installed")


@pytest.fixture(scope="module")
def golden_bundle(make_bundle, tmp_path_factory) -> Bundle:
    """A bundle with golden pictures, which says how red, green and blue a picture is."""
    folder = make_bundle(tmp_path_factory.mktemp("golden") / "bundle")
    logits = PIXELS[:4].mean(axis=(1, 2)) * 10 / 255
    save_file({"pictures": PIXELS[:4], "logits": logits.astype(np.float32)}, folder / GOLDEN)
    values = json.loads((folder / DESCRIPTION).read_text())
    (folder / DESCRIPTION).unlink()
    values["files"] = describe_files(folder)
    (folder / DESCRIPTION).write_text(json.dumps(values | {"sha256": own_digest(values)}))
    return Bundle.load(folder)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TELLAPART_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def other_engine(monkeypatch):
    """Puts a function in OpenVINO's place: onnxruntime's answers, changed by it. A clock that it does not share."""

    def put(change=lambda logits: logits, bfloat16=False):
        def network(bundle):
            session = bundle.session
            alter = change if bundle.engine != "onnxruntime" else lambda logits: logits
            return lambda pictures, outputs: [alter(each) for each in session.run(outputs, {"pictures": pictures})]

        own = cached_property(network)
        own.__set_name__(Bundle, "_network")
        monkeypatch.setattr(Bundle, "_network", own)
        monkeypatch.setattr(choosing, "has_openvino", lambda: True)
        monkeypatch.setattr(choosing, "special_instructions", lambda: ["amx_bf16"] if bfloat16 else [])

    return put


def with_speeds(monkeypatch, **speeds):
    named = {name.replace("_", "-"): speed for name, speed in speeds.items()}
    monkeypatch.setattr(choosing, "_speeds", lambda loaded, pixels: {name: named[name] for name in loaded})


@needs_openvino
def test_openvino_answers_as_onnxruntime(golden_bundle, plain):
    path = plain("a.png", (200, 60, 10), (30, 20))
    one, other = load(golden_bundle.folder), load(golden_bundle.folder, engine="openvino")
    assert other.network.bundle.engine == "openvino"
    np.testing.assert_allclose(
        one.network.predict_distance(PIXELS)[0], other.network.predict_distance(PIXELS)[0], atol=1e-4
    )
    assert one.predict(path).label == other.predict(path).label == "red"


@needs_openvino
def test_openvino_runs_any_number_of_pictures(golden_bundle):
    bundle = replace(golden_bundle, engine="openvino")
    whole = bundle.predict_pixels(PIXELS)
    for size in (1, 3, 16):
        np.testing.assert_allclose(bundle.predict_pixels(PIXELS, batch_size=size), whole, atol=1e-5)


def test_the_fastest_engine_is_chosen_and_remembered(golden_bundle, other_engine, monkeypatch):
    other_engine(bfloat16=True)
    with_speeds(monkeypatch, onnxruntime=100.0, openvino=120.0, openvino_bf16=310.0)
    choice, bundle = choose(golden_bundle, PIXELS)
    assert (choice.engine, bundle.engine, choice.remembered) == ("openvino-bf16", "openvino-bf16", False)
    assert recall(golden_bundle) == replace(choice, remembered=True)
    assert choice.lines() == [
        "Engine: openvino-bf16, 310 pictures a second in the network (onnxruntime 100, openvino 120)."
    ]


def test_the_plainest_engine_is_kept_where_none_is_faster_beyond_chance(golden_bundle, other_engine, monkeypatch):
    other_engine()
    with_speeds(monkeypatch, onnxruntime=100.0, openvino=104.0)
    assert choose(golden_bundle, PIXELS)[0].engine == "onnxruntime"


@pytest.mark.parametrize(("shift", "bfloat16", "reason"), [(0.1, False, "golden"), (1.0, True, "probability")])
def test_an_engine_that_answers_otherwise_is_refused(golden_bundle, other_engine, monkeypatch, shift, bfloat16, reason):
    other_engine(lambda logits: logits + shift * np.arange(3, dtype=np.float32), bfloat16)
    with_speeds(monkeypatch, onnxruntime=100.0, openvino=200.0, openvino_bf16=300.0)
    choice, bundle = choose(golden_bundle, PIXELS)
    assert (choice.engine, bundle.engine) == ("onnxruntime", "onnxruntime")
    assert set(choice.refused) == set(choosing.candidates()) - {"onnxruntime"}
    assert reason in choice.refused["openvino-bf16" if bfloat16 else "openvino"]
    assert "is not used" in choice.lines()[1]


def test_bfloat16_may_be_off_by_less_than_two_points(golden_bundle, other_engine, monkeypatch):
    other_engine(lambda logits: logits + np.array([0.02, 0, 0], np.float32), bfloat16=True)
    with_speeds(monkeypatch, onnxruntime=100.0, openvino=200.0, openvino_bf16=300.0)
    choice, _ = choose(golden_bundle, PIXELS)
    assert (choice.engine, list(choice.refused)) == ("openvino-bf16", ["openvino"])


def test_where_no_engine_answers_as_the_bundle_was_written_it_is_not_used(golden_bundle, monkeypatch):
    monkeypatch.setattr(Bundle, "predict_pixels", lambda self, pictures, size=1: np.ones((len(pictures), 3)))
    with pytest.raises(BundleError, match="golden"):
        choose(golden_bundle, PIXELS)


def test_an_engine_by_name_is_checked_too(golden_bundle, other_engine):
    other_engine(lambda logits: logits + np.array([1, 0, 0], np.float32))
    with pytest.raises(BundleError, match="does not give the answers"):
        load(golden_bundle.folder, engine="openvino")


def test_engines_that_cannot_be_had_are_errors_for_people(golden_bundle, monkeypatch):
    monkeypatch.setattr(choosing, "special_instructions", lambda: [])
    with pytest.raises(UsageError, match="bfloat16"):
        load(golden_bundle.folder, engine="openvino-bf16")
    with pytest.raises(UsageError, match="no engine 'torch'"):
        load(golden_bundle.folder, engine="torch")
    monkeypatch.setattr("tellapart.deploy.engines.openvino.has_openvino", lambda: False)
    monkeypatch.setitem(__import__("sys").modules, "openvino", None)
    with pytest.raises(MissingExtraError, match="openvino"):
        load(golden_bundle.folder, engine="openvino")


def test_without_openvino_there_is_onnxruntime_and_no_word(golden_bundle, monkeypatch):
    monkeypatch.setattr(choosing, "has_openvino", lambda: False)
    choice, _ = choose(golden_bundle, PIXELS)
    assert (choice.engine, dict(choice.refused), list(choice.speeds)) == ("onnxruntime", {}, ["onnxruntime"])


# --- When it is chosen -------------------------------------------------------------------------------------------


def test_a_single_answer_waits_for_no_timing(golden_bundle, plain, monkeypatch):
    monkeypatch.setattr(choosing, "choose", lambda *_: pytest.fail("engines were timed"))
    monkeypatch.setattr(choosing, "recall", lambda *_: pytest.fail("a note was read"))
    assert load(golden_bundle.folder).predict(plain("a.png")).label == "red"


def test_a_long_stream_goes_over_to_the_fastest_engine_and_says_so_once(golden_bundle, other_engine, monkeypatch):
    other_engine()
    with_speeds(monkeypatch, onnxruntime=100.0, openvino=200.0)
    monkeypatch.setattr(switching, "_BEFORE_LOADING", 0.0)
    monkeypatch.setattr(switching, "_BEFORE_TIMING", 0.0)
    said: list[str] = []
    network = EngineSwitch(golden_bundle, say=said.append)
    answered = list(answers(golden_bundle, list(PIXELS) * 5, network=network))
    assert len(answered) == 80
    assert network.bundle.engine == "openvino"
    assert said == ["Engine: openvino, 200 pictures a second in the network (onnxruntime 100)."]
    plainly = list(answers(golden_bundle, list(PIXELS) * 5))
    assert [a.labels for a in answered] == [a.labels for a in plainly]
    said.clear()
    again = EngineSwitch(golden_bundle, say=said.append)
    list(answers(golden_bundle, list(PIXELS), network=again))
    assert said[0].endswith("as timed before.")


def test_a_remembered_engine_that_answers_otherwise_now_is_timed_again(golden_bundle, other_engine, monkeypatch):
    other_engine()
    with_speeds(monkeypatch, onnxruntime=100.0, openvino=200.0)
    choose(golden_bundle, PIXELS)
    other_engine(lambda logits: logits + np.array([1, 0, 0], np.float32))
    network = EngineSwitch(golden_bundle)
    assert network.decide(PIXELS).engine == network.bundle.engine == "onnxruntime"


def test_a_named_engine_is_not_left(golden_bundle, monkeypatch):
    monkeypatch.setattr(switching, "_BEFORE_LOADING", 0.0)
    monkeypatch.setattr(choosing, "choose", lambda *_: pytest.fail("engines were timed"))
    classifier = Classifier(golden_bundle, "onnxruntime")
    assert len(classifier.predict(list(PIXELS) * 3)) == 48


# --- Its memory ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", [b"", b"{", b"\x00" * 9, b'{"engine": "torch", "checksum": "x"}'])
def test_a_damaged_memory_is_none(golden_bundle, damage):
    choose(golden_bundle, PIXELS)
    (note,) = choosing._memory(golden_bundle).parent.iterdir()
    note.write_bytes(damage)
    assert recall(golden_bundle) is None
    assert EngineSwitch(golden_bundle).decide(PIXELS).remembered is False
    assert recall(golden_bundle) is not None


@pytest.mark.parametrize("part", ["special_instructions", "processor_name", "n_processors", "candidates", "_version"])
def test_another_machine_or_version_is_timed_anew(golden_bundle, monkeypatch, part):
    choose(golden_bundle, PIXELS)
    monkeypatch.setattr(choosing, part, lambda *_: ["another"])
    assert recall(golden_bundle) is None


def test_another_network_is_timed_anew_and_old_notes_go(golden_bundle, monkeypatch):
    monkeypatch.setattr(choosing, "_MOST_NOTES", 3)
    for number in range(5):
        choosing._remember(
            replace(golden_bundle, digest=str(number)), EngineChoice("onnxruntime", {"onnxruntime": 1.0})
        )
    assert len(list(choosing._memory(golden_bundle).parent.iterdir())) == 3
    assert recall(replace(golden_bundle, digest="4")) is not None
    assert recall(replace(golden_bundle, digest="another")) is None


def test_a_cache_that_cannot_be_written_costs_no_answer(golden_bundle, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("TELLAPART_CACHE", str(tmp_path / "file"))
    assert choose(golden_bundle, PIXELS)[0].engine in choosing.ENGINES
