"""Every place that builds a network, or reads what a network is made of, goes through a checked loader.

A run directory, a bundle or a file of weights may come from anybody. The source is walked: whoever reads bundle.json by
himself, hands a name to timm, or opens a file with a reader that can execute, fails here.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.test_architecture import SOURCE, modules

# Calls that build a network or open a model, and the modules that may make them. Each of these checks first.
ONLY_IN = {
    # Names by `is_timm`, options by `check_options`; an export's architecture was checked so.
    "create_model": {"models.backbones", "models.hub", "deploy.export.timm_folder"},
    "get_model": {"models.backbones"},
    "get_model_weights": {"models.backbones", "models.hub"},
    "Architecture": {"models.architecture", "models.create"},  # others: Architecture.from_dict
    "rebuild": {"training.checkpoint", "explaining.attribution", "deploy.export.bundle_network"},
    "load_network": {"workflows.label_issues"},
    "safe_open": {"training.checkpoint_file"},
    "load_file": {"models.weights", "deploy.export.bundle_network"},  # of a bundle whose digests were checked
    # The others run what was just made from a checked network.
    "InferenceSession": {"deploy.bundle.session", "deploy.export.onnx_file", "training.fast.engines"},
}
# A keyword without which a reader executes what it reads.
ONLY_WITH = {("torch", "load"): ("weights_only", True), ("np", "load"): ("allow_pickle", False)}
NEVER = {"eval", "exec", "__import__", "torch.hub.load", "torch.hub.load_state_dict_from_url", "torch.jit.load"}
LOADERS = {*ONLY_IN, *(last for _, last in ONLY_WITH), *(name.rpartition(".")[2] for name in NEVER)}
UNPICKLERS = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
# Who reads bundle.json calls `read_description`.
DESCRIPTION_READERS = {"core.bundle_description", "deploy.bundle.record_export"}  # the latter checks it first
READERS = {"loads", "load", "read_json", "read_text", "read_bytes", "open"}


def faults(source: str, module: str) -> Iterator[str]:
    """What one module does that belongs to a checked loader."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = {alias.name for alias in node.names} | {getattr(node, "module", None) or ""}
            if wrong := {name.partition(".")[0] for name in names} & UNPICKLERS:
                yield f"{module}:{node.lineno} imports {wrong.pop()}"
        if isinstance(node, ast.Call):
            yield from _of_call(node, module)
        if isinstance(node, ast.FunctionDef) and module not in DESCRIPTION_READERS and _reads_description(node):
            yield f"{module}:{node.lineno} {node.name} reads bundle.json without its check"


def _of_call(call: ast.Call, module: str) -> Iterator[str]:
    last = getattr(call.func, "attr", getattr(call.func, "id", ""))
    if last not in LOADERS:
        return
    full = ast.unparse(call.func)
    if module not in ONLY_IN.get(last, {module}):
        yield f"{module}:{call.lineno} calls {full}, which {' and '.join(sorted(ONLY_IN[last]))} may"
    if full in NEVER:
        yield f"{module}:{call.lineno} calls {full}"
    owner = full.split(".")[0]
    reads = full in NEVER or full == "torch.export.load"  # the latter is of an export that was just written
    keyword = None if reads else ONLY_WITH.get((owner, last))
    if keyword and keyword not in {(k.arg, getattr(k.value, "value", None)) for k in call.keywords}:
        yield f"{module}:{call.lineno} calls {full} without {keyword[0]}={keyword[1]}"


def _reads_description(function: ast.FunctionDef) -> bool:
    nodes = list(ast.walk(function))
    named = any(
        (isinstance(node, ast.Name) and node.id == "DESCRIPTION")
        or (isinstance(node, ast.Constant) and node.value == "bundle.json")
        for node in nodes
    )
    calls = [node.func for node in nodes if isinstance(node, ast.Call)]
    return named and any(getattr(call, "attr", getattr(call, "id", "")) in READERS for call in calls)


def test_only_checked_loaders_build_networks_from_files() -> None:
    found = [fault for name, path in modules(SOURCE).items() for fault in faults(path.read_text("utf-8"), name)]
    assert not found, "\n".join(found)


def test_the_modules_that_may_are_there() -> None:
    """A table that names what has gone would let in whatever takes its name."""
    named = modules(SOURCE)
    for call, allowed in ONLY_IN.items():
        for module in allowed:
            assert call in named[module].read_text("utf-8"), f"{module} no longer calls {call}"


@pytest.mark.parametrize(
    ("source", "says"),
    [
        # as it was: the digest not looked at, name and options handed on as they came
        (
            "def trained(run):\n"
            "    about = run.bundle / 'bundle.json'\n"
            "    values = json.loads(about.read_text(encoding='utf-8'))['architecture']\n"
            "    network = rebuild(Architecture.from_dict(values))\n",
            ["calls rebuild", "trained reads bundle.json"],
        ),
        ("def f(values):\n    return timm.create_model(values['name'], **values['options'])", ["timm.create_model"]),
        ("def f(values):\n    return Architecture(**values)", ["calls Architecture"]),
        ("def f(folder):\n    return json.loads((folder / DESCRIPTION).read_bytes())", ["f reads bundle.json"]),
        ("def f(run):\n    return read_json(run.bundle / 'bundle.json')", ["f reads bundle.json"]),
        ("torch.load(path)", ["without weights_only=True"]),
        ("torch.load(path, weights_only=False)", ["without weights_only=True"]),
        ("np.load(path)", ["without allow_pickle=False"]),
        ("from pickle import loads", ["imports pickle"]),
        ("import joblib", ["imports joblib"]),
        ("torch.hub.load('someone/model', 'net')", ["torch.hub.load"]),
        ("onnxruntime.InferenceSession(path)", ["InferenceSession"]),
    ],
)
def test_known_bad_samples_are_seen(source: str, says: list[str]) -> None:
    found = list(faults(source, "workflows.new"))
    assert len(found) == len(says), found
    assert all(any(text in fault for fault in found) for text in says), found
