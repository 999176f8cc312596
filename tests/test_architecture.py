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

# A place is a module or a folder, without the package's name; the longest one that fits a module is its place.
# Each place may import itself, the package (for its version) and what stands here.
GROUND = {
    "errors",
    "files",
    "records",
    "recipe",
    "recipe_transforms",
    "recipe_networks",
    "preprocess",
    "processors",
    "memory",
    "extras",
    "stopping",
    "answering",
    "copies",
    "recipe_evaluation",
}
MAY_IMPORT = {
    "__init__": {"errors"},
    **dict.fromkeys(GROUND, GROUND),
    "store": set(),
    "cache": {"errors", "files", "store"},
    "data": GROUND | {"cache", "store"},
    "console": GROUND | {"data"},
    "summary": GROUND | {"data"},
    "run_directory": GROUND | {"data"},
    "runtime": GROUND,
    "evaluation": {"answering", "errors", "files", "records", "recipe", "extras"},
    "report": {"errors", "files", "records", "recipe", "evaluation"},
    "models": GROUND | {"data", "runtime"},
    "infer": GROUND | {"data", "runtime", "models"},
    "training": GROUND | {"cache", "store", "data", "runtime", "models", "infer", "evaluation"},
    "bundle.read": {"answering", "bundle.tensors", "copies", "errors", "files", "records", "preprocess"},
    "bundle.tensors": set(),
    "bundle": GROUND | {"bundle.read", "models", "runtime"},
    "serve": {"answering", "errors", "files", "records", "preprocess", "processors", "bundle.read", "data.decode"},
    "explain.neighbours": {"errors", "files", "records"},
    "explain": GROUND | {"data", "runtime", "models", "infer", "explain.neighbours"},
    "auditing": GROUND | {"chapters", "console", "data", "models", "report", "run_directory", "runtime", "training"},
    "looks": GROUND | {"data", "models", "training"},
    "trials": GROUND | {"looks", "console", "data", "models", "report", "runtime", "training"},
    "chapters": GROUND | {"data", "run_directory", "evaluation", "report", "explain.neighbours"},
    "retelling": GROUND | {"data", "run_directory", "report", "chapters"},
    "resume": GROUND | {"data", "run_directory"},
    "concluding": GROUND
    | {
        "explaining",
        "retelling",
        "data",
        "run_directory",
        "runtime",
        "models",
        "infer",
        "training",
        "evaluation",
        "bundle",
    },
    "explaining": GROUND
    | {"chapters", "console", "data", "evaluation", "explain", "label_issues", "models", "report", "run_directory"}
    | {"runtime", "serve", "training"},
    "label_table": GROUND,
    "label_issues": GROUND
    | {
        "label_table",
        "console",
        "data",
        "evaluation",
        "models",
        "report.words",
        "run_directory",
        "runtime",
        "training",
    },
    "review": {"errors", "files", "records", "extras", "data.corrections", "data.decode"}
    | {"report.words", "report.thumbnail"},
    "reviewing": GROUND
    | {"chapters", "console", "data", "evaluation", "label_issues", "label_table", "review", "run_directory"},
    "mending": GROUND | {"data", "run_directory"},
    "mistakes": GROUND | {"console", "data", "evaluation", "label_issues", "label_table", "report", "run_directory"},
    "judging": GROUND | {"console", "data", "run_directory", "runtime", "models", "infer", "evaluation", "bundle"},
    "planning": GROUND | {"data", "models", "runtime", "training"},
    "pipeline": GROUND
    | {
        "planning",
        "concluding",
        "looks",
        "mending",
        "retelling",
        "resume",
        "console",
        "data",
        "run_directory",
        "runtime",
        "models",
        "infer",
        "training",
        "evaluation",
        "report",
        "explain",
        "bundle",
    },
    "cross_validation": GROUND | {"console", "data", "evaluation", "run_directory", "pipeline"},
    "study": GROUND | {"data", "run_directory", "runtime", "evaluation", "report", "pipeline"},
    "averaging": GROUND | {"run_directory", "evaluation", "report", "retelling"},
    "side_by_side": GROUND | {"run_directory", "report"},
    "slicing": GROUND | {"console", "data", "run_directory", "evaluation", "report", "chapters"},
    "comparing": GROUND | {"data", "run_directory", "evaluation", "report", "side_by_side"},
    "bench": GROUND | {"data", "runtime", "models", "training"},
    "benching": GROUND | {"bench", "console", "data", "runtime"},
    "cli": {"*"},
    "cli_options": set(),
    "cli_bench": {"*"},
    "cli_mend": {"*"},
    "cli_audit": {"*"},
    "cli_cache": {"cache"},
    "cli_explain": {"*"},
    "cli_runs": {"*"},
    "__main__": {"cli"},
}
# Where torch may be imported, and which packages bring it along.
TORCH_PLACES = {"models", "training", "looks", "trials", "planning", "infer", "runtime", "pipeline"} | {
    "bench",
    "benching",
    "explain.attribution",
    "bundle.write",
    "bundle.verify",
    "label_issues",
    "explaining",
    "data.augment",
    "data.augment_batch",
    "data.kept",
    "data.operations",
    "data.mix",
    "data.loader",
}
TORCH_FREE = {"bench.turns", "training.schedule", "training.rate_suggestions"}
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


def place(module: str, places: Collection[str]) -> str | None:
    """The longest place that a module lies in."""
    while module and module not in places:
        module = module.rpartition(".")[0]
    return module or None


def arrows_that_run_back(found: list[Arrow]) -> list[str]:
    wrong = []
    for arrow in found:
        here, there = place(arrow.source, MAY_IMPORT), place(arrow.target, MAY_IMPORT)
        allowed = MAY_IMPORT.get(here or "", set())
        free = arrow.target.startswith("other:") or arrow.target == "__init__" or (here is not None and here == there)
        if not free and place(arrow.target, allowed) is None and "*" not in allowed:
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
    return place(module, TORCH_PLACES) is not None and place(module, TORCH_FREE) is None


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


@pytest.fixture(scope="module")
def found() -> list[Arrow]:
    return arrows(SOURCE, tellapart._PUBLIC)


def test_no_arrow_runs_back(found):
    assert arrows_that_run_back(found) == []


def test_no_module_imports_itself_over_others(found):
    assert circles(found) == []


def test_torch_stays_in_its_places(found):
    assert torch_out_of_place(found) == []


def test_every_module_has_a_place():
    assert [name for name in modules(SOURCE) if place(name, MAY_IMPORT) is None] == []


def test_rooms_have_empty_inits():
    assert [str(path) for path in SOURCE.glob("*/**/__init__.py") if path.read_text(encoding="utf-8").strip()] == []


def test_light_modules_load_no_torch():
    """The drawing may overlook a library that loads torch by itself; the interpreter does not."""
    light = [f"tellapart.{name}" for name in modules(SOURCE) if not may_use_torch(name) and not name.startswith("__")]
    code = "import importlib, sys\nfor name in sys.argv[1:]: importlib.import_module(name)\nprint(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code, *light], stdout=subprocess.PIPE, text=True, check=True).stdout
    assert TORCH & set(loaded.split()) == set()


# Each check is shown a house that breaks its rule: a check that cannot fail guards nothing.
LAZY = {"train": "tellapart.pipeline"}


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
    "data/loader.py": "import torch\nfrom tellapart.errors import E",
    "data/scan.py": "from tellapart import errors",
    "data/decode.py": "",
    "serve/answer.py": "from tellapart.data.decode import decode",
    "pipeline.py": "import torch\nfrom .data import loader, scan\nimport tellapart\ntellapart.__version__",
    "cli.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch\n"
    "def main():\n    from tellapart.pipeline import run",
}


def test_a_sound_house_passes(tmp_path):
    found = house(tmp_path, SOUND)
    assert arrows_that_run_back(found) == circles(found) == torch_out_of_place(found) == []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("data/scan.py", "from tellapart.pipeline import run"),
        ("data/scan.py", "def f():\n    from tellapart.pipeline import run"),
        ("data/scan.py", "from ..pipeline import run"),
        ("data/scan.py", "from .. import pipeline"),
        ("data/scan.py", "import tellapart.pipeline"),
        ("data/scan.py", "from tellapart import train"),
        ("data/scan.py", "import tellapart\ntellapart.train()"),
        ("data/scan.py", "class A:\n    try:\n        import tellapart.cli\n    except ImportError:\n        pass"),
        ("serve/answer.py", "from tellapart.data import scan"),
        ("report/page.py", "from tellapart.data.scan import scan"),
        ("cellar.py", "from tellapart.errors import E"),
        ("__init__.py", "from tellapart.data.scan import scan"),
    ],
)
def test_an_arrow_that_runs_back_is_found(tmp_path, name, text):
    assert len(arrows_that_run_back(house(tmp_path, {**SOUND, name: text}))) == 1


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
        ("training/schedule.py", "import timm"),
        ("data/scan.py", "from tellapart.data.loader import load"),
        ("data/scan.py", "if True:\n    from tellapart.data import loader"),
        ("data/scan.py", "from tellapart.data import between"),
        ("cli.py", "from tellapart.pipeline import run"),
        ("cli.py", "from tellapart import train"),
        ("cli.py", "if TYPE_CHECKING:\n    pass\nelse:\n    import torch"),
    ],
)
def test_torch_out_of_place_is_found(tmp_path, name, text):
    files = {**SOUND, "data/between.py": "from tellapart.data import loader" if "between" in text else "", name: text}
    assert torch_out_of_place(house(tmp_path, files))
