"""The engine of frozen layers: the fastest whose output is good enough, with its conversion counted; remembered."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tellapart.core.cache import read_note
from tellapart.core.events import Computing
from tellapart.data.scan import scan
from tellapart.models.create import create_network
from tellapart.recipe.schema import Data, Model
from tellapart.training.dataset import Dataset
from tellapart.training.fast import choose_engine as module
from tellapart.training.fast import probe_check
from tellapart.training.fast.choose_engine import EngineChoice, FrozenWork, Way, choose_engine
from tellapart.training.fast.engines import EngineError
from tellapart.training.runtime import Runtime

BASE = Runtime("cpu", workers=1)
ALL: dict[Way, float] = {
    ("torch", "float32"): 0.010,
    ("torch", "bfloat16"): 0.008,
    ("openvino", "float32"): 0.004,
    ("openvino", "bfloat16"): 0.002,
    ("onnxruntime", "float32"): 0.005,
}
MANY = 100_000


@dataclass
class Engines:
    """Made-up engines: seconds a picture of each way, what it costs to convert, what is wrong with it."""

    seconds: dict[Way, float] = field(default_factory=lambda: dict(ALL))
    converting: float = 2.0
    noise: dict[Way, float] = field(default_factory=dict)
    faults: dict[Way, str] = field(default_factory=dict)
    absent: dict[Way, str] = field(default_factory=dict)
    clock: float = 0.0
    tried: list[Way] = field(default_factory=list)

    def perf_counter(self) -> float:
        return self.clock

    def missing(self, *way: Any) -> str:
        return self.absent.get(way, "")

    def layers(self, _layers: Any, runtime: Runtime) -> Made:
        return Made(self, (runtime.engine, runtime.frozen))


@dataclass
class Made:
    """Layers in one of the made-up engines: the mean of each channel, with noise."""

    engines: Engines
    way: Way
    begun: bool = False

    def begin(self, shape: tuple[int, ...]) -> None:
        if not self.begun:
            self.begun = True
            self.engines.tried.append(self.way)
            self.engines.clock += self.engines.converting if self.way[0] != "torch" else 0.0

    def wait(self, seconds: float) -> bool:
        return True

    def __call__(self, inputs: Tensor) -> Tensor:
        if fault := self.engines.faults.get(self.way):
            raise EngineError(fault)
        self.engines.clock += len(inputs) * self.engines.seconds[self.way]
        means = inputs.mean((2, 3))
        return means + self.engines.noise.get(self.way, 0.0) * torch.tensor([1.0, -1.0, 1.0])


@pytest.fixture
def engines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Engines:
    monkeypatch.setenv("TELLAPART_CACHE", str(tmp_path / "cache"))
    made = Engines()
    for where in (module, probe_check):
        monkeypatch.setattr(where, "inference_layers", made.layers)
    monkeypatch.setattr(module, "time", made)
    monkeypatch.setattr(module, "missing", made.missing)
    monkeypatch.setattr(module, "multiplies_bfloat16", lambda device: True)
    return made


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory, pictures_at: Callable[..., Path]) -> FrozenWork:
    catalog = scan(pictures_at(tmp_path_factory.mktemp("engines") / "photos", n=10))
    torch.manual_seed(0)
    network = create_network(Model(name="small-cnn", pretrained=False), 3, Data(size=16))
    rows = catalog.readable
    dataset = Dataset(catalog, rows, rows[:0], network.preprocessing, (), 0)
    return FrozenWork(network, network.backbone, "head", dataset, MANY)


def chosen(work: FrozenWork, n: int = MANY) -> EngineChoice:
    steps = choose_engine(replace(work, n=n), BASE)
    while True:
        try:
            assert isinstance(next(steps), Computing)
        except StopIteration as end:
            return end.value


def way(choice: EngineChoice) -> Way:
    return choice.runtime.engine, choice.runtime.frozen


def test_the_fastest_is_taken_and_the_reasons_are_written_down(work: FrozenWork, engines: Engines) -> None:
    choice = chosen(work)
    assert way(choice) == ("openvino", "bfloat16")
    assert choice.seconds == pytest.approx(0.002)
    assert choice.total(100) == pytest.approx(2.2)
    assert choice.runtime.why == (
        "the frozen layers take 2 ms a picture with OpenVINO in bfloat16, which converts them in 2.0 s, instead of 4 "
        "ms with OpenVINO in float32, 5 ms with onnxruntime in float32, 8 ms with torch in bfloat16, 10 ms with torch "
        "in float32"
    )
    assert choice.runtime == replace(BASE, engine="openvino", frozen="bfloat16", why=choice.runtime.why)


@pytest.mark.parametrize("fast", ALL)
def test_whichever_is_fastest(fast: Way, work: FrozenWork, engines: Engines) -> None:
    engines.seconds = dict.fromkeys(ALL, 0.01) | {fast: 0.001}
    assert way(chosen(work)) == fast


def test_of_equally_fast_ones_the_plainest_is_taken(work: FrozenWork, engines: Engines) -> None:
    engines.seconds, engines.converting = dict.fromkeys(ALL, 0.01), 0.1
    assert way(chosen(work)) == ("torch", "float32")


@pytest.mark.parametrize(("n", "engine"), [(300, "torch"), (700, "openvino")])
def test_a_conversion_has_to_pay(n: int, engine: str, work: FrozenWork, engines: Engines) -> None:
    engines.absent = {one: "no bfloat16" for one in ALL if one[1] == "bfloat16"}
    assert chosen(work, n).runtime.engine == engine


def test_where_little_is_to_come_nothing_is_converted(work: FrozenWork, engines: Engines) -> None:
    chosen(work, 100)
    assert {engine for engine, _ in engines.tried} == {"torch"}


def test_a_further_engine_is_tried_only_where_it_may_save_more_than_it_costs(
    work: FrozenWork, engines: Engines
) -> None:
    engines.absent = {one: "no bfloat16" for one in ALL if one[1] == "bfloat16"}
    chosen(work, 2000)
    assert ("onnxruntime", "float32") not in engines.tried
    chosen(work, MANY)
    assert ("onnxruntime", "float32") in engines.tried


@pytest.mark.parametrize(("precision", "noise", "good"), [("float32", 0.003, True), ("float32", 0.02, False)])
def test_output_that_is_another_is_not_used(
    precision: str, noise: float, good: bool, work: FrozenWork, engines: Engines
) -> None:
    engines.absent = {one: "no bfloat16" for one in ALL if one[1] == "bfloat16"}
    engines.noise = {("openvino", "float32"): noise}
    choice = chosen(work)
    assert (choice.runtime.engine == "openvino") == good
    assert ("not OpenVINO in float32: its output is another (cosine 0.9" in choice.runtime.why) != good


@pytest.mark.parametrize("output", [torch.full((8, 3), torch.nan), torch.zeros(8, 2), torch.zeros(8, 3)])
def test_nonsense_is_not_used(output: Tensor, work: FrozenWork, engines: Engines, monkeypatch: Any) -> None:
    run = Made.__call__
    monkeypatch.setattr(Made, "__call__", lambda made, x: output if made.way[0] == "openvino" else run(made, x))
    assert chosen(work).runtime.engine != "openvino"


def test_an_engine_that_cannot_is_named_and_not_tried_again(work: FrozenWork, engines: Engines) -> None:
    engines.faults = {("openvino", "float32"): "OpenVINO cannot run these layers (OpConversionFailure: no)"}
    first = chosen(work)
    assert way(first) == ("onnxruntime", "float32")
    assert "; not OpenVINO in float32: OpenVINO cannot run these layers (Op" in first.runtime.why
    assert ("openvino", "bfloat16") not in engines.tried, "its other precision fails alike"
    engines.tried.clear()
    assert chosen(work) == first
    assert engines.tried == []


def test_an_engine_that_is_absent_is_named_where_it_might_have_paid(work: FrozenWork, engines: Engines) -> None:
    engines.absent = {(e, p): "OpenVINO is not installed" for e, p in ALL if e == "openvino"}
    assert chosen(work).runtime.why.count("OpenVINO is not installed") == 1
    assert "OpenVINO" not in chosen(work, 100).runtime.why.partition(";")[0]


def test_a_processor_without_bfloat16_is_no_news(work: FrozenWork, engines: Engines) -> None:
    engines.absent = {("openvino", "bfloat16"): "OpenVINO has no bfloat16 on this processor"}
    choice = chosen(work)
    assert way(choice) == ("openvino", "float32")
    assert "no bfloat16" not in choice.runtime.why


def test_bfloat16_is_refused_where_a_probe_on_it_is_worse(
    work: FrozenWork, engines: Engines, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Way] = []

    def no_worse(_layers: Any, _dataset: Any, _network: Any, runtime: Runtime, _key: Any) -> Any:
        asked.append((runtime.engine, runtime.frozen))
        yield Computing(-1, "", 1, 1)
        return False

    monkeypatch.setattr(module, "no_worse", no_worse)
    choice = chosen(work)
    assert way(choice) == ("openvino", "float32")
    assert asked == [("openvino", "bfloat16")]
    assert "not OpenVINO in bfloat16: a linear probe on it is worse" in choice.runtime.why


def test_what_was_measured_is_remembered_for_any_number_of_pictures(work: FrozenWork, engines: Engines) -> None:
    first = chosen(work)
    engines.tried.clear()
    engines.seconds = dict.fromkeys(ALL, 1.0)
    assert chosen(work) == first
    assert chosen(work, 50).runtime.engine == "torch"
    assert engines.tried == []


def test_other_weights_are_measured_anew(work: FrozenWork, engines: Engines) -> None:
    chosen(work)
    engines.tried.clear()
    torch.manual_seed(1)
    other = create_network(Model(name="small-cnn", pretrained=False), 3, Data(size=16))
    chosen(replace(work, network=other, layers=other.backbone))
    assert ("openvino", "float32") in engines.tried


def test_a_process_that_ends_in_a_trial_is_the_last_one_that_tries(
    work: FrozenWork, engines: Engines, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What is on the disk while an engine is tried is all that a process leaves that the system ends."""
    notes: dict[Path, bytes] = {}
    begin = Made.begin

    def look(made: Made, shape: tuple[int, ...]) -> None:
        if made.way == ("openvino", "float32"):
            notes.update((file, file.read_bytes()) for file in (tmp_path / "cache" / "runtime").iterdir())
        begin(made, shape)

    monkeypatch.setattr(Made, "begin", look)
    chosen(work)
    for file in (tmp_path / "cache" / "runtime").iterdir():
        file.unlink()
    for file, content in notes.items():
        file.write_bytes(content)
    engines.tried.clear()
    choice = chosen(work)
    assert not [one for one in engines.tried if one[0] == "openvino"]
    assert "not OpenVINO in float32: a process ended while it tried OpenVINO" in choice.runtime.why


def test_a_trial_that_is_interrupted_is_made_again(
    work: FrozenWork, engines: Engines, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Made, "wait", lambda made, seconds: made.way[0] == "torch")
        steps = choose_engine(work, BASE)
        for _ in range(5):
            next(steps)
        steps.close()
    assert way(chosen(work)) == ("openvino", "bfloat16")


@pytest.mark.parametrize("content", ['{"timings": 3}', '{"timings": [{"engine": "x"}]}', '{"timings": [3]}', "[", ""])
def test_a_damaged_memory_is_measured_anew(content: str, work: FrozenWork, engines: Engines, tmp_path: Path) -> None:
    first = chosen(work)
    for file in (tmp_path / "cache" / "runtime").iterdir():
        if "timings" in (read_note(file) or {}):
            file.write_text(content, encoding="utf-8")
    assert way(chosen(work)) == way(first)


def test_a_memory_with_a_checksum_but_of_other_things_is_measured_anew(
    work: FrozenWork, engines: Engines, tmp_path: Path
) -> None:
    from tellapart.core.cache import write_note

    chosen(work)
    for file in (tmp_path / "cache" / "runtime").iterdir():
        write_note(file, {"timings": [json.loads("{}")]})
    engines.tried.clear()
    chosen(work)
    assert ("openvino", "float32") in engines.tried
