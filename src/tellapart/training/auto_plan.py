"""A recipe made for these pictures, this machine and some minutes: networks are tried on a sample, not guessed."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from tellapart.core.events import Computing, Note
from tellapart.models import hub
from tellapart.models.create import create_network
from tellapart.models.pretrained import local_weights
from tellapart.models.scratch import OWN
from tellapart.recipe.schema import Recipe
from tellapart.training.dataset import Dataset
from tellapart.training.extract_features import features
from tellapart.training.fast.autotune import repeated_step
from tellapart.training.feature_cache import inference_layers
from tellapart.training.linear_probe import solutions
from tellapart.training.losses import build_loss
from tellapart.training.pixels import plain
from tellapart.training.prepare import stage_from_pictures
from tellapart.training.runtime import Runtime, default_device, plain_runtime, synchronise
from tellapart.training.stage import repeats

if TYPE_CHECKING:
    from tellapart.data.catalog import Catalog
    from tellapart.data.splitting.split import Split
    from tellapart.models.network import Network

Rows = npt.NDArray[np.int64]
DEFAULT = "mobilenetv2_100"  # tried alone where no pretrained weights are at hand: small, and quick to fetch
_TRIED = 4
_SAMPLE = 450
_BATCH = 32
_MOST_EPOCHS = 8
_FAIR_EPOCHS = 3  # of the last layers, for which a network should leave time
_TRYING = 0.25  # share of the minutes after which no further network is tried
_FEW = 10  # training pictures a class below which layers of the backbone are left alone
_END = 30.0  # seconds for loading, certainty, bundle and report with its explanations
_SIZES = (0.7, 1.3)  # tried besides the weights' own, as shares of it


@dataclass(frozen=True)
class Trial:
    """One network at one size, as tried on a sample.

    Attributes:
        name, size: the network and the side of its pictures in pixels.
        score: share of the sample's held-out pictures named right (of labels, where there are several).
        n_judged: number of those pictures.
        frozen: seconds a picture to read it and run the frozen layers.
        tail: seconds a picture to train the last layers.
    """

    name: str
    size: int
    score: float
    n_judged: int
    frozen: float
    tail: float


@dataclass(frozen=True)
class Job:
    """How much there is to do: pictures to train on (and the views of each), to judge by, and the fewest a class.

    `times`: how often the epochs are done, twice where all is trained again on everything.
    """

    n_train: int
    n_views: int
    n_judged: int
    fewest: int
    times: int = 1


def seconds(trial: Trial, job: Job, epochs: int) -> float:
    """What a training takes: frozen layers once a view, every epoch, and the judging at its end."""
    once = (job.n_train * job.n_views + job.n_judged) * trial.frozen
    # Judging runs the whole network once more; a third of a training step is a step forward.
    an_epoch = (job.n_train + job.n_judged / 3) * trial.tail
    return _END + once + job.n_judged * 2 * trial.frozen + epochs * job.times * an_epoch


@dataclass(frozen=True)
class Choice:
    """What to train: a network, how many views of each picture, how many epochs of its last layers, and why."""

    trial: Trial
    n_views: int
    epochs: int
    why: tuple[str, ...]


def choose(trials: Sequence[Trial], job: Job, minutes: float, spent: float = 0.0) -> Choice:
    """The largest of the networks that are as good as the best, of those with time to train their last layers.

    As good: no worse than the best by more than a standard error of its score. The sample cannot tell these apart, and
    a network that computes more, or sees larger pictures, gains more from all the pictures and from fine-tuning. Where
    nothing can be trained in time with all views, one view has to do.

    Args:
        trials: at least one.
        job: what there is to do.
        minutes: what the training may take.
        spent: seconds that the trials have taken of them.
    """
    budget = 60 * minutes - spent
    if _quickest(trials, job)[1] > budget:
        job = replace(job, n_views=1)
    epochs_wanted = _FAIR_EPOCHS if job.fewest >= _FEW else 0
    able = [t for t in trials if seconds(t, job, epochs_wanted) <= budget]
    able = able or [t for t in trials if seconds(t, job, 0) <= budget] or [_quickest(trials, job)[0]]
    best = max(able, key=lambda t: t.score)
    error = (best.score * (1 - best.score) / max(1, best.n_judged)) ** 0.5
    taken = max((t for t in able if t.score >= best.score - error), key=lambda t: seconds(t, job, 1))
    least = seconds(taken, job, 0)
    others = ", ".join(f"{t.name} at {t.size}: {t.score:.0%}" for t in trials if t is not taken)
    why = [
        f"On {taken.n_judged} sample pictures held out, a head on the frozen layers of {taken.name} at {taken.size} "
        f"pixels is right for {taken.score:.0%}{f' ({others})' if others else ''}."
    ]
    if taken is not best:
        why.append("It is the largest of those that the sample cannot tell from the best.")
    if least > budget:
        why.append(f"None can be trained in {minutes:g} minutes here; this one is the quickest.")
    if job.fewest < _FEW:
        why.append(f"The rarest class has {job.fewest} pictures for training: too few to train more than the head.")
        return Choice(taken, job.n_views, 0, tuple(why))
    epochs = max(0, min(_MOST_EPOCHS, int((budget - least) / (seconds(taken, job, 1) - least))))
    total = f"about {(spent + seconds(taken, job, epochs)) / 60:.1f} minutes in all"
    if epochs:
        why.append(f"{epochs} epochs of the last layers fit into {minutes:g} minutes: {total}.")
    else:
        why.append(f"{minutes:g} minutes leave no time to train more than the head: {total}.")
    return Choice(taken, job.n_views, epochs, tuple(why))


def _quickest(trials: Sequence[Trial], job: Job) -> tuple[Trial, float]:
    return min(((t, seconds(t, job, 0)) for t in trials), key=lambda pair: pair[1])


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
    names = [recipe.model.name] if recipe.model.name != "auto" else at_hand()
    rows = sample(split.train, recipe.seed)
    trials = [(yield from _try(recipe, names[0], recipe.data.size, catalog, rows))]

    def in_time() -> bool:
        return time.monotonic() - start < 60 * _TRYING * minutes

    for name in names[1:]:
        if in_time():
            trials.append((yield from _try(recipe, name, recipe.data.size, catalog, rows)))
    best = max(trials, key=lambda t: t.score)
    for share in _SIZES if recipe.data.size is None else ():  # for the network that does best at its own size
        if in_time():
            size = max(32, round(best.size * share / 32) * 32)
            trials.append((yield from _try(recipe, best.name, size, catalog, rows)))
    target = catalog.target(split.train)
    counts = np.bincount(target, minlength=len(catalog.classes)) if target.ndim == 1 else target.sum(0)
    views = recipe.stages[-1].views or [[]]
    n_items = len(split.train) * max(1, len(recipe.data.ahead))
    n_judged, times = len(split.validation) + len(split.test), 2 if recipe.retrain else 1
    job = Job(n_items, len(views), n_judged, int(counts.min()), times)
    choice = choose(trials, job, minutes, time.monotonic() - start)
    yield from map(Note, choice.why)
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
    found = {**local_weights(), **dict.fromkeys(sorted(hub.cached_names()))}
    names = [name for name in found if name not in OWN]
    names.sort(key=lambda name: name != DEFAULT)  # first, since time may end the trials
    return names[:_TRIED] or [DEFAULT]


def sample(rows: Rows, seed: int) -> Rows:
    """Some of the rows, drawn at random."""
    return np.random.default_rng(seed).permutation(rows)[:_SAMPLE]


def _try(
    recipe: Recipe, name: str, size: int | None, catalog: Catalog, rows: Rows
) -> Generator[Computing, None, Trial]:
    """A head on frozen layers for two thirds of the sample, judged on the rest; and the time that things take."""
    torch.manual_seed(recipe.seed)
    model, data = recipe.model.model_copy(update={"name": name}), recipe.data.model_copy(update={"size": size})
    network = create_network(model, len(catalog.classes), data)
    preprocessing = network.preprocessing
    dataset = Dataset(catalog, rows, rows[:0], preprocessing, (), recipe.seed)
    load = plain(dataset)
    pictures, reading = _timed(lambda: torch.from_numpy(np.stack([load(int(row)) for row in rows[:_BATCH]])))
    runtime, frozen = _fastest(network, pictures)
    tail = _tail(network, recipe, dataset, pictures, runtime)
    found = yield from features(network, catalog, rows, runtime, f"trying {name} at {preprocessing.height} pixels")
    n_fit = max(1, len(rows) * 2 // 3)
    score = _score(found, catalog.target(rows), n_fit, catalog.multilabel)
    frozen += reading / len(pictures) / runtime.workers
    return Trial(name, preprocessing.height, score, len(rows) - n_fit, frozen, tail)


def _fastest(network: Network, pictures: torch.Tensor) -> tuple[Runtime, float]:
    """The precision in which the frozen backbone answers fastest, and its seconds a picture."""
    plain = plain_runtime()
    network.to(device=plain.device, memory_format=plain.memory_format)  # type: ignore[call-overload]
    with torch.no_grad():
        pixels = network.normalise(pictures.to(plain.device))
    some = pixels[: plain.inference_batch]
    timed = []
    for runtime in (plain, replace(plain, frozen="bfloat16")):
        backbone = inference_layers(network.backbone, runtime)
        backbone(some)
        timed.append(min(_timed(partial(backbone, some))[1] for _ in range(4)))
    runtime = replace(plain, frozen="float32" if timed[0] <= timed[1] else "bfloat16")
    return runtime, min(timed) / len(some)


def _tail(network: Network, recipe: Recipe, dataset: Dataset, pictures: torch.Tensor, runtime: Runtime) -> float:
    """Seconds a picture for a training step of the last stage, from stored features where it can be.

    Args:
        pictures: of the dataset's first rows.
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
    step = partial(repeated_step(stage, dataset.train[: len(pictures)], inputs), runtime)
    step()
    took = min(_timed(step)[1] for _ in range(2)) / len(pictures)
    network.eval().zero_grad(set_to_none=True)
    return took


def _score(found: npt.NDArray[np.float32], target: npt.NDArray[Any], n_fit: int, multilabel: bool) -> float:
    """The best share of held-out pictures (or labels) named right, over a few strengths of regularisation."""
    x, y = torch.from_numpy(found), torch.tensor(target)
    n_classes = y.shape[1] if multilabel else int(y.max()) + 1
    head = torch.nn.Linear(x.shape[1], n_classes)
    loss = build_loss("auto", multilabel)
    wanted = y.float() if multilabel else y
    best = 0.0
    for _ in solutions(x[:n_fit], wanted[:n_fit], head, loss, n_fit, (1e-3, 1e-2, 1e-1)):
        with torch.no_grad():
            logits = head(x[n_fit:])
        right = (logits > 0) == (y[n_fit:] > 0) if multilabel else logits.argmax(1) == y[n_fit:]
        best = max(best, float(right.float().mean()) if right.numel() else 0.0)
    return best


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    device = default_device()
    synchronise(device)
    start = time.perf_counter()
    result = work()
    synchronise(device)
    return result, time.perf_counter() - start
