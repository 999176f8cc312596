"""A recipe is bounded: whatever is in it, it is read at once, or refused with file and line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tellapart.recipe.load import load_recipe
from tellapart.recipe.schema import Recipe
from tests.recipe import recipes
from tests.recipe.recipes import refused, write


def mistake(name: str | Path, changes: list[str] | None = None) -> str:
    error = recipes.mistake(name, changes)
    assert error.hint
    assert len(error.message) < 1_000
    return error.message


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ('about = "x"\nseed = ' + "9" * 5_000, 2, "more than 64 bits"),
        ('about = "0x_not_a_hexadecimal_number"\nseed = ' + "9" * 5_000, 2, "more than 64 bits"),
        ('about = """\n[' + " " * 100_000 + '\n"""\nseed = -1', 4, "greater than or equal to 0"),
        ("seed = 99999999999999999999", 1, "more than 64 bits"),
        ("[data]\n[data.x]\ny = [[-99999999999999999999]]", 3, "more than 64 bits"),
        ("seed = 1\nabout = " + "[" * 5_000 + "]" * 5_000, 2, "in more than 20 others"),
        ("seed = 1\nabout = " + "[" * 30 + "]" * 30, 2, "in more than 20 others"),
        ("seed = 1\nabout = " + "{a=" * 5_000 + "1" + "}" * 5_000, 2, "in more than 20 others"),
        ("seed = 1\n" + "a." * 50_000 + "a = 1", 2, "a key of more than 20 parts"),
        ("seed = 1\n[" + "a." * 50_000 + "a]", 2, "a key of more than 20 parts"),
        ("seed = 1\n" + "a." * 40 + "a = 1", 2, "in more than 20 others"),
        ("[model.head]\nhidden = [10_000_000_000]", 2, "less than or equal to 8192"),
        ("[model.head]\nhidden = [1e10]", 2, "valid integer"),
        ("[model.head]\nhidden = [" + "8, " * 50 + "8]", 2, "at most 8 items"),
        ("[[stages]]\nepochs = 1_000_000_000", 2, "less than or equal to 1000000"),
        ("[[stages]]\nlr = 1e300", 2, "less than or equal to"),
        ("[[stages]]\nlr = inf", 2, "finite number"),
        ("[plan]\nminutes = 1e300", 2, "less than or equal to"),
        ("seed = 1\n" + "[[stages]]\n" * 200, 2, "at most 100 items"),
        ("seed = 1\n" + "x" * 100_000 + " = 1", 2, "unknown key 'xxx"),
        ("model.name = " + "[1]" + "\nmodel.weights = " + str([9] * 1_000), 1, "valid string"),
        ('[data]\nsize = "' + "9" * 100_000 + '"', 2, "valid integer"),
    ],
)
def test_what_is_too_much_is_named_with_file_and_line(tmp_path: Path, text: str, line: int, words: str) -> None:
    path = write(tmp_path, text)
    message = mistake(path)
    assert message.startswith(f"{path}, line {line}: ")
    assert words in message


def test_a_file_that_is_too_long_is_not_read(tmp_path: Path) -> None:
    path = write(tmp_path, "")
    with path.open("wb") as file:
        file.truncate(20_000_000_000)
    assert "has more than 500 kB" in mistake(path)


def test_too_many_values(tmp_path: Path) -> None:
    assert "more than 20,000 values" in mistake(write(tmp_path, "about = [" + "1," * 50_000 + "]"))


@pytest.mark.parametrize("n", [25, 1_500])
def test_recipes_that_extend_one_another_without_end(tmp_path: Path, n: int) -> None:
    for i in range(n):
        write(tmp_path, f'seed = 1\nextends = "{i + 1}.toml"', f"{i}.toml")
    write(tmp_path, "seed = 1", f"{n}.toml")
    message = mistake(tmp_path / "0.toml")
    assert message.startswith(f"{tmp_path / '19.toml'}, line 2: more than 20 recipes extend one another")
    assert load_recipe(tmp_path / f"{n - 19}.toml").seed == 1


@pytest.mark.parametrize("name", ["x" * 5_000, "a\0b", "~nobody-of-this-name/x.toml", "/" * 5_000 + "x"])
def test_names_that_no_file_can_have(tmp_path: Path, name: str) -> None:
    assert "There is no recipe" in mistake(name)
    path = write(tmp_path, f"extends = {json.dumps(name)}")
    assert mistake(path).startswith(f"{path}, line 1: There is no recipe")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("seed=" + "9" * 5_000, "more than 64 bits"),
        ("about=" + "[" * 5_000, "in more than 20 others"),
        ("a." * 50_000 + "a=1", "more than 20 parts"),
        ("stages." + "9" * 5_000 + ".epochs=1", "does not exist"),
        ("x" * 50_000 + "=1", "unknown key"),
    ],
)
def test_changes_are_bounded_too(change: str, words: str) -> None:
    message = mistake("transfer", [change])
    assert message.startswith("--set ")
    assert words in message


def numbers(schema: Any, path: str = "") -> list[tuple[str, dict[str, Any]]]:
    """All numbers in a JSON schema."""
    if isinstance(schema, list):
        return [each for i, part in enumerate(schema) for each in numbers(part, f"{path}/{i}")]
    if not isinstance(schema, dict):
        return []
    here = [(path, schema)] if schema.get("type") in ("number", "integer") and "enum" not in schema else []
    return here + [each for key, part in schema.items() for each in numbers(part, f"{path}/{key}")]


def test_every_number_is_bounded() -> None:
    """Strengths are bounded by their own check."""
    for path, number in numbers(Recipe.model_json_schema()):
        of_strength = number.keys() <= {"type", "title", "default"} or "/Normal/" in path or "/Uniform/" in path
        assert of_strength or {"maximum", "exclusiveMaximum"} & number.keys(), path
    for name in ("head", "spread", "epochs", "size", "hidden"):  # none of these is a strength
        assert all(
            "maximum" in number for path, number in numbers(Recipe.model_json_schema()) if f"/{name}" in path[-9:]
        )


_KEYS = st.sampled_from(
    ["seed", "data", "size", "model", "head", "hidden", "stages", "lr", "augment", "about", "x y", ""]
)
_VALUES = st.recursive(
    st.one_of(
        st.integers(-(10**30), 10**30),
        st.floats(),
        st.booleans(),
        st.text(max_size=20),
        st.sampled_from(["1979-05-27", "find", "blur"]),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(_KEYS, inner, max_size=4)),
    max_leaves=30,
)


def toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {toml(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, float):
        return {"Infinity": "inf", "-Infinity": "-inf", "NaN": "nan"}.get(json.dumps(value), repr(value))
    return json.dumps(value)


@given(st.dictionaries(_KEYS, _VALUES, max_size=6))
def test_any_values_are_a_recipe_or_its_error(tmp_path_factory: pytest.TempPathFactory, values: dict[str, Any]) -> None:
    text = "\n".join(f"{json.dumps(key)} = {toml(value)}" for key, value in values.items())
    path = write(tmp_path_factory.mktemp("recipe"), text)
    message = refused(path)
    assert message is None or (str(path) in message and len(message) < 1_000)
    message = refused("transfer", [f"{key}={toml(value)}" for key, value in values.items()])
    assert message is None or message.startswith("--set ")
