"""Recipes of version 0.1: read as recipes of today, with a line for each key that has another name now."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tellapart.errors import RecipeError
from tellapart.recipe.load import load_recipe, read_recipe
from tellapart.recipe.schema import FoundLr, Stage
from tellapart.recipe.upgrade import upgrade


def write(folder: Path, text: str, name: str = "old.toml") -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def test_an_old_key_is_read_with_a_line_that_says_which_to_write(tmp_path):
    path = write(tmp_path, "seed = 1\n[[stages]]\nepochs = 2\n[[stages]]\n# comment\nrate = 3e-4\n")
    recipe, lines = read_recipe(path)
    assert [stage.lr for stage in recipe.stages] == [1e-3, 3e-4]
    assert lines == [f"{path}, line 6: 'stages.1.rate' is now 'stages.1.lr'."]
    with pytest.warns(FutureWarning, match="'stages.1.rate' is now 'stages.1.lr'") as warned:
        assert load_recipe(path) == recipe
    assert [each.filename for each in warned] == [__file__]


def test_a_parent_and_a_child_may_be_of_different_versions(tmp_path):
    old = write(tmp_path, "[[stages]]\nrate = 3e-4\n")
    recipe, lines = read_recipe(write(tmp_path, 'extends = "old.toml"\nseed = 3\n', "new.toml"), ["stages.0.lr=2e-4"])
    assert (recipe.seed, recipe.stages[0].lr) == (3, 2e-4)
    assert lines == [f"{old}, line 2: 'stages.0.rate' is now 'stages.0.lr'."]


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ("stages.2.rate=2e-5", "'stages.2.rate' is now 'stages.2.lr'."),
        ("stages.2={rate=2e-5}", "'stages.2.rate' is now 'stages.2.lr'."),
        ("stages=[{},{},{rate=2e-5}]", "'stages.2.rate' is now 'stages.2.lr'."),
        ("stages.2.rate={find='valley'}", "'stages.2.rate' is now 'stages.2.lr'."),
    ],
)
def test_an_old_key_in_a_change(change, line):
    recipe, lines = read_recipe("transfer", [change])
    assert recipe.stages[2].lr == (FoundLr(find="valley") if "find" in change else 2e-5)
    assert lines == [f"--set {change}: {line}"]


@pytest.mark.parametrize(
    ("text", "changes", "message"),
    [
        ("[[stages]]\nrate = 0", [], "{path}, line 2: 'stages.0.lr': Input should be greater than 0"),
        ("[[stages]]\nseed = 0\nrate = 1", [], "{path}, line 2: unknown key 'stages.0.seed'"),
        ("[[stages]]\nrate = { find = 'vally' }", [], "{path}, line 2: 'stages.0.lr.find'"),
        ("[[stages]]\n[stages.rate]\nfind = 'vally'", [], "{path}, line 3: 'stages.0.lr.find'"),
        ("", ["stages.0.rate=0"], "--set stages.0.rate=0: 'stages.0.lr'"),
        ("[[stages]]\nlr = 1\nrate = 1", [], "{path}, line 3: 'stages.0.rate' and 'stages.0.lr' are one key"),
        ("", ["stages=[{rate=1,lr=1}]"], "--set stages=[{{rate=1,lr=1}}]: 'stages.0.rate' and 'stages.0.lr' are one"),
        ("rate = 1", [], "{path}, line 1: unknown key 'rate'"),
    ],
)
def test_mistakes_in_old_recipes_are_named_with_their_line(tmp_path, text, changes, message):
    path = write(tmp_path, text)
    with pytest.raises(RecipeError) as error:
        read_recipe(path, changes)
    assert error.value.message.startswith(message.format(path=path))
    assert error.value.hint


# A linear probe


@pytest.mark.parametrize(
    ("epochs", "strengths"),
    [
        ("", [1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0]),
        ("epochs = 50", [1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0]),
        ("epochs = 5", [3e-4, 1e-3, 1e-2, 1e-1, 3e-1]),
        ("epochs = 2", [1e-3, 1e-1]),
        ("epochs = 1", [1e-2]),
    ],
)
def test_epochs_of_an_exact_head_are_strengths(tmp_path, epochs, strengths):
    path = write(tmp_path, f"[[stages]]\ntrain = 'head'\noptimizer = 'lbfgs'\n{epochs}\nmonitor = 'score'")
    recipe, lines = read_recipe(path)
    assert recipe.stages == [Stage(train="head", solver="lbfgs", l2=strengths, monitor="score")]
    (line,) = lines
    keys = line.removeprefix(f"{path}, line 3: 'stages.0' is a linear probe: write ")
    key, values = keys.removesuffix(" instead of optimizer and epochs.").split(" and l2 = ")
    assert key == 'solver = "lbfgs"'
    assert json.loads(values) == strengths


def test_keys_of_steps_at_their_default_go_and_others_are_refused(tmp_path):
    plain = "[[stages]]\noptimizer = 'lbfgs'\nepochs = 1\n"
    recipe, lines = read_recipe(write(tmp_path, f"{plain}batch_size = 64\nrate = 1e-3\nmomentum = 0.9"))
    assert recipe.stages == [Stage(solver="lbfgs", l2=[1e-2])]
    assert len(lines) == 1
    assert lines[0].endswith("instead of optimizer and epochs, and leave out batch_size, rate, momentum.")
    with pytest.raises(RecipeError, match=r"line 1: .*'batch_size' is not for solver"):
        read_recipe(write(tmp_path, f"{plain}batch_size = 32"))


@pytest.mark.parametrize("epochs", ["0", "-1", "true", "1.5", "'many'"])
def test_epochs_that_are_none_are_named(tmp_path, epochs):
    with pytest.raises(RecipeError, match=r"line 3: 'stages\.0\.epochs'"):
        read_recipe(write(tmp_path, f"[[stages]]\noptimizer = 'lbfgs'\nepochs = {epochs}"))


def test_a_change_of_0_1_to_a_linear_probe():
    recipe, lines = read_recipe("transfer", ["stages.0.epochs=2", "stages.2={train='head', optimizer='lbfgs'}"])
    assert recipe.stages[0] == load_recipe("transfer").stages[0].model_copy(update={"l2": [1e-3, 1e-1]})
    assert recipe.stages[2] == Stage(train="head", solver="lbfgs")
    assert lines[0] == "--set stages.0.epochs=2: 'stages.0.epochs' is now 'stages.0.l2': write [0.001, 0.1]."
    assert lines[1].startswith("--set stages.2={train='head', optimizer='lbfgs'}: 'stages.2' is a linear probe")
    recipe, _ = read_recipe("scratch", ["stages.0={epochs=3}", "stages.0.optimizer=lbfgs"])
    assert recipe.stages == [Stage(solver="lbfgs", l2=[3e-4, 1e-2, 3e-1])]


KEYS = st.sampled_from(["rate", "stages", "lr", "0", "optimizer", "epochs", "solver"])
VALUES = st.recursive(
    st.integers() | st.booleans() | st.sampled_from(["lbfgs", "adamw"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
)


@given(VALUES)
def test_values_of_today_are_left_as_they_are_and_twice_is_once(values):
    current, changed = upgrade(values)
    assert upgrade(current) == (current, [])
    assert changed or current == values
