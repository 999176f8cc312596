"""Every study that comes with Tellapart: its recipe and each of its levels are ones that can be trained."""

from __future__ import annotations

import tomllib

import pytest

from tellapart.recipe.load import SHIPPED, read_recipe

STUDIES = {path.stem: path for path in sorted((SHIPPED / "studies").glob("*.toml"))}


def levels(name, factor):
    """Changes of each level."""
    if isinstance(factor, dict):
        return list(factor.values())
    return [[f"{name}={str(value).lower() if isinstance(value, bool) else value}"] for value in factor]


@pytest.mark.parametrize("name", STUDIES)
def test_each_level_is_a_recipe_of_its_own(name):
    study = tomllib.loads(STUDIES[name].read_text(encoding="utf-8"))
    base = STUDIES[name].parent / study["recipe"]
    own = read_recipe(base)[0].model_dump(exclude={"about"})
    for factor, written in study["vary"].items():
        recipes = [read_recipe(base, changes)[0].model_dump(exclude={"about"}) for changes in levels(factor, written)]
        assert own in recipes  # the baseline is one of the levels
        assert all(one not in recipes[:i] for i, one in enumerate(recipes))


@pytest.mark.parametrize("name", STUDIES)
def test_each_says_what_deviates_and_what_it_costs(name):
    text = STUDIES[name].read_text(encoding="utf-8")
    assert f"tellapart study {name} " in text
    assert "# Budget: " in text
    assert "eviations" in text
    assert tomllib.loads(text)["seeds"] in (3, {"from": 3, "to": 12})
