from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest
import torch
from PIL import Image

import tellapart as ta
from tellapart.core.text import lr_text
from tellapart.errors import UsageError
from tellapart.models.create import create_network
from tellapart.recipe.load import load_recipe
from tellapart.runs.resume import divide
from tellapart.training.dataset import Dataset
from tellapart.training.lr_finder import raise_lr
from tellapart.training.prepare import stage_from_pictures
from tellapart.training.runtime import Runtime
from tellapart.workflows.preview import augmented, lr_range_test, multiplied, network_summary, stage_with_lr
from tellapart.workflows.progress import ProgressSink, describe_lr

PLAN = ["model.name=cnn8", "data.size=16", "stages.0.batch_size=8"]


def test_the_rate_test_leaves_no_trace_bit_for_bit(picture_folder: Callable[..., Path]) -> None:
    plan = load_recipe("scratch", PLAN)
    catalog = ta.scan(picture_folder(n=10))
    split = ta.split(catalog)
    torch.manual_seed(3)
    network = create_network(plan.model, 3, plan.data)
    dataset = Dataset(catalog, split.train, split.validation, network.preprocessing, plan.augment, 0)
    stage = stage_from_pictures(network, plan, 0, dataset, torch.tensor(catalog.target()), Runtime("cpu"))
    network.train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    modes = [module.training for module in network.modules()]
    random = torch.get_rng_state()
    steps = []
    for step in raise_lr(stage):
        assert torch.equal(torch.get_rng_state(), random)
        steps.append(step)
    assert len(steps) > 20
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert [module.training for module in network.modules()] == modes
    assert torch.equal(torch.get_rng_state(), random)
    assert all(p.requires_grad and p.grad is None for p in network.parameters())


def test_one_rate_is_recommended_in_one_spelling(
    picture_folder: Callable[..., Path], here: Callable[..., CompletedProcess[str]], tmp_path: Path
) -> None:
    """On the console, in JSON and in the recipe that `--set` makes of it."""
    changes = ["--set", "model.name=mlp", "--set", "data.size=16", "--set", "stages.0.batch_size=8"]
    command = ["find-lr", picture_folder(n=8), "--recipe", "scratch", *changes, "--out", tmp_path / "find-lr.png"]
    console = here(*command, "--quiet").stdout.splitlines()
    with Image.open(tmp_path / "find-lr.png") as plot:
        assert plot.width > 600
    test = json.loads(here(*command, "--json").stdout)
    assert 1e-7 < test["lr"] == test["suggestions"]["valley"] < 1
    assert console[-2] == f"Learning rate: {test['lr']!r} (valley)"
    assert console[-1] == f"Take it: --set {test['setting']}"
    assert test["setting"] == f"stages.0.lr={test['lr']!r}"
    assert load_recipe("scratch", [test["setting"]]).stages[0].lr == test["lr"]
    assert test["diverges"] is None or test["lr"] <= test["diverges"] / 10
    assert test["lrs"][0] == pytest.approx(1e-7)


def test_the_rule_is_that_of_the_stage(picture_folder: Callable[..., Path], tmp_path: Path) -> None:
    catalog = ta.scan(picture_folder(n=16))
    recipe = load_recipe("scratch", [*PLAN, "data.size=32", "stages.0.lr={find = 'highest_falling', spread = 10}"])
    test = lr_range_test(catalog, recipe, 0, tmp_path / "find-lr.svg", ProgressSink())
    assert (test.taken, test.lr) == ("highest_falling", test.suggestions["highest_falling"])
    assert describe_lr(test) == (
        f"learning rate {test.lr!r} (highest falling); without a test: --set "
        f"stages.0.lr={lr_text(test.lr / 10)}..{test.lr!r}"
    )


def test_a_contact_sheet_shows_pictures_and_views(picture_folder: Callable[..., Path], tmp_path: Path) -> None:
    catalog = ta.scan(picture_folder(n=5))
    out = augmented(catalog, load_recipe("scratch", ["data.size=40"]), tmp_path / "sheet.png")
    with Image.open(out) as sheet:
        assert sheet.width > 6 * 40
        assert sheet.height > 6 * 40


def test_layers_are_counted() -> None:
    text = str(network_summary(load_recipe("scratch", PLAN), 7))
    network = create_network(load_recipe("scratch", PLAN).model, 7, load_recipe("scratch", PLAN).data)
    assert f"{sum(p.numel() for p in network.parameters()):,}" in text
    assert "[64, 7]" in text or "[8, 7]" in text


def test_summary_counts_what_the_stage_trains() -> None:
    stages = ["stages=[{train='head'}, {train=2, size=36, batch_size=4}, {train='all'}]"]
    recipe = load_recipe("scratch", ["model.name=cnn8", "data.size=32", *stages])
    network = create_network(recipe.model, 7, recipe.data)
    head = sum(p.numel() for p in network.head.parameters())
    hidden = sum(p.numel() for p in network.backbone.fc.parameters())
    n_all = sum(p.numel() for p in network.parameters())
    for stage, n in enumerate((head, head + hidden, n_all)):
        text = str(network_summary(recipe, 7, stage))
        assert f"Trainable params: {n:,}\n" in text
        assert f"Non-trainable params: {n_all - n:,}\n" in text
        assert f"Stage {stage} trains" in text
        assert text.endswith(f"Stage 2 trains all layers: {n_all:,} of {n_all:,} parameters.")
        assert f"Stage 0 trains the head: {head:,} of {n_all:,} parameters." in text
    assert "[4, 36, 36, 3]" in str(network_summary(recipe, 7, 1))
    with pytest.raises(UsageError, match="--stage 3: the recipe has 3 stages"):
        network_summary(recipe, 7, 3)


def test_the_rate_of_a_solved_head_is_not_looked_for() -> None:
    assert stage_with_lr(load_recipe("transfer"), None) == 2
    assert stage_with_lr(load_recipe("eight-step"), 2) == 2
    with pytest.raises(UsageError, match="--stage 0 takes no"):
        stage_with_lr(load_recipe("transfer"), 0)
    with pytest.raises(UsageError, match="No stage"):
        stage_with_lr(load_recipe("breeds-transfer"), None)


def test_a_recipe_that_changes_nothing_has_no_sheet(picture_folder: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'views'"):
        augmented(ta.scan(picture_folder(n=5)), load_recipe("scratch", ["augment=[]"]), tmp_path / "sheet.png")


def test_fixed_views_are_drawn_too(picture_folder: Callable[..., Path], tmp_path: Path) -> None:
    views = "stages=[{views=[[], [{transform='horizontal_flip'}]]}]"
    recipe = load_recipe("scratch", ["augment=[]", "data.size=40", views])
    catalog = ta.scan(picture_folder(n=5))
    with Image.open(augmented(catalog, recipe, tmp_path / "sheet.png")) as sheet:
        assert sheet.width > 3 * 40  # plain, as it is, mirrored


def test_a_stage_that_is_not_there(
    picture_folder: Callable[..., Path], here: Callable[..., CompletedProcess[str]]
) -> None:
    done = here("find-lr", picture_folder(), "--recipe", "scratch", "--stage", "4")
    assert done.returncode == 2
    assert "counted from 0" in done.stderr
    assert "Traceback" not in done.stderr


def test_versions_written_to_a_folder_are_trained_on_and_no_original_is_touched(
    picture_folder: Callable[..., Path], tmp_path: Path
) -> None:
    root = picture_folder(n=8)
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in root.rglob("*.png")}
    plan = load_recipe("scratch", ["model.name=mlp", "data.size=16", "data.ahead=eightfold", "stages.0.epochs=1"])
    catalog, quiet = ta.scan(root), ProgressSink()
    counted = multiplied(catalog, plan, None, quiet)
    parts = divide(catalog, plan, tmp_path / "run")
    assert str(counted).startswith(f"{len(parts.train)} training pictures in 8 versions each: {8 * len(parts.train)}.")
    written = multiplied(catalog, plan, tmp_path / "ahead", quiet)
    assert (str(written), written.table) == (str(counted), tmp_path / "ahead" / "pictures.csv")
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in root.rglob("*.png")} == before

    rescanned = ta.scan(tmp_path / "ahead")
    again = divide(rescanned, plan, tmp_path / "run")  # as `train` does
    names = rescanned.table["path"].str.replace(r"^pictures/", "").str.replace(r"\.view\d\.png$", "")
    assert len(again.train) == 8 * len(parts.train)
    for part in ("train", "validation", "test"):
        assert {*names.gather(getattr(again, part))} == {*catalog.table["path"].gather(getattr(parts, part))}


def test_a_recipe_without_versions_has_none_to_write(picture_folder: Callable[..., Path]) -> None:
    with pytest.raises(UsageError, match=r"data\.ahead"):
        multiplied(ta.scan(picture_folder(n=8)), load_recipe("scratch"), None, ProgressSink())
