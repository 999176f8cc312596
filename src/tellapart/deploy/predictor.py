"""Pictures in, answers out: decoded ahead on threads, run through a bundle in batches, in the order they came."""

from __future__ import annotations

import glob
import io
import itertools
import math
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias, TypedDict, Unpack, overload

import numpy as np
import numpy.typing as npt
from PIL import Image

from tellapart.core.predictions import Mean
from tellapart.core.preprocess import Pixels, Preprocessing, preprocess
from tellapart.core.system import n_processors
from tellapart.data.decoding.decode import EXTENSIONS, read_picture
from tellapart.deploy.bundle.read import Bundle
from tellapart.errors import UnreadableError, UsageError
from tellapart.evaluation.sets import pictures_needed, prediction_sets

Picture: TypeAlias = str | Path | bytes | npt.NDArray[np.uint8] | Image.Image

NONE = "none"
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Answer:
    """What a model says of one picture.

    Attributes:
        path: the picture's path as it was given; empty for a picture that was no file.
        chosen: the answer: one class name; where several labels are possible, those at or above their thresholds,
            most probable first, which may be none. Empty where the picture is unknown or could not be read.
        labels: class names with their probabilities (0 to 1), most probable first: the chosen ones and as many
            others as were asked for.
        certainty: the probability of the label; of the least probable one where there are several; where there is
            none, that of none: 1 - the highest probability; where the picture is unknown, that of the first of
            `labels`, which it is thought not to be. Not a number where the picture could not be read.
        problem: why the picture could not be read, in a plain sentence; None where it could.
        candidates: the prediction set, most probable first; empty where no coverage was asked for.
        strangeness: how unlike the known classes the picture is; None where the model cannot tell.
        unknown: why the picture is thought to be of none of the classes; None where it is not, or that was not asked.
    """

    path: str
    chosen: tuple[str, ...]
    labels: tuple[tuple[str, float], ...]
    certainty: float
    problem: str | None = None
    candidates: tuple[str, ...] = ()
    strangeness: float | None = None
    unknown: str | None = None

    @property
    def label(self) -> str:
        """The chosen label, several joined with ", ", "none", "unknown", or "" where the picture could not be read."""
        if self.problem is not None:
            return ""
        if self.unknown is not None:
            return UNKNOWN
        return ", ".join(self.chosen) or NONE

    def __str__(self) -> str:
        """For people: "Beagle 98 %", "Beagle or Basset", "cat 98 %, bunny 87 %", "none", "unknown: …" and so on."""
        if self.problem is not None:
            return f"unreadable: {self.problem}"
        if self.unknown is not None:
            return f"{UNKNOWN}: {self.unknown}"
        if len(self.candidates) > 1:
            return " or ".join(self.candidates)
        probability = dict(self.labels)
        return ", ".join(f"{name} {percent(probability[name])}" for name in self.chosen) or NONE


def percent(probability: float) -> str:
    """A probability for people: "98 %"; a decimal near the ends; never rounded up to a certainty of 100 %."""
    if probability < 0.001:
        return "< 0.1 %"
    digits = 1 if probability < 0.01 or probability >= 0.99 else 0
    return f"{min(probability, 0.999) * 100:.{digits}f} %"


class AnswerOptions(TypedDict, total=False):
    """How answers are given, all optional: see `answers`."""

    top: int | None
    coverage: float | None
    unknown: bool | None
    tta: int | None
    tta_mean: str | None


class Classifier:
    """A bundle that takes pictures. Made by `load`."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle

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
            UsageError: something that is not a picture, or something asked for that this model cannot give.
            BundleError: the model cannot be run.
        """
        if isinstance(pictures, (str, Path, bytes, np.ndarray, Image.Image)):
            return next(answers(self.bundle, [pictures], **options))
        return list(answers(self.bundle, pictures, **options))


def load(path: str | Path) -> Classifier:
    """Load a classifier from a run directory or a bundle. Needs no torch.

    Raises:
        BundleError: there is none, or it is damaged.
    """
    return Classifier(Bundle.load(path))


def predict(
    path: str | Path, pictures: Picture | Sequence[Picture], **options: Unpack[AnswerOptions]
) -> Answer | list[Answer]:
    """Load a classifier and answer at once; see `Classifier.predict`. To ask more than once, keep what `load` gives."""
    return load(path).predict(pictures, **options)


def answers(
    bundle: Bundle,
    pictures: Iterable[Picture],
    *,
    batch_size: int = 16,
    workers: int | None = None,
    top: int | None = None,
    coverage: float | None = None,
    unknown: bool | None = None,
    tta: int | None = None,
    tta_mean: str | None = None,
) -> Iterator[Answer]:
    """Answer for one picture after the other, in the order given.

    `pictures` may be endless: only a few batches of them are in memory at a time.

    Args:
        bundle: the model.
        pictures: see `Classifier.predict`.
        batch_size: pictures run at once.
        workers: threads that read pictures; by default as many as there are processors for this process.
        top: how many labels an answer lists; None: all.
        coverage: give prediction sets that hold the right class with at least this probability, such as 0.95.
        unknown: whether pictures unlike all classes are answered with "unknown"; None: as the bundle was made.
        tta: test-time augmentation: changed copies of each picture whose answers are averaged with its own; it takes
            so many times longer. None: as the bundle was made.
        tta_mean: what is averaged, "logits" or "probabilities". None: as the bundle was made.

    Raises:
        UsageError: something that is not a picture, or something asked for that this model cannot give. An unreadable
            picture is no error, but an answer with a `problem`.
        BundleError: the model cannot be run.
    """
    least = None if coverage is None else _set_threshold(bundle, coverage)
    refuse = _refuses(bundle, unknown)
    averaging = bundle.averaging(tta, tta_mean)
    return _answers(bundle, pictures, batch_size, workers or n_processors(), top, least, refuse, averaging)


def _answers(
    bundle: Bundle,
    pictures: Iterable[Picture],
    batch_size: int,
    workers: int,
    top: int | None,
    least: float | None,
    refuse: bool,
    averaging: tuple[int, Mean],
) -> Iterator[Answer]:
    """`answers`, with what was asked for settled."""
    n_copies, mean = averaging
    read = _read_ahead(bundle, pictures, workers, ahead=2 * batch_size)
    while batch := list(itertools.islice(read, batch_size)):
        pixels = [what for _, what in batch if not isinstance(what, str)]
        scores: Iterator[tuple[Any, float | None]] = iter(())
        if pixels:
            logits, distance = bundle.predict_distance(np.stack(pixels), n_copies=n_copies, mean=mean)
            chances = bundle.probabilities(logits)
            scores = zip(chances, _strangeness(bundle, distance, chances), strict=True)
        for path, what in batch:
            if isinstance(what, str):
                yield Answer(path, (), (), math.nan, what)
                continue
            probabilities, strangeness = next(scores)
            answer = _answer(bundle, path, probabilities, top, least)
            yield _judged(bundle, answer, strangeness, refuse)


def _set_threshold(bundle: Bundle, coverage: float) -> float:
    """From which probability on a class belongs to a set of this coverage.

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
    offered = ", ".join(f"{level:g}" for level in sorted(bundle.sets)) or "none"
    if not 0 < coverage < 1:
        raise UsageError(f"A coverage is a share between 0 and 1, not {coverage:g}.", f"Possible here: {offered}.")
    needed = pictures_needed(coverage)
    few = f" It needs at least {needed:,} validation pictures; this model had {bundle.n_validation:,}."
    raise UsageError(
        f"This model has no prediction sets of coverage {coverage:g}.{few if needed > bundle.n_validation else ''}",
        f"Possible here: {offered}.",
    )


def _refuses(bundle: Bundle, unknown: bool | None) -> bool:
    """Whether to answer "unknown".

    Raises:
        UsageError: it is asked for, and the bundle cannot tell.
    """
    if bundle.strangeness is not None:
        return bundle.strangeness.by_default if unknown is None else unknown
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


def _strangeness(
    bundle: Bundle, distance: npt.NDArray[np.float64], probabilities: npt.NDArray[np.float64]
) -> list[float | None]:
    if bundle.strangeness is None:
        return [None] * len(distance)
    return [float(value) for value in bundle.strangeness.of(distance, probabilities.max(axis=1))]


def _judged(bundle: Bundle, answer: Answer, strangeness: float | None, refuse: bool) -> Answer:
    """The answer with its strangeness, and without a choice where it is too strange."""
    told = bundle.strangeness
    if strangeness is None or told is None:
        return answer
    if not refuse or strangeness <= told.limit:
        return replace(answer, strangeness=strangeness)
    reason = (
        f"unlike all classes: strangeness {strangeness:.1f}, where {told.share:.1%} of known pictures have "
        f"{told.limit:.1f} or less"
    )
    return replace(answer, chosen=(), strangeness=strangeness, unknown=reason)


def _answer(
    bundle: Bundle, path: str, probabilities: npt.NDArray[np.float64], top: int | None, least: float | None
) -> Answer:
    """The answer that follows from one picture's probabilities [n_classes]."""
    order = np.argsort(-probabilities, kind="stable").tolist()
    chosen = [i for i in order if probabilities[i] >= bundle.thresholds[i]] if bundle.multilabel else order[:1]
    certainty = probabilities[chosen[-1]] if chosen else 1 - probabilities[order[0]]
    picked = set(chosen)
    others = [i for i in order if i not in picked][: None if top is None else max(0, top - 1)]
    listed = picked.union(others)
    labels = tuple((bundle.classes[i], float(probabilities[i])) for i in order if i in listed)
    inside = np.zeros(len(order), bool) if least is None else prediction_sets(probabilities, least)
    candidates = tuple(bundle.classes[i] for i in order if inside[i])
    return Answer(path, tuple(bundle.classes[i] for i in chosen), labels, float(certainty), candidates=candidates)


def _read_ahead(
    bundle: Bundle, pictures: Iterable[Picture], workers: int, ahead: int
) -> Iterator[tuple[str, Pixels | str]]:
    """Path and pixels, or path and problem, in order; at most `ahead` pictures are read before they are asked for."""
    pool = ThreadPoolExecutor(workers, thread_name_prefix="read")
    waiting: deque[Future[tuple[str, Pixels | str]]] = deque()
    try:
        for picture in pictures:
            waiting.append(pool.submit(_read, bundle, picture))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _read(bundle: Bundle, picture: Picture) -> tuple[str, Pixels | str]:
    path = os.fspath(picture) if isinstance(picture, (str, Path)) else ""
    try:
        return path, _pixels(picture, bundle.preprocessing)
    except UnreadableError as error:
        return path, error.reason


def _pixels(picture: Picture, preprocessing: Preprocessing) -> Pixels:
    """What the network takes, made of whatever was given."""
    if isinstance(picture, np.ndarray):
        return preprocess(_checked(picture), preprocessing)
    if isinstance(picture, (str, Path)):
        return read_picture(Path(picture), preprocessing)
    if isinstance(picture, Image.Image):
        picture = _without_loss(picture)
    if isinstance(picture, bytes):
        return read_picture(picture, preprocessing)
    raise UsageError(
        f"{type(picture).__name__} is not a picture.",
        "Give a path, the bytes of a file, an array of pixels, a Pillow image, or a list of these.",
    )


def _without_loss(image: Image.Image) -> bytes:
    """A Pillow image as a file, so that transparency, 16 bits and EXIF are treated as they are in any file."""
    kind = "TIFF" if image.mode in ("CMYK", "LAB", "I", "F") else "PNG"
    known = kind == "TIFF" or image.mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")
    file = io.BytesIO()
    try:
        # An image that was opened is read only now, so this is where a damaged file shows.
        (image if known else image.convert("RGB")).save(file, kind, compress_level=0, exif=image.getexif())
    except (OSError, SyntaxError, ValueError) as error:
        raise UnreadableError("the image", f"the picture's data are damaged ({error})") from error
    return file.getvalue()


def _checked(pixels: npt.NDArray[Any]) -> Pixels:
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise UsageError(
            f"A picture given as an array must be uint8, height × width × 3, not {pixels.dtype} {pixels.shape}.",
            "Colours are red, green, blue, from 0 to 255. Several pictures: give a list of arrays.",
        )
    return pixels


def find_pictures(inputs: Sequence[str]) -> Iterator[Path]:
    """Every picture that files, folders and patterns name.

    A file is taken whatever its name. A folder gives the pictures in it and below, by their extensions, sorted;
    what is hidden is skipped. A pattern (`*`, `?`, `[a-z]`, `**` for any depth) is for shells that do not expand
    it, and acts as if they had; it skips what is hidden.

    Returns:
        Paths, found while they are asked for: of a folder tree, one folder's names are in memory at a time.

    Raises:
        UsageError: at once, for a name that does not exist, a pattern that fits nothing, a folder without pictures.
    """
    given = [path for text in inputs for path in _expand(text)]
    for path in given:
        if path.is_dir() and next(_below(path), None) is None:
            raise UsageError(
                f"{path} holds no pictures.", f"Files that count as pictures end in: {' '.join(sorted(EXTENSIONS))}"
            )
    return itertools.chain.from_iterable(_below(path) if path.is_dir() else (path,) for path in given)


def _expand(text: str) -> list[Path]:
    """The path itself where it exists, else what the pattern fits, sorted."""
    if os.path.lexists(text):
        return [Path(text)]
    if not glob.has_magic(text):
        raise UsageError(f"{text} does not exist.", f"Relative names start from {Path.cwd()}.")
    found = sorted(Path(name) for name in glob.iglob(text, recursive=True))
    if "**" in text:  # it has reached the files below a folder already
        found = [path for path in found if not path.is_dir()]
    if not found:
        raise UsageError(f"No file fits {text}.", "'*' stays within a folder, '**' goes down any depth.")
    return found


def _below(folder: Path) -> Iterator[Path]:
    """Pictures in a folder and below, sorted. Links to files are followed, links to folders are not."""
    try:
        with os.scandir(folder) as entries:
            names = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)
    except OSError:
        yield folder  # reading it as a picture fails too, so it ends up among the unreadable, with its reason
        return
    for name, is_folder in names:
        if name.startswith("."):
            continue
        path = folder / name
        if is_folder:
            yield from _below(path)
        elif path.suffix.lower() in EXTENSIONS:
            yield path
