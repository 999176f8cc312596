"""The whole of `predict`: what is named, where answers go, what is said beside them."""

import csv
import io
import json
import sys

import pytest

from tellapart.cli.main import app
from tellapart.deploy.predict_inputs import Request, predict_inputs
from tellapart.deploy.resumable import partial_folder
from tellapart.errors import UsageError


@pytest.fixture
def ask(bundle_folder, plain, tmp_path):
    """Asks for the answers to four pictures, of which one cannot be read; gives their number and what was said."""
    for name, colour in {"a.png": "red", "b.png": "blue", "c.png": "red"}.items():
        plain(f"new/{name}", colour)
    (tmp_path / "new" / "d.png").touch()

    def asked(*inputs, **how):
        said: list[str] = []
        request = Request(bundle_folder, tuple(map(str, inputs or [tmp_path / "new"])), **how)
        return predict_inputs(request, said.append), said

    return asked


def rows(path):
    return list(csv.DictReader(io.StringIO(path.read_text())))


def test_a_folder_becomes_a_table_of_answers(ask, tmp_path):
    n_unreadable, said = ask(out=tmp_path / "a.csv")
    assert n_unreadable == 1
    assert [row["label"] for row in rows(tmp_path / "a.csv")] == ["red", "blue", "red", ""]
    assert [line for line in said if "d.png" in line] == [
        f"Cannot read {tmp_path / 'new' / 'd.png'}: the file is empty"
    ]


def test_it_sorts_counts_and_writes_at_once(ask, tmp_path):
    _, said = ask(out=tmp_path / "a.jsonl", sort_into=tmp_path / "sorted", monitor=tmp_path / "m.json", copies=True)
    assert sorted(path.name for path in (tmp_path / "sorted").rglob("*.png")) == ["a.png", "b.png", "c.png"]
    assert json.loads((tmp_path / "m.json").read_text())["labels"] == {"red": 2, "blue": 1}
    assert "3 pictures copied" in "\n".join(said)


def test_a_broken_run_is_gone_on_with(ask, tmp_path, monkeypatch):
    from tellapart.deploy import predict_inputs as module

    answers = module.answers

    def breaking(*arguments, **how):
        for number, answer in enumerate(answers(*arguments, **how)):
            if number == 2:
                raise KeyboardInterrupt
            yield answer

    out = tmp_path / "a.csv"
    monkeypatch.setattr(module, "answers", breaking)
    with pytest.raises(KeyboardInterrupt):
        ask(out=out)
    monkeypatch.setattr(module, "answers", answers)
    assert partial_folder(out).is_dir()
    with pytest.raises(UsageError, match="other options"):
        ask(out=out, resume=True, options={"top": 1, "unknown": False})
    n_unreadable, _ = ask(out=out, resume=True)
    assert n_unreadable == 1
    assert [row["label"] for row in rows(out)] == ["red", "blue", "red", ""]
    assert not partial_folder(out).exists()


def test_a_broken_run_that_is_not_gone_on_with_is_said(ask, tmp_path):
    partial_folder(tmp_path / "a.csv").mkdir()
    _, said = ask(out=tmp_path / "a.csv")
    assert "begins anew" in said[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resume": True}, "--resume goes on with a file"),
        ({"resume": True, "out": "x.txt"}, "--resume goes on with a file"),
        ({"copies": True}, "--copy goes with --sort-into"),
        ({"dry_run": True}, "--dry-run goes with --sort-into"),
        ({"n_odd": 3}, "--keep-odd goes with --monitor"),
        ({"column": "path"}, "--column is for tables"),
        ({"engine": "torch"}, "no engine"),
    ],
)
def test_options_that_do_not_go_together(ask, tmp_path, options, message):
    options = {name: tmp_path / value if name == "out" else value for name, value in options.items()}
    with pytest.raises(UsageError, match=message):
        ask(**options)


def test_the_command_line_leads_there(bundle_folder, plain, tmp_path, monkeypatch, capsys):
    plain("new/a.png", "red")
    out = tmp_path / "a.jsonl"
    words = f"tellapart predict {bundle_folder} {tmp_path / 'new'} --out {out} --resume --monitor {tmp_path / 'm.json'}"
    monkeypatch.setattr(sys, "argv", [*words.split(), "--keep-odd", "2", "--engine", "auto", "--top", "2"])
    with pytest.raises(SystemExit) as ended:
        app()
    assert ended.value.code == 0
    assert json.loads(out.read_text())["label"] == "red"
    assert json.loads((tmp_path / "m.json").read_text())["odd"][0][1].endswith("a.png")
    assert capsys.readouterr().err == ""
