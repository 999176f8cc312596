"""Recipes: reading, inheritance, changes, and the position of mistakes."""

from __future__ import annotations

import datetime
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tellapart.errors import RecipeError
from tellapart.recipe.load import list_recipes, load_recipe, recipe_text, shipped
from tellapart.recipe.schema import Data, FoundLr, Head, Model, Recipe, Stage
from tellapart.recipe.transforms import EIGHTFOLD, Balance, Mix, Rotation
from tests.recipe.recipes import mistake, refused, write

# What comes with Tellapart


@pytest.mark.parametrize("name", shipped())
def test_shipped_recipes_load_and_say_what_they_are_for(name):
    load_recipe(name)
    text = recipe_text(name)
    assert text.startswith("# ")
    assert f"--recipe {name}" in text
    assert list_recipes()[name] == tomllib.loads(text)["about"] != ""


def test_a_recipe_that_is_shipped_is_found_from_everywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_recipe("transfer") == load_recipe(shipped()["transfer"])


def test_a_file_without_a_line_is_all_defaults(tmp_path):
    assert load_recipe(write(tmp_path, "")) == Recipe()


def test_a_byte_order_mark_is_no_part_of_a_recipe(tmp_path):
    assert load_recipe(write(tmp_path, "\ufeffseed = 7\r\n")).seed == 7


def test_the_text_of_a_file_is_shown_with_its_comments(tmp_path):
    path = write(tmp_path, "# mine, naïve\nseed = 3\n")
    assert recipe_text(str(path)) == "# mine, naïve\nseed = 3\n"


# What cannot be read


def test_a_name_nearly_right_is_suggested(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    error = mistake("tranfser")
    assert error.message == "There is no recipe 'tranfser'."
    assert error.hint.startswith("Did you mean 'transfer'?")
    assert "scratch" in mistake("zzz").hint
    assert "Did you mean" not in mistake("zzz").hint


@pytest.mark.parametrize("read", [load_recipe, recipe_text])
def test_a_file_that_is_no_text(tmp_path, read):
    path = tmp_path / "mine.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecipeError, match=r"mine\.toml cannot be read") as caught:
        read(str(path))
    assert "UTF-8" in caught.value.hint


def test_bad_toml_is_named_with_file_and_line(tmp_path):
    path = write(tmp_path, "seed = 1\nabout = \n")
    error = mistake(path)
    assert error.message.startswith(f"{path} is not valid TOML")
    assert "line 2" in error.message


# Mistakes, with file, line and suggestion

STAGES = "[[stages]]\nepochs = 2\n\n[[stages]]  # the second\nname = 'b'\n"


@pytest.mark.parametrize(
    ("text", "line", "words", "hint"),
    [
        ("seed = 1\nsede = 2", 2, "unknown key 'sede'", "Did you mean 'seed'?"),
        ("[data]\nsize = 64\nsise = 3", 3, "unknown key 'data.sise'", "Did you mean 'size'?"),
        ("data.sise = 3", 1, "unknown key 'data.sise'", "Did you mean 'size'?"),
        ("data = { size = 3, sise = 3 }", 1, "unknown key 'data.sise'", "Did you mean 'size'?"),
        ("[dat]\nsize = 3", 1, "unknown key 'dat'", "Did you mean 'data'?"),
        ('seed = 1\n"stages[0]" = 2', 2, "unknown key 'stages[0]'", "Did you mean 'stages'?"),
        ("[qqq]\nsize = 3", 1, "unknown key 'qqq'", "Possible: about, seed, data"),
        ("[model.head]\nhiden = [3]", 2, "unknown key 'model.head.hiden'", "Did you mean 'hidden'?"),
        (STAGES + "epoch = 3", 6, "unknown key 'stages.1.epoch'", "Did you mean 'epochs'?"),
        (STAGES + '"lrs" = 3', 6, "unknown key 'stages.1.lrs'", "Did you mean 'lr'?"),
        (STAGES + "lr = 0", 6, "'stages.1.lr': Input should be greater than 0 (it is 0", ""),
        (STAGES + "lr = inf", 6, "'stages.1.lr'", ""),
        (STAGES + "lr = nan", 6, "'stages.1.lr'", ""),
        (STAGES + 'lr = "fast"', 6, "'stages.1.lr': Input should be a valid number (it is 'fast')", ""),
        (STAGES + "epochs = 2.5", 6, "'stages.1.epochs': Input should be a valid integer", ""),
        (STAGES + "epochs = true", 6, "'stages.1.epochs': Input should be a valid integer", ""),
        (STAGES + "augment = 1", 6, "'stages.1.augment': Input should be a valid boolean", ""),
        (STAGES + 'optimizer = "adamm"', 6, "'stages.1.optimizer': Input should be 'adamw', 'adam'", ""),
        (STAGES + 'train = "tail"', 6, "'stages.1.train': Input should be 'head' or 'all'", ""),
        (STAGES + "train = 0", 6, "'stages.1.train'", ""),
        (STAGES + "train = 1.0", 6, "'stages.1.train'", ""),
        (STAGES + "views = [\n  [],\n  [{ transform = 'negative' }]\n]\npatience = 0", 10, "'stages.1.patience'", ""),
        (STAGES + "views = [[], [{ transform = 'negativ' }]]", 6, "no transform 'negativ'", "'negative'"),
        ("[data]\nvalidation = 1", 2, "'data.validation': Input should be less than 1", ""),
        (STAGES + "lr = { find = 'vally' }", 6, "'stages.1.lr.find': Input should be 'valley'", ""),
        (STAGES + "lr = { find = 'valley', sprad = 3 }", 6, "unknown key 'stages.1.lr.sprad'", "'spread'"),
        (STAGES + "lr = 'fnd'", 6, "'stages.1.lr'", ""),
        (STAGES + "epochs = 3\nsteps = 3", 4, "'epochs' and 'steps' exclude each other", ""),
        (STAGES + "stop_on = 'gap'", 4, "needs 'patience'", ""),
        (STAGES + "solver = 'lbfgs'\nlr = 1e-2", 4, "'lr' is not for solver = \"lbfgs\"", ""),
        (STAGES + "solver = 'lbfgs'\nepochs = 10", 4, "'epochs' is not for solver = \"lbfgs\"", ""),
        (STAGES + "solver = 'lbfgs'\noptimizer = 'adamw'", 4, "'optimizer' is not for", ""),
        (STAGES + "solver = 'lbfgs'\noptimizer = 'lbfgs'", 7, "'stages.1.optimizer': Input should be 'adamw'", ""),
        (STAGES + "solver = 'lbfgs'\nl2 = [0.0]", 7, "'stages.1.l2': Input should be greater than 0", ""),
        (STAGES + "solver = 'lbfgs'\nl2 = []", 7, "'stages.1.l2': List should have at least 1 item", ""),
        (STAGES + "l2 = [1.0]", 4, "'l2' belongs to solver = \"lbfgs\"", ""),
        ("[data]\nfit = 'pad'\ncrop = 0.5", 1, "'crop' belongs to fit", ""),
        ("[model.head]\nactivation = 'gelu'", 1, "'activation' belongs to hidden layers", ""),
        ("[model.head]\nhidden = [-3]", 2, "'model.head.hidden': Input should be greater", ""),
        ("[mix]\ncutmix_alpha = 0.5", 1, "does nothing without 'cutmix'", ""),
        (
            "[model]\nname = 'ensemble'\npretrained = false\n[[model.members]]\nname = 'mlp'",
            1,
            "[[model.members]] has a 'pretrained' of its own",
            "",
        ),
        (f"seed = {2**63}", 1, "'seed': Input should be less than", ""),
        ("about = 3", 1, "'about': Input should be a valid string (it is 3)", ""),
        ("about = 2024-01-01", 1, repr(datetime.date(2024, 1, 1)), ""),
        ("stages = []", 1, "'stages': List should have at least 1 item", ""),
        ("stages = 3", 1, "'stages': Input should be a valid list", ""),
        ("[model]\nhead = 3", 2, "'model.head'", ""),
        ("[[augment]]\ntransform = 'noise'\n[augment.std]\nuniform = [1]", 3, "a strength is a number", ""),
        (
            "[[augment]]\ntransform = 'noise'\n[[augment]]\ntransform = 'noise'\n[augment.std]\nuniform = [9, 1]",
            5,
            "'augment.1.std': the lower value comes first",
            "",
        ),
    ],
)
def test_mistakes_are_named_with_file_line_and_suggestion(tmp_path, text, line, words, hint):
    path = write(tmp_path, text)
    error = mistake(path)
    assert error.message.startswith(f"{path}, line {line}: ")
    assert words in error.message
    assert hint in error.hint
    assert error.hint


@pytest.mark.parametrize("stage", ["augment=false", "views=[[], [{transform='negative'}]]"])
@pytest.mark.parametrize("random", ["augment=[{transform='noise'}]", "mix.cutmix=0.5"])
def test_random_changes_that_no_stage_applies_are_a_mistake(stage, random):
    load_recipe("scratch", ["augment=[]", random])
    error = mistake("scratch", ["augment=[]", random, f"stages.0.{stage}"])
    assert "no stage applies" in error.message
    assert "{" not in error.message


def test_only_one_mistake_at_a_time_and_no_word_of_the_machinery(tmp_path):
    error = mistake(write(tmp_path, 'seed = "a"\nsede = 2\n[[stages]]\ntrain = []\n'))
    assert "\n" not in error.message
    assert not any(word in str(error).lower() for word in ("pydantic", "validationerror", "constrained", "literal["))


# Inheritance


def test_tables_are_merged_and_lists_replaced(tmp_path):
    write(
        tmp_path, 'seed = 1\n[data]\nsize = 64\nfit = "pad"\n[[stages]]\nepochs = 1\n[[stages]]\nepochs = 2', "a.toml"
    )
    child = write(tmp_path, 'extends = "a.toml"\n[data]\nsize = 32\n[[stages]]\nlr = 0.5')
    recipe = load_recipe(child)
    assert (recipe.seed, recipe.data) == (1, Data(size=32, fit="pad"))
    assert recipe.stages == [Stage(lr=0.5)]


def test_a_path_is_relative_to_the_file_that_names_it(tmp_path, monkeypatch):
    write(tmp_path, "seed = 7\n", "base.toml")
    write(tmp_path, 'extends = "../base.toml"\nabout = "middle"', "deep/middle.toml")
    child = write(tmp_path, 'extends = "deep/middle.toml"\n[data]\nsize = 8', "child.toml")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    recipe = load_recipe(child)
    assert (recipe.seed, recipe.about, recipe.data.size) == (7, "middle", 8)
    assert load_recipe("../child.toml") == recipe
    absolute = write(tmp_path, f"extends = '{tmp_path / 'child.toml'}'", "deep/absolute.toml")
    assert load_recipe(absolute) == recipe


def test_a_shipped_recipe_can_be_extended(tmp_path):
    parent = load_recipe("transfer")
    child = load_recipe(write(tmp_path, 'extends = "transfer"\nseed = 9'))
    assert child == parent.model_copy(update={"seed": 9})


@pytest.mark.parametrize("n", [1, 2, 3])
def test_circles_are_found(tmp_path, n):
    for i in range(n):
        write(tmp_path, f'seed = {i}\nextends = "{(i + 1) % n}.toml"', f"{i}.toml")
    error = mistake(tmp_path / "0.toml")
    assert error.message.startswith(f"{tmp_path / f'{n - 1}.toml'}, line 2: 'extends' leads back")
    assert error.hint


def test_a_parent_that_does_not_exist_is_named_with_the_file_that_wants_it(tmp_path):
    child = write(tmp_path, '# mine\nextends = "transfr"\n')
    error = mistake(child)
    assert error.message.startswith(f"{child}, line 2: There is no recipe 'transfr'")
    assert error.hint.startswith("Did you mean 'transfer'?")


def test_a_parent_that_is_no_name(tmp_path):
    child = write(tmp_path, 'extends = ["transfer", "scratch"]\n')
    error = mistake(child)
    assert error.message.startswith(f"{child}, line 1: 'extends' must be the name or path of one recipe")
    assert error.hint


@pytest.mark.parametrize(
    ("parent", "child", "file", "line"),
    [
        ("seed = 1\nsede = 2", "[data]\nsize = 3", "a.toml", 2),
        ("[data]\nsize = 3", "[data]\nsise = 3", "mine.toml", 3),
        ("[data]\nsise = 3", "[data]\nsize = 3", "a.toml", 2),
        ("[data]\nsize = 0", "[data]\nfit = 'pad'", "a.toml", 2),
        ("[data]\nsize = 0", "seed = 2\ndata.size = -1", "mine.toml", 3),
        ("[[stages]]\nepoch = 3", "[[stages]]\nlr = 1\nepoch = 3", "mine.toml", 4),
        ("[[stages]]\nepoch = 3", "seed = 1", "a.toml", 2),
    ],
)
def test_an_inherited_mistake_is_found_in_its_own_file(tmp_path, parent, child, file, line):
    write(tmp_path, parent, "a.toml")
    error = mistake(write(tmp_path, f'extends = "a.toml"\n{child}'))
    assert error.message.startswith(f"{tmp_path / file}, line {line}: ")


# Anything at all


@given(
    st.lists(st.sampled_from(["stages", "data", "size", "0", "9", "augment", "about", "", "x", "²"]), min_size=1),
    st.one_of(st.text(), st.sampled_from(["1", "[]", "{}", "[{}]", "{a=1}", "true", "nan", "1979-05-27"])),
)
def test_no_change_ends_in_anything_but_a_recipe_or_its_error(keys, value):
    message = refused("transfer", [f"{'.'.join(keys)}={value}"])
    assert message is None or message.startswith("--set ")


@given(st.text(alphabet="[]{}=.,\"'# \nabdest012", max_size=60))
def test_no_text_ends_in_anything_but_a_recipe_or_its_error(tmp_path_factory, text):
    path = write(tmp_path_factory.mktemp("recipe"), text)
    message = refused(path)
    assert message is None or str(path) in message


# Writing

finite = st.floats(1e-300, 1e6)
share = st.floats(0, 1, exclude_max=True)
text = st.text(st.characters(exclude_categories=["Cs"]))
heads = st.builds(Head, hidden=st.lists(st.integers(1, 8192), max_size=8), dropout=share)
recipes = st.builds(
    Recipe,
    about=text,
    seed=st.integers(0, 2**63 - 1),
    data=st.builds(Data, size=st.none() | st.integers(1, 4096), crop=st.none() | st.just(0.875), test=share),
    mix=st.builds(Mix, mixup=st.floats(0.01, 0.5), cutmix=st.floats(0, 0.5), mixup_alpha=finite),
    balance=st.builds(Balance, class_weights=st.booleans()),
    model=st.builds(Model, name=text, pretrained=st.booleans(), weights=st.none() | text, head=heads),
    stages=st.lists(
        st.builds(
            Stage,
            name=text,
            train=st.sampled_from(["head", "all"]) | st.integers(1, 99) | share.filter(bool),
            epochs=st.integers(1, 10**6),
            lr=finite,
            weight_decay=st.floats(0, 1e6),
            warmup=share,
            patience=st.none() | st.integers(1, 99),
            augment=st.booleans(),
        )
        | st.builds(Stage, solver=st.just("lbfgs"), l2=st.lists(finite, min_size=1, max_size=9), patience=st.just(2)),
        max_size=3,
    ).map(lambda stages: [*stages, Stage()]),  # the last one applies what the recipe mixes
)


@given(recipes)
def test_any_recipe_survives_toml(tmp_path_factory, recipe):
    path = write(tmp_path_factory.mktemp("recipe"), recipe.to_toml())
    again = load_recipe(path)
    assert again == recipe
    assert [type(stage.train) for stage in again.stages] == [type(stage.train) for stage in recipe.stages]
    assert again.to_toml() == recipe.to_toml()


@pytest.mark.parametrize("name", shipped())
def test_what_is_written_is_complete(tmp_path, name):
    written = tomllib.loads(load_recipe(name).to_toml())
    assert set(written) >= {"about", "seed", "data", "mix", "balance", "model", "stages"}
    assert all(("l2" if "solver" in stage else "momentum") in stage for stage in written["stages"])
    assert load_recipe(write(tmp_path, load_recipe(name).to_toml())) == load_recipe(name)


def test_a_mistake_in_what_was_written_is_found_on_its_line(tmp_path):
    change = "augment=[{transform='rotation'}, {transform='noise', std={uniform=[1, 2]}}]"
    lines = load_recipe("scratch", [change]).to_toml().splitlines()
    number = next(i for i, line in enumerate(lines) if line == "uniform = [1.0, 2.0]")
    lines[number] = "uniform = [2, 1]"
    error = mistake(write(tmp_path, "\n".join(lines)))
    assert f"line {number}: 'augment.1.std'" in error.message  # its header, the line before


def test_versions_made_ahead_are_named_or_listed(tmp_path):
    named = load_recipe("scratch", ["data.ahead=eightfold"])
    assert named.data.ahead == [list(view) for view in EIGHTFOLD]
    path = tmp_path / "mine.toml"
    path.write_text(named.to_toml())
    assert load_recipe(path) == named
    path.write_text('[data]\nahead = [[], [{ transform = "rotation", degrees = 5 }]]\n')
    assert load_recipe(path).data.ahead == [[], [Rotation(degrees=5)]]
    assert load_recipe(path, ["data.ahead=[]"]).data.ahead == []


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ('"sevenfold"', r"'data.ahead': expected \"eightfold\", or a list of views"),
        ('[[{ transform = "rotatoin" }]]', "there is no transform 'rotatoin'"),
        ('[[{ transform = "scale", factor = -1 }]]', "values from"),
        ("[1]", "'data.ahead.0': Input should be a valid list"),
    ],
)
def test_versions_that_make_no_sense(tmp_path, written, message):
    (tmp_path / "mine.toml").write_text(f"[data]\nahead = {written}\n")
    with pytest.raises(RecipeError, match=message) as caught:
        load_recipe(tmp_path / "mine.toml")
    assert "line 2" in caught.value.message


@pytest.mark.parametrize("lr", ["'find'", "{ find = 'highest_falling', spread = 100, otherwise = 1e-3 }"])
def test_a_rate_that_is_to_be_found_is_read_and_written(tmp_path, lr):
    recipe = load_recipe(write(tmp_path, f"[[stages]]\nlr = {lr}"))
    again = load_recipe(write(tmp_path, recipe.to_toml()))
    assert again == recipe
    assert isinstance(again.stages[0].lr, FoundLr)


@pytest.mark.parametrize(
    "rule",
    ["'f2'", "{ precision = 0 }", "{ precision = 0.9, recall = 0.9 }", "{ accuracy = 0.9 }", "0.0", "1.0", "true"],
)
def test_rules_for_thresholds_that_there_are_not(rule):
    with pytest.raises(RecipeError, match=r"evaluation\.thresholds"):
        load_recipe("scratch", [f"evaluation.thresholds={rule}"])


def test_a_mean_over_no_copies_is_refused():
    with pytest.raises(RecipeError, match="tta"):
        load_recipe("scratch", ["evaluation.tta_mean='probabilities'"])


@pytest.mark.parametrize("rule", ["'f1'", "0.5", "{ precision = 0.9 }", "{ recall = 1.0 }"])
def test_rules_for_thresholds_survive_toml(rule, tmp_path):
    recipe = load_recipe(
        "scratch",
        [
            f"evaluation.thresholds={rule}",
            "evaluation.known=0.95",
            "evaluation.tta=4",
            "evaluation.tta_mean='probabilities'",
        ],
    )
    (tmp_path / "again.toml").write_text(recipe.to_toml())
    assert load_recipe(tmp_path / "again.toml") == recipe
