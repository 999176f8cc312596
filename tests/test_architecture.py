"""The house is drawn from its imports: no arrow runs back, no circle, torch only where it may be, a light start."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import tellapart

SOURCE = Path(__file__).parents[1] / "src" / "tellapart"

# A room is a folder below the package, or a file beside them. A room may import itself, `core`, `errors` and the rooms
# named here. Rows run from the top of the house to the bottom, so that every arrow runs down.
GROUND = {"core", "errors"}
BELOW_WORKFLOWS = {
    *("web", "report", "auditing", "deploy", "explaining", "training", "runs", "models", "data", "evaluation", "recipe")
}
MAY_IMPORT = {
    "__init__": GROUND,
    "__main__": {"cli"},
    "cli": BELOW_WORKFLOWS | {"workflows", "experiments", "cluster"},
    "cluster": BELOW_WORKFLOWS | {"workflows", "experiments"},
    "experiments": BELOW_WORKFLOWS | {"workflows"},
    "workflows": BELOW_WORKFLOWS,
    "web": {"deploy", "report", "runs", "auditing", "data", "evaluation"},
    "report": {"runs", "auditing", "data", "evaluation"},
    "auditing": {"data", "evaluation"},
    "deploy": {"data", "evaluation"},
    "deploy.bundle.write": {"deploy", "models", "data", "evaluation"},
    "deploy.export": {"deploy", "models", "data", "evaluation"},
    "explaining": {"training", "models", "data"},
    "training": {"models", "data", "evaluation", "recipe"},
    "runs": {"data", "recipe"},
    "models": {"data", "recipe"},
    "data": {"recipe"},
    "evaluation": {"recipe"},
    "recipe": set(),
    "core": set(),
    "errors": set(),
}
# Where torch may be imported, and which packages bring it along.
TORCH_ROOMS = {"workflows", "explaining", "training", "models", "data.augmentation", "data.loading"} | {
    "cluster.training",
    "cluster.studying",
    "experiments.train_cell",
    "experiments.estimate",
    "deploy.bundle.write",
    "deploy.export",
}
TORCH = {"torch", "torchvision", "timm", "torchinfo", "captum", "safetensors.torch"}


@dataclass(frozen=True)
class Arrow:
    """One import. `late` where it stands in a function and so happens only when that runs."""

    source: str
    target: str
    late: bool
    line: int

    def __str__(self) -> str:
        return f"{self.source}:{self.line} imports {self.target}"


def modules(package: Path) -> dict[str, Path]:
    """Every module of a package by its name without the package's; the package itself is "__init__"."""
    named = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).with_suffix("").parts
        named[".".join(parts).removesuffix(".__init__")] = path
    return named


def arrows(package: Path, lazy: dict[str, str]) -> list[Arrow]:
    """All imports between modules of a package (targets without its name) and of others (targets as "other:torch").

    Args:
        package: the folder.
        lazy: the package's public names and the modules they come from, followed as if imported from there.
    """
    named = modules(package)
    found = []
    for source, path in named.items():
        folder = ".".join([package.name, *path.relative_to(package).parts[:-1]])
        for node, late in _imports(ast.parse(path.read_text(encoding="utf-8"), str(path))):
            for full in _names(node, folder):
                target = _target(full, package.name, named, lazy)
                if target != source:
                    found.append(Arrow(source, target, late, node.lineno))
    return found


def _imports(node: ast.AST, late: bool = False) -> Iterator[tuple[ast.Import | ast.ImportFrom | ast.Attribute, bool]]:
    """Import statements that can run, and uses of the package's attributes; not those for type checkers alone."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom | ast.Attribute):
            yield child, late
        if isinstance(child, ast.If) and ast.unparse(child.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            for other in child.orelse:
                yield from _imports(ast.Module([other], []), late)
        else:
            inside = late or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from _imports(child, inside)


def _names(node: ast.Import | ast.ImportFrom | ast.Attribute, folder: str) -> list[str]:
    """The full dotted names that a statement asks for."""
    if isinstance(node, ast.Attribute):
        return [ast.unparse(node)] if isinstance(node.value, ast.Name) and node.value.id == folder.split(".")[0] else []
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    base = node.module or ""
    if node.level:
        above = folder.split(".")[: len(folder.split(".")) - node.level + 1]
        base = ".".join([*above, base]).rstrip(".")
    return [f"{base}.{alias.name}" for alias in node.names]


def _target(full: str, package: str, named: dict[str, Path], lazy: dict[str, str]) -> str:
    head, _, rest = full.partition(".")
    if head != package:
        return f"other:{full}"
    if rest in lazy:
        rest = lazy[rest].partition(".")[2]
    while rest and rest not in named:
        rest = rest.rpartition(".")[0]
    return rest or "__init__"


def room(module: str, rooms: Collection[str]) -> str | None:
    """The innermost of these rooms that a module lies in."""
    while module and module not in rooms:
        module = module.rpartition(".")[0]
    return module or None


def arrows_that_run_back(found: list[Arrow]) -> list[str]:
    wrong = []
    for arrow in found:
        if arrow.target.startswith("other:"):
            continue
        here = room(arrow.source, MAY_IMPORT)
        allowed = MAY_IMPORT[here] | GROUND | {here} if here else set()
        if room(arrow.target, allowed) is None:
            wrong.append(str(arrow))
    return wrong


def circles(found: list[Arrow]) -> list[str]:
    graph: dict[str, set[str]] = {}
    for arrow in found:
        if not arrow.target.startswith("other:"):
            graph.setdefault(arrow.source, set()).add(arrow.target)
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return [" -> ".join(reversed(error.args[1]))]
    return []


def may_use_torch(module: str) -> bool:
    return room(module, TORCH_ROOMS) is not None


def brings_torch(arrow: Arrow) -> bool:
    name = arrow.target.removeprefix("other:")
    return name != arrow.target and any(name == heavy or name.startswith(f"{heavy}.") for heavy in TORCH)


def torch_out_of_place(found: list[Arrow]) -> list[str]:
    """Imports of torch outside its places, and light modules whose mere import would load it."""
    wrong = [str(arrow) for arrow in found if brings_torch(arrow) and not may_use_torch(arrow.source)]
    ways: dict[str, list[Arrow]] = {}
    for arrow in found:
        if not arrow.late:
            ways.setdefault(arrow.source, []).append(arrow)
    for module in ways:
        if not may_use_torch(module):
            wrong += [f"{module} loads torch: {way}" for way in _ways_to_torch(module, ways)]
    return wrong


def _ways_to_torch(module: str, ways: dict[str, list[Arrow]]) -> list[str]:
    """The first way from a module over others to torch, if there is one."""
    waiting, seen = [(module, "")], {module}
    while waiting:
        here, so_far = waiting.pop()
        for arrow in ways.get(here, []):
            told = f"{so_far}, {arrow}".lstrip(", ")
            if brings_torch(arrow) and here != module:
                return [told]
            if arrow.target not in seen:
                seen.add(arrow.target)
                waiting.append((arrow.target, told))
    return []


def ray_out_of_place(found: list[Arrow]) -> list[str]:
    """Imports of ray outside `cluster`."""
    wrong = [arrow for arrow in found if room(arrow.target.removeprefix("other:"), {"ray"})]
    return [str(arrow) for arrow in wrong if room(arrow.source, {"cluster"}) is None]


@pytest.fixture(scope="module")
def found() -> list[Arrow]:
    return arrows(SOURCE, tellapart._PUBLIC)


def test_no_arrow_runs_back(found):
    assert arrows_that_run_back(found) == []


def test_no_module_imports_itself_over_others(found):
    assert circles(found) == []


def test_torch_stays_in_its_places(found):
    assert torch_out_of_place(found) == []


def test_ray_stays_in_its_room(found):
    assert ray_out_of_place(found) == []


def test_every_module_lies_in_a_room():
    assert [name for name in modules(SOURCE) if room(name, MAY_IMPORT) is None] == []


def test_the_house_has_no_circle_of_rooms():
    """Rows name lower rooms only: the table itself is an order."""
    graphlib.TopologicalSorter({name: below - {name} for name, below in MAY_IMPORT.items()}).prepare()


def test_rooms_have_empty_inits():
    assert [str(path) for path in SOURCE.glob("*/**/__init__.py") if path.read_text(encoding="utf-8").strip()] == []


def test_light_modules_load_no_torch():
    """The drawing may overlook a library that loads torch by itself; the interpreter does not."""
    light = [f"tellapart.{name}" for name in modules(SOURCE) if not may_use_torch(name) and not name.startswith("__")]
    code = "import importlib, sys\nfor name in sys.argv[1:]: importlib.import_module(name)\nprint(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code, *light], stdout=subprocess.PIPE, text=True, check=True).stdout
    assert TORCH & set(loaded.split()) == set()


# Each check is shown a house that breaks its rule: a check that cannot fail guards nothing.
LAZY = {"train": "tellapart.workflows.train"}


def house(folder: Path, files: dict[str, str]) -> list[Arrow]:
    for name, text in files.items():
        path = folder / "tellapart" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return arrows(folder / "tellapart", LAZY)


SOUND = {
    "__init__.py": "def __getattr__(name):\n    from tellapart.errors import E",
    "errors.py": "",
    "data/__init__.py": "",
    "data/loading/loader.py": "import torch\nfrom tellapart.errors import E",
    "data/scan.py": "from tellapart import errors",
    "data/decode.py": "",
    "deploy/predictor.py": "from tellapart.data.decode import decode",
    "workflows/train.py": "import torch\nfrom ..data import scan\nfrom ..data.loading import loader",
    "cli/main.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch\n"
    "def main():\n    from tellapart.workflows.train import run",
}


def test_a_sound_house_passes(tmp_path):
    found = house(tmp_path, SOUND)
    assert arrows_that_run_back(found) == circles(found) == torch_out_of_place(found) == []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("data/scan.py", "from tellapart.workflows.train import run"),
        ("data/scan.py", "def f():\n    from tellapart.workflows.train import run"),
        ("data/scan.py", "from ..workflows.train import run"),
        ("data/scan.py", "from ..workflows import train"),
        ("data/scan.py", "import tellapart.workflows.train"),
        ("data/scan.py", "from tellapart import train"),
        ("data/scan.py", "import tellapart\ntellapart.train()"),
        ("data/scan.py", "class A:\n    try:\n        import tellapart.cli\n    except ImportError:\n        pass"),
        ("deploy/predictor.py", "from tellapart.models import heads"),
        ("report/page.py", "from tellapart.deploy.predictor import load"),
        ("cellar.py", "from tellapart.errors import E"),
        ("__init__.py", "from tellapart.data.scan import scan"),
    ],
)
def test_an_arrow_that_runs_back_is_found(tmp_path, name, text):
    assert arrows_that_run_back(house(tmp_path, {**SOUND, name: text})) != []


def test_a_circle_is_found(tmp_path):
    found = house(tmp_path, {**SOUND, "errors.py": "def f():\n    from tellapart.data import scan"})
    assert len(circles(found)) == 1


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("data/scan.py", "import torch"),
        ("data/scan.py", "def f():\n    from torch import nn"),
        ("data/scan.py", "from safetensors.torch import save_file"),
        ("data/scan.py", "import torchvision.transforms.v2 as T"),
        ("report/page.py", "import timm"),
        ("data/scan.py", "from tellapart.data.loading.loader import load"),
        ("data/scan.py", "if True:\n    from tellapart.data.loading import loader"),
        ("data/scan.py", "from tellapart.data import between"),
        ("cli/main.py", "from tellapart.workflows.train import run"),
        ("cli/main.py", "from tellapart import train"),
        ("cli/main.py", "if TYPE_CHECKING:\n    pass\nelse:\n    import torch"),
    ],
)
def test_torch_out_of_place_is_found(tmp_path, name, text):
    between = "from tellapart.data.loading import loader" if "between" in text else ""
    files = {**SOUND, "data/between.py": between, name: text}
    assert torch_out_of_place(house(tmp_path, files))


@pytest.mark.parametrize("text", ["import ray", "def f():\n    from ray import data", "import ray.train.torch as t"])
def test_ray_out_of_place_is_found(tmp_path, text):
    assert ray_out_of_place(house(tmp_path, {**SOUND, "workflows/predict.py": text}))
    assert not ray_out_of_place(house(tmp_path / "other", {**SOUND, "cluster/predict.py": text}))
