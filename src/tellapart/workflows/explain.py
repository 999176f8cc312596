"""The explain command, and explanations for a training's report: attribution maps, a check of them, neighbours."""

from __future__ import annotations

import os
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from tellapart.core.events import Computing, Note
from tellapart.core.files import check_suffix, replacing
from tellapart.core.predictions import Predictions, Rows
from tellapart.core.preprocess import Pixels
from tellapart.core.suggest import suggest
from tellapart.core.text import counted, percent
from tellapart.core.vectors import nearest
from tellapart.data.decoding.decode import decode, read_picture
from tellapart.errors import MissingExtraError, ModelError, UsageError
from tellapart.evaluation.mistakes import least_certain, wrongest
from tellapart.explaining.attribution import (
    GRAD_CAM,
    INTEGRATED,
    METHODS,
    agreement_with_random,
    check_method,
    heat_maps,
)
from tellapart.explaining.overlay import Map, at_eye_size, legend, overlay
from tellapart.report import formatting
from tellapart.report.answers import Answers
from tellapart.report.blocks import Card, Explained, HeatMap, Page, Section
from tellapart.report.page import write_page
from tellapart.report.sections.explanations import Check, Why, why_blocks
from tellapart.report.thumbnail import thumbnail, thumbnails_of
from tellapart.runs.run import Run
from tellapart.training.extract_features import features
from tellapart.training.runtime import default_device, plain_runtime
from tellapart.workflows.progress import progress_sink

if TYPE_CHECKING:
    from tellapart.data.catalog import Catalog
    from tellapart.models.network import Network

_MOST_TRAINING = 20_000  # training pictures among which alike ones are looked for
CHECKED = 4  # pictures with which the maps are checked
_BATCH = 16  # pictures that the network answers together
_MOST_LABELS = 2  # several labels: maps a picture


@dataclass(frozen=True)
class ExplainOptions:
    """Options of an explanation.

    Attributes:
        only: the class to explain; None: what was answered, and what was given where that is another.
        n_alike: training pictures beside each; 0 for none.
    """

    only: str | None = None
    n_alike: int = 6


@dataclass(frozen=True)
class Subjects:
    """Pictures to explain, and the network's outputs for them.

    Attributes:
        answers: of the pictures, numbered from 0.
        pixels: uint8 [n, h, w, 3]. rows: int64 [n], of the catalog, -1 for pictures that are not in it.
        features: float32 [n, d].
    """

    answers: Answers
    pixels: Pixels
    rows: Rows
    features: np.ndarray[tuple[int, ...], np.dtype[np.float32]]


@dataclass(frozen=True)
class Explanations:
    """Explanations of some answers.

    Attributes:
        path: the file written. why: what it shows: pictures with maps, the checks of these, and the pictures alike.
    """

    path: Path
    why: Why


def explain(
    trained: Run | str | Path,
    pictures: Sequence[str | Path] = (),
    *,
    rows: Sequence[int] = (),
    method: str | None = None,
    only: str | None = None,
    limit: int = 12,
    n_alike: int = 6,
    out: str | Path | None = None,
    progress: bool = False,
) -> Explanations:
    """Show which parts of a picture speak for the answer, and which training pictures it looks like.

    Args:
        trained: a finished run, or its directory.
        pictures: files, folders or patterns. rows: of the run's catalog. Without either: the most wrong and the least
            certain answers of the test pictures (of the validation pictures where there was no test).
        method: "grad-cam" or "integrated-gradients"; by default the first that works for the network.
        only: the class to explain; by default what was answered, and what was given where that is another.
        limit: pictures, where none are named.
        n_alike: training pictures beside each; 0 for none.
        out: a .html or .png file; by default `explain.html` in the run directory.
        progress: show progress on standard error.

    Raises:
        UsageError: no such class, method, picture or row, or another kind of file.
        UnreadableError: a picture that cannot be read.
        ModelError: Grad-CAM is asked for, and the network has no layer for it.
        MissingExtraError: integrated gradients without captum.
    """
    from tellapart.workflows.label_issues import trained as trained_network

    run = trained if isinstance(trained, Run) else Run(Path(trained))
    path, sink = run.directory / "explain.html" if out is None else Path(out), progress_sink(progress)
    check_suffix(path, (".html", ".png"))
    if method is not None and method not in METHODS:
        raise UsageError(f"--method {method}: there is no such method.", suggest(method, METHODS))
    if only is not None and only not in run.catalog.classes:
        raise UsageError(f"--class {only}: there is no such class.", suggest(only, run.catalog.classes))
    named = _named(run, pictures, rows)
    network = trained_network(run, "best").to(default_device()).eval()
    subjects = subjects_of(run, network, named or _worst(run, limit))
    shown_rows = training_rows(run, _MOST_TRAINING) if n_alike else np.empty(0, np.int64)
    able, notes = ([method], []) if method else able_methods(network, subjects.pixels, [GRAD_CAM])
    method = able[0] if able else INTEGRATED
    options = ExplainOptions(only, n_alike)
    why = sink.watch(explained(run, network, subjects, shown_rows, options, {method: len(subjects.rows)}, notes))
    if path.suffix.lower() == ".png":
        _write_sheet(run, network, why, path)
    else:
        page = Page(
            title=f"Why: {run.catalog.root.name}",
            subtitle=[run.recipe.model.name, METHODS[method], counted(len(subjects.rows), "picture")],
            sections=[Section("why", "Why it answered so", why_blocks(why), "Why")],
        )
        write_page(page, path, thumbnails_of(run.catalog))
    return Explanations(path, why)


def able_methods(network: Network, pixels: Pixels, methods: Sequence[str]) -> tuple[list[str], list[str]]:
    """The methods that can be used, and in sentences why the others cannot."""
    able, why_not = [], []
    for method in methods:
        try:
            check_method(network, pixels, method)
            able.append(method)
        except ModelError as error:
            why_not.append(error.message)
        except MissingExtraError as error:
            why_not.append(f"{error.message} {error.hint}")
    return able, why_not


def _named(run: Run, pictures: Sequence[str | Path], rows: Sequence[int]) -> list[tuple[int, Path | None]]:
    """The pictures asked for, as rows; or as paths, of pictures that the run does not have."""
    from tellapart.deploy.find_pictures import find_pictures

    n = len(run.catalog)
    for row in rows:
        if not 0 <= row < n:
            raise UsageError(f"--row {row}: the run's pictures have the numbers 0 to {n - 1}.")
    named: list[tuple[int, Path | None]] = [(row, None) for row in rows]
    if pictures:
        for path in find_pictures([str(picture) for picture in pictures]):
            row = _row_of(run.catalog, path)
            named.append((row, path if row < 0 else None))
    return named


def _row_of(catalog: Catalog, path: Path) -> int:
    """The row of a file, or -1 where the catalog does not have it."""
    whole, root = os.path.abspath(path), os.path.abspath(catalog.root)
    inside = Path(whole).is_relative_to(root)
    names = [whole, *([Path(whole).relative_to(root).as_posix()] if inside else [])]
    rows = catalog.table["path"].is_in(names).arg_true()
    return int(rows[0]) if len(rows) else -1


def _worst(run: Run, limit: int) -> list[tuple[int, Path | None]]:
    on = next(iter(run.evaluations))
    return [(row, None) for row in worst_rows(run, on, limit - limit // 3, limit // 3)]


def worst_rows(run: Run, on: str, n_wrong: int, n_uncertain: int) -> list[int]:
    """The most wrong pictures first, then the least certain ones; more of these where few were wrong."""
    predictions = run.predictions(on)
    values = run.evaluation_values
    calibration = {"temperature": values["temperature"], "thresholds": values["thresholds"] or None}
    first = [picture.row for picture in wrongest(predictions, n_wrong, **calibration)]
    others = [picture.row for picture in least_certain(predictions, n_wrong + n_uncertain, **calibration)]
    return list(dict.fromkeys(first + others))[: n_wrong + n_uncertain]


def subjects_of(run: Run, network: Network, named: Sequence[tuple[int, Path | None]]) -> Subjects:
    """Read the pictures and run the network on them."""
    catalog = run.catalog
    paths = [path or catalog.path(row) for row, path in named]
    names = [str(path or catalog.name(row)) for row, path in named]
    pixels = np.stack([read_picture(path, network.preprocessing) for path in paths])
    was_training = network.training
    network.eval()
    with torch.no_grad():
        parts = np.array_split(pixels, -(-len(pixels) // _BATCH))
        outputs = [network.answer(torch.from_numpy(part).to(network.scale.device)) for part in parts]
    network.train(was_training)
    logits, vectors = (torch.cat(part).float().cpu().numpy() for part in zip(*outputs, strict=True))
    rows = np.array([row for row, _ in named], np.int64)
    target = catalog.target(np.maximum(rows, 0)).copy()  # what comes may not be written to
    target[rows < 0] = 0 if catalog.multilabel else -1
    values = run.evaluation_values
    limits = values["thresholds"]
    answers = Answers(
        Predictions.of(np.arange(len(rows)), logits, target, catalog.classes, catalog.unknown(np.maximum(rows, 0))),
        names.__getitem__,
        values["temperature"],
        np.asarray(limits, np.float64) if limits else None,
        lambda i: paths[i].absolute().as_uri(),
    )
    return Subjects(answers, pixels, rows, vectors)


def training_rows(run: Run, most: int) -> Rows:
    """Rows of the training pictures without those left out; `most` of them, evenly spread, where there are more."""
    split, catalog = run.split, run.catalog
    rows: Rows = np.union1d(split.train, split.validation) if run.recipe.retrain else split.train
    broken = catalog.table["path"].gather(rows).is_in([entry["path"] for entry in run.skipped])
    rows = rows[~broken.to_numpy()]
    return rows if len(rows) <= most else rows[np.linspace(0, len(rows) - 1, most).astype(np.int64)]


def explained(
    run: Run,
    network: Network,
    subjects: Subjects,
    training: Rows,
    options: ExplainOptions,
    methods: Mapping[str, int],
    notes: Sequence[str],
) -> Generator[Computing | Note, None, Why]:
    """Maps of each picture, the check of the first few, and the training pictures that it looks like.

    Args:
        run, network, subjects, options: which pictures are explained, and the options.
        training: pictures among which alike ones are looked for.
        methods: how many pictures, from the first on, each method is used for.
        notes: what could not be shown, and why.
    """
    chosen = [_chosen(subjects.answers, i, options.only) for i in range(len(subjects.rows))]
    maps: list[list[HeatMap]] = [[] for _ in chosen]
    checks = []
    for method, n in methods.items():
        heat = []
        for i, classes in enumerate(chosen[:n]):
            yield Computing(-1, METHODS[method], i, n + 1)
            repeated = np.repeat(subjects.pixels[i : i + 1], len(classes), axis=0)
            heat.append(heat_maps(network, repeated, np.array(classes), method))
            maps[i] += [
                _heat_map(subjects, i, number, warm, method) for number, warm in zip(classes, heat[i], strict=True)
            ]
        yield Computing(-1, METHODS[method], n, n + 1)
        k = min(CHECKED, n)
        first, learned = np.array([classes[0] for classes in chosen[:k]], np.int64), np.stack([h[0] for h in heat[:k]])
        agreement = agreement_with_random(network, subjects.pixels[:k], first, method, learned)
        checks.append(Check(METHODS[method], agreement, k))
    alike: list[list[Card]] = [[] for _ in chosen]
    if options.n_alike and len(training):
        alike = yield from _alike(run, network, subjects, training, options.n_alike)
    shown = [
        Explained(
            subjects.answers.card(i),
            thumbnail(at_eye_size(subjects.pixels[i]), 320),
            # One class after the other, so that its maps by each method stand side by side.
            [warm for j in range(len(classes)) for warm in maps[i][j :: len(classes)]],
            alike[i],
        )
        for i, classes in enumerate(chosen)
    ]
    return Why(shown, _methods_sentence(methods, len(chosen)), checks, len(training), notes)


def _heat_map(subjects: Subjects, i: int, number: int, warm: Map, method: str) -> HeatMap:
    """A map over its picture."""
    title = f"What speaks for {subjects.answers.predictions.classes[number]}"
    note = "" if warm.any() else "Nothing in the picture does."
    return HeatMap(title, thumbnail(overlay(subjects.pixels[i], warm), 320), METHODS[method], note)


def _methods_sentence(methods: Mapping[str, int], n: int) -> str:
    """The methods in words: "Grad-CAM says which region, integrated gradients (of the first 2 pictures) …"."""
    says = {GRAD_CAM: "says which region", INTEGRATED: "say which pixels"}
    parts: list[str] = []
    for method, shown in methods.items():
        share = "" if shown == n else f" (of the first {counted(shown, 'picture')})"
        name = METHODS[method] if not parts else METHODS[method].lower()
        parts.append(f"{name}{share} {says[method]}")
    return f"{', '.join(parts)}."


def _chosen(answers: Answers, i: int, only: str | None) -> list[int]:
    """The classes to explain: the answer and, where that is wrong, the label."""
    classes = answers.predictions.classes
    if only is not None:
        return [classes.index(only)]
    if answers.predictions.multilabel:
        order = np.argsort(-answers.probabilities[i], kind="stable")
        answered = [int(k) for k in order if answers.answered[i][k]]
        missed = [int(k) for k in order if answers.labels[i][k] and not answers.answered[i][k]]
        return [*(answered or [int(order[0])])[:_MOST_LABELS], *missed[:1]]
    answer, label = int(answers.answered[i]), int(answers.labels[i])
    return [answer] if label in (answer, -1) else [answer, label]


def _alike(
    run: Run, network: Network, subjects: Subjects, training: Rows, k: int
) -> Generator[Computing | Note, None, list[list[Card]]]:
    """Cards of the training pictures that each picture looks like."""
    catalog = run.catalog
    runtime = plain_runtime()
    vectors = yield from features(network, catalog, training, runtime, "features of training pictures")
    position_of = {int(row): i for i, row in enumerate(training)}
    itself = np.array([position_of.get(int(row), -1) for row in subjects.rows], np.int64)
    position, similarity = nearest(subjects.features, vectors, k, itself, np.arange(len(vectors)))
    return [
        [_card(catalog, int(training[at]), float(like)) for at, like in zip(line, values, strict=True) if at >= 0]
        for line, values in zip(position, similarity, strict=True)
    ]


def _card(catalog: Catalog, row: int, similarity: float) -> Card:
    labels = [catalog.classes[number] for number in catalog.table["labels"][row]]
    note = f"{formatting.visible(', '.join(labels)) or 'no label'}: {similarity:.2f}"
    return Card(row, catalog.name(row), has_answer=False, link=catalog.link(row), note=note)


def _write_sheet(run: Run, network: Network, why: Why, out: Path) -> None:
    """One line a picture: as the network sees it, the maps, the pictures alike; below, what the colours mean."""
    from PIL import Image

    from tellapart.data.augmentation.contact_sheet import grid

    lines = []
    for entry in why.explained:
        picture = decode(entry.picture)
        size = picture.shape[1], picture.shape[0]
        answer = ", ".join(f"{label.name} {percent(label.certainty or 0.0, 0)}" for label in entry.card.answered)
        line = [(picture, answer or "no label")]
        line += [(decode(warm.jpeg), warm.title) for warm in entry.maps]
        for card in entry.alike:
            alike = read_picture(run.catalog.path(card.row), network.preprocessing)
            line.append((np.asarray(Image.fromarray(alike).resize(size)), card.note))
        lines.append(line)
    sheet = grid(lines)
    scale = grid([[(legend(240, 12), "little to much")]])
    whole = Image.new("RGB", (max(sheet.width, scale.width), sheet.height + scale.height), (255, 255, 255))
    whole.paste(sheet, (0, 0))
    whole.paste(scale, (0, sheet.height))
    with replacing(out) as beside:
        whole.save(beside, "PNG")
