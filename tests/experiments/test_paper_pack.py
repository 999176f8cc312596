"""The page and the paper pack of a study, from its directory."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import pytest

from tellapart.errors import RunError
from tellapart.experiments.cell_statistics import summarise
from tellapart.experiments.paper_pack import paper_texts, write_paper
from tellapart.experiments.results import read_results
from tellapart.experiments.study_page import study_details, write_study_page
from tellapart.experiments.study_report import table, write_report
from tellapart.report.curve_bands import banded
from tellapart.report.study_table import latex, latex_text, markdown, records, text
from tests.experiments.made_up import write_study

FACTORS = {"stages.0.lr": ["0.1", "0.01"], "variant": ["=HYPERLINK(1)", "50% & $x_1$"]}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    cells = [
        ({"stages.0.lr": rate, "variant": name}, 0.6 + 0.2 * (rate == "0.01"))
        for rate in FACTORS["stages.0.lr"]
        for name in FACTORS["variant"]
    ]
    folder = tmp_path_factory.mktemp("studies") / "fruit"
    return read_results(write_study(folder, FACTORS, cells, n_seeds=4, n_pictures=150, n_train=600))


@pytest.fixture(scope="module")
def texts(results):
    return paper_texts(study_details(results, summarise(results)))


@pytest.mark.slow  # matplotlib
def test_the_pack_has_tables_figures_and_methods(results):
    names = {path.name for path in write_paper(results)}
    assert {"table.tex", "table.md", "table.csv", "methods.txt", "curves.svg", "curves.png", "effect_1.svg"} <= names
    folder = results.directory / "paper"
    assert names == {path.name for path in folder.iterdir()}
    for path in folder.glob("*.svg"):
        assert ElementTree.parse(path).getroot().tag.endswith("svg")


def test_figures_of_before_go_and_files_of_others_stay(results, tmp_path, monkeypatch):
    monkeypatch.setattr("tellapart.experiments.paper_pack.write_study_figures", lambda details, folder: [])
    shutil.copytree(results.directory / "cells", tmp_path / "cells")
    folder = tmp_path / "paper"
    folder.mkdir()
    mine = ["notes.txt", "effect_9.pdf", "effect_of_light.png", "curves.svg.bak"]
    for name in [*mine, "effect_9.svg", "interaction_12.png", "ranks.svg"]:
        (folder / name).write_text(name)
    (folder / "time.png").mkdir()
    written = write_paper(replace(results, directory=tmp_path), summarise(results))
    assert {path.name for path in folder.iterdir()} == {*mine, "time.png", *(path.name for path in written)}


def test_the_methods_are_those_of_this_study(texts):
    paragraph = texts["methods.txt"]
    assert "(4 settings, 16 trainings)" in paragraph
    assert "with 4 random seeds" in paragraph
    assert "150 pictures, training on 600 pictures" in paragraph
    assert "3 differences" in paragraph
    assert "Holm" in paragraph


def test_the_csv_holds_full_numbers_and_no_formula(results):
    page = write_report(results.directory, paper=False)
    assert page.name == "study.html"
    rows = list(csv.DictReader(io.StringIO((results.directory / "table.csv").read_text())))
    one = summarise(results).cells[2]
    assert table(summarise(results))["p_holm"][2] == one.difference.p_corrected
    assert rows[2]["variant"] == "'=HYPERLINK(1)"
    assert float(rows[2]["accuracy"]) == one.score.value
    assert float(rows[2]["p_holm"]) == one.difference.p_corrected
    assert rows[0]["verdict"] == "baseline"
    assert rows[0]["difference"] == ""


def test_latex_has_no_command_of_a_name(texts):
    table = texts["table.tex"]
    assert r"50\% \& \$x\_1\$" in table
    assert latex_text(r"\input{/etc/passwd}^~<") == (
        r"\textbackslash{}input\{/etc/passwd\}\textasciicircum{}\textasciitilde{}\textless{}"
    )
    # Outside of what was escaped, braces and columns match.
    assert {len(re.findall(r"(?<!\\)&", line)) for line in table.splitlines() if line.endswith(r"\\")} == {8}


def test_latex_joins_no_signs_and_takes_none_for_an_option():
    assert latex_text("[2em]*--\"|'`") == (
        r"{[}2em]{*}{-}{-}{\ttfamily\char34}\textbar{}\textquotesingle{}\textasciigrave{}"
    )
    assert "XeLaTeX" in latex(summary_of([({"a": "Größe"}, 0.5), ({"a": "груша"}, 0.6)]), "")
    assert "XeLaTeX" not in latex(summary_of([({"a": "Größe"}, 0.5), ({"a": "−1 × 2 … „“"}, 0.6)]), "“x”")


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("pdflatex"), reason="needs LaTeX")
def test_the_table_is_set_by_latex(tmp_path):
    names = ["[2em] x", "*", r"\input{/etc/passwd}", "50 % & #1_a^b~c", "{", "}", "a--b", "\"`'|<>", "Größe × −½ …"]
    scores = {name: 0.5 + i / 100 for i, name in enumerate(names)}
    summary = summary_of([({"a": name}, score) for name, score in scores.items()])
    table = latex(summary, "; ".join(names))
    text = f"\\documentclass{{article}}\\usepackage{{booktabs}}\\begin{{document}}{table}\\end{{document}}"
    (tmp_path / "table.tex").write_text(text, encoding="utf-8")
    command = ["pdflatex", "-no-shell-escape", "-halt-on-error", "-interaction=nonstopmode", "table.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stdout[-2000:]


def test_a_factor_may_be_called_as_a_column(tmp_path):
    names = {"low": ["a", "b"], "cell": ["c", "d"]}
    cells = [({"low": "a", "cell": "c"}, 0.5), ({"low": "b", "cell": "d"}, 0.7)]
    summary = summarise(read_results(write_study(tmp_path / "names", names, cells)))
    assert [record["low (factor)"] for record in records(summary)] == ["a", "b"]
    assert [record["cell (factor)"] for record in records(summary)] == ["c", "d"]
    assert records(summary)[0]["low"] < records(summary)[0]["accuracy"]
    assert table(summary)["low (factor)"].to_list() == ["a", "b"]


def test_markdown_shows_names_as_they_are():
    cells = [({"a": "x|y*"}, 0.5), ({"a": "<b>"}, 0.6)]
    table = markdown(summary_of(cells))
    assert r"a = x\|y\*" in table
    assert r"\<b\>" in table


def summary_of(cells):
    from tests.experiments.test_importance import made_up

    scores = {next(iter(levels.values())): score for levels, score in cells}
    summary, _ = made_up("grid", {"a": list(scores)}, lambda a: scores[a])
    return summary


def test_names_cannot_steer_a_terminal():
    shown = text(summary_of([({"a": "\x1b[2J"}, 0.5), ({"a": "b\nc"}, 0.6)]))
    assert "\x1b" not in shown
    assert "b\nc" not in shown


def test_the_terminal_has_finding_and_table(results):
    lines = text(summarise(results)).splitlines()
    assert "lr = 0.01" in lines[0]
    assert sum(line.endswith("  baseline") for line in lines) == 1


def test_the_page_is_written_whole_with_its_curves(results):
    path = write_study_page(results)
    assert path == results.directory / "study.html"
    page = path.read_text()
    assert 'id="curves"' in page
    assert page.rstrip().endswith("</html>")


def test_curves_end_where_the_first_seed_ended():
    one = [{"validation_accuracy": 0.5}, {"validation_accuracy": 0.7}, {"validation_accuracy": 0.8}]
    other = [{"validation_accuracy": 0.6}, {"validation_accuracy": None}]
    curves = banded([one, other], 9)
    assert list(curves.epochs) == [1, 2]
    band = curves.bands["validation_accuracy"]
    assert (band.low[0], band.mean[0], band.high[0]) == (0.5, 0.55, 0.6)
    assert band.mean[1] != band.mean[1]
    assert banded([], 0) is None


def test_a_closed_study_shows_what_the_test_part_said(results, tmp_path):
    score = {"value": 0.8, "low": 0.75, "high": 0.85, "n": 300}
    values = {
        "metric": "accuracy",
        "n_test": 300,
        "n_cells": 4,
        "optimism": 0.012,
        "winner_test": {"accuracy": score},
        "baseline_test": {"accuracy": score | {"value": 0.77}},
        "difference": {"value": 0.03, "low": -0.01, "high": 0.07},
    }
    path = tmp_path / "close.json"
    path.write_text(json.dumps(values))
    shutil.copytree(results.directory / "cells", tmp_path / "cells")
    details = study_details(replace(results, directory=tmp_path), summarise(results))
    assert details.test == [
        ("winner, accuracy", "80.0\u202f%", "95 % interval 75.0 to 85.0\u202f%"),
        ("baseline, accuracy", "77.0\u202f%", "95 % interval 75.0 to 85.0\u202f%"),
        ("winner less baseline", "+3.0 points", "−1.0 to +7.0"),
    ]
    assert "about 1.2 points better" in details.test_notes[1]
    path.write_text(json.dumps(values | {"winner_test": 3}))
    with pytest.raises(RunError, match=r"close\.json is damaged"):
        study_details(replace(results, directory=tmp_path), summarise(results))
