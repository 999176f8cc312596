"""All runs and studies on disk, and conditions on them."""

from __future__ import annotations

import contextlib
import json
import operator
import os
import shutil
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tellapart.errors import UsageError
from tellapart.experiments.list_runs import list_runs, runs_text
from tellapart.experiments.where import parse_where
from tests.experiments.made_up import write_study

NAMES = ["score", "kind", "model", "n"]
ROW = {"score": 0.9, "kind": "run", "model": "vgg16", "n": None}


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("score > 0.8", True),
        ("score>0.95", False),
        ("score >= 0.9 and kind = run", True),
        ("kind = 'study' or model ~ VGG", True),
        ("not kind = run", False),
        ("(score < 0.5 or score > 0.8) and not (kind != run)", True),
        ("n > 3", False),
        ("n != 3", True),
        ('model = "vgg16"', True),
        ("score = 9e-1", True),
    ],
)
def test_conditions(text, holds):
    assert parse_where(text, NAMES)(ROW) is holds


@pytest.mark.parametrize(
    "text",
    [
        "score",
        "score >",
        "> 3",
        "scor > 3",
        "score > 3 and",
        "(score > 3",
        "(score > 3 (",
        "(score > 3 bracket",
        "score operator 3",
        "score > 3)",
        "score > 3 kind = run",
        "__import__('os')",
        "score > 0.1; kind = run",
        "score > 3 or or kind = run",
        "not " * 60 + "score > 1",
        "(" * 60 + "score > 1" + ")" * 60,
        "score > 1 or " * 200 + "score > 1",
    ],
)
def test_what_is_no_condition_is_refused(text):
    with pytest.raises(UsageError, match="--where"):
        parse_where(text, NAMES)


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text):
    with contextlib.suppress(UsageError):
        assert parse_where(text, NAMES)(ROW) in (True, False)


SIGNS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "=": operator.eq, "!=": operator.ne}


@given(st.floats(-9, 9), st.sampled_from(sorted(SIGNS)), st.floats(-9, 9), st.booleans())
def test_comparisons_are_those_of_numbers(own, sign, other, negated):
    condition = parse_where(f"{'not ' * negated}score {sign} {other!r}", NAMES)
    assert condition({"score": own}) == (SIGNS[sign](own, other) != negated)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    cells = [({"lr": "0.1"}, 0.6), ({"lr": "0.01"}, 0.9)]
    write_study(folder / "a" / "rates", {"lr": ["0.1", "0.01"]}, cells)
    write_study(folder / "sizes", {"size": ["1", "2"]}, [({"size": "1"}, 0.5), ({"size": "2"}, 0.7)])
    write_study(folder / "broken", {"size": ["1", "2"]}, [({"size": "1"}, 0.5)])
    (folder / "broken" / "study.json").write_text("{")
    (folder / "letters").mkdir()
    (folder / ".hidden").mkdir()
    return folder


def test_studies_have_a_line_each(folder):
    table = list_runs(folder)
    assert table["path"].to_list() == ["a/rates", "broken", "sizes"]
    assert table["state"].to_list() == ["done", "damaged", "done"]
    assert "study.json" in table["problem"][1]
    assert table["score"][0] > 0.85
    assert len(runs_text(table).splitlines()) == 4


def test_they_are_chosen_and_sorted(folder):
    assert list_runs(folder, "score > 0.8")["path"].to_list() == ["a/rates"]
    assert list_runs(folder, sort="score")["path"].to_list() == ["a/rates", "sizes", "broken"]
    assert list_runs(folder, sort="state")["state"].to_list() == ["damaged", "done", "done"]
    assert "No run" in runs_text(list_runs(folder, "score > 2"))


def test_without_a_folder_it_is_those_that_commands_write(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="no folder runs and no folder studies"):
        list_runs()
    shutil.copytree(folder / "a", tmp_path / "studies")
    assert list_runs()["path"].to_list() == ["studies/rates"]
    (tmp_path / "runs").mkdir()
    shutil.copytree(folder / "sizes", tmp_path / "runs" / "sizes")
    assert list_runs()["path"].to_list() == ["runs/sizes", "studies/rates"]


@pytest.mark.parametrize(
    "values",
    [
        {"seed": None},
        {"seed": 2**70},
        {"seconds": "long"},
        {"reason": "\ud800"},
        {"scores": {"validation_accuracy": "high"}},
        {"scores": []},
    ],
)
def test_a_damaged_training_is_told_beside_the_others(folder, tmp_path, values):
    shutil.copytree(folder, tmp_path / "all")
    path = next((tmp_path / "all" / "sizes" / "cells").glob("*/0/result.json"))
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
    table = list_runs(tmp_path / "all")
    assert table["state"].to_list() == ["done", "damaged", "damaged"]
    assert "result.json is damaged" in table["problem"][2]


@pytest.mark.skipif(sys.platform == "darwin", reason="its names are all UTF-8")
def test_a_name_that_is_no_text_is_shown_escaped(folder, tmp_path):
    shutil.copytree(folder / "sizes", Path(os.fsdecode(os.fsencode(tmp_path) + b"/s\xffs")))
    assert list_runs(tmp_path)["path"].to_list() == [r"s\udcffs"]


def test_mistakes_are_named(folder, tmp_path):
    with pytest.raises(UsageError, match="no folder"):
        list_runs(tmp_path / "nothing")
    with pytest.raises(UsageError, match="no such column"):
        list_runs(folder, sort="beauty")
