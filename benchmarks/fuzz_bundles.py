"""Bundles changed by somebody who can sign: each answers or is refused; none runs on or fills the memory.

    python -m benchmarks.fuzz_bundles [N] [SEED]

A bundle is written, and then changed at random: values of bundle.json, entries and bytes of the tensors, operators,
attributes, shapes and constants of the network. All digests are made to fit. Each is loaded, asked about two pictures,
and its architecture is checked. Processor time is measured, not the clock. A crash ends the child that reads them, and
counts.
"""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, GraphProto, TensorProto, helper, numpy_helper

from benchmarks import record
from tellapart.core.bundle_description import DESCRIPTION, own_digest
from tellapart.core.limits import limit_memory
from tellapart.deploy.bundle.read import GOLDEN, KNOWN, MODEL, WEIGHTS, Bundle

Values = Any
BATCH = 500  # bundles that one child reads
SECONDS, GIB = 20.0, 3.0  # a bundle
NASTY: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 33, 1_000_000_000, 2**31, 2**62, -(2**63), 10**400),
    *(0.5, 1e-320, 1e308, float("nan"), float("inf"), "", "x", "1", "\x1b[31m", "\udcff", "a" * 20_000, "../x"),
    *(
        "hf-hub:a/b",
        "/etc/passwd",
        [],
        {},
        [[]],
        [0],
        ["a"],
        [1.0, 1.0],
        {"a": 1},
        [1] * 50_000,
        {"checkpoint_path": "x"},
    ),
)
NUMBERS = (0, 1, -1, 2, 7, 255, 65_535, 1_000_000, 2**31 - 1, 2**31, 2**40, 2**62, -(2**63))


def nested(depth: int) -> Values:
    """Lists within lists."""
    value: Values = 0
    for _ in range(depth):
        value = [value]
    return value


def changed_values(values: Values, dice: random.Random) -> Values:
    """Plain values of JSON with one to three of them changed."""
    for _ in range(dice.choice((1, 1, 1, 2, 3))):
        owner, key = dice.choice(list(_places(values)))
        match dice.randrange(6):
            case 0:
                del owner[key]
            case 1:
                owner[key] = nested(dice.choice((10, 100, 400)))
            case 2 if isinstance(owner[key], int | float) and not isinstance(owner[key], bool):
                owner[key] = owner[key] * dice.choice((-1, 0, 2, 1e6, 1e300, 1e-300))
            case 3 if isinstance(owner[key], list | str):
                owner[key] = owner[key] * dice.choice((0, 2, 100))
            case 4:
                owner[key] = json.loads(json.dumps(dice.choice(list(_places(values))[:40])[0]))
            case _:
                owner[key] = dice.choice(NASTY)
        if not any(True for _ in _places(values)):
            break
    return values


def _places(values: Values) -> Any:
    """Every container with every key or number in it."""
    keys = list(values) if isinstance(values, dict) else range(len(values)) if isinstance(values, list) else ()
    for key in keys:
        yield values, key
        if isinstance(values[key], dict | list) and len(values[key]) < 1_000:
            yield from _places(values[key])


def changed_bytes(content: bytes, dice: random.Random) -> bytes:
    """Some bytes changed, left out or doubled."""
    changed = bytearray(content)
    for _ in range(dice.choice((1, 1, 2, 8))):
        position = dice.randrange(min(len(changed), dice.choice((8, 200, 1 << 30)))) if changed else 0
        length = dice.choice((1, 4, 8, 100))
        match dice.randrange(4):
            case 0:
                changed[position : position + 1] = bytes([dice.randrange(256)])
            case 1:
                changed[position : position + 8] = dice.choice((b"\xff", b"\0", b"\x7f")) * 8
            case 2:
                del changed[position : position + length]
            case _:
                changed[position:position] = changed[position : position + length] * dice.choice((1, 50))
    return bytes(changed)


def changed_tensors(content: bytes, dice: random.Random) -> bytes:
    """A .safetensors file with another header, or other numbers."""
    if dice.random() < 0.3:
        return changed_bytes(content, dice)
    length = int.from_bytes(content[:8], "little")
    header, data = json.loads(content[8 : 8 + length]), bytearray(content[8 + length :])
    if dice.random() < 0.3:
        numbers = np.frombuffer(data[: len(data) // 4 * 4], np.float32).copy()
        numbers[dice.randrange(len(numbers))] = dice.choice((np.nan, np.inf, 0, -1, 1e38, 1e-38))
        data[: numbers.nbytes] = numbers.tobytes()
    else:
        header = changed_values(header, dice)
    text = json.dumps(dice.choice((header,) * 9 + NASTY), default=str).encode("utf-8", "replace")
    if dice.random() < 0.03:
        text = b"[" * 200_000
    return len(text).to_bytes(8, "little") + text + data


def changed_model(content: bytes, dice: random.Random) -> bytes:
    """A network with other operators, attributes, shapes or constants, or other bytes."""
    if dice.random() < 0.2:
        return changed_bytes(content, dice)
    model = onnx.load_from_string(content)
    for _ in range(dice.choice((1, 1, 2, 3))):
        dice.choice(_CHANGES)(model.graph, dice)
    if dice.random() < 0.02:
        model.opset_import.append(helper.make_opsetid(dice.choice(("com.microsoft", "mine")), 1))
    return model.SerializeToString()


_SCHEMAS = sorted({(schema.domain, schema.name) for schema in onnx.defs.get_all_schemas()})


def _other_operator(graph: GraphProto, dice: random.Random) -> None:
    node = dice.choice(graph.node)
    node.domain, node.op_type = dice.choice(_SCHEMAS)


def _other_attribute(graph: GraphProto, dice: random.Random) -> None:
    attributes = [attribute for node in graph.node for attribute in node.attribute]
    attribute = dice.choice(attributes)
    if attribute.ints:
        attribute.ints[dice.randrange(len(attribute.ints))] = dice.choice(NUMBERS)
    elif attribute.type == AttributeProto.INT:
        attribute.i = dice.choice(NUMBERS)
    else:
        attribute.f = dice.choice((0.0, -1.0, 1e30))


def _other_constant(graph: GraphProto, dice: random.Random) -> None:
    tensor = dice.choice(graph.initializer)
    match dice.randrange(4):
        case 0 if tensor.dims:
            tensor.dims[dice.randrange(len(tensor.dims))] = dice.choice(NUMBERS)
        case 1 if tensor.data_type == TensorProto.INT64:
            values = numpy_helper.to_array(tensor).copy()
            values.flat[dice.randrange(values.size) if values.size else 0 :][:1] = dice.choice(NUMBERS)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
        case 2:
            tensor.data_location = TensorProto.EXTERNAL
            tensor.external_data.add(key="location", value=dice.choice((WEIGHTS, "/etc/passwd", "../x")))
        case _:
            tensor.raw_data = tensor.raw_data[: dice.randrange(len(tensor.raw_data) + 1)]


def _other_wiring(graph: GraphProto, dice: random.Random) -> None:
    node = dice.choice(graph.node)
    names = [name for other in graph.node for name in other.output]
    match dice.randrange(4):
        case 0 if node.input:
            node.input[dice.randrange(len(node.input))] = dice.choice(names)
        case 1:
            graph.node.remove(node)
        case 2:
            graph.node.add().CopyFrom(node)
        case _:
            value = dice.choice((*graph.input, *graph.output)).type.tensor_type
            value.shape.dim[dice.randrange(len(value.shape.dim))].dim_value = dice.choice(NUMBERS)


def _inserted(graph: GraphProto, dice: random.Random) -> None:
    """An operator that makes much of little, before the last one."""
    shape = [dice.choice(NUMBERS) for _ in range(dice.choice((1, 2, 4)))]
    last = graph.node[-1]
    source = last.input[0] if last.input else ""
    operator = dice.choice(("ConstantOfShape", "Expand", "Tile", "Resize", "Pad", "Reshape", "Range", "Loop", "If"))
    name = f"made {len(graph.node)}"
    inputs = {"ConstantOfShape": ["s"], "Resize": [source, "", "", "s"], "Range": ["s", "s", "s"]}
    node = helper.make_node(
        operator, [i.replace("s", name + " s") if i == "s" else i for i in inputs.get(operator, [source, "s"])], [name]
    )
    if operator in ("Loop", "If"):
        body = helper.make_graph([helper.make_node("Identity", [source], ["y"])], "body", [], [])
        node.attribute.append(helper.make_attribute("body" if operator == "Loop" else "then_branch", body))
    if dice.random() < 0.5:
        graph.initializer.append(numpy_helper.from_array(np.array(shape, np.int64), name + " s"))
    else:  # computed, so that its size stands nowhere
        half = numpy_helper.from_array(np.array([min(abs(n), 2**20) for n in shape], np.int64), name + " h")
        graph.initializer.append(half)
        graph.node.insert(len(graph.node) - 1, helper.make_node("Mul", [name + " h", name + " h"], [name + " s"]))
    graph.node.insert(len(graph.node) - 1, node)
    if last.input and dice.random() < 0.7:
        last.input[0] = name


_CHANGES: tuple[Callable[[GraphProto, random.Random], None], ...] = (
    _other_operator,
    _other_attribute,
    _other_constant,
    _other_wiring,
    _inserted,
)


def mutant(whole: dict[str, bytes], folder: Path, number: int, seed: int) -> str:
    """Write the bundle of this number, the same for the same seed; return the name of the file that was changed."""
    dice = random.Random(f"{seed} {number}")
    name = dice.choice((DESCRIPTION, DESCRIPTION, MODEL, MODEL, KNOWN, GOLDEN))
    files = dict(whole)
    values = json.loads(files.pop(DESCRIPTION))
    if name == DESCRIPTION:
        values = changed_values(values, dice)
    elif name == MODEL:
        files[name] = changed_model(files[name], dice)
    else:
        files[name] = changed_tensors(files[name], dice)
    for file, content in files.items():
        (folder / file).write_bytes(content)
        if isinstance(values.get("files"), dict) and name != DESCRIPTION:
            values["files"][file] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    text = json.dumps(values | {"sha256": own_digest(values)})
    (folder / DESCRIPTION).write_bytes(text.encode("utf-8", "surrogatepass"))
    return name


def ask(folder: Path) -> str:
    """Load a bundle and ask it; "answered", or the kind of the error that refused it."""
    from tellapart.deploy.bundle.golden import check_golden
    from tellapart.errors import BundleError, ModelError
    from tellapart.models.architecture import Architecture

    try:
        bundle = Bundle.load(folder)
        frame = (2, bundle.preprocessing.height, bundle.preprocessing.width, 3)
        n_copies = bundle.tta if frame[1] * frame[2] < 100_000 else 0
        logits, _ = bundle.predict_distance(np.zeros(frame, np.uint8), n_copies=n_copies)
        bundle.probabilities(logits)
        check_golden(bundle)
        Architecture.from_dict(bundle.architecture)
    except (BundleError, ModelError) as error:
        return type(error).__name__
    return "answered"


def read(first: int, last: int, seed: int, folder: Path) -> None:
    """Ask the bundles of a batch, and print a line for each."""
    limit_memory(GIB)
    whole = {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".md"}
    ask(folder)  # imports are no part of a bundle's time
    with tempfile.TemporaryDirectory() as other:
        for number in range(first, last):
            print(json.dumps({"number": number}), flush=True)
            name = mutant(whole, Path(other), number, seed)
            began = time.process_time()
            try:
                result = ask(Path(other))
            except Exception as error:  # noqa: BLE001 - what is looked for
                result = f"traceback: {type(error).__name__}: {str(error)[:100]}"
            seconds = time.process_time() - began
            print(json.dumps({"number": number, "file": name, "seconds": seconds, "result": result}), flush=True)
    status = Path("/proc/self/status").read_text()
    print(json.dumps({"peak": int(status[status.index("VmHWM:") :].split()[1]) * 1024}), flush=True)


def write_whole(folder: Path) -> None:
    """A bundle of a small network, with known classes."""
    import torch

    from tellapart.core.preprocess import Preprocessing
    from tellapart.deploy.bundle.write import write_bundle
    from tellapart.evaluation.calibration_summary import Certainty
    from tellapart.evaluation.fit_open_set import fit_known
    from tellapart.evaluation.open_set import OodScore
    from tellapart.models.architecture import Architecture
    from tellapart.models.create import rebuild
    from tellapart.recipe.schema import Head

    torch.manual_seed(0)
    network = rebuild(Architecture("timm", "test_vit", Head(), 3, Preprocessing(32, 32), {"img_size": [32, 32]})).eval()
    dice = np.random.default_rng(0)
    pictures = dice.integers(0, 256, (30, 32, 32, 3), np.uint8)
    with torch.inference_mode():
        features = network.answer(torch.from_numpy(pictures))[1].numpy()
    certainty = Certainty(
        1.2, sets={0.9: 0.2}, n_validation=30, ood_score=OodScore((1.0, 0.5), (0.3, 0.2), 5.0, 0.99, 30)
    )
    about = {"columns": ["id", "label"], "command": "tellapart train x", "recipe": {"model": {"name": "test_vit"}}}
    known = fit_known(features, np.arange(30) % 3, 3)
    write_bundle(
        folder, network, ("a", "b", "c"), False, certainty, golden=pictures, about=about, known=known, tta=2, flip=True
    )


def main(n: int, seed: int) -> None:
    """Ask all bundles in children, one after another."""
    folder = Path(tempfile.mkdtemp())
    write_whole(folder / "bundle")
    lines: dict[int, dict[str, Any]] = {}
    crashes: list[int] = []
    peak = first = 0
    while first < n:
        words = ["--read", str(first), str(min(first + BATCH, n)), str(seed), str(folder / "bundle")]
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.fuzz_bundles", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            check=False,
        )
        said = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        lines |= {line["number"]: line for line in said if "result" in line}
        peak = max([peak, *(line["peak"] for line in said if "peak" in line)])
        last = max((line["number"] for line in said if "number" in line), default=first)
        if done.returncode:
            crashes.append(last)
        first = last + 1
        _write(lines, crashes, peak, seed)  # so that a run that is broken off has a result too
    shutil.rmtree(folder)


def _write(lines: dict[int, dict[str, Any]], crashes: list[int], peak: int, seed: int) -> None:
    """The figures of all bundles so far."""
    results = Counter(line["result"].partition(":")[0] for line in lines.values())
    tracebacks = {number: line["result"] for number, line in lines.items() if line["result"].startswith("traceback")}
    figures = {
        "n": len(lines),
        "seed": seed,
        "results": dict(results),
        "changed": dict(Counter(line["file"] for line in lines.values())),
        "tracebacks": tracebacks,
        "crashes": crashes,
        "slowest_s": max(line["seconds"] for line in lines.values()),
        "above_20_s": [number for number, line in lines.items() if line["seconds"] > SECONDS],
        "peak_bytes": peak,
        "memory_limit_gib": GIB,
    }
    record.write("fuzz_bundles", figures)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--read"]:
        read(*map(int, sys.argv[2:5]), Path(sys.argv[5]))
    else:
        main(int((sys.argv[1:] or [10_000])[0]), int((sys.argv[2:] or [0])[0]))
