"""The package from outside: its public names, what importing it costs, and what a wheel of it holds."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import tellapart
from tellapart.errors import MissingExtraError

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "tellapart"


@pytest.mark.parametrize("name", tellapart._PUBLIC)
def test_public_name_is_there(name):
    value = getattr(tellapart, name)
    assert value.__name__ == name
    assert value.__module__ == tellapart._PUBLIC[name]
    assert value.__doc__
    assert name in dir(tellapart)


def test_public_names_are_sorted():
    assert list(tellapart._PUBLIC) == sorted(tellapart._PUBLIC)


def test_type_checkers_see_the_same_names():
    seen = {
        alias.asname: node.module
        for node in ast.walk(ast.parse((SOURCE / "__init__.py").read_text()))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname
    }
    assert seen == tellapart._PUBLIC


def test_no_public_name_is_a_module():
    """Importing tellapart.train as a module would put it in the place of the function of that name."""
    modules = {path.stem for path in SOURCE.iterdir()}
    assert modules & set(tellapart._PUBLIC) == set()


def test_every_command_has_its_function():
    """A verb under its own name, a noun as a list; three commands belong to the terminal alone."""
    from tellapart.cli.main import COMMANDS

    functions = set(tellapart._PUBLIC)
    missing = {name for name in COMMANDS if not {name.replace("-", "_"), f"list_{name}", f"load_{name}"} & functions}
    assert missing == {"open", "cache", "completion"}


def test_unknown_name():
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        _ = tellapart.trian


def test_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(tellapart._PUBLIC, "wished", "a_package_that_is_not_there.inside")
    with pytest.raises(MissingExtraError, match=r"a_package_that_is_not_there") as caught:
        _ = tellapart.wished
    assert "pip install 'tellapart[train]'" in caught.value.hint


def test_module_of_our_own_that_is_missing_is_no_missing_extra(monkeypatch):
    monkeypatch.setitem(tellapart._PUBLIC, "wished", "tellapart.not_there")
    with pytest.raises(ModuleNotFoundError, match="not_there"):
        _ = tellapart.wished


def test_import_loads_nothing_but_the_standard_library():
    code = "import sys; before = set(sys.modules); import tellapart; print(*(set(sys.modules) - before))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    others = {name.partition(".")[0] for name in loaded} - sys.stdlib_module_names
    assert others == {"tellapart"}


def test_wheel_holds_every_file(tmp_path):
    """Recipes and templates too; and it can be used without the folder it was built from."""
    if importlib.util.find_spec("hatchling") is None:
        pytest.skip("needs hatchling")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    # Without npm, so that nothing is fetched: the wheel comes without the engine for browsers.
    without_npm = {**os.environ, "PATH": ""}
    subprocess.run(build, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=without_npm)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        held = {name for name in file.namelist() if ".dist-info/" not in name}
        file.extractall(tmp_path / "installed")
    source = {f"tellapart/{path.relative_to(SOURCE).as_posix()}" for path in SOURCE.rglob("*") if path.is_file()}
    assert held == {name for name in source if "__pycache__" not in name}
    code = (
        "import json, sys; sys.path.insert(0, sys.argv[1]); import tellapart, tellapart.recipe.load as r;"
        "print(json.dumps([tellapart.__version__, tellapart.__file__, sorted(r.shipped())]))"
    )
    out = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "installed")],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    version, where, recipes = json.loads(out)
    assert version == tellapart.__version__
    assert Path(where).is_relative_to(tmp_path)
    assert recipes == sorted(path.stem for path in (SOURCE / "recipe" / "shipped").glob("*.toml"))
