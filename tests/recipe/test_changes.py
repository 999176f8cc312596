"""Changes of a recipe from the command line: --set key=value."""

from __future__ import annotations

import pytest

from tellapart.recipe.load import load_recipe
from tellapart.recipe.schema import Head, Stage
from tellapart.recipe.transforms import Mix
from tests.recipe.recipes import mistake, write


@pytest.mark.parametrize(
    ("change", "read"),
    [
        ("seed=5", lambda r: r.seed == 5),
        (" seed = 5 ", lambda r: r.seed == 5),
        ("stages.2.epochs=7", lambda r: r.stages[2].epochs == 7),
        ("stages.2.lr=1e-5", lambda r: r.stages[2].lr == 1e-5),
        ("stages.2.lr=1", lambda r: r.stages[2].lr == 1.0),
        ("stages.2.augment=false", lambda r: r.stages[2].augment is False),
        ("stages.0.train=2", lambda r: r.stages[0].train == 2 and isinstance(r.stages[0].train, int)),
        ("stages.0.train=0.5", lambda r: r.stages[0].train == 0.5),
        ("stages.0.train=all", lambda r: r.stages[0].train == "all"),
        ('stages.0.train="all"', lambda r: r.stages[0].train == "all"),
        ("stages.0.views=[[],[{transform='noise'}]]", lambda r: len(r.stages[0].views[1]) == 1),
        ("model.name=resnet18", lambda r: r.model.name == "resnet18"),
        ("model.weights=/a b/c=d.pt", lambda r: r.model.weights == "/a b/c=d.pt"),
        ("model.head.hidden=[64, 32]", lambda r: r.model.head.hidden == [64, 32]),
        ("model.head={hidden=[8], dropout=0.5}", lambda r: r.model.head == Head(hidden=[8], dropout=0.5)),
        ("model.pretrained=false", lambda r: r.model.pretrained is False),
        ("about=", lambda r: r.about == ""),
        ("about=two words, 'quoted' # and all", lambda r: r.about == "two words, 'quoted' # and all"),
        ('about="3"', lambda r: r.about == "3"),
        ("balance.class_weights=true", lambda r: r.balance.class_weights),
        ("stages=[{epochs=3}, {}]", lambda r: r.stages == [Stage(epochs=3), Stage()]),
    ],
)
def test_any_key_can_be_changed(change, read):
    assert read(load_recipe("transfer", [change]))


def test_what_stages_without_fixed_views_apply_can_be_changed():
    changed = load_recipe("scratch", ["mix={mixup=0.5}", "augment=[{transform='blur', sigma=2}]"])
    assert changed.mix == Mix(mixup=0.5)
    assert changed.augment[0].sigma == 2


def test_changes_come_one_after_the_other_and_leave_the_rest():
    plain = load_recipe("transfer")
    changed = load_recipe("transfer", ["seed=1", "stages.2.epochs=4", "seed=2"])
    last = plain.stages[2].model_copy(update={"epochs": 4})
    assert changed == plain.model_copy(update={"seed": 2, "stages": [*plain.stages[:2], last]})
    assert load_recipe("transfer") == plain


def test_the_stage_that_is_there_by_default_can_be_changed(tmp_path):
    path = write(tmp_path, "seed = 1")
    assert load_recipe(path, ["stages.0.epochs=2"]).stages == [Stage(epochs=2)]


@pytest.mark.parametrize(
    ("change", "words", "hint"),
    [
        ("seed", "expected key=value", "--set stages.0.epochs=2"),
        ("=3", "expected key=value", "--set stages.0.epochs=2"),
        ("sede=3", "unknown key 'sede'", "Did you mean 'seed'?"),
        ("data.sise=3", "unknown key 'data.sise'", "Did you mean 'size'?"),
        ("dta.size=3", "unknown key 'dta'", "Did you mean 'data'?"),
        ("stages.0.epoch=3", "unknown key 'stages.0.epoch'", "Did you mean 'epochs'?"),
        ("stages.0.epochs=0", "'stages.0.epochs': Input should be greater than or equal to 1", ""),
        ("stages.3.epochs=3", "'stages.3' does not exist", "3 entries"),
        ("stages.-1.epochs=3", "'stages.-1' does not exist", "3 entries"),
        ("stages.².epochs=3", "'stages.²' does not exist", "3 entries"),
        ("stages[0].epochs=3", "unknown key 'stages[0]'", "Did you mean 'stages'?"),
        ("stages.first.epochs=3", "'stages.first' does not exist", "3 entries"),
        ("stages.3={epochs=3}", "'stages.3' does not exist", "3 entries"),
        ("augment.0.probability=0.5", "'augment.0' does not exist", "no such list"),
        ("stages=[{epoch=3}]", "unknown key 'stages.0.epoch'", "Did you mean 'epochs'?"),
        ("stages.0={epoch=3}", "unknown key 'stages.0.epoch'", "Did you mean 'epochs'?"),
        ("about.x=3", "'about.x' lies below a plain value", "itself"),
        ("about.x.y=3", "'about.x' lies below a plain value", "itself"),
        ("stages.0.train.x=3", "'stages.0.train.x' lies below a plain value", "itself"),
        ("about=3", "'about': Input should be a valid string", ""),
        ("model.pretrained=yes", "'model.pretrained': Input should be a valid boolean (it is 'yes')", ""),
        ("augment=[{transform='blurr'}]", "no transform 'blurr'", "'blur'"),
        ("=", "expected key=value", ""),
        ("data..size=3", "unknown key 'data.'", ""),
    ],
)
def test_mistakes_in_a_change_are_named_with_the_change(change, words, hint):
    error = mistake("transfer", ["data.crop=0.5", change])
    assert error.message.startswith(f"--set {change}: ")
    assert words in error.message
    assert hint in error.hint
    assert error.hint


def test_two_changes_that_do_not_go_together(tmp_path):
    path = write(tmp_path, "[mix]\nmixup = 0.6")
    error = mistake(path, ["mix.cutmix=0.6"])
    assert error.message.startswith("--set mix.cutmix=0.6: 'mix': mixup and cutmix together")


def test_a_mistake_in_the_file_is_not_blamed_on_a_change_beside_it(tmp_path):
    path = write(tmp_path, "[data]\nfitt = 3")
    assert mistake(path, ["data.size=3", "seed=2"]).message.startswith(f"{path}, line 2: unknown key 'data.fitt'")
