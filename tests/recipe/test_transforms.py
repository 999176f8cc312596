"""Transforms in recipes: their keys, and the errors for mistakes."""

from __future__ import annotations

import typing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tellapart.errors import RecipeError
from tellapart.recipe import transforms as rt
from tellapart.recipe.load import load_recipe, read_recipe
from tellapart.recipe.schema import Recipe, Stage
from tellapart.recipe.transforms import Mix
from tellapart.runs.resume import restore_mixing
from tellapart.runs.run import Run

KINDS = typing.get_args(typing.get_args(rt.AnyTransform)[0])
NAMES = [kind.model_fields["transform"].default for kind in KINDS]


def load(folder, text: str, changes: list[str] | None = None):
    path = folder / "mine.toml"
    path.write_text(text)
    return load_recipe(path, changes)


def test_names_are_unique_and_snake_case():
    assert len(set(NAMES)) == len(NAMES) > 0
    assert all(name.replace("_", "").isalpha() and name.islower() for name in NAMES)


def test_the_docs_name_every_transform():
    text = (Path(__file__).parents[2] / "docs" / "recipes.md").read_text(encoding="utf-8")
    assert [name for name in NAMES if f"`{name}`" not in text] == []


@pytest.mark.parametrize("name", NAMES)
def test_every_transform_needs_no_more_than_its_name(tmp_path, name):
    recipe = load(tmp_path, f'[[augment]]\ntransform = "{name}"')
    assert recipe.augment[0].transform == name
    assert recipe.augment[0].probability == 1


def test_the_three_forms_of_a_strength(tmp_path):
    text = """
    augment = [
        { transform = "rotation", degrees = 10 },
        { transform = "rotation", degrees = { uniform = [-10, 10] } },
        { transform = "rotation", degrees = { normal = [0, 2.5] }, probability = 0.1 },
    ]"""
    fixed, uniform, normal = (each.degrees for each in load(tmp_path, text).augment)
    assert fixed == 10
    assert uniform == rt.Uniform(uniform=[-10, 10])
    assert normal == rt.Normal(normal=[0, 2.5])


@pytest.mark.parametrize(
    ("lines", "line", "words", "hint"),
    [
        ('transform = "rotaton"\nprobability = 0.5', 4, "no transform 'rotaton'", "'rotation'"),
        ('probability = 0.5\ntransform = "xyz"', 5, "no transform 'xyz'", "horizontal_flip, vertical_flip"),
        ("probability = 0.5", 3, "does not say which transform", 'transform = "horizontal_flip"'),
        ('transform = "rotation"\ndegres = 5', 5, "unknown key 'augment.1.degres'", "'degrees'"),
        ('transform = "negative"\nfactor = 5', 5, "unknown key 'augment.1.factor'", "transform, probability"),
        ('transform = "rotation"\nprobability = 1.5', 5, "probability", ""),
        ('transform = "rotation"\nprobability = "often"', 5, "probability", ""),
        ('transform = "rotation"\ndegrees = "5"', 5, "a strength is a number", ""),
        ('transform = "rotation"\ndegrees = true', 5, "a strength is a number", ""),
        ('transform = "rotation"\ndegrees = [1, 2]', 5, "a strength is a number", ""),
        ('transform = "rotation"\ndegrees = { uniform = [5] }', 5, "a strength is a number", ""),
        ('transform = "rotation"\ndegrees = { between = [1, 5] }', 5, "a strength is a number", ""),
        ('transform = "rotation"\ndegrees = { uniform = [1, 2], normal = [1, 2] }', 5, "a strength is a number", ""),
        ('transform = "rotation"\ndegrees = { uniform = [5, -5] }', 5, "the lower value comes first", ""),
        ('transform = "rotation"\ndegrees = { uniform = [0, 500] }', 5, "from -360 to 360", ""),
        ('transform = "noise"\nstd = { normal = [5, -1] }', 5, "standard deviation", ""),
        ('transform = "zoom"\nfactor = 0.9', 5, "from 1 to 10", ""),
        ('transform = "zoom"\nfactor = nan', 5, "from 1 to 10", ""),
        ('transform = "jpeg"\nquality = 0', 5, "from 1 to 100", ""),
        ('transform = "quarter_turns"\nturns = [45]', 5, "90, 180 or 270", ""),
        ('transform = "quarter_turns"\nturns = []', 5, "at least 1", ""),
        ('transform = "random_resized_crop"\nratio = [2, 1]', 5, "the lower first", ""),
        ('transform = "rand_augment"\nn = 2.5', 5, "integer", ""),
    ],
)
def test_mistakes_are_named_with_line_and_suggestion(tmp_path, lines, line, words, hint):
    text = f'[[augment]]\ntransform = "horizontal_flip"\n[[augment]]\n{lines}\n'
    with pytest.raises(RecipeError) as caught:
        load(tmp_path, text)
    assert f"line {line}:" in caught.value.message
    assert words in caught.value.message
    assert hint in caught.value.hint


def test_mistakes_in_views_of_a_stage(tmp_path):
    text = '[[stages]]\nepochs = 2\nviews = [[], [{ transform = "rotation", degres = 3 }]]'
    with pytest.raises(RecipeError, match=r"line 3: unknown key 'stages.0.views.1.0.degres'") as caught:
        load(tmp_path, text)
    assert "degrees" in caught.value.hint


def test_mistakes_on_the_command_line(tmp_path):
    text = '[[augment]]\ntransform = "rotation"'
    with pytest.raises(RecipeError, match=r"--set augment.0.degrees=\{uniform=\[1,0\]\}: .*lower value comes first"):
        load(tmp_path, text, ["augment.0.degrees={uniform=[1,0]}"])


def test_mixing_probabilities_share_one_choice(tmp_path):
    assert load(tmp_path, "[mix]\nmixup = 0.4\ncutmix = 0.6").mix.cutmix == 0.6
    with pytest.raises(RecipeError, match="must not be above 1"):
        load(tmp_path, "[mix]\nmixup = 0.5\ncutmix = 0.6")


def test_a_recipe_that_a_run_of_0_1_stored_mixes_by_the_batch(tmp_path):
    recipe, file = Recipe(mix=Mix(cutmix=0.1)), tmp_path / "recipe.toml"
    stored = recipe.to_toml()
    assert 'per = "picture"' in stored
    file.write_text(stored, encoding="utf-8")
    assert read_recipe(file) == (recipe, [])
    file.write_text(stored.replace('\nper = "picture"', ""), encoding="utf-8")
    again, (line,) = read_recipe(file)
    assert again.mix == Mix(per="batch", cutmix=0.1)
    assert "drawn once a batch" in line
    # The same command on its directory goes on with that, unless it says otherwise itself.
    assert restore_mixing(Run(tmp_path), recipe).mix == again.mix
    explicit = Recipe(mix=Mix(per="picture", cutmix=0.1))
    assert restore_mixing(Run(tmp_path), explicit) == explicit
    file.write_text(Recipe().to_toml().replace('\nper = "picture"', ""), encoding="utf-8")
    assert read_recipe(file) == (Recipe(), [])  # it mixes nothing


def test_a_run_of_today_that_mixes_by_the_batch_does_not_go_on_without_that_being_said_again(tmp_path):
    stored, recipe = Recipe(mix=Mix(per="batch", cutmix=0.1)), Recipe(mix=Mix(cutmix=0.1))
    (tmp_path / "recipe.toml").write_text(stored.to_toml(), encoding="utf-8")
    assert restore_mixing(Run(tmp_path), recipe) == recipe  # and this is refused, as any other recipe
    assert restore_mixing(Run(tmp_path), stored) == stored


def test_how_mixing_is_drawn_without_mixing_is_refused(tmp_path):
    assert load(tmp_path, '[mix]\nper = "batch"\nmixup = 0.4').mix.per == "batch"
    with pytest.raises(RecipeError, match="'per' does nothing without"):
        load(tmp_path, '[mix]\nper = "batch"')


def test_oversampling_states_its_multiple(tmp_path):
    balance = load(tmp_path, '[balance]\nsampler = "oversample"\nmultiple = 4.0').balance
    assert (balance.sampler, balance.multiple) == ("oversample", 4.0)
    with pytest.raises(RecipeError, match="needs 'multiple'"):
        load(tmp_path, '[balance]\nsampler = "oversample"')
    with pytest.raises(RecipeError, match="belongs to sampler"):
        load(tmp_path, "[balance]\nmultiple = 2.0")


def test_an_order_that_a_sampler_draws_cannot_be_kept(tmp_path):
    assert not load(tmp_path, "[[stages]]\nshuffle = false").stages[0].shuffle
    with pytest.raises(RecipeError, match="draws the order"):
        load(tmp_path, '[balance]\nsampler = "weighted"\n[[stages]]\nshuffle = false')
    with pytest.raises(RecipeError, match="'shuffle' is not for solver"):
        load(tmp_path, '[[stages]]\ntrain = "head"\nsolver = "lbfgs"\nshuffle = false')


def test_normalisation_is_in_units_of_0_to_1(tmp_path):
    rescaled = load(tmp_path, '[data]\nnormalisation = "rescale"').data
    assert rescaled == load(tmp_path, "[data]\nnormalisation = { mean = [0, 0, 0], std = [1, 1, 1] }").data
    with pytest.raises(RecipeError, match=r"data.normalisation.mean.*less than or equal to 1"):
        load(tmp_path, "[data]\nnormalisation = { mean = [120, 120, 120], std = [60, 60, 60] }")
    with pytest.raises(RecipeError, match='expected "rescale"'):
        load(tmp_path, '[data]\nnormalisation = "imagenet"')


def test_augmentation_once_a_batch_needs_augmentation(tmp_path):
    assert load(tmp_path, 'augment_per = "batch"\n[[augment]]\ntransform = "rotation"').augment_per == "batch"
    with pytest.raises(RecipeError, match="'augment_per' does nothing"):
        load(tmp_path, 'augment_per = "batch"')


def test_unknown_ways_of_balancing(tmp_path):
    with pytest.raises(RecipeError, match=r"line 2: 'balance.sampler'"):
        load(tmp_path, '[balance]\nsampler = "fair"')


def strength(limits: rt.Limits) -> st.SearchStrategy[object]:
    number = st.floats(limits.low, limits.high)
    pair = st.tuples(number, number).map(lambda two: sorted(two))
    bell = st.tuples(number, st.floats(0, 100)).map(list)
    return st.one_of(number, pair.map(lambda two: rt.Uniform(uniform=two)), bell.map(lambda two: rt.Normal(normal=two)))


def transforms() -> st.SearchStrategy[rt.Transform]:
    def of(kind: type[rt.Transform]) -> st.SearchStrategy[rt.Transform]:
        fields = {name: strength(limits) for name, limits in rt.strengths(kind).items()}
        return st.builds(kind, probability=st.floats(0, 1), **fields)

    return st.sampled_from(KINDS).flatmap(of)


@given(st.lists(transforms(), max_size=5), st.lists(st.lists(transforms(), max_size=3), max_size=3))
def test_any_augmentation_survives_toml(tmp_path_factory, augment, views):
    recipe = load_recipe("transfer")
    stage = recipe.stages[0].model_copy(update={"views": views})
    applies = Stage()  # the augmentation, which a stage with views would not
    recipe = recipe.model_copy(update={"augment": augment, "stages": [stage, applies]})
    assert load(tmp_path_factory.mktemp("recipe"), recipe.to_toml()) == recipe
