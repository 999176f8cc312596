"""What is printed: no name steers a terminal or begins a line of its own, and no encoding stops a command."""

from __future__ import annotations

import ast
import io
import json
import shutil
import sys
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import tellapart as ta
from tellapart.cli import main
from tellapart.deploy.predict_inputs import Request, predict_inputs
from tellapart.runs.run import Run

pytestmark = pytest.mark.usefixtures("short_ends")

SOURCE = Path(main.__file__).parents[1]
#: Colours, a cleared screen, a new title, text that runs backwards, lines of their own, and letters of other scripts.
CLASSES = ("red\x1b[31m\u202ekäse", "two\nFORGED lines −", "back\rFORGED 猫\x9b2J")
FILE = "clear\x1b[2J\nFORGED\u2066.png"
COUNTS = "counts\x1b[31m.json"
LABELS = [name.replace("\n", " ") for name in CLASSES]
RECIPE = """
extends = "scratch"
[model]
name = "mlp"
[data]
size = 16
[[stages]]
name = "stage \\u001b[31m\\nFORGED"
epochs = 1
batch_size = 4
[evaluation]
explain = false
"""


@dataclass(frozen=True)
class Printed:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str


Command = Callable[..., Printed]


@pytest.fixture
def tellapart(monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs a command in this process, with streams of an encoding that are no terminals."""

    def command(*words: str | Path, encoding: str = "utf-8") -> Printed:
        streams = [io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="\n") for _ in range(2)]
        with monkeypatch.context() as patch:
            patch.setattr(sys, "argv", ["tellapart", *map(str, words)])
            patch.setattr(sys, "stdout", streams[0])
            patch.setattr(sys, "stderr", streams[1])
            with pytest.raises(SystemExit) as left:
                main.main()
            for stream in streams:
                stream.flush()
        out, err = (stream.buffer.getvalue().decode(encoding) for stream in streams)  # type: ignore[attr-defined]
        return Printed(int(left.value.code or 0), out, err)

    return command


@dataclass(frozen=True)
class Hostile:
    """Pictures, a table, a recipe and two runs, whose names steer terminals."""

    pictures: Path
    table: Path
    recipe: Path
    runs: tuple[Path, Path]


@pytest.fixture(scope="module")
def hostile(pictures_at: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Hostile:
    root = tmp_path_factory.mktemp("hostile\x1b[31m")
    pictures = pictures_at(root / "photos\x1b[2J\nFORGED", CLASSES, n=8)
    (pictures / CLASSES[0] / FILE).write_bytes(b"no picture")
    shutil.copy(next((pictures / CLASSES[1]).iterdir()), pictures / CLASSES[2] / FILE)  # a contradiction
    recipe = root / "recipe\x1b[31m\nFORGED.toml"
    recipe.write_text(RECIPE, encoding="utf-8")
    table = root / "own\x1b[31m.csv"
    names = sorted(path.relative_to(pictures).as_posix() for path in pictures.rglob("0*.png"))
    table.write_text(
        'file_name,"camera\x1b[31m"\n' + "".join(f'"{name}",{i % 2}\n' for i, name in enumerate(names)), "utf-8"
    )
    runs = (root / "run\x1b]0;title\x07 a", root / "run\nFORGED b")
    for changes, out in zip(([], ["stages.0.lr=0.002"]), runs, strict=True):
        ta.train(pictures, recipe=recipe, out=out, changes=changes, runtime="cpu,float32")
    counted = Request(runs[0], (str(pictures),), out=root / "answers.csv", monitor=root / COUNTS, n_odd=9)
    predict_inputs(counted, lambda line: None)
    return Hostile(pictures, table, recipe, runs)


def commands(hostile: Hostile, out: Path) -> dict[str, list[str | Path]]:
    """Every command of the program on hostile names."""
    first, second = hostile.runs
    pictures, recipe = hostile.pictures, ["--recipe", hostile.recipe]
    return {
        "scan": ["scan", pictures],
        "scan --json": ["scan", pictures, "--json"],
        "audit": [
            "audit",
            pictures,
            "--out",
            out / "audit\x1b[31m",
            "--exclude",
            "contradiction",
            "--fail-on",
            "error",
        ],
        "train": ["train", pictures, *recipe, "--out", first],
        "train --json": ["train", pictures, *recipe, "--out", first, "--json"],
        "cross-validate": ["cross-validate", pictures, *recipe, "--out", first],
        "distill": ["distill", first, "--model", "none", "--out", out / "small\x1b[31m"],
        "evaluate": ["evaluate", first],
        "evaluate --json": ["evaluate", first, "--json"],
        "evaluate --on": ["evaluate", first, "--on", pictures, "--tta", "1"],
        "predict": ["predict", first, pictures, "--top", "3", "--coverage", "0.8"],
        "predict --format jsonl": ["predict", first, pictures, "--top", "3", "--format", "jsonl"],
        "verify": ["verify", first],
        "export": ["export", first, "--to", "onnx", "--out", out / "network\x1b[31m.onnx"],
        "serve": ["serve", first, "--host", "host\x1b[31m"],
        "study": [
            "study",
            pictures,
            *recipe,
            "--vary",
            "stages.0.lr=1e-3,1e-2",
            "--dry-run",
            "--out",
            out / "s\x1b[31m",
        ],
        "runs": ["runs", first.parent],
        "drift": ["drift", first, pictures.parent / COUNTS],
        "drift --json": ["drift", first, pictures.parent / COUNTS, "--json"],
        "errors": ["errors", first, "--out", out],
        "review": ["review", first, "--model", "none"],
        "explain": ["explain", first, "--limit", "2", "--out", out / "why\x1b[31m.html"],
        "compare": ["compare", first, second, "--out", out / "compare\x1b[31m.html"],
        "compare --json": ["compare", first, second, "--out", out / "compare.html", "--json"],
        "slices": ["slices", first, "--smallest", "1", "--table", hostile.table],
        "slices --json": ["slices", first, "--smallest", "1", "--json"],
        "curves": ["curves", first, second, "--out", out / "curves\x1b[31m.html"],
        "average": ["average", first, second, "--out", out / "mean\x1b[31m"],
        "recipes": ["recipes"],
        "recipes show": ["recipes", "show", hostile.recipe],
        "models": ["models"],
        "summary": ["summary", *recipe],
        "find-lr": ["find-lr", pictures, *recipe, "--out", out / "lr\x1b[31m.png"],
        "augment": ["augment", pictures, *recipe, "--out", out / "augment\x1b[31m.png"],
        "ahead": [
            "ahead",
            pictures,
            *recipe,
            "--set",
            "data.ahead=eightfold",
            "--write",
            "--out",
            out / "ahead\x1b[31m",
        ],
        "cache": ["cache"],
        "open": ["open", first, "--no-browser"],
        "completion": ["completion", "fish"],
        "no such folder": ["scan", out / "none\x1b[31m\nFORGED"],
        "no such option": ["scan", pictures, "--\x1b[31m"],
        "no such recipe key": ["summary", *recipe, "--set", "model.\x1b[31mname=1"],
        "no such class": ["errors", first, "--class", "none\x1b[31m\nFORGED"],
        "no such run": ["evaluate", out / "none\x1b[31m\nFORGED"],
        "--help": ["predict", "--help"],
        "--version": ["--version", "--verbose"],
    }


NAMES = list(commands(Hostile(Path(), Path(), Path(), (Path(), Path())), Path()))
REFUSED = {"cross-validate", "distill", "review", "serve", *(name for name in NAMES if name.startswith("no such"))}


def steering(text: str) -> set[str]:
    """What steers a terminal or the direction of a text."""
    return {c for c in text if c != "\n" and unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp", "Cs")}


def slow_if(condition: bool) -> Any:
    return pytest.mark.slow if condition else ()


@pytest.mark.parametrize(
    ("name", "encoding"),
    [(name, "utf-8") for name in NAMES]
    + [pytest.param(name, "ascii", marks=slow_if(name in ("errors", "find-lr"))) for name in NAMES],
)
def test_names_neither_steer_nor_stop_a_command(
    tellapart: Command, hostile: Hostile, tmp_path: Path, name: str, encoding: str
) -> None:
    printed = tellapart(*commands(hostile, tmp_path)[name], encoding=encoding)
    assert (printed.code == 2) == (name in REFUSED), printed.err
    assert printed.out or name in REFUSED
    for text in (printed.out, printed.err):
        assert steering(text) == set()
        assert not [line for line in text.split("\n") if line.startswith("FORGED")]
    if name.endswith("--json"):
        assert [json.loads(line) for line in printed.out.splitlines()]


def test_a_finished_training_prints_its_result_again(tellapart: Command, hostile: Hostile) -> None:
    words = commands(hostile, Path())["train --json"]
    for options in ([], ["--quiet"]):
        last = json.loads(tellapart(*words, *options).out.splitlines()[-1])
        assert (last["event"], last["trained"], last["run"]) == ("Finished", False, str(hostile.runs[0]))
        assert 0 <= last["evaluations"]["test"]["metrics"]["accuracy"]["value"] <= 1


def test_every_command_is_tried() -> None:
    assert {name.partition(" ")[0] for name in NAMES} >= set(main.COMMANDS)


def calls(path: Path) -> list[Any]:
    return [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]


def test_one_module_prints() -> None:
    own = {SOURCE / "core" / "output.py"}
    printing = [
        f"{path.relative_to(SOURCE)}:{call.lineno}"
        for path in sorted(set(SOURCE.rglob("*.py")) - own)
        for call in calls(path)
        if getattr(call.func, "attr", getattr(call.func, "id", "")) in ("print", "echo", "write")
        and ast.unparse(call.func) in ("print", "typer.echo", "sys.stdout.write", "sys.stderr.write")
        and not any(word.arg == "file" and ast.unparse(word.value) == "stream" for word in call.keywords)
    ]
    assert printing == []


def test_the_bundles_readme_is_clean(hostile: Hostile) -> None:
    text = (Run(hostile.runs[0]).bundle / "README.md").read_text(encoding="utf-8")
    assert steering(text) == set()
    assert "käse" in text
