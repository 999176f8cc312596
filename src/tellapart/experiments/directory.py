"""A study on disk: how it is begun, and whether a later command continues the same one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tellapart.core import file_locks
from tellapart.core.files import write_text
from tellapart.core.suggest import suggest
from tellapart.data.catalog import Catalog
from tellapart.errors import RecipeError, RunError
from tellapart.evaluation.metrics import ONE_LABEL, SEVERAL_LABELS
from tellapart.experiments.description import Description, Objective, SeedRange
from tellapart.experiments.results import CELL, CELLS, DESCRIPTION, read_description, read_values, write_values
from tellapart.experiments.space import Cell, Space, recipe_id
from tellapart.experiments.splits import StudySplits
from tellapart.experiments.study_file import Seeds, StudyFile
from tellapart.runs.resume import refuse_other_files

STUDY_FILE, CATALOG, STORAGE = "study.toml", "catalog.parquet", "optuna.db"
#: What a study's directory may hold before it is begun.
_OWN = {STUDY_FILE, DESCRIPTION, CATALOG, STORAGE, CELLS}
_MINIMISED = ("log_loss", "seconds", "n_parameters")
_NEW = "Choose another --out for a new study, or repeat the first command."


@dataclass(frozen=True)
class Study:
    """A study that is under way.

    Attributes:
        directory: its files.
        file, space: what is varied, as the user wrote it and as it was read.
        catalog, splits: the pictures.
        cells: of the design, the baseline first; of a search, the baseline alone.
        description: study.json.
    """

    directory: Path
    file: StudyFile
    space: Space
    catalog: Catalog
    splits: StudySplits
    cells: list[Cell]
    description: Description


def objectives_of(study: StudyFile, multilabel: bool) -> tuple[Objective, ...]:
    """The objectives of a study with their directions.

    Raises:
        RecipeError: there is no such metric for these pictures.
    """
    metrics = SEVERAL_LABELS if multilabel else ONE_LABEL
    for name in study.objectives:
        if name not in (*metrics, "seconds", "n_parameters"):
            raise RecipeError(
                f"objective: these pictures have no metric '{name[:80]}'.",
                suggest(name, (*metrics, "seconds", "n_parameters")),
            )
    names = study.objectives or [metrics[0]]
    return tuple(Objective(name=n, direction="minimize" if n in _MINIMISED else "maximize") for n in names)


def begin(
    directory: Path,
    file: StudyFile,
    space: Space,
    cells: list[Cell],
    splits: StudySplits,
    machine: dict[str, Any],
    runtime: dict[str, Any],
    threads: int,
    command: str,
) -> tuple[Study, list[str]]:
    """A study that begins in a directory that is empty, or goes on there. `write_study` writes it.

    Levels, factors, seeds, objectives and trials may be added; what is done stays as it is.

    Args:
        directory: locked by the caller.
        machine, runtime, threads: as now; of a study that was begun, its own runtime and threads count.

    Returns:
        The study, and what has changed since it was begun, in sentences.

    Raises:
        RunError: the directory holds other things, or a study of other pictures, another split or another recipe.
    """
    now = description_of(directory, file, space, cells, splits)
    at_hand: dict[str, Any] = {"machine": machine, "threads": threads, "runtime": runtime, "command": command}
    description = Description(**now, **at_hand)
    notes: list[str] = []
    if (directory / DESCRIPTION).is_file():
        before = read_description(directory)
        notes = _check(directory, before, description)
        description = description.model_copy(
            update={"threads": before.threads, "runtime": before.runtime, "machine": before.machine}
        )
    else:
        hint = "Choose another --out: a folder that is empty or does not exist yet."
        refuse_other_files(directory, _OWN, hint)
    return Study(directory, file, space, splits.catalog, splits, cells, description), notes


def write_study(study: Study) -> None:
    """Write the files of a study and its cells. What cannot be trained is refused before: it holds no directory."""
    directory = study.directory
    if not ((directory / CATALOG).is_file() and (directory / DESCRIPTION).is_file()):
        # Without a description, a catalog is what a kill left: perhaps of other pictures.
        study.catalog.save(directory / CATALOG)
    write_text(directory / STUDY_FILE, study_toml(study.file))
    write_values(directory / DESCRIPTION, study.description.model_dump(mode="json"))
    for number, cell in enumerate(study.cells):
        save_cell(directory, cell, number)


def description_of(
    directory: Path, file: StudyFile, space: Space, cells: list[Cell], splits: StudySplits
) -> dict[str, Any]:
    """What study.json says of a study, but for the machine."""
    catalog, seeds = splits.catalog, file.seeds
    n_train, n_validation = len(splits.whole.train), len(splits.whole.validation)
    return {
        "name": directory.absolute().name,
        "about": file.about,
        "objectives": objectives_of(file, catalog.multilabel),
        "factors": space.factors,
        "design": file.design,
        "baseline": cells[0].id,
        "seeds": SeedRange(first=seeds.first, last=seeds.last) if isinstance(seeds, Seeds) else seeds,
        "vary_randomness": tuple(file.vary_randomness),
        "nested": file.nested,
        "folds": file.folds,
        "n_validation": n_train + n_validation if file.folds else n_validation,
        "n_train": n_train,
        "classes": catalog.classes,
        "multilabel": catalog.multilabel,
        "pictures": str(catalog.root),
        "fingerprint": {"pictures": catalog.digest, "split": splits.digest, "recipe": recipe_id(space.base)},
    }


def _check(directory: Path, before: Description, now: Description) -> list[str]:
    """Refuse to mix what cannot be compared. Returns what else has changed, in sentences."""
    if before.state == "closed":
        raise RunError(
            f"{directory} is closed: its test part was opened, so nothing more can be chosen by it.",
            "Choose another --out for a new study, with other pictures as its test part.",
        )
    reasons = {
        "pictures": "of other pictures (or other labels)",
        "split": "with another division of the pictures, or other folds",
        "recipe": "with another recipe, or other 'set' changes",
    }
    for name, reason in reasons.items():
        if before.fingerprint.get(name) != now.fingerprint[name]:
            raise RunError(f"{directory} holds a study {reason}: their results cannot be compared.", _NEW)
    held = ("vary_randomness", "nested", "folds", "multilabel")
    for name in held:
        if getattr(before, name) != getattr(now, name):
            raise RunError(
                f"{directory} was begun with {name} = {getattr(before, name)!r}, not {getattr(now, name)!r}.", _NEW
            )
    asked = {k: v for k, v in now.runtime.items() if k in ("device", "precision", "frozen", "channels_last", "engine")}
    if any(before.runtime.get(name) != value for name, value in asked.items()):
        raise RunError(f"{directory} was begun with another runtime: {before.runtime}.", _NEW)
    names = ("tellapart", "torch", "torchvision", "timm", "numpy", "processor", "gpu")
    pairs = [(name, before.machine.get(name), now.machine.get(name)) for name in names]
    return [
        f"{name} was {was or 'another'} when the study was begun, and is {is_now or 'another'} now: results "
        "of the same cell may differ in their last digits."
        for name, was, is_now in pairs
        if was != is_now
    ]


def study_toml(file: StudyFile) -> str:
    """A study as TOML: what its directory keeps, and `tellapart study` reads again."""
    import tomlkit  # half a second to import

    values = file.model_dump(by_alias=True, exclude_none=True, exclude={"budget"})
    if budget := file.budget.model_dump(exclude_unset=True):
        values["budget"] = budget
    values["vary"] = {name: vary.model_dump(by_alias=True, exclude_unset=True) for name, vary in file.vary.items()}
    return tomlkit.dumps(values)


def save_cell(directory: Path, cell: Cell, number: int) -> None:
    """Write a cell's levels and recipe, if they are not there. Added factors change the levels, not the cell."""
    path = directory / CELLS / cell.id / CELL
    values = {"number": number, "levels": cell.levels, "changes": cell.changes}
    if path.is_file() and read_values(path, "number", "levels") == values:
        return
    if not path.with_name("recipe.toml").is_file():
        write_text(path.with_name("recipe.toml"), cell.recipe.to_toml())
    write_values(path, values)


def set_state(directory: Path, state: str) -> None:
    """Write the state of a study."""
    description = read_description(directory)
    if description.state != state:
        values = description.model_dump(mode="json") | {"state": state}
        write_values(directory / DESCRIPTION, values)


@contextmanager
def locked(directory: Path, shared: bool = False) -> Iterator[None]:
    """Hold a study's directory: alone, or together with others that share a storage.

    The lock belongs to the operating system, so one of a dead process does not last.

    Raises:
        RunError: another process holds it.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        handle = os.open(directory / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise RunError(f"{directory} cannot be written to: {error.strerror}.", "Choose another --out.") from error
    try:
        if not file_locks.lock(handle, shared, wait=False):
            number = os.pread(handle, 20, 0).decode("ascii", "replace").strip()
            raise RunError(
                f"{directory} is in use by another process (number {number or 'unknown'}).",
                "Wait until it has finished, or stop it. Several work on one study where all of them have the same "
                "--storage URL.",
            )
        os.ftruncate(handle, 0)
        os.pwrite(handle, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(handle)
