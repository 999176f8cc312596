"""A step divided among workers: the same weights for any number of them, and every picture once."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tellapart.errors import UsageError
from tellapart.recipe.distributed import Distributed, for_workers
from tellapart.recipe.schema import Recipe
from tellapart.training.parallel.division import Division
from tellapart.training.parallel.workers import Workers

PROGRAM = Path(__file__).with_name("several_workers.py")
CROPPED = [
    {"transform": "random_resized_crop", "scale": {"uniform": [0.5, 1.0]}},
    {"transform": "horizontal_flip"},
]
Results = dict[str, list[dict[str, Any]]]


def case(workers: list[int], stages: list[dict[str, Any]], **parts: Any) -> dict[str, Any]:
    model = {"name": "cnn8", "pretrained": False, "dropout": 0.2}
    recipe = {"data": {"size": 32}, "model": model, "stages": stages, "augment": CROPPED, **parts}
    recipe["distributed"] = {"micro_batches": 4, **parts.get("distributed", {})}
    return {"recipe": recipe, "workers": workers, "labels": None}


def several_labels(pictures: Path) -> str:
    """A table that gives the pictures several labels, or none."""
    files = sorted(path.relative_to(pictures).as_posix() for path in pictures.rglob("*.png"))
    lines = [f"{file},{number % 2},{number // 2 % 2},{int('circle' in file)}" for number, file in enumerate(files)]
    table = pictures.parent / "several.csv"
    table.write_text("\n".join(["path,odd,second,circle", *lines, ""]), encoding="utf-8")
    return str(table)


def run(folder: Path, pictures: Path, cases: dict[str, Any]) -> Results:
    file = folder / "cases.json"
    file.write_text(json.dumps(cases), encoding="utf-8")
    command = [sys.executable, str(PROGRAM), str(pictures), str(file), str(folder / "groups")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr[-4000:]
    results: Results = json.loads(done.stdout)
    return results


def difference(folder: Path, name: str, numbers: tuple[int, int]) -> float:
    one, other = (torch.load(folder / "groups" / name / str(n) / "weights.pt") for n in numbers)
    return max(float((one[key].double() - other[key].double()).abs().max()) for key in one)


STAGE = {"epochs": 2, "batch_size": 8, "lr": 1e-3}
PLAIN = {"name": "tutorial-cnn", "pretrained": False}
SGD = STAGE | {"optimizer": "sgd", "momentum": 0.0}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory, pictures_at: Callable[..., Path]) -> tuple[Path, Results]:
    """What one and two workers made of a few recipes, all in one program."""
    folder = tmp_path_factory.mktemp("workers")
    pictures = pictures_at(folder / "pictures", n=6)
    fixed = {"train": "head", "augment": False}
    cases = {
        "ordered": case([1, 2], [STAGE], mix={"mixup": 0.2}),
        "features": case([1, 2], [fixed | {"solver": "lbfgs"}, fixed | {"epochs": 2}], augment=[]),
    }
    cases["several labels"] = case([1, 2], [STAGE]) | {"labels": several_labels(pictures)}
    return folder, run(folder, pictures, cases)


@pytest.mark.slow
def test_four_workers_give_the_same_bits_and_faster_sums_the_same_but_for_rounding(
    tmp_path: Path, pictures_at: Callable[..., Path]
) -> None:
    pictures = pictures_at(tmp_path / "pictures", n=8)
    stage = STAGE | {"accumulate": 2, "average": 0.9}
    cases = {
        "one label": case([1, 2, 4], [stage], augment_per="batch"),
        "several labels": case([1, 4], [stage]) | {"labels": several_labels(pictures)},
        # Without norms: statistics of two pictures make much of the last digit.
        "quick": case([1, 4], [SGD | {"epochs": 10}], model=PLAIN, distributed={"reduce": "all_reduce"}),
        "synchronised": case([1, 2], [SGD], distributed={"batch_norm": "synchronised"}),
    }
    made = run(tmp_path, pictures, cases)
    for name in ("one label", "several labels"):
        digests = {(each["weights"], each["answers"], str(each["losses"])) for each in made[name]}
        assert len(digests) == 1
    assert difference(tmp_path, "quick", (1, 4)) < 1e-6  # after 20 steps and more
    assert difference(tmp_path, "synchronised", (1, 2)) < 1e-6


@pytest.mark.parametrize("name", ["ordered", "features", "several labels"])
def test_one_and_two_workers_give_the_same_bits(results: tuple[Path, Results], name: str) -> None:
    one, two = results[1][name]
    assert two.pop("workers") == 2
    assert one.pop("workers") == 1
    assert one == two
    assert len(one["losses"]) >= 2


def test_every_picture_is_shown_once_an_epoch(results: tuple[Path, Results]) -> None:
    one, _ = results[1]["ordered"]
    assert one["shown"] % len(one["losses"]) == 0
    assert one["shown"] / len(one["losses"]) > 8  # and an odd number of them, so that the last step is smaller
    assert one["shown"] / len(one["losses"]) % 8


@pytest.mark.parametrize("batch_norm", ["local", "synchronised"])
@pytest.mark.parametrize("n", [1, 2, 3, 5, 31, 32])
@pytest.mark.parametrize("n_workers", [1, 2, 3, 6])
def test_the_shares_of_a_step_are_the_step(n: int, n_workers: int, batch_norm: str) -> None:
    config = Distributed.model_validate({"micro_batches": 6, "batch_norm": batch_norm})
    shares = [Division(Workers(rank, n_workers), config).share(64, n, 32, 1) for rank in range(n_workers)]
    cuts = [cut for share in shares for cut in share.cuts]
    if shares[0].repeated:
        assert (batch_norm, cuts[: len(cuts) // n_workers] * n_workers) == ("synchronised", cuts)
        cuts = cuts[: len(cuts) // n_workers]
    assert [at for cut in cuts for at in range(cut.start, cut.stop)] == list(range(64, 64 + n))
    assert [share.sizes for share in shares] == [shares[0].sizes] * n_workers
    assert shares[0].n_pictures == n
    assert batch_norm == "local" or shares[0].repeated or all(share.cuts for share in shares)


def test_workers_that_do_not_divide_the_micro_batches_are_refused() -> None:
    with pytest.raises(UsageError, match=r"3 workers cannot share 4 micro-batches evenly\.") as refused:
        Division(Workers(0, 3), Distributed())
    assert refused.value.hint.startswith("Start 1, 2, 4 of them")


def test_a_recipe_gets_micro_batches_that_its_workers_divide() -> None:
    recipe = Recipe()
    assert for_workers(recipe, None) == recipe
    chosen = {n: for_workers(recipe, n).distributed for n in (1, 2, 3, 4, 6)}
    assert [each.micro_batches for each in chosen.values() if each] == [4, 4, 6, 4, 6]
    begun = for_workers(recipe, 3)
    assert for_workers(recipe, 2, begun) == begun
    assert for_workers(recipe, None, begun) == begun


def test_norms_that_are_kept_are_kept_in_every_stage() -> None:
    recipe = Recipe.model_validate({"distributed": {"batch_norm": "kept"}})
    kept = for_workers(recipe, 2)
    assert [stage.batch_norm for stage in kept.stages] == ["keep"]
    assert for_workers(kept, 4, kept) == kept
