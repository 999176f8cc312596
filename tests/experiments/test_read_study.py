"""Files of studies: what is read, and what is refused with its place."""

from __future__ import annotations

import numpy as np
import pytest

from tellapart.errors import RecipeError, UsageError
from tellapart.experiments.designs import cells_of
from tellapart.experiments.directory import objectives_of, study_toml
from tellapart.experiments.read_study import read_study, read_vary
from tellapart.experiments.space import read_space
from tellapart.experiments.study import _plain, read_given, with_pictures
from tests.experiments import small

HEAD = 'recipe = "small.toml"\n'
LR = "[vary]\nstages.0.lr = [0.1, 0.2]\n"


def cells(folder, text, recipe=small.RECIPE):
    study, source = small.read(folder, HEAD + text, recipe)
    return cells_of(study, read_space(study, source))


def levels(folder, text):
    return [cell.levels for cell in cells(folder, text)]


def test_one_at_a_time_is_the_default(tmp_path):
    text = "[vary]\nstages.0.lr = [0.01, 0.1]\nstages.0.batch_size = [8, 16]\n"
    assert levels(tmp_path, text) == [
        {"stages.0.lr": "0.01", "stages.0.batch_size": "8"},
        {"stages.0.lr": "0.1", "stages.0.batch_size": "8"},
        {"stages.0.lr": "0.01", "stages.0.batch_size": "16"},
    ]


def test_keys_may_be_quoted_tables_or_dotted(tmp_path):
    ways = [
        '[vary]\n"stages.0.lr" = [0.01, 0.1]',
        "[vary]\nstages.0.lr = [0.01, 0.1]",
        "[vary.stages.0]\nlr = [0.01, 0.1]",
    ]
    assert len({str(levels(tmp_path, way)) for way in ways}) == 1


def test_a_variant_moves_several_keys(tmp_path):
    text = '[vary]\nstrength = { weak = ["stages.0.lr=0.001", "stages.0.weight_decay=0.1"], as_it_is = [] }'
    first, second = cells(tmp_path, text)
    assert (first.levels, first.changes) == ({"strength": "as_it_is"}, {})
    assert (second.recipe.stages[0].lr, second.recipe.stages[0].weight_decay) == (0.001, 0.1)


def test_grouped_keys_get_one_value(tmp_path):
    text = '[vary]\nrate = { levels = [0.1, 0.2], keys = ["stages.0.weight_decay", "stages.0.label_smoothing"] }'
    assert [(c.recipe.stages[0].weight_decay, c.recipe.stages[0].label_smoothing) for c in cells(tmp_path, text)] == [
        (0.1, 0.1),
        (0.2, 0.2),
    ]


def test_a_range_is_spread_evenly(tmp_path):
    text = 'design = "grid"\n[vary]\nstages.0.lr = { from = 1e-4, to = 1e-1, log = true, n = 4 }'
    assert sorted(cell["stages.0.lr"] for cell in levels(tmp_path, text)) == ["0.0001", "0.001", "0.01", "0.1"]
    whole = 'design = "grid"\n[vary]\nstages.0.epochs = { from = 1, to = 9, integer = true, n = 3 }'
    assert [cell["stages.0.epochs"] for cell in levels(tmp_path, whole)] == ["1", "5", "9"]


def test_the_baseline_is_the_recipe_or_what_is_said(tmp_path):
    text = "[vary]\nstages.0.lr = [0.1, 0.01]"
    assert levels(tmp_path, text)[0] == {"stages.0.lr": "0.01"}
    assert levels(tmp_path, f'baseline = {{ "stages.0.lr" = 0.1 }}\n{text}')[0] == {"stages.0.lr": "0.1"}


CONDITION = """
[vary]
stages.0.optimizer = ["adam", "sgd"]
stages.0.momentum = { levels = [0.5, 0.8], when = { "stages.0.optimizer" = ["sgd"] } }
"""


def test_a_condition_leaves_a_factor_out(tmp_path):
    expected = [
        {"stages.0.optimizer": "adam"},
        {"stages.0.optimizer": "sgd", "stages.0.momentum": "0.5"},
        {"stages.0.optimizer": "sgd", "stages.0.momentum": "0.8"},
    ]
    assert levels(tmp_path, f'design = "grid"\n{CONDITION}') == expected
    assert levels(tmp_path, CONDITION) == expected


def test_a_random_design_goes_on_with_the_same_draws(tmp_path):
    text = 'design = "random"\nbudget = { trials = %d }\n[vary]\nstages.0.lr = { from = 1e-4, to = 1, log = true }'
    few, many = (cells(tmp_path, text % n) for n in (5, 9))
    assert [cell.id for cell in many[:6]] == [cell.id for cell in few]
    assert len({cell.id for cell in many}) == 10
    assert all(float(cell.levels["stages.0.lr"]) == cell.recipe.stages[0].lr for cell in many)


def test_equal_recipes_are_one_cell(tmp_path):
    one = cells(tmp_path, "[vary]\nstages.0.lr = [0.01, 0.1]")
    other = cells(tmp_path, "[vary]\nstages.0.batch_size = [8, 16]", 'about = "other words"\n' + small.RECIPE)
    assert one[0].id == other[0].id


def test_a_study_that_was_written_is_read_again(tmp_path):
    text = f'{HEAD}design = "grid"\nseeds = {{ from = 2, to = 5 }}\nfolds = 3\nobjective = ["accuracy", "seconds"]\n'
    text += f"{CONDITION}stages.0.lr = {{ from = 1e-4, to = 1, log = true }}\n"
    text += 'clip = { a = ["stages.0.clip=1"], b = [] }\n'
    study, source = small.read(tmp_path, text)
    (tmp_path / "again.toml").write_text(study_toml(study))
    again, at = read_study(tmp_path / "again.toml")
    assert again == study
    assert [c.id for c in cells_of(again, read_space(again, at))] == [
        c.id for c in cells_of(study, read_space(study, source))
    ]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[vary]\nstages.0.lr = []", "line 3: 'vary.stages.0.lr': it has no level"),
        ("[vary]\nstages.0.lr = [0.1]", "line 3: .* it has one level"),
        ("", "it has no .vary., so there is nothing to compare"),
        ("[vary]\nstages.0.lrr = [0.1, 0.2]", "unknown key 'stages.0.lrr'"),
        ("[vary]\nstages.3.lr = [0.1, 0.2]", "'stages.3' does not exist"),
        ("[vary]\nstages.0.lr = [0.1, 'high']", "is no recipe: .*lr"),
        ("[vary]\nstages.0.lr = [0.1, 0.1]", "line 3: 'stages.0.lr' has the level 0.1 twice"),
        ("[vary]\na = { x = ['stages.0.lr=0.01'], y = [] }", "line 3: the levels x and y of 'a' give the same recipe"),
        ("[vary]\nseed = [1, 2]", "'seed' cannot be varied"),
        ("[vary]\ndata.test = [0.1, 0.2]", "the test part of a study is locked"),
        ("[vary]\nstages.0.lr = { from = 3, to = 2 }", "a range needs 'from' and a larger 'to'"),
        ("[vary]\nstages.0.lr = { from = 0, to = 2, log = true }", "needs a 'from' above 0"),
        ("[vary]\nstages.0.lr = { from = 1, too = 2 }", "unknown key 'vary.stages.0.lr.too'"),
        ("[vary]\nstages.0.lr = [0.1, 0.2]\na = { x = ['stages.0.lr=3'], y = [] }", "'stages.0.lr' and 'a' both set"),
        ("seed = 3\n[vary]\nstages.0.lr = [0.1, 0.2]", "line 2: unknown key 'seed'"),
        ("seeds = 0\n[vary]\nstages.0.lr = [0.1, 0.2]", "line 2: 'seeds'"),
        ("seeds = { from = 5, to = 3 }\n[vary]\nstages.0.lr = [0.1, 0.2]", "'from' must be smaller than 'to'"),
        ("design = 'gird'\n[vary]\nstages.0.lr = [0.1, 0.2]", "line 2: 'design'"),
        ("budget = { trials = 3 }\n[vary]\nstages.0.lr = [0.1, 0.2]", "'budget.trials' belongs to"),
        ("pruner = 'halving'\n[vary]\nstages.0.lr = [0.1, 0.2]", "'pruner' belongs to"),
        ("baseline = { lr = 3 }\n[vary]\nstages.0.lr = [0.1, 0.2]", "'baseline' names 'lr', which is no factor"),
        ("baseline = { 'stages.0.lr' = 3 }\n[vary]\nstages.0.lr = [0.1, 0.2]", "'3' is no level"),
        ("[vary]\nstages.0.lr = { levels = [0.1, 0.2], when = { x = [1] } }", "waits for 'x', which is no other"),
        ("x = [[[[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]]]", "more than 20 others"),
        ("recipe = ", "not valid TOML|twice|Cannot overwrite"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_place(tmp_path, text, reason):
    with pytest.raises(RecipeError, match=reason) as caught:
        cells(tmp_path, text)
    assert "study.toml" in caught.value.message or "Stage" in caught.value.message


@pytest.mark.parametrize(
    "text",
    [
        "stages.0.lr = { from = nan, to = 1 }",
        "stages.0.lr = { from = 0, to = inf }",
        "stages.0.lr = [2020-01-01, 2021-01-01]",
        "stages.0.lr = [nan, inf]",
    ],
)
def test_values_that_no_recipe_has_are_refused(tmp_path, text):
    with pytest.raises(RecipeError, match=r"study\.toml.*stages\.0\.lr"):
        cells(tmp_path, f"[vary]\n{text}")


def test_an_option_leaves_the_other_keys_of_its_table(tmp_path):
    path = small.write(tmp_path, f"{HEAD}design = 'random'\nbudget = {{ trials = 9, minutes = 60 }}\n{LR}")
    study, _ = read_study(path, {"budget": {"trials": 3}, "vary": {"stages.0.batch_size": [4, 8]}})
    assert (study.budget.trials, study.budget.minutes) == (3, 60)
    assert list(study.vary) == ["stages.0.lr", "stages.0.batch_size"]


def test_the_file_of_a_recipe_is_known_from_anywhere(tmp_path, monkeypatch):
    """A study's directory has files too: its winner.toml is not the one that the command named."""
    small.write(tmp_path)
    monkeypatch.chdir(tmp_path)
    study, _ = read_given(None, {"recipe": "small.toml", "vary": {"stages.0.lr": [0.1, 0.2]}})
    assert study.recipe == str(tmp_path / "small.toml")
    study, _ = read_given(None, {"recipe": "transfer", "vary": {"stages.0.lr": [0.1, 0.2]}})
    assert study.recipe == "transfer"


def test_values_of_python_are_those_of_a_file():
    values = _plain({"vary": {"a": np.array([0.1, 0.2]), "b": (np.float64(0.5), 1), "c": range(2)}, "n": np.int64(3)})
    assert values == {"vary": {"a": [0.1, 0.2], "b": [0.5, 1], "c": [0, 1]}, "n": 3}
    assert all(type(level) in (int, float) for levels in values["vary"].values() for level in levels)
    with pytest.raises(RecipeError, match="a level is a text, a number"):
        read_given(None, {"vary": {"model.dropout": [None, 0.2]}})


def test_pictures_that_no_file_can_name_are_refused_before_anything_is_written(tmp_path):
    study, _ = small.read(tmp_path, HEAD + LR)
    with pytest.raises(UsageError, match="cannot hold this name"):
        with_pictures(study, "ph\udcff")
    with pytest.raises(UsageError, match="cannot hold this name"):
        with_pictures(study, "photos", labels=tmp_path / "a\udcff.csv")
    assert with_pictures(study, "фото × 梨").pictures.endswith("фото × 梨")


def test_a_recipe_that_chooses_by_itself_is_refused(tmp_path):
    study, source = small.read(tmp_path, "recipe = 'fast'\n[vary]\nstages.0.lr = [0.1, 0.2]")
    with pytest.raises(RecipeError, match="chooses network and epochs by itself"):
        read_space(study, source)


def test_too_many_cells_are_refused(tmp_path):
    factors = "".join(f"stages.0.{key} = {{ from = 0.1, to = 0.9, n = 200 }}\n" for key in ("lr", "momentum", "warmup"))
    with pytest.raises(RecipeError, match="8,000,000 cells, and 20,000 are the most"):
        cells(tmp_path, f"design = 'grid'\n[vary]\n{factors}")


def test_a_study_that_is_not_there(tmp_path):
    with pytest.raises(RecipeError, match="There is no study 'fruit-bach'") as caught:
        read_study("fruit-bach")
    assert "fruit-batch" in caught.value.hint


def test_an_objective_that_is_not_there(tmp_path):
    study, _ = small.read(tmp_path, f"{HEAD}objective = 'acuracy'\n[vary]\nstages.0.lr = [0.1, 0.2]")
    with pytest.raises(RecipeError, match="acuracy") as caught:
        objectives_of(study, multilabel=False)
    assert "Did you mean 'accuracy'?" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a=8,64,256", ("a", [8, 64, 256])),
        ("a = 1e-5, 1e-4", ("a", [1e-5, 1e-4])),
        ("a=adam,sgd", ("a", ["adam", "sgd"])),
        ("a=1e-5..1e-2", ("a", {"from": 1e-5, "to": 1e-2, "log": True})),
        ("a=[],[256]", ("a", [[], [256]])),
        ("a=[8, 64]", ("a", [8, 64])),
        ('a="x,y",z', ("a", ["x,y", "z"])),
        ('a={none=["b=1"], some=["b=2"]}', ("a", {"none": ["b=1"], "some": ["b=2"]})),
    ],
)
def test_the_command_line_names_levels(text, expected):
    assert read_vary(text) == expected


@pytest.mark.parametrize("text", ["", "a", "a=", "=3", "a=[1", "a=1e..2"])
def test_a_factor_that_cannot_be_read(text):
    with pytest.raises(RecipeError, match="--vary"):
        read_vary(text)
