"""The paragraph on methods that a paper needs of a study: design, seeds, pictures, tests, corrections."""

from __future__ import annotations

from tellapart.core.text import counted
from tellapart.evaluation.significance import ALPHA
from tellapart.evaluation.study_summary import StudySummary
from tellapart.report.study_details import StudyDetails
from tellapart.report.study_words import baseline_words, listed, metric_words

_DESIGNS = {
    "one-at-a-time": "One factor at a time was changed from the baseline",
    "grid": "All combinations of the levels were trained",
    "random": "Settings were drawn at random",
    "optuna": "Settings were chosen by a search (Optuna)",
}
#: What seeds may change, from the outermost: one of it, several of it, and as all settings share it.
_SOURCES = {
    "split": ("split of the pictures", "splits of the pictures", "the split"),
    "init": ("set of initial weights", "sets of initial weights", "the initial weights where the network is the same"),
    "order": ("order of the pictures", "orders of the pictures", "the order of pictures"),
}


def methods(details: StudyDetails) -> str:
    """The paragraph; its numbers come from the study."""
    summary = details.summary
    scored = [one for one in summary.cells if one.n]
    trainings = counted(sum(one.n for one in scored), "training")
    folds = f", {details.folds} folds each" if details.folds else ""
    base = f", {baseline_words(summary)}," if baseline_words(summary) else ""
    sentences = [
        f"{_DESIGNS[details.design]}{base} ({counted(len(summary.cells), 'setting')}, {trainings}{folds}).",
        *(_nested(summary) if summary.nested else _seeds(summary)),
        _compared(details),
        *_tests(summary),
    ]
    for group, verb in (("failed", "failed"), ("stopped", "stopped early by the search")):
        n = sum(sum(getattr(one, group).values()) for one in summary.cells)
        if n:
            were = "" if group == "failed" else "was " if n == 1 else "were "
            sentences.append(f"{counted(n, 'training')} {were}{verb} and {'is' if n == 1 else 'are'} left out.")
    sentences.append(f"Means are given with 95 % intervals of Student's t over {_unit(summary)}.")
    opened = "was opened once, after all choices, for the best setting and the baseline"
    sentences.append(f"The test part {opened if details.test else 'was not used'}.")
    return " ".join(sentences)


def _unit(summary: StudySummary) -> str:
    """What an observation is: a seed, or of nested ones the outermost."""
    outermost = next(name for name in _SOURCES if name in summary.varied) if summary.nested else ""
    return _SOURCES[outermost][1] if outermost else "seeds"


def _seeds(summary: StudySummary) -> list[str]:
    numbers = sorted({one.n for one in summary.cells if one.n}) or [0]
    each = f"{numbers[0]}" if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"
    changed = [_SOURCES[name][0].replace("set of ", "") for name in _SOURCES if name in summary.varied]
    shared = [words for _, _, words in _SOURCES.values()]
    return [
        f"Each setting was trained with {each} random {'seed' if numbers == [1] else 'seeds'}, which "
        f"{'changes' if numbers == [1] else 'change'} {listed(changed)}; for one seed, all settings share "
        f"{listed(shared)}."
    ]


def _nested(summary: StudySummary) -> list[str]:
    """How often a setting was trained, where each source of chance has seeds of its own inside the one before."""
    n, names = summary.seeds[0], [name for name in _SOURCES if name in summary.varied]
    parts = [f"{n} {_SOURCES[names[0]][1]}"]
    parts += [f"for each of these {n} {_SOURCES[name][1]}" for name in names[1:]]
    return [
        f"Each setting was trained {n ** len(names)} times: {', '.join(parts)}, all of them shared by all settings.",
        f"Trainings that share {'an' if names[0] == 'order' else 'a'} {_SOURCES[names[0]][0]} are not independent: "
        f"their mean counts as one observation, so n = {n}.",
    ]


def _compared(details: StudyDetails) -> str:
    summary = details.summary
    metric = metric_words(summary.metric)
    others = [metric_words(name) for name in summary.others]
    beside = f"; {listed(others)} beside it, without a test" if others else ""
    if not summary.n_pictures:
        return f"Settings were compared by {metric}{beside}."
    pictures = counted(summary.n_pictures, "picture")
    judged = f"cross-validation over {pictures}" if details.folds else f"a validation part of {pictures}"
    if "split" in summary.varied and not details.folds:
        judged = f"validation parts of {pictures}, drawn anew for each split"
    trained = f", training on {counted(details.n_train, 'picture')}" if details.n_train and not details.folds else ""
    return f"Settings were compared by {metric} on {judged}{trained}{beside}."


def _tests(summary: StudySummary) -> list[str]:
    if not summary.tested:
        return ["No differences were tested."]
    pictures = ""
    if summary.n_pictures and summary.shared_pictures:
        pictures = ", widened by the variance over pictures (paired bootstrap)"
    elif summary.n_pictures:
        pictures = ", corrected for overlapping training parts (Nadeau and Bengio)"
    n = counted(summary.tested, "difference")
    sentences = [
        f"{n} to the baseline {'was' if summary.tested == 1 else 'were'} tested by a two-sided paired t test over "
        f"{_unit(summary)}{pictures}; p-values were corrected by Holm's method at a level of {ALPHA:g}."
    ]
    if summary.on_demand:
        first, last = summary.seeds
        sentences.append(
            f"Seeds were added to undecided settings, from {first} to {last}, with a group-sequential plan "
            "(Lan–DeMets alpha spending, O'Brien–Fleming type)."
        )
    return sentences
