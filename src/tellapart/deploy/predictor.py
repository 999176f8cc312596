"""Pictures in, answers out: pictures are read ahead on threads and run through a bundle in batches, in their order."""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias, TypedDict, Unpack, overload

import numpy as np
from PIL import Image

from tellapart.core.hardware import n_processors
from tellapart.core.predictions import Floats, Mean
from tellapart.core.text import percent
from tellapart.deploy.answer import Answer
from tellapart.deploy.bundle.read import Bundle
from tellapart.deploy.engines.names import AT_ONCE, AUTO
from tellapart.deploy.engines.switch import EngineSwitch
from tellapart.deploy.read_pictures import NamedPicture, Picture, PictureRead, read_ahead
from tellapart.errors import UsageError

#: Pictures of a batch, of which `AT_ONCE` run at a time. More are hardly faster on a processor, and need more memory.
BATCH = 4


class AnswerOptions(TypedDict, total=False):
    """How answers are given, all optional: see `answers`."""

    top: int | None
    coverage: float | None
    unknown: bool | None
    tta: int | None
    tta_mean: str | None


class Classifier:
    """A bundle that takes pictures. Made by `load`.

    Attributes:
        bundle: the model.
        network: runs it, on the best engine at hand.
    """

    def __init__(
        self,
        bundle: Bundle,
        engine: str = AUTO,
        say: Callable[[str], None] = lambda line: None,
        checked: bool = False,
    ) -> None:
        self.bundle = bundle
        self.network = EngineSwitch(bundle, engine, say, checked)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names it can answer with."""
        return self.bundle.classes

    @overload
    def predict(self, pictures: Picture, **options: Unpack[AnswerOptions]) -> Answer: ...  # type: ignore[overload-overlap]

    @overload
    def predict(self, pictures: Iterable[Picture], **options: Unpack[AnswerOptions]) -> list[Answer]: ...

    def predict(self, pictures: Picture | Iterable[Picture], **options: Unpack[AnswerOptions]) -> Answer | list[Answer]:
        """Answer for one picture, or for each of a list, in its order.

        Args:
            pictures: a path, the bytes of a file, uint8 pixels (height × width × 3, RGB, upright) or a Pillow image;
                or a list of such.
            options: `top`, `coverage`, `unknown`, `tta`, `tta_mean`: see `answers`.

        Returns:
            One `Answer` for one picture, a list for a list. A picture that cannot be read has an answer too: its
            `problem` says why.

        Raises:
            UsageError: something that is not a picture, or an option that this model does not have.
            BundleError: the model cannot be run.
        """
        if isinstance(pictures, (str, Path, bytes, np.ndarray, Image.Image, NamedPicture)):
            return next(answers(self.bundle, [pictures], network=self.network, **options))
        return list(answers(self.bundle, pictures, network=self.network, **options))


def load(path: str | Path, engine: str = AUTO, say: Callable[[str], None] = lambda line: None) -> Classifier:
    """Load a classifier from a run directory or a bundle. Needs no torch.

    Args:
        path: of the run or bundle.
        engine: "onnxruntime", "openvino" or "openvino-bf16"; "auto" begins with onnxruntime and takes the fastest of
            them once there are enough pictures to gain by it.
        say: called with lines for people: once, what engine was chosen by a timing, and how fast it is.

    Raises:
        UsageError: there is no such engine.
        BundleError: there is no bundle, it is damaged, or the engine does not give its golden answers here.
        MissingExtraError: the engine is not installed.
    """
    return Classifier(Bundle.load(path), engine, say)


def predict(
    path: str | Path, pictures: Picture | Sequence[Picture], **options: Unpack[AnswerOptions]
) -> Answer | list[Answer]:
    """Load a classifier and answer at once; see `Classifier.predict`. To ask more than once, keep what `load` gives."""
    return load(path).predict(pictures, **options)


#: Probabilities [n_classes] and out-of-distribution score of one picture.
_Scored: TypeAlias = tuple[Floats, float | None]


@dataclass(frozen=True)
class _Rules:
    """How probabilities become answers.

    Attributes:
        top: how many labels an answer lists; None: all.
        set_threshold: the probability from which on a class belongs to the prediction set; None: no sets.
        refuse: whether pictures unlike all classes are answered with "unknown".
    """

    top: int | None
    set_threshold: float | None
    refuse: bool


def answers(
    bundle: Bundle,
    pictures: Iterable[Picture],
    *,
    network: EngineSwitch | None = None,
    batch_size: int = BATCH,
    workers: int | None = None,
    top: int | None = None,
    coverage: float | None = None,
    unknown: bool | None = None,
    tta: int | None = None,
    tta_mean: str | None = None,
) -> Iterator[Answer]:
    """Answer for one picture after the other, in their order.

    `pictures` may be endless: only a few batches of them are in memory at a time.

    Args:
        bundle: the model.
        pictures: see `Classifier.predict`.
        network: runs the model; None: the bundle itself, on its own engine.
        batch_size: pictures run at once.
        workers: threads that read pictures; by default as many as there are processors for this process.
        top: how many labels an answer lists; None: all.
        coverage: give prediction sets that hold the right class with at least this probability, such as 0.95.
        unknown: whether pictures unlike all classes are answered with "unknown"; None: as the bundle was made.
        tta: test-time augmentation: changed copies of each picture whose answers are averaged with its own. It takes
            so many times longer. None: as the bundle was made.
        tta_mean: what is averaged, "logits" or "probabilities". None: as the bundle was made.

    Raises:
        UsageError: something that is not a picture, or an option that this model does not have. An unreadable
            picture is no error, but an answer with a `problem`.
        BundleError: the model cannot be run.
    """
    read = read_ahead(pictures, bundle.preprocessing, workers or n_processors(), ahead=2 * batch_size)
    options: AnswerOptions = {"top": top, "coverage": coverage, "unknown": unknown, "tta": tta, "tta_mean": tta_mean}
    return answers_to_read(network or bundle, bundle, read, batch_size, **options)


def answers_to_read(
    network: Bundle | EngineSwitch,
    bundle: Bundle,
    pictures: Iterator[PictureRead],
    batch_size: int,
    **options: Unpack[AnswerOptions],
) -> Iterator[Answer]:
    """As `answers`, for pictures that have been read.

    Raises:
        UsageError: an option that this model does not have; at once, not with the first answer.
    """
    coverage = options.get("coverage")
    set_threshold = None if coverage is None else _set_threshold(bundle, coverage)
    rules = _Rules(options.get("top"), set_threshold, _refuses(bundle, options.get("unknown")))
    n_copies, mean = bundle.averaging(options.get("tta"), options.get("tta_mean"))
    return _answers(bundle, network, pictures, batch_size, rules, n_copies, mean)


def _answers(
    bundle: Bundle,
    network: Bundle | EngineSwitch,
    pictures: Iterator[PictureRead],
    batch_size: int,
    rules: _Rules,
    n_copies: int,
    mean: Mean,
) -> Iterator[Answer]:
    def score(batch: Sequence[PictureRead]) -> Iterator[_Scored]:
        pixels = [picture.pixels for picture in batch if picture.pixels is not None]
        if not pixels:
            return iter(())
        logits, distance = network.predict_distance(np.stack(pixels), n_copies=n_copies, mean=mean)
        probabilities = bundle.probabilities(logits)
        return zip(probabilities, _ood_scores(bundle, distance, probabilities), strict=True)

    batches = iter(lambda: list(itertools.islice(pictures, batch_size)), [])
    for batch, scored in _overlapping(score, batches, network):
        for picture in batch:
            if picture.pixels is None:
                yield Answer(picture.path, (), (), math.nan, picture.problem)
            else:
                probability, ood_score = next(scored)
                answer = _answer(bundle, picture.path, probability, rules)
                yield _with_ood_score(bundle, answer, ood_score, rules.refuse)


def _overlapping(
    score: Callable[[Sequence[PictureRead]], Iterator[_Scored]],
    batches: Iterator[list[PictureRead]],
    network: Bundle | EngineSwitch,
) -> Iterator[tuple[list[PictureRead], Iterator[_Scored]]]:
    """Batches with their scores, in their order; as many run at a time as the network takes."""
    if first := next(batches, []):  # alone and on this thread: it opens the network
        yield first, score(first)
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="network") as pool:
        running: deque[tuple[list[PictureRead], Future[Iterator[_Scored]]]] = deque()
        for batch in batches:
            running.append((batch, pool.submit(score, batch)))
            while running and len(running) >= network.at_once:
                batch, future = running.popleft()
                yield batch, future.result()
        for batch, future in running:
            yield batch, future.result()


def _set_threshold(bundle: Bundle, coverage: float) -> float:
    """The probability from which on a class belongs to a prediction set of this coverage.

    Raises:
        UsageError: the bundle has none for it.
    """
    if bundle.multilabel:
        raise UsageError(
            "Prediction sets are for models that give one label a picture; this one gives several.",
            "To find nearly all pictures of each label, train with --set evaluation.thresholds.recall=0.95",
        )
    if coverage in bundle.sets:
        return bundle.sets[coverage]
    from tellapart.evaluation.sets import pictures_needed

    offered = ", ".join(f"{level:g}" for level in sorted(bundle.sets)) or "none"
    if not 0 < coverage < 1:
        raise UsageError(f"A coverage is a share between 0 and 1, not {coverage:g}.", f"Possible: {offered}.")
    needed = pictures_needed(coverage)
    few = f" It needs at least {needed:,} validation pictures; this model had {bundle.n_validation:,}."
    raise UsageError(
        f"This model has no prediction sets of coverage {coverage:g}.{few if needed > bundle.n_validation else ''}",
        f"Possible: {offered}.",
    )


def _refuses(bundle: Bundle, unknown: bool | None) -> bool:
    """Whether to answer "unknown".

    Raises:
        UsageError: it is asked for, and the bundle has no out-of-distribution score.
    """
    if bundle.ood_score is not None:
        return bundle.ood_score.by_default if unknown is None else unknown
    if not unknown:
        return False
    if bundle.multilabel:
        raise UsageError(
            "A model that gives several labels answers “none” where no label reaches its threshold, and cannot tell "
            "whether a picture is of something else altogether.",
            "Leave out --unknown.",
        )
    raise UsageError(
        f"{bundle.folder} was written by a version of Tellapart that did not learn what is known.", "Train again."
    )


def _ood_scores(bundle: Bundle, distance: Floats, probabilities: Floats) -> list[float | None]:
    if bundle.ood_score is None:
        return [None] * len(distance)
    return [float(score) for score in bundle.ood_score.of(distance, probabilities.max(axis=1))]


def _with_ood_score(bundle: Bundle, answer: Answer, score: float | None, refuse: bool) -> Answer:
    """The answer with its out-of-distribution score, and "unknown" where that is above the limit."""
    known = bundle.ood_score
    if score is None or known is None:
        return answer
    if not refuse or score <= known.limit:
        return replace(answer, ood_score=score)
    reason = (
        f"unlike all classes: its out-of-distribution score is {score:.1f}, and {percent(known.share)} of known "
        f"pictures have {known.limit:.1f} or less"
    )
    return replace(answer, chosen=(), ood_score=score, unknown=reason)


def _answer(bundle: Bundle, path: str, probabilities: Floats, rules: _Rules) -> Answer:
    """The answer that follows from one picture's probabilities [n_classes]."""
    order = np.argsort(-probabilities, kind="stable").tolist()
    chosen = [i for i in order if probabilities[i] >= bundle.thresholds[i]] if bundle.multilabel else order[:1]
    certainty = probabilities[chosen[-1]] if chosen else 1 - probabilities[order[0]]
    n_others = None if rules.top is None else max(0, rules.top - 1)
    picked = set(chosen)
    listed = picked.union([i for i in order if i not in picked][:n_others])
    labels = tuple((bundle.classes[i], float(probabilities[i])) for i in order if i in listed)
    candidates: tuple[str, ...] = ()
    if rules.set_threshold is not None:
        from tellapart.evaluation.sets import prediction_sets

        inside = prediction_sets(probabilities, rules.set_threshold)
        candidates = tuple(bundle.classes[i] for i in order if inside[i])
    return Answer(path, tuple(bundle.classes[i] for i in chosen), labels, float(certainty), candidates=candidates)
