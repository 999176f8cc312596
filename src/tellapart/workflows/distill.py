"""The verb `distill`: a small student is trained on a big network's answers, beside the same student without them."""

from __future__ import annotations

import json
import shlex
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tellapart.core.bundle_description import own_digest, read_description
from tellapart.data.catalog import Catalog
from tellapart.errors import RunError, UsageError
from tellapart.evaluation.compare import compare
from tellapart.evaluation.comparison import Contender
from tellapart.recipe.distill import Distill
from tellapart.runs.resume import check_run_directory
from tellapart.runs.run import ALONE, Run, locked
from tellapart.workflows.lessons import Teachers, answer, teachers_of, together, unlabelled_pictures
from tellapart.workflows.progress import ProgressSink, progress_sink

if TYPE_CHECKING:
    from tellapart.recipe.schema import Recipe


def distill(
    teacher: str | Path | Run,
    model: str,
    pictures: Sequence[str | Path] = (),
    recipe: str | Path | Recipe | None = None,
    out: str | Path | None = None,
    *,
    changes: Sequence[str] = (),
    temperature: float | None = None,
    alone: bool = True,
    runtime: str = "auto",
    progress: bool = False,
) -> Run:
    """Train a small network on a big one's answers; or go on where an earlier call stopped.

    It learns from the same training pictures, their labels and the teacher's answers to them (Hinton, Vinyals & Dean
    2015, arXiv 1503.02531), and is judged on the same validation and test pictures. The same student is trained on the
    labels alone too, and the report says whether the teacher made it better.

    Args:
        teacher: a finished run, also one of an ensemble; or an average of runs.
        model: name of the student's network.
        pictures: further pictures, folders or patterns, without labels, which the teacher answers.
        recipe: how the student is trained; by default as the teacher was.
        out: the run directory; by default that of the teacher with "-distilled" after its name.
        changes: "key=value" changes to the recipe, such as "distill.share=0.5".
        temperature: of the distillation, instead of the recipe's.
        alone: False leaves the student without a teacher out, and the comparison with it.
        runtime: as for `train`.
        progress: show progress on standard error.

    Returns:
        The student's run: bundle and report as of any run.

    Raises:
        UsageError, RunError, RecipeError: what cannot be taught so.
        TellapartError: see `train`.
    """
    from tellapart.workflows.train import RunOptions, follow_run

    first = teacher if isinstance(teacher, Run) else Run(Path(teacher))
    teachers, sink = teachers_of(first), progress_sink(progress)
    student = Run(Path(out) if out is not None else first.directory.with_name(f"{first.directory.name}-distilled"))
    taught = _recipe(teachers.runs[0], model, recipe, list(changes), temperature)
    catalog, split = teachers.runs[0].catalog, teachers.runs[0].split
    words = ["tellapart", "distill", first.directory, "--model", model]
    words += [word for path in pictures for word in ("--pictures", path)]
    command = shlex.join([*map(str, words), "--out", str(student.directory)])
    check_run_directory(student)
    _write_lessons(student, teachers, catalog, [str(path) for path in pictures], sink)
    follow_run(sink, taught, catalog, split, student.directory, RunOptions(runtime=runtime, command=command))
    if alone:
        sink.say("The same student on the labels alone:")
        without = Run(student.directory / ALONE)
        plain = taught.model_copy(update={"distill": None})
        follow_run(sink, plain, catalog, split, without.directory, RunOptions(runtime=runtime, command=command))
        _write_verdict(student, without, teachers)
    return Run(student.directory)


def _recipe(
    teacher: Run, model: str, asked: str | Path | Recipe | None, changes: list[str], temperature: float | None
) -> Recipe:
    """The student's recipe, with [distill].

    Raises:
        RecipeError: there is none, or a change does not fit.
    """
    from tellapart.models.scratch import OWN
    from tellapart.recipe.load import load_recipe
    from tellapart.recipe.schema import Model, Recipe

    if isinstance(asked, Recipe):
        if changes:
            raise UsageError("Changes are for a recipe that is named.", "Change the `Recipe` itself, or name its file.")
        recipe = asked.model_copy(update={"model": asked.model.model_copy(update={"name": model})})
    elif asked is not None:
        recipe = load_recipe(asked, [f"model.name={json.dumps(model)}", *changes])
    else:
        # The teacher's stages and pictures; its network, perhaps of several members, is another.
        own = Model(name=model, pretrained=model not in OWN)
        recipe = _changed(load_recipe(teacher.recipe_file).model_copy(update={"model": own, "plan": None}), changes)
    config = recipe.distill or Distill()
    if temperature is not None:
        if not 0 < temperature <= 100:
            raise UsageError(f"A temperature is above 0 and at most 100, not {temperature:g}.", "Usual are 1 to 5.")
        config = Distill(temperature=temperature, share=config.share)
    return recipe.model_copy(update={"distill": config})


def _changed(recipe: Recipe, changes: list[str]) -> Recipe:
    """The recipe with its changes, which are read beside a file of it."""
    from tellapart.recipe.load import load_recipe

    if not changes:
        return recipe
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "recipe.toml"
        file.write_text(recipe.to_toml(), encoding="utf-8")
        return load_recipe(file, changes)


def _write_lessons(student: Run, teachers: Teachers, catalog: Catalog, pictures: list[str], sink: ProgressSink) -> None:
    """Ask the teacher once, and keep its answers in the student's run; a later call takes them from there.

    Raises:
        RunError: this directory was begun with another teacher or other further pictures.
    """
    unlabelled, left_out = unlabelled_pictures(pictures, catalog) if pictures else (None, [])
    about = {
        "teachers": [str(run.directory.resolve()) for run in teachers.runs],
        "digests": [own_digest(asdict(read_description(run.bundle))) for run in teachers.runs],
        "unlabelled": 0 if unlabelled is None else len(unlabelled),
        "left_out": left_out,
    }
    for line in left_out:
        sink.note(f"{line}, and were left out.")
    before = student.distillation
    if before is not None and student.teacher_file.is_file():
        same = before["digests"] == about["digests"] and before["unlabelled"] == about["unlabelled"]
        if unlabelled is not None and student.unlabelled_file.is_file():
            same = same and Catalog.load(student.unlabelled_file).digest == unlabelled.digest
        if same:
            return
        raise RunError(
            f"{student.directory} was begun with another teacher or other pictures.", "Choose another --out."
        )
    whole, split = together(catalog, unlabelled), teachers.runs[0].split
    # A retraining shows the student the validation pictures too.
    rows = np.concatenate([split.train, split.validation, np.arange(len(catalog), len(whole))])
    with locked(student.directory):
        answers = sink.watch(answer(teachers, whole, rows))
        if unlabelled is not None:
            unlabelled.save(student.unlabelled_file)
        student.write_json(student.distillation_file, about)
        answers.save(student.teacher_file)  # last: with it, all is there


def _write_verdict(student: Run, without: Run, teachers: Teachers) -> None:
    """Write down whether the taught student beats the one without a teacher, and make the report anew with it."""
    from tellapart.report.run_report import report

    about: dict[str, Any] = student.distillation or {}
    about["verdict"] = verdict(student, without, teachers)
    student.write_json(student.distillation_file, about)
    report(Run(student.directory))


def verdict(student: Run, without: Run, teachers: Teachers) -> dict[str, Any]:
    """The two students on the same pictures: on the test ones, or where there are none on validation."""
    from tellapart.report.run_answers import answered
    from tellapart.report.sections.comparison_page import in_words

    on = next(iter(student.evaluations))
    alone = answered(without, without.predictions(on))
    taught = answered(student, student.predictions(on)).in_order(alone.predictions.classes)
    compared = compare([Contender("labels alone", (alone,)), Contender("taught", (taught,))])
    (difference,) = compared.differences
    words = f"{in_words(compared, difference)}, {compared.n:,} {on} pictures"
    sentence = {
        "better": f"The teacher made the student better: {words}.",
        "worse": f"The teacher made the student worse than the labels alone do: {words}.",
        "cannot tell": f"The student does not beat the same one trained on the labels alone, as far as these pictures "
        f"tell: {words}.",
    }[difference.verdict]
    name, distilled = student.evaluations[on].headline
    return {
        "on": on,
        "sentence": sentence,
        "words": difference.verdict,
        "metric": name,
        "alone": asdict(without.evaluations[on].metrics[name]),
        "distilled": asdict(distilled),
        "teachers": [asdict(run.evaluations[on].metrics[name]) for run in teachers.runs if on in run.evaluations],
    }
