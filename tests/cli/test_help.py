"""What the command line says of itself: groups, examples, old names of options, completion, the page of a run."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer

from tellapart.cli import completion, main, open_page
from tellapart.cli.help import EXAMPLES, GROUPS, RENAMED
from tellapart.errors import RunError

Command = Callable[..., "subprocess.CompletedProcess[str]"]
APP: Any = typer.main.get_command(main.app)


@pytest.mark.parametrize("width", [80, 120])
def test_help_is_for_people(here: Command, monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    said = here("train", "-h").stdout
    assert said.partition("\n")[0].endswith("tellapart train [OPTIONS] PICTURES")
    assert max(map(len, said.splitlines())) <= width
    assert "-s, --set KEY=VALUE" in said
    assert "--seed N " in said
    assert "[at least 0.1]" in " ".join(said.split())
    assert not set("<>{}\x1b") & set(said)
    own, labels = said.split("Where the labels are not found by themselves:")
    assert "--label-column" not in own
    assert labels.rstrip().endswith(EXAMPLES["train"])


def test_an_option_that_there_is_not(here: Command) -> None:
    said = here("train", "photos", "--modle", "cnn8")
    assert said.returncode == 2
    assert "No such option: --modle. Did you mean '--model'?" in said.stderr
    assert "Did you mean 'train'?" in here("trian").stderr


def test_every_command_stands_in_one_group() -> None:
    grouped = [name for names in GROUPS.values() for name in names]
    assert sorted(grouped) == sorted(main.COMMANDS)


def test_help_shows_the_groups_in_order(here: Command) -> None:
    said = here("-h")
    assert said.returncode == 0
    lines = said.stdout.splitlines()
    titles = [line.rstrip(":") for line in lines if line.rstrip(":") in GROUPS]
    assert titles == list(GROUPS)
    names = [line.split()[0] for line in lines if line.startswith("  ") and line.split()[0] in main.COMMANDS]
    assert names == [name for names in GROUPS.values() for name in names]


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_an_example_is_a_command_that_parses(name: str) -> None:
    words = EXAMPLES[name].split()
    assert words[:2] == ["tellapart", name]
    command = APP.commands[name]
    if name != "study":
        command.make_context(name, words[2:])


@pytest.mark.parametrize("name", ["train", "predict", "compare", "open", "export", "completion"])
def test_what_is_missing_comes_with_an_example(here: Command, name: str) -> None:
    said = here(name)
    assert said.returncode == 2
    assert f"For example: {EXAMPLES[name]}" in said.stderr


@pytest.mark.parametrize(("key", "new"), RENAMED.items())
def test_old_names_of_options_work_with_a_line(
    key: tuple[str, str], new: str, capsys: pytest.CaptureFixture[str]
) -> None:
    name, old = key
    words = [*EXAMPLES[name].split()[2:], f"{old}=value.csv"]
    context = APP.commands[name].make_context(name, words)
    assert "value.csv" in map(str, context.params.values())
    assert capsys.readouterr().err == f"{old} of {name} is called {new} now.\n"


def test_a_short_name_means_the_same_in_all_commands() -> None:
    long = dict[str, set[str]]()
    for command in APP.commands.values():
        for words in (each.opts for each in command.params):
            for word in words:
                if len(word) == 2:
                    long.setdefault(word, set()).add(next(other for other in words if other[:2] == "--"))
    assert {word: names for word, names in long.items() if len(names) > 1} == {}


def test_names_that_meant_two_things_are_gone() -> None:
    for (name, old), new in RENAMED.items():
        words = {word for each in APP.commands[name].params for word in each.opts}
        assert new in words
        assert old not in words


# ---------------------------------------------------------------- completion


def test_completion_in_bash(here: Command, tmp_path: Path) -> None:
    if not (bash := shutil.which("bash")):
        pytest.skip("needs bash")
    (tmp_path / "complete.sh").write_text(here("completion", "bash").stdout)

    def completed(*words: str) -> list[str]:
        ask = (
            f"source ./complete.sh; COMP_WORDS=({' '.join(map(repr, words))}); COMP_CWORD={len(words) - 1}; _tellapart"
        )
        asked = f'{ask}; printf "%s\\n" "${{COMPREPLY[@]}}"'
        return subprocess.run([bash, "-c", asked], cwd=tmp_path, capture_output=True, text=True).stdout.split()

    assert completed("tellapart", "cross") == ["cross-validate"]
    assert completed("tellapart", "train", "--min") == ["--minutes"]
    assert completed("tellapart", "train", "pho") == []  # files, which bash completes by itself
    assert set(completed("tellapart", "")) == set(main.COMMANDS)


def test_completion_in_other_shells(here: Command) -> None:
    assert here("completion", "zsh").stdout.startswith("autoload -U +X bashcompinit")
    fish = here("completion", "fish").stdout
    assert "complete -c tellapart -n '__fish_seen_subcommand_from train' -l minutes" in fish
    assert "complete -c tellapart -n '__fish_seen_subcommand_from train' -s r" in fish
    assert "-n '__fish_seen_subcommand_from study' -a show" in fish
    assert here("completion", "tcsh").returncode == 2
    assert set(completion.options_of(APP)) == set(main.COMMANDS)


# ---------------------------------------------------------------- open


def test_open_shows_the_page_of_a_folder(here: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", lambda address: opened.append(address) or len(opened) < 2)
    run = tmp_path / "my run"
    run.mkdir()
    (run / "report.html").write_text("<p>")
    assert here("open", run).stdout == f"{run / 'report.html'}\n"
    assert opened == [(run / "report.html").as_uri()]
    assert "No browser can be opened from here" in here("open", run / "report.html").stdout
    assert here("open", run, "--no-browser").stdout == f"{run / 'report.html'}\n"
    assert len(opened) == 2


def test_a_folder_without_a_page(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="has no page"):
        open_page.page_of(tmp_path)
