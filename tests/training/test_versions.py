"""Versions of training pictures made ahead: an epoch shows each once, and none is of a validation picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tellapart.core.events import NO_LABEL, StageDone, StageStarted, Validated
from tellapart.core.preprocess import Preprocessing
from tellapart.data.augmentation.offline import write_views
from tellapart.data.catalog import SCHEMA, Catalog
from tellapart.data.scan import scan
from tellapart.data.splitting.split import Split, split
from tellapart.models.network import Network
from tellapart.recipe.schema import Recipe
from tellapart.recipe.transforms import EIGHTFOLD
from tellapart.training import pixels
from tellapart.training.checkpoint import State, load_checkpoint, save_checkpoint
from tellapart.training.dataset import Dataset
from tellapart.training.fit import fit
from tellapart.training.inputs import StageInputs, evenly, inputs_from_features, inputs_from_pictures
from tellapart.training.pixels import Load, fixed_view
from tellapart.training.runtime import Runtime
from tellapart.training.stage import epoch_counts, epoch_items
from tellapart.training.trainable import select
from tellapart.workflows.progress import ProgressSink

Build = Callable[[Recipe], tuple[Network, Dataset]]
CPU = Runtime("cpu", workers=2)
HOW = Preprocessing(8, 8)


def recipe(stages: list[dict[str, Any]], **parts: Any) -> Recipe:
    whole = {"data": {"size": 32, "ahead": "eightfold"}, "stages": stages}
    return Recipe.model_validate(whole | {"model": {"name": "small-cnn", "pretrained": False}} | parts)


def finished(work: Generator[Any, None, StageInputs]) -> StageInputs:
    """What a generator gives back, its events passed over."""
    while True:
        try:
            next(work)
        except StopIteration as stop:
            return stop.value


def named(n: int, classes: int, groups: list[int | None], copies: list[int]) -> Catalog:
    """A catalog of pictures that are nowhere: labels in turn, given groups, each a copy of the picture named."""
    rows = {
        "path": [f"{i:03}.png" for i in range(n)],
        "labels": [[i % classes] for i in range(n)],
        "group": [None if g is None else str(g) for g in groups],
        "sha256": [bytes([copies[i]]) * 32 for i in range(n)],
    }
    table = pl.DataFrame(rows, schema_overrides={name: SCHEMA[name] for name in rows})
    empty = {name: pl.lit(None, dtype=kind) for name, kind in SCHEMA.items() if name not in rows}
    return Catalog(table.with_columns(**empty).select(*SCHEMA), tuple("abc"[:classes]), False, Path())


@st.composite
def pictures(draw: st.DrawFn) -> Catalog:
    """Pictures of two classes: some in pairs of one group, some copies of another of their class."""
    n = draw(st.integers(24, 60))
    grouped, copied = (draw(st.lists(st.booleans(), min_size=n, max_size=n)) for _ in range(2))
    groups = [i // 4 * 4 + i % 2 if grouped[i] else None for i in range(n)]
    return named(n, 2, groups, [i - 2 if i > 20 and copied[i] else i for i in range(n)])


@settings(max_examples=12)
@given(pictures(), st.integers(1, 9), st.sampled_from(["none", "weighted", "rarest"]), st.integers(0, 9))
def test_no_item_of_an_epoch_is_of_a_validation_picture(
    catalog: Catalog, n_versions: int, sampler: str, seed: int
) -> None:
    parts, epoch = split(catalog, validation=0.25, test=0.2, seed=seed), seed % 3
    dataset = Dataset(catalog, parts.train, parts.validation, HOW, (), seed, [()] * n_versions)
    plan = Recipe.model_validate({"balance": {"sampler": sampler}})
    order = epoch_items(plan, dataset, torch.tensor(catalog.target()), 0, epoch)
    rows = dataset.rows(order)
    assert len(order) == n_versions * len(parts.train)
    assert set(rows.tolist()) <= set(parts.train.tolist())
    if sampler == "none":
        assert sorted(order.tolist()) == sorted(dataset.items.tolist()), "each version of each picture once"
    content, group = catalog.table["sha256"].to_list(), catalog.table["group"].to_list()
    for held in (*parts.validation, *parts.test):
        assert content[held] not in {content[row] for row in rows}
        assert group[held] is None or group[held] not in {group[row] for row in rows}


@pytest.mark.parametrize("form", ["live", "stored"])
def test_what_training_reads_are_versions_of_training_pictures_alone(
    build: Build, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    plan = recipe([{"train": "head", "batch_size": 7, "augment": False, "views": [[], []]}])
    network, dataset = build(plan)
    dataset = replace(dataset, ahead=plan.data.ahead)
    read = Counter[int]()
    changed = pixels._changed

    def noted(dataset: Dataset, *how: Any) -> Load:
        load = changed(dataset, *how)

        def one(item: int) -> Any:
            if dataset.ahead:
                read[int(dataset.rows(np.array([item]))[0])] += 1
            return load(item)

        return one

    monkeypatch.setattr(pixels, "_changed", noted)
    part, stage = select(network, "head", statistics="update"), plan.stages[0]
    if form == "live":
        source = inputs_from_pictures(network, stage, dataset, CPU)
    else:
        source = finished(inputs_from_features(network, part, stage, dataset, CPU, 0, None))
    shown = [
        int(row)
        for _, rows in source.train(dataset.items, 0, evenly(len(dataset.items), stage.batch_size))
        for row in rows
    ]
    assert set(Counter(shown).values()) == {8}
    assert set(shown) == set(dataset.train.tolist()) == set(read)
    assert {row for _, rows in source.validation() for row in rows.tolist()} == set(dataset.validation.tolist())
    if source.all_views:
        features, rows = source.all_views(dataset.items)
        assert len(features) == len(rows) == 2 * 8 * len(dataset.train)
        assert set(rows.tolist()) == set(dataset.train.tolist())


def test_stored_versions_are_those_that_training_from_pictures_shows(build: Build) -> None:
    plan = recipe([{"train": "head", "batch_size": 16, "augment": False}])
    network, dataset = build(plan)
    dataset = replace(dataset, ahead=plan.data.ahead)
    part, stage = select(network, "head", statistics="update"), plan.stages[0]
    order = np.random.default_rng(0).permutation(dataset.items)
    cuts = evenly(len(order), 16, first=1)
    from_pictures = list(inputs_from_pictures(network, stage, dataset, CPU).train(order, 0, cuts))
    source = finished(inputs_from_features(network, part, stage, dataset, CPU, 0, None))
    from_store = list(source.train(order, 0, cuts))
    assert isinstance(part.prefix, nn.Module)
    assert len(from_pictures) == len(from_store) == -(-len(order) // 16) - 1
    with torch.no_grad():
        for (pictures, rows), (features, same_rows) in zip(from_pictures, from_store, strict=True):
            assert rows.tolist() == same_rows.tolist()
            torch.testing.assert_close(part.prefix.eval()(pictures), features, rtol=1e-3, atol=1e-4)


def test_virtual_and_written_versions_give_the_network_the_same_pictures(build: Build, tmp_path: Path) -> None:
    plan = recipe([{"epochs": 1}])
    _, dataset = build(plan)
    dataset = replace(dataset, ahead=plan.data.ahead, preprocessing=Preprocessing(32, 32, crop=0.875))
    catalog = dataset.catalog
    parts = Split(dataset.train, dataset.validation, np.array([], np.int64), catalog.digest, 0, "")
    writing = write_views(catalog, parts, EIGHTFOLD, dataset.preprocessing, tmp_path / "out", seed=plan.seed)
    written = scan(ProgressSink().watch(writing).parent)
    again = replace(dataset, catalog=written, train=np.arange(len(written)), ahead=())
    by_path = {path: row for row, path in enumerate(written.table["path"])}
    for item in dataset.items.tolist():
        row, version = divmod(item, 8)
        name = f"pictures/{catalog.table['path'][row]}" + (f".view{version}.png" if version else "")
        assert np.array_equal(fixed_view(dataset)(item), fixed_view(again)(by_path[name]))


@pytest.mark.parametrize("stop_after", [pytest.param(3, marks=pytest.mark.slow), 20])
def test_an_epoch_is_eight_times_as_long_and_can_be_broken_off(build: Build, tmp_path: Path, stop_after: int) -> None:
    model = {"name": "tutorial-cnn", "pretrained": False}
    plan = recipe([{"epochs": 2, "batch_size": 8}], augment=[{"transform": "brightness"}], model=model)
    whole, dataset = build(plan)
    dataset = replace(dataset, ahead=plan.data.ahead)
    events = list(fit(whole, plan, dataset, State(), CPU))
    steps = [event for event in events if not isinstance(event, StageStarted | Validated | StageDone)]
    assert len(steps) == 2 * len(dataset.train)
    assert isinstance(events[0], StageStarted)
    assert sum(events[0].shown.values()) == 8 * len(dataset.train)

    broken, _ = build(plan)
    state = State()
    for number, _ in enumerate(fit(broken, plan, dataset, state, CPU), start=1):
        if number == stop_after:
            break
    save_checkpoint(tmp_path / "last.safetensors", broken, state)
    resumed, _ = build(plan.model_copy(update={"seed": 5}))
    list(fit(resumed, plan, dataset, load_checkpoint(tmp_path / "last.safetensors", resumed), CPU))
    assert all(
        torch.equal(a, b) for a, b in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True)
    )


def test_the_log_says_what_an_epoch_shows_with_and_without_balancing(build: Build) -> None:
    def shown(**parts: Any) -> dict[str, int]:
        plan = recipe([{"epochs": 1}], data={"size": 32}, **parts)
        network, dataset = build(plan)
        rare = np.flatnonzero(dataset.catalog.target(dataset.train) == 0)[:-1]
        dataset = replace(dataset, train=np.delete(dataset.train, rare))
        event = next(iter(fit(network, plan, dataset, State(), CPU)))
        assert isinstance(event, StageStarted)
        assert sum(event.shown.values()) == len(dataset.train)
        return event.shown

    plain, balanced = shown(), shown(balance={"sampler": "rarest"})
    assert plain["circle"] == 1
    assert max(balanced.values()) - min(balanced.values()) <= 1
    assert NO_LABEL not in plain


def test_of_several_labels_each_is_counted_and_pictures_without_any_too() -> None:
    catalog = named(30, 3, [None] * 30, list(range(30)))
    labels = [[], [0], [0, 1], [0], [0, 2], []] * 5
    table = catalog.table.with_columns(labels=pl.Series(labels, dtype=SCHEMA["labels"]))
    catalog = replace(catalog, table=table, multilabel=True)
    target = torch.tensor(catalog.target())
    dataset = Dataset(catalog, np.arange(24), np.arange(24, 30), HOW, (), 0, EIGHTFOLD)

    def shown(sampler: str) -> dict[str, int]:
        return epoch_counts(Recipe.model_validate({"balance": {"sampler": sampler}}), dataset, target, 0)

    assert shown("none") == {"a": 8 * 16, "b": 8 * 4, "c": 8 * 4, NO_LABEL: 8 * 8}
    balanced = shown("rarest")
    assert balanced["b"] == pytest.approx(balanced["c"], abs=1)
    assert balanced["b"] == pytest.approx(balanced[NO_LABEL], abs=1)
    assert balanced["a"] >= balanced["b"], "each picture of b or c carries a too"
