"""A recipe's [plan]: network, size and epochs for these pictures, this machine and some minutes, by trials."""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from tellapart.core.events import Computing, Note
from tellapart.data.loading.sampling import epoch_length
from tellapart.models import hub
from tellapart.models.create import create_network
from tellapart.models.pretrained import local_weights
from tellapart.models.scratch import OWN
from tellapart.recipe.schema import Recipe
from tellapart.training.dataset import Dataset
from tellapart.training.extract_features import features
from tellapart.training.fast.autotune import repeated_step, time_candidates
from tellapart.training.fast.choose_engine import FrozenWork, choose_engine
from tellapart.training.linear_probe import solutions
from tellapart.training.losses import build_loss
from tellapart.training.pixels import plain
from tellapart.training.prepare import stage_from_pictures
from tellapart.training.runtime import Runtime, plain_runtime
from tellapart.training.stage import repeats

if TYPE_CHECKING:
    from tellapart.data.catalog import Catalog
    from tellapart.data.splitting.split import Split
    from tellapart.models.network import Network

Rows = npt.NDArray[np.int64]
DEFAULT = "mobilenetv2_100"  # tried alone where no pretrained weights are at hand: small, and quick to fetch
_MAX_NETWORKS = 4
_SAMPLE = 450
_BATCH = 32
_MAX_EPOCHS = 8
_FAIR_EPOCHS = 3  # of the last layers, for which a network should leave time
_SHARE_FOR_TRIALS = 0.25  # of the minutes: after it no further network is tried
_FEW = 10  # training pictures a class below which layers of the backbone are left alone
_END_SECONDS = 30.0  # for loading, certainty, bundle and report with its explanations
_SIZES = (0.7, 1.3)  # tried besides the weights' own, as shares of it


@dataclass(frozen=True)
class Trial:
    """One network at one size, as tried on a sample.

    Attributes:
        name, size: the network and the side of its pictures in pixels.
        score: share of the sample's held-out pictures named right, 0 to 1; of labels, where pictures have several.
        n_held_out: number of those pictures.
        frozen_seconds: time a picture to read it and run the frozen layers.
        step_seconds: time a picture of a training step of the last layers.
    """

    name: str
    size: int
    score: float
    n_held_out: int
    frozen_seconds: float
    step_seconds: float


@dataclass(frozen=True)
class Workload:
    """How much there is to compute.

    Attributes:
        n_train, n_views: pictures to train on, and views of each.
        n_evaluated: validation and test pictures.
        rarest: training pictures of the class that has fewest.
        n_trainings: 2 where all is trained once more on everything, else 1.
    """

    n_train: int
    n_views: int
    n_evaluated: int
    rarest: int
    n_trainings: int = 1


def seconds(trial: Trial, work: Workload, epochs: int) -> float:
    """Time of a whole training: frozen layers once a view, every epoch, and the evaluation at its end."""
    frozen = (work.n_train * work.n_views + work.n_evaluated) * trial.frozen_seconds
    # A third of a training step is a step forward, as validation takes it.
    epoch = (work.n_train + work.n_evaluated / 3) * trial.step_seconds
    evaluation = work.n_evaluated * 2 * trial.frozen_seconds  # the whole network once more
    return _END_SECONDS + frozen + evaluation + epochs * work.n_trainings * epoch


@dataclass(frozen=True)
class Choice:
    """What to train: a network, how many views of each picture, how many epochs of its last layers, and why."""

    trial: Trial
    n_views: int
    epochs: int
    why: tuple[str, ...]


def choose(trials: Sequence[Trial], work: Workload, minutes: float, spent: float = 0.0) -> Choice:
    """Choose the largest network that is as good as the best, of those with time to train their last layers.

    As good: no worse than the best by more than a standard error of its score. The sample cannot tell these apart, and
    a network that computes more, or sees larger pictures, gains more from all the pictures and from fine-tuning. Where
    nothing can be trained in time with all views, one view has to do.

    Args:
        trials: at least one.
        work: how much there is to compute.
        minutes: how long the training may take.
        spent: seconds of them that the trials have taken.
    """
    budget = 60 * minutes - spent
    if seconds(_quickest(trials, work), work, 0) > budget:
        work = replace(work, n_views=1)
    fair_epochs = _FAIR_EPOCHS if work.rarest >= _FEW else 0
    affordable = [t for t in trials if seconds(t, work, fair_epochs) <= budget]
    affordable = affordable or [t for t in trials if seconds(t, work, 0) <= budget] or [_quickest(trials, work)]
    best = max(affordable, key=lambda t: t.score)
    error = (best.score * (1 - best.score) / max(1, best.n_held_out)) ** 0.5
    as_good = [t for t in affordable if t.score >= best.score - error]
    chosen = max(as_good, key=lambda t: seconds(t, work, 1))
    others = ", ".join(f"{t.name} at {t.size}: {t.score:.0%}" for t in trials if t is not chosen)
    why = [
        f"On {chosen.n_held_out} sample pictures held out, a head on the frozen layers of {chosen.name} at "
        f"{chosen.size} pixels is right for {chosen.score:.0%}{f' ({others})' if others else ''}."
    ]
    if chosen is not best:
        why.append("It is the largest of those that the sample cannot tell from the best.")
    epochs, reasons = _epochs(chosen, work, minutes, spent)
    return Choice(chosen, work.n_views, epochs, (*why, *reasons))


def _epochs(trial: Trial, work: Workload, minutes: float, spent: float) -> tuple[int, list[str]]:
    """How many epochs of the last layers fit into the minutes, and why, in sentences."""
    budget, least = 60 * minutes - spent, seconds(trial, work, 0)
    why = []
    if least > budget:
        why.append(f"None can be trained in {minutes:g} minutes here; this one is the quickest.")
    if work.rarest < _FEW:
        why.append(f"The rarest class has {work.rarest} pictures for training: too few to train more than the head.")
        return 0, why
    epochs = max(0, min(_MAX_EPOCHS, int((budget - least) / (seconds(trial, work, 1) - least))))
    total = f"about {(spent + seconds(trial, work, epochs)) / 60:.1f} minutes in all"
    if epochs:
        why.append(f"{epochs} epochs of the last layers fit into {minutes:g} minutes: {total}.")
    else:
        why.append(f"{minutes:g} minutes leave no time to train more than the head: {total}.")
    return epochs, why


def _quickest(trials: Sequence[Trial], work: Workload) -> Trial:
    return min(trials, key=lambda t: seconds(t, work, 0))


def plan(recipe: Recipe, catalog: Catalog, split: Split) -> Generator[Computing | Note, None, Recipe]:
    """Fill in what a recipe leaves open: `model.name = "auto"`, `data.size`, and the epochs of its last stage.

    Only training pictures are looked at. Networks are tried whose pretrained weights are at hand, or the one that
    the recipe names.

    Args:
        recipe: with `[plan]`.
        catalog, split: the pictures.

    Yields:
        Computing while a network is tried; Note, with the reasons.

    Returns:
        The recipe with nothing left open; `plan.why` says why.
    """
    assert recipe.plan
    start, minutes = time.monotonic(), recipe.plan.minutes
    trials = yield from _trials(recipe, catalog, split, start + 60 * _SHARE_FOR_TRIALS * minutes)
    choice = choose(trials, _workload(recipe, catalog, split), minutes, time.monotonic() - start)
    yield from map(Note, choice.why)
    return _filled(recipe, choice)


def _trials(
    recipe: Recipe, catalog: Catalog, split: Split, deadline: float
) -> Generator[Computing | Note, None, list[Trial]]:
    """Try networks, then the best of them at other sizes. At least one is tried; none begins after the deadline."""
    names = [recipe.model.name] if recipe.model.name != "auto" else at_hand()
    rows = sample(split.train, recipe.seed)
    trials = [(yield from _try(recipe, names[0], recipe.data.size, catalog, rows))]
    for name in names[1:]:
        if time.monotonic() < deadline:
            trials.append((yield from _try(recipe, name, recipe.data.size, catalog, rows)))
    best = max(trials, key=lambda t: t.score)
    for share in _SIZES if recipe.data.size is None else ():
        if time.monotonic() < deadline:
            size = max(32, round(best.size * share / 32) * 32)
            trials.append((yield from _try(recipe, best.name, size, catalog, rows)))
    return trials


def _workload(recipe: Recipe, catalog: Catalog, split: Split) -> Workload:
    """How much a recipe computes with these pictures, but for the choices that are open."""
    target = catalog.target(split.train)
    counts = np.bincount(target, minlength=len(catalog.classes)) if target.ndim == 1 else target.sum(0)
    return Workload(
        n_train=epoch_length(len(split.train) * max(1, len(recipe.data.ahead)), recipe.balance.multiple),
        n_views=len(recipe.stages[-1].views or [[]]),
        n_evaluated=len(split.validation) + len(split.test),
        rarest=int(counts.min()),
        n_trainings=2 if recipe.retrain else 1,
    )


def _filled(recipe: Recipe, choice: Choice) -> Recipe:
    """The recipe with a choice in it; a last stage without time for an epoch is left out."""
    assert recipe.plan
    views = recipe.stages[-1].views or [[]]
    stages = [s.model_copy(update={"views": (s.views or views)[: choice.n_views]}) for s in recipe.stages]
    if not stages[-1].solver:  # a linear probe has no epochs to choose
        last = stages.pop()
        if choice.epochs or not stages:
            stages.append(last.model_copy(update={"epochs": max(1, choice.epochs)}))
    return recipe.model_copy(
        update={
            "model": recipe.model.model_copy(update={"name": choice.trial.name}),
            "data": recipe.data.model_copy(update={"size": choice.trial.size}),
            "stages": stages,
            "plan": recipe.plan.model_copy(update={"why": list(choice.why)}),
        }
    )


def at_hand() -> list[str]:
    """Up to four pretrained networks whose weights need not be fetched; else the default one."""
    cached = {**local_weights(), **dict.fromkeys(sorted(hub.cached_names()))}
    names = [name for name in cached if name not in OWN]
    names.sort(key=lambda name: name != DEFAULT)  # first, since time may end the trials
    return names[:_MAX_NETWORKS] or [DEFAULT]


def sample(rows: Rows, seed: int) -> Rows:
    """Some of the rows, drawn at random."""
    return np.random.default_rng(seed).permutation(rows)[:_SAMPLE]


def _try(
    recipe: Recipe, name: str, size: int | None, catalog: Catalog, rows: Rows
) -> Generator[Computing | Note, None, Trial]:
    """Fit a head on frozen layers to two thirds of the sample, score it on the rest, and time both kinds of layers."""
    torch.manual_seed(recipe.seed)
    model, data = recipe.model.model_copy(update={"name": name}), recipe.data.model_copy(update={"size": size})
    network = create_network(model, len(catalog.classes), data)
    side = network.preprocessing.height
    dataset = Dataset(catalog, rows, rows[:0], network.preprocessing, (), recipe.seed)
    load = plain(dataset)
    start = time.perf_counter()
    pictures = torch.from_numpy(np.stack([load(int(row)) for row in rows[:_BATCH]]))
    reading_seconds = (time.perf_counter() - start) / len(pictures)
    n = len(catalog) * max(1, len(recipe.stages[-1].views))
    choice = yield from choose_engine(FrozenWork(network, network.backbone, "head", dataset, n), plain_runtime())
    runtime, frozen_seconds = choice.runtime, choice.total(n) / n
    step_seconds = _time_step(network, recipe, dataset, pictures, runtime)
    x = yield from features(network, catalog, rows, runtime, f"trying {name} at {side} pixels")
    n_fit = max(1, len(rows) * 2 // 3)
    score = _score(x, catalog.target(rows), n_fit, catalog.multilabel, catalog.unknown(rows))
    frozen_seconds += reading_seconds / runtime.workers
    return Trial(name, side, score, len(rows) - n_fit, frozen_seconds, step_seconds)


def _time_step(network: Network, recipe: Recipe, dataset: Dataset, pictures: torch.Tensor, runtime: Runtime) -> float:
    """Seconds a picture of a training step of the last stage, from stored features where it can be.

    Args:
        network: it is trained and left in inference mode; it trains no further.
        recipe: its last stage is timed.
        dataset: the pictures are of its first rows.
        pictures: uint8 [n, h, w, 3].
        runtime: how the step runs.
    """
    # A linear head is solved and takes no steps; how long one would take is the best guess there is.
    last = recipe.stages[-1].model_copy(update={"solver": None})
    recipe = recipe.model_copy(update={"stages": [last]})
    stage = stage_from_pictures(network, recipe, 0, dataset, torch.tensor(dataset.catalog.target()), runtime)
    part = stage.part
    stage = replace(stage, from_features=repeats(part, recipe, last))
    with torch.no_grad():
        pixels = network.normalise(pictures.to(network.scale.device))
        inputs = part.prefix.eval()(pixels) if stage.from_features and part.prefix else pixels
    part.train_mode()
    step = repeated_step(stage, dataset.train[: len(pictures)], inputs)
    ((fastest, _),) = time_candidates([{}], step, runtime)
    network.eval().zero_grad(set_to_none=True)
    return fastest / len(pictures)


def _score(
    x: npt.NDArray[np.float32],
    target: npt.NDArray[Any],
    n_fit: int,
    multilabel: bool,
    unknown: npt.NDArray[np.bool_] | None,
) -> float:
    """The best score over a few strengths of regularisation, fitted to the first `n_fit` rows.

    Args:
        x: features [n, d].
        target: class numbers [n], or labels [n, n_classes].
        n_fit: the other rows are held out.
        multilabel: whether pictures may have several labels.
        unknown: bool [n, n_classes]: labels that are not known and take no part.

    Returns:
        Share of held-out pictures (or labels) named right, 0 to 1.
    """
    inputs, y = torch.from_numpy(x), torch.tensor(target)
    n_classes = y.shape[1] if multilabel else int(y.max()) + 1
    head = torch.nn.Linear(inputs.shape[1], n_classes)
    loss = build_loss("auto", multilabel, masked=unknown is not None)
    wanted = y.float() if multilabel else y
    held_out = torch.ones_like(y[n_fit:], dtype=torch.bool)
    if unknown is not None:
        wanted[torch.from_numpy(unknown)] = math.nan
        held_out = ~torch.from_numpy(unknown[n_fit:])
    best = 0.0
    for _ in solutions(inputs[:n_fit], wanted[:n_fit], head, loss, n_fit, (1e-3, 1e-2, 1e-1)):
        with torch.no_grad():
            logits = head(inputs[n_fit:])
        right = (logits > 0) == (y[n_fit:] > 0) if multilabel else logits.argmax(1) == y[n_fit:]
        right = right[held_out]
        best = max(best, float(right.float().mean()) if right.numel() else 0.0)
    return best
