"""The engine of a stage's frozen layers: chosen before it, kept when resumed, never mixed, replaced where it fails."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tellapart.core.events import Computing, Event, Note, StageStarted
from tellapart.core.files import cache_folder
from tellapart.training import fit as loop
from tellapart.training.checkpoint import State
from tellapart.training.extract_features import features
from tellapart.training.fast import autotune, engines
from tellapart.training.fast.choose_engine import EngineChoice
from tellapart.training.feature_cache import about_layers
from tellapart.training.fit import fit
from tellapart.training.runtime import Runtime
from tests.training.fitting import CPU, FLIPPED, Build, recipe, same

OPENVINO = replace(CPU, engine="openvino")
HEAD = recipe([{"train": "head", "epochs": 2, "views": FLIPPED}])
TAIL = recipe([{"train": "head", "epochs": 1}, {"train": 2, "epochs": 1, "batch_size": 8, "augment": False}])


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TELLAPART_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(engines, "_READY", type(engines._READY)())


def notes(events: list[Event]) -> list[str]:
    return [event.text for event in events if isinstance(event, Note)]


def trained(build: Build, plan: Any = HEAD, **how: Any) -> tuple[dict[str, Tensor], list[Event]]:
    network, dataset = build(plan)
    events = list(fit(network, plan, dataset, State(), **how))
    return network.state_dict(), events


@pytest.mark.parametrize("plan", [HEAD, TAIL], ids=["head", "tail"])
def test_a_training_on_another_engine_ends_as_on_torch_up_to_rounding(plan: Any, build: Build) -> None:
    plain, _ = trained(build, plan, runtime=CPU)
    fast, events = trained(build, plan, runtime=OPENVINO)
    assert not notes(events)
    for name, tensor in plain.items():
        torch.testing.assert_close(fast[name], tensor, rtol=1e-3, atol=1e-4)
    again, _ = trained(build, plan, runtime=OPENVINO)
    assert same(fast, again)


def test_what_engines_store_is_never_mixed(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    trained(build, runtime=CPU)
    stored = {path.name for path in cache_folder("activations").iterdir()}
    _, events = trained(build, runtime=OPENVINO)
    assert any(isinstance(event, Computing) for event in events)
    assert not any(isinstance(event, Computing) for event in trained(build, runtime=OPENVINO)[1])
    both = {path.name for path in cache_folder("activations").iterdir()}
    assert stored < both
    monkeypatch.setattr("tellapart.training.feature_cache.version", lambda engine: "another")
    assert any(isinstance(event, Computing) for event in trained(build, runtime=OPENVINO)[1])


def test_the_key_of_torch_is_as_it_was_before_there_were_engines(build: Build) -> None:
    network, dataset = build(HEAD)
    about = about_layers(network, network.backbone, "head", dataset.preprocessing, CPU)
    assert set(about) == {"architecture", "until", "weights", "preprocessing", "precision", "machine", "versions"}
    other = about_layers(network, network.backbone, "head", dataset.preprocessing, OPENVINO)
    assert other == {**about, "engine": ["openvino", engines.version("openvino")]}


def test_a_stage_goes_on_in_the_engine_it_was_begun_with(build: Build) -> None:
    _, events = trained(build, begun={0: OPENVINO})
    (started,) = (event for event in events if isinstance(event, StageStarted))
    assert started.runtime["engine"] == "openvino"
    assert Runtime(**started.runtime) == OPENVINO


@pytest.mark.parametrize("engine", ["openvino", "tpu"])
def test_a_stage_whose_engine_is_gone_goes_on_with_torch_and_says_so(
    engine: Any, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, _ = trained(build, runtime=CPU)
    monkeypatch.setattr(engines, "has_openvino", lambda: False)
    values, events = trained(build, begun={0: replace(CPU, engine=engine)})
    (said,) = notes(events)
    assert said.startswith("What frozen layers give is computed anew, by torch in float32, and not by ")
    assert ("OpenVINO is not installed" in said) == (engine == "openvino")
    assert same(values, plain)


@pytest.mark.parametrize("plan", [HEAD, TAIL], ids=["head", "tail"])
def test_torch_takes_over_from_an_engine_that_cannot(plan: Any, build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(layers: nn.Module, example: Tensor, precision: str) -> Any:
        raise RuntimeError("no kernel for this processor\nmore of it")

    plain, _ = trained(build, plan, runtime=CPU)
    monkeypatch.setattr(engines, "_CONVERTERS", {"openvino": fail})
    values, events = trained(build, plan, runtime=OPENVINO)
    assert set(notes(events)) == {
        "OpenVINO cannot run these layers (RuntimeError: no kernel for this processor): torch runs them instead, in "
        "float32."
    }
    assert same(values, plain)


def test_features_are_torchs_where_an_engine_cannot(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    network, dataset = build(HEAD)

    def watched(runtime: Runtime) -> tuple[Any, list[Any]]:
        work, events = features(network, dataset.catalog, dataset.train, runtime, "pictures"), []
        while True:
            try:
                events.append(next(work))
            except StopIteration as end:
                return end.value, events

    plain, _ = watched(CPU)
    monkeypatch.setattr(engines, "_CONVERTERS", {"openvino": lambda *args: lambda inputs: inputs / 0 + []})
    values, events = watched(OPENVINO)
    assert len(notes(events)) == 1
    assert (values == plain).all()


def test_the_choice_of_the_engine_is_made_once_for_all_stages(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def choose(work: Any, base: Runtime) -> Iterator[Computing]:
        asked.append(work.n)
        yield Computing(-1, "timing engines", 1, 1)
        return EngineChoice(replace(base, engine="openvino", why="measured"), 0.001, 1.0)

    monkeypatch.setattr(autotune, "choose_engine", choose)
    monkeypatch.setattr(loop, "missing", lambda engine, precision: "")
    _, events = trained(build, TAIL)
    started = [event for event in events if isinstance(event, StageStarted)]
    assert [event.runtime["engine"] for event in started] == ["openvino", "openvino"]
    assert "measured" in started[0].runtime["why"]
    assert len(asked) == 1
    _, dataset = build(TAIL)
    assert asked == [len(dataset.train) + len(dataset.validation)]
