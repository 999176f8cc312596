"""The program's entry point: plain requests are answered without the command line's parser, and the same way."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tellapart.cli import main, start

BUNDLE = Path(__file__).parents[1] / "compatibility" / "v0_1" / "runs" / "plain" / "bundle"


@pytest.mark.parametrize(
    ("words", "plain"),
    [
        ("predict run a.jpg", True),
        ("predict run a.jpg b.jpg -", True),
        ("predict run", False),
        ("predict run a.jpg --top 2", False),
        ("predict --help run a.jpg", False),
        ("predict run -x", False),
        ("verify run a.jpg", False),
        ("", False),
    ],
)
def test_what_is_plain(words: str, plain: bool) -> None:
    assert start.is_plain(words.split()) is plain


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    for number, colour in enumerate(("red", "lime", "blue")):
        Image.new("RGB", (40, 30), colour).save(tmp_path / f"{number}.png")
    return tmp_path


@pytest.mark.parametrize("extra", [[], ["bad.png"], ["nothing.png"]])
def test_both_ways_say_the_same_and_leave_with_the_same_code(
    pictures: Path, extra: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (pictures / "bad.png").touch()
    monkeypatch.chdir(pictures)
    said = []
    for begin, options in ((start.main, []), (main.main, ["--top", "1"])):
        monkeypatch.setattr(sys, "argv", ["tellapart", "predict", str(BUNDLE), "0.png", "1.png", *extra, *options])
        try:
            begin()
            code: object = 0
        except SystemExit as left:
            code = left.code
        said.append((code or 0, *capsys.readouterr()))
    assert said[0] == said[1]
    assert said[0][0] == {(): 0, ("bad.png",): 3, ("nothing.png",): 2}[tuple(extra)]


@pytest.mark.slow
def test_a_first_answer_loads_neither_parser_nor_schemas_nor_tables(pictures: Path) -> None:
    code = (
        "import sys; from tellapart.cli.start import main\ntry: main()\nfinally: print(*sys.modules, file=sys.stderr)"
    )
    # A JPEG, as Pillow, which decodes all else, loads `subprocess` for itself.
    Image.open(pictures / "0.png").save(pictures / "0.jpg")
    command = [sys.executable, "-c", code, "predict", str(BUNDLE), str(pictures / "0.jpg")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=dict(os.environ))
    loaded = {name.partition(".")[0] for name in done.stderr.split()}
    assert {"tellapart", "onnxruntime"} <= loaded
    assert loaded & {"typer", "pydantic", "polars", "torch", "openvino", "email", "subprocess", "tarfile"} == set()
    assert "rich.console" not in done.stderr.split()


def test_help_on_studies_loads_neither_torch_nor_optuna() -> None:
    code = """
import sys
from tellapart.cli.start import main
for words in (["study", "--help"], ["study", "show", "--help"], ["study", "close", "--help"], ["runs", "--help"]):
    sys.argv = ["tellapart", *words]
    try:
        main()
    except SystemExit as left:
        assert not left.code
print(*sys.modules, file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stderr.split()}
    assert "typer" in loaded
    assert loaded & {"torch", "optuna", "timm", "scipy", "sklearn", "polars", "numpy", "matplotlib"} == set()
    assert done.stdout.count("Usage: ") == 4
