"""Recipes of version 0.1: read as recipes of today, with a line for each key that has another name now."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tellapart.errors import RecipeError
from tellapart.recipe.load import load_recipe, read_recipe
from tellapart.recipe.schema import FoundLr
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


VALUES = st.recursive(
    st.integers() | st.booleans(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["rate", "stages", "lr", "0"]), inner, max_size=3)
    ),
)


@given(VALUES)
def test_values_of_today_are_left_as_they_are_and_twice_is_once(values):
    current, changed = upgrade(values)
    assert upgrade(current) == (current, [])
    assert changed or current == values
