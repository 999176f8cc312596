"""What the project's files may not say: paths of one machine, addresses of registries, anything that unpickles."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
LOCK = ROOT / "requirements.lock"

# Put together here, so that this file does not find itself.
HOSTS = [
    ".".join(parts)
    for parts in (
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("npmjs", "org"),
        ("download", "pytorch", "org"),
        ("deb", "debian", "org"),
        ("crates", "io"),
    )
]
HOMES = ("work", "root", r"home/\w+", r"Users/\w+", "opt")
MACHINE_PATH = re.compile(r"(?<![\w./~*$}-])/(?:" + "|".join(HOMES) + r")/\w|\b[A-Z]:\\+Users\\")


def files() -> list[Path]:
    """All files that are in the repository, or would be with the next `git add`."""
    if not (ROOT / ".git").exists():
        pytest.skip("needs a git checkout, to know which files are the project's")
    # The owner of a checkout may be another than the one who runs the tests.
    command = ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [path for name in names.split("\0") if name and (path := ROOT / name).is_file()]


def texts() -> Iterator[tuple[str, str]]:
    for path in files():
        try:
            yield str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue


def machine_paths(text: str) -> list[str]:
    return [line.strip()[:120] for line in text.splitlines() if MACHINE_PATH.search(line)]


def registry_hosts(text: str) -> list[str]:
    return [host for host in HOSTS if host in text]


UNPICKLERS = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}


def unpickling(code: str) -> list[str]:
    """Every statement that could run code out of a file that only holds data."""
    return [f"line {node.lineno}: {wrong}" for node in ast.walk(ast.parse(code)) if (wrong := _unpickles(node))]


def _unpickles(node: ast.AST) -> str:
    if isinstance(node, ast.Import) and UNPICKLERS & {alias.name.partition(".")[0] for alias in node.names}:
        return ast.unparse(node)
    if isinstance(node, ast.ImportFrom):
        taken = {alias.name for alias in node.names}
        loads_torch = node.module in ("torch", "torch.serialization", "torch.hub") and taken & {"load", "hub"}
        return ast.unparse(node) if loads_torch or (node.module or "").partition(".")[0] in UNPICKLERS else ""
    if not isinstance(node, ast.Call):
        return ""
    name = ast.unparse(node.func)
    given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
    safe = given.get("weights_only") == "True"
    loads = name in ("torch.load", "torch.hub.load", "torch.hub.load_state_dict_from_url") and not safe
    evaluates = name in ("eval", "exec", "yaml.load", "yaml.unsafe_load")
    return name if loads or evaluates or given.get("allow_pickle", "False") != "False" else ""


def lock_faults(lock: str) -> list[str]:
    """Addresses and paths in a lock file, and requirements without exact version or hash."""
    entries = re.split(r"\n(?=\S)", re.sub(r"^#.*\n", "", lock, flags=re.MULTILINE))
    faults = [line for line in lock.splitlines() if "://" in line or line.startswith(("-", "/", "."))]
    faults += [
        entry[:80] for entry in entries if not re.match(r"\S+==\S+[^\n]*\\\n\s+--hash=sha256:[0-9a-f]{64}", entry)
    ]
    return faults


def test_no_file_names_a_path_of_one_machine():
    assert {name: found for name, text in texts() if (found := machine_paths(text))} == {}


def test_no_file_names_a_registry():
    assert {name: found for name, text in texts() if (found := registry_hosts(text))} == {}


def test_nothing_unpickles():
    code = [path for path in files() if path.suffix == ".py" and "tests" not in path.relative_to(ROOT).parts[:1]]
    assert any(path.name == "catalog.py" for path in code)
    assert {path.name: found for path in code if (found := unpickling(path.read_text(encoding="utf-8")))} == {}


def test_lock_has_hashes_and_no_addresses():
    assert lock_faults(LOCK.read_text()) == []


def test_lock_holds_all_that_the_project_asks_for():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *(line for extra in project["optional-dependencies"].values() for line in extra)]
    locked = dict(re.findall(r"^([\w.-]+)(?:\[.*?\])?==([^\s;]+)", LOCK.read_text(), re.MULTILINE))
    wrong = [line for line in asked if not _is_locked(Requirement(line), locked)]
    assert wrong == [], "requirements.lock is behind pyproject.toml: run `make lock`"


def _is_locked(asked: Requirement, locked: dict[str, str]) -> bool:
    version = locked.get(re.sub(r"[-_.]+", "-", asked.name).lower())
    return version is not None and asked.specifier.contains(version, prereleases=True)


# Each check is shown a text that breaks its rule, and one that does not.
@pytest.mark.parametrize("text", ["open('/{}/x.txt')", "cd /{}/project", "/{}/x first in the line"])
@pytest.mark.parametrize("place", ["work", "root", "home/anna", "Users/anna", "opt"])
def test_a_path_of_one_machine_is_found(text, place):
    assert machine_paths(text.format(place))


@pytest.mark.parametrize("text", ["C:" + "\\Users\\anna", "'C:" + "\\\\Users\\\\anna'"])
def test_a_path_of_windows_is_found(text):
    assert machine_paths(text)


@pytest.mark.parametrize(
    "text", ["../work/x", "https://a.org/work/x", "$HOME/opt/x", "paperwork/x", "~/work/x", "/usr/bin"]
)
def test_other_paths_pass(text):
    assert machine_paths(text) == []


@pytest.mark.parametrize("host", HOSTS)
def test_a_registry_is_found(host):
    assert registry_hosts(f"see https://files.{host}/simple") == [host]


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from joblib import load",
        "def f():\n    import cloudpickle as c",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "torch.load(\n    path,\n    map_location='cpu',\n)",
        "from torch import load",
        "torch.hub.load('a', 'b')",
        "np.load(path, allow_pickle=True)",
        "eval(text)",
    ],
)
def test_unpickling_is_found(code):
    assert len(unpickling(code)) == 1


@pytest.mark.parametrize(
    "code",
    [
        "torch.load(path, weights_only=True)",
        "np.load(path)",
        "np.load(path, allow_pickle=False)",
        "model.eval()",
        "from torch import nn",
        "'import pickle'",
    ],
)
def test_safe_loading_passes(code):
    assert unpickling(code) == []


HASH = " \\\n    --hash=sha256:" + 64 * "a" + "\n"


@pytest.mark.parametrize(
    "lock",
    [
        "numpy==2.0\n",
        f"numpy>=2.0{HASH}",
        f"--index-url somewhere\nnumpy==2.0{HASH}",
        f"numpy @ https://somewhere/numpy.whl{HASH}",
        f"./wheels/numpy.whl{HASH}",
        f"numpy==2.0{HASH}pillow==11.0\n",
    ],
)
def test_a_bad_lock_is_found(lock):
    assert lock_faults(lock)


def test_a_good_lock_passes():
    assert (
        lock_faults(f"# made by make lock\nnumpy==2.0 ; sys_platform != 'x'{HASH}    # via a\npillow==11.0{HASH}") == []
    )


@pytest.mark.parametrize(("line", "holds"), [("Jinja2>=3", True), ("jinja2>=4", False), ("jinja3", False)])
def test_a_lock_that_is_behind_is_found(line, holds):
    assert _is_locked(Requirement(line), {"jinja2": "3.1.6"}) is holds
