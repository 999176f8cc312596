"""Train one small network with 1, 2 or 4 processes of a group, and print what came of it.

A program of its own: it loads torch once and forks, so it must not have threads; polars makes some.

    python several_workers.py PICTURES CASES FOLDER

CASES is JSON: by name, {"recipe": …, "workers": [1, 2], "labels": a table of labels or null}. Printed is JSON: by
name, a list of {"weights": digest, "losses": …, "answers": digest, …}, one for each number of workers.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any

# What no worker should have to load by itself.
import iterstrat.ml_stratifiers  # noqa: F401
import sklearn.model_selection  # noqa: F401
import torch
import torch._dynamo  # as an optimizer does when it is made
import torchvision  # noqa: F401

from tellapart.core.events import Progress, Validated
from tellapart.core.predictions import Predictions
from tellapart.data.catalog import Catalog
from tellapart.data.loading.loader import Rows
from tellapart.data.scan import scan
from tellapart.data.splitting.split import split
from tellapart.models.create import create_network
from tellapart.models.network import Network
from tellapart.recipe.schema import Recipe
from tellapart.training.checkpoint import State
from tellapart.training.dataset import Dataset
from tellapart.training.fit import fit
from tellapart.training.parallel.workers import Workers, join
from tellapart.training.predict import predict_fully
from tellapart.training.runtime import Runtime

CPU = Runtime("cpu", workers=1)


def trained(pictures: Path, labels: str | None, plan: Recipe, weights: Path) -> dict[str, Any]:
    """What one worker sees of a training. The leader writes the weights."""
    catalog = scan(pictures, labels=labels)
    parts = split(catalog, validation=0.25, test=0.25)
    torch.manual_seed(plan.seed)
    network = create_network(plan.model, len(catalog.classes), plan.data)
    train, validation, preprocessing = parts.train, parts.validation, network.preprocessing
    dataset = Dataset(
        catalog, train, validation, preprocessing, plan.augment, plan.seed, (), plan.augment_per == "batch"
    )
    with join([]) as workers:
        events = list(fit(network, plan, dataset, State(), CPU, workers=workers))
        answers = predict_all(network, catalog, parts.test, workers)
    tensors = network.state_dict()
    if workers is None or workers.leads:
        torch.save(tensors, weights)
    digest = hashlib.sha256(b"".join(tensor.numpy().tobytes() for tensor in tensors.values())).hexdigest()
    return {
        "weights": digest,
        "losses": [(e.train_loss, e.validation_loss, e.train_accuracy) for e in events if isinstance(e, Validated)],
        "answers": hashlib.sha256(answers.logits.tobytes() + answers.row.tobytes()).hexdigest(),
        "shown": sum(event.n_pictures for event in events if isinstance(event, Progress)),
        "workers": 1 if workers is None else workers.n,
    }


def predict_all(network: Network, catalog: Catalog, rows: Rows, workers: Workers | None) -> Predictions:
    work = predict_fully(network, catalog, rows, CPU, "test", workers=workers)
    while True:
        try:
            next(work)
        except StopIteration as end:
            answered: Predictions = end.value.predictions
            return answered


def group(n: int, pictures: Path, labels: str | None, plan: Recipe, folder: Path) -> dict[str, Any]:
    """Fork a group of workers; what the leader saw, after a check that all saw the same."""
    folder.mkdir(parents=True)
    children = []
    for rank in range(n):
        if child := os.fork():
            children.append(child)
            continue
        code = 1
        try:
            meet(folder / "meeting", rank, n)
            seen = trained(pictures, labels, plan, folder / "weights.pt")
            (folder / f"{rank}.json").write_text(json.dumps(seen), encoding="utf-8")
            code = 0
        except BaseException:  # noqa: BLE001 - the child must not go on as its parent
            traceback.print_exc()
        os._exit(code)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    if any(codes):
        raise SystemExit(f"workers ended with {codes}")
    first, *others = [json.loads((folder / f"{rank}.json").read_text(encoding="utf-8")) for rank in range(n)]
    if any(each != first for each in others):
        raise SystemExit(f"workers saw different trainings: {first} {others}")
    result: dict[str, Any] = first
    return result


def meet(file: Path, rank: int, n: int) -> None:
    """Make the group over a file: no port has to be free. As Ray does, before the training begins."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=n)


def main() -> None:
    pictures, cases, folder = sys.argv[1:]
    torch.set_num_threads(1)
    results: dict[str, list[dict[str, Any]]] = {}
    for name, case in json.loads(Path(cases).read_text(encoding="utf-8")).items():
        plan = Recipe.model_validate(case["recipe"])
        at = Path(folder) / name
        results[name] = [group(n, Path(pictures), case["labels"], plan, at / str(n)) for n in case["workers"]]
    print(json.dumps(results))


if __name__ == "__main__":
    main()
