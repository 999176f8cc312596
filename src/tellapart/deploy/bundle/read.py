"""Reads a bundle: a folder for inference without training code. No torch here.

A bundle holds:
    bundle.json         classes in order, preprocessing, temperature, thresholds, digests; see `write.py`
    model.onnx          the network, uint8 pictures [n, height, width, 3] -> logits [n, n_classes] and the features
                        [n, n_features] of the last layer
    model.safetensors   the same weights, to go on training
    golden.safetensors  a few pictures and their logits, to verify the bundle
    known.safetensors   means and covariance of the classes' features; not with several labels
    README.md           the model card; the only file that may be edited
Nothing in it can execute. Older formats are still read: 1 has no features and no known.safetensors, 2 has other keys in
bundle.json.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tellapart.core import checks
from tellapart.core.bundle_description import AGAIN, DESCRIPTION, MOST_COPIES, Description, read_description
from tellapart.core.predictions import MEANS, Floats, Mean, Temperature, average_logits, probabilities
from tellapart.core.preprocess import Pixels, Preprocessing
from tellapart.core.remote import at_hand
from tellapart.core.several_runs import describe_several
from tellapart.data.augmentation.tta import copies
from tellapart.deploy.bundle.session import open_session
from tellapart.deploy.bundle.tensors import read_tensors
from tellapart.deploy.engines.names import AT_ONCE, EngineName
from tellapart.deploy.engines.openvino import Run, open_openvino
from tellapart.errors import BundleError, TellapartError, UsageError
from tellapart.evaluation.open_set import KnownClasses, OodScore

MODEL, WEIGHTS, GOLDEN = "model.onnx", "model.safetensors", "golden.safetensors"
KNOWN = "known.safetensors"
CARD = "README.md"
#: First parts of the names that a run or bundle in a storage is read by.
PARTS = (DESCRIPTION, MODEL, WEIGHTS, GOLDEN, KNOWN, CARD, "bundle")


@dataclass(frozen=True)
class Bundle:
    """A model for inference, checked when it was loaded.

    Attributes:
        folder: its folder.
        classes: names, in the order of the logits.
        multilabel: True where a picture may have none, one or several of the classes.
        preprocessing: how a picture becomes the network's input.
        temperature: above 0; logits are divided by it before they become probabilities. Several labels: one a class.
        thresholds: several labels: decision thresholds, one a class; else empty.
        absolute, relative: tolerance of onnxruntime's logits beside the golden ones: absolute + relative × |golden|.
        architecture: the network's, for `models.network.Architecture.from_dict`.
        about: its origin, see `write.write_bundle`.
        sets: coverage → threshold of prediction sets, see `evaluation.sets`.
        n_validation: number of pictures that the sets rest on.
        ood_score: the out-of-distribution score and its limit; None where there is none (several labels).
        tta: test-time augmentation by default: changed copies of each picture that are averaged with it.
        flip: whether such copies may be mirrored, as training's pictures were.
        tta_mean: what is averaged by default over picture and copies.
        digest: SHA-256 of the network's file.
        engine: what runs the network, one of `engines.names.ENGINES`. `replace(bundle, engine=…)` gives the same bundle
            on another one.
    """

    folder: Path
    classes: tuple[str, ...]
    multilabel: bool
    preprocessing: Preprocessing
    temperature: Temperature
    thresholds: tuple[float, ...]
    absolute: float
    relative: float
    architecture: dict[str, Any] = field(repr=False)
    about: dict[str, Any] = field(repr=False)
    sets: dict[float, float] = field(default_factory=dict)
    n_validation: int = 0
    ood_score: OodScore | None = None
    tta: int = 0
    flip: bool = False
    tta_mean: Mean = "logits"
    digest: str = ""
    engine: EngineName = "onnxruntime"

    @classmethod
    def load(cls, path: str | Path) -> Bundle:
        """Read a bundle and check every file of it against the digests it was written with.

        Args:
            path: the bundle's folder, or a run directory that holds `bundle/`; of a storage (s3://…) too.

        Raises:
            BundleError: there is none, it is damaged, or it was written by a newer Tellapart.
        """
        folder = _find(at_hand(path, PARTS))
        values = read_description(folder)
        digests = _check_files(folder, values)
        temperature = values.temperature
        return cls(
            folder=folder,
            classes=tuple(values.classes),
            multilabel=values.multilabel,
            preprocessing=values.preprocessing,
            temperature=tuple(temperature) if isinstance(temperature, list) else temperature,
            thresholds=tuple(values.thresholds),
            absolute=values.tolerance.absolute,
            relative=values.tolerance.relative,
            architecture=values.architecture,
            about=values.about,
            sets=values.sets,
            n_validation=values.n_validation,
            ood_score=OodScore.from_dict(values.ood_score) if values.ood_score else None,
            tta=values.tta,
            flip=values.flip,
            tta_mean=values.tta_mean,
            digest=digests[MODEL],
        )

    @cached_property
    def session(self) -> Any:
        """The `onnxruntime.InferenceSession`, on the processor, made on first use (so that loading stays quick).

        Raises:
            BundleError: onnxruntime cannot run the model, or it is not the one bundle.json speaks of.
        """
        path = self.folder / MODEL
        session = open_session(path)
        taken, made = session.get_inputs()[0], session.get_outputs()
        frame, n_classes = [self.preprocessing.height, self.preprocessing.width, 3], len(self.classes)
        if (taken.shape[1:], made[0].shape[1:]) != (frame, [n_classes]):
            raise BundleError(
                f"{path} takes {taken.shape} and gives {made[0].shape}, but {DESCRIPTION} speaks of "
                f"{frame[0]}×{frame[1]} pixels and {n_classes} classes.",
                AGAIN,
            )
        if self.known is not None and [output.shape[1:] for output in made[1:]] != [[self.known.means.shape[1]]]:
            raise BundleError(f"{path} does not give the features that {KNOWN} is about.", AGAIN)
        return session

    @cached_property
    def _network(self) -> Run:
        """The network in its engine, made on first use."""
        if self.engine != "onnxruntime":
            return open_openvino(self.folder / MODEL, bfloat16=self.engine == "openvino-bf16")
        session = self.session
        return lambda pictures, outputs: session.run(outputs, {"pictures": pictures})

    @property
    def at_once(self) -> int:
        """Batches that it may be given at a time; see `EngineSwitch`."""
        return AT_ONCE

    @cached_property
    def known(self) -> KnownClasses | None:
        """Means and covariance of the classes' features; None where there is no out-of-distribution score.

        Raises:
            BundleError: the file cannot be read.
        """
        if self.ood_score is None:
            return None
        path = self.folder / KNOWN
        try:
            return KnownClasses.from_tensors(read_tensors(path))
        except (OSError, ValueError) as error:
            raise BundleError(f"{path} cannot be read: {error}", AGAIN) from error

    def averaging(self, tta: int | None, mean: str | None) -> tuple[int, Mean]:
        """Copies and mean of test-time augmentation: as asked for, and otherwise as the bundle was made.

        Args:
            tta: changed copies of each picture; None: the bundle's.
            mean: what is averaged, one of `predictions.MEANS`; None: the bundle's.

        Raises:
            UsageError: there is no such mean, or nothing to be averaged, or too much.
        """
        n_copies = self.tta if tta is None else tta
        if not 0 <= n_copies <= MOST_COPIES:
            raise UsageError(f"There can be 0 to {MOST_COPIES} changed copies of each picture, not {n_copies:,}.")
        if mean is None:
            return n_copies, self.tta_mean
        if mean not in MEANS:
            raise UsageError(f"There is no mean of {mean!r}.", f"There is that of {' and of '.join(MEANS)}.")
        if not n_copies:
            raise UsageError(
                f"A mean of {mean} is over changed copies of each picture, and there are none.", "Add --tta 4."
            )
        return n_copies, MEANS[MEANS.index(mean)]

    def predict_pixels(self, pictures: Pixels, batch_size: int = 32) -> npt.NDArray[np.float32]:
        """Run the model.

        Args:
            pictures: uint8 [n, height, width, 3], as `preprocess` gives them.
            batch_size: pictures run at once; bounds the memory, does not change the result.

        Returns:
            Logits, float32 [n, n_classes], before any temperature.

        Raises:
            ValueError: pictures of another type or size.
            BundleError: the model cannot be run, or gives something that is not a number.
        """
        return self._predict(pictures, batch_size, None)[0]

    def predict_distance(
        self, pictures: Pixels, batch_size: int = 32, n_copies: int = 0, mean: Mean = "logits"
    ) -> tuple[npt.NDArray[np.float32], Floats]:
        """Logits as `predict_pixels`, and the distance of each picture to the known classes.

        Args:
            pictures, batch_size: see `predict_pixels`.
            n_copies: changed copies of each picture whose answers are averaged with its own, see `copies`.
            mean: what is averaged.

        Returns:
            Logits and distance [n]: that of the picture itself, 0 where the bundle has no out-of-distribution score.
        """
        logits, distance = self._predict(pictures, batch_size, self.known)
        if n_copies:
            changed = itertools.islice(copies(pictures, n_copies, self.flip, self.preprocessing.interpolation), 1, None)
            versions = [logits, *(self.predict_pixels(version, batch_size) for version in changed)]
            logits = average_logits(versions, self.multilabel, mean).astype(np.float32)
        return logits, distance

    def _predict(
        self, pictures: Pixels, batch_size: int, known: KnownClasses | None
    ) -> tuple[npt.NDArray[np.float32], Floats]:
        preprocessing = self.preprocessing
        if (
            pictures.dtype != np.uint8
            or pictures.ndim != 4
            or pictures.shape[1:] != (preprocessing.height, preprocessing.width, 3)
        ):
            raise ValueError(
                f"pictures must be uint8 [n, {preprocessing.height}, {preprocessing.width}, 3], "
                f"not {pictures.dtype} {list(pictures.shape)}"
            )
        logits = np.empty((len(pictures), len(self.classes)), np.float32)
        distance = np.zeros(len(pictures))
        for start in range(0, len(pictures), batch_size):
            batch = np.ascontiguousarray(pictures[start : start + batch_size])
            part = slice(start, start + batch_size)
            if known is None:
                (logits[part],) = self._run(batch, ["logits"])
            else:
                logits[part], features = self._run(batch, ["logits", "features"])
                distance[part] = known.distance(features)
        if not (np.isfinite(logits).all() and np.isfinite(distance).all()):
            raise BundleError(f"{self.folder / MODEL} gave logits that are not numbers.", "Its weights are unusable.")
        return logits, distance

    def _run(self, batch: Pixels, outputs: list[str]) -> list[npt.NDArray[np.float32]]:
        path = self.folder / MODEL
        try:
            made = self._network(batch, outputs)
        except Exception as error:  # the engines' errors share no base but Exception
            if isinstance(error, TellapartError):
                raise
            raise BundleError(f"{path} cannot be run: {error}", AGAIN) from error
        shapes = [(len(batch), len(self.classes))]
        shapes += [(len(batch), self.known.means.shape[1])] if len(outputs) > 1 and self.known is not None else []
        if [array.shape for array in made] != shapes:
            raise BundleError(f"{path} gives other shapes than it says.", AGAIN)
        return made

    def probabilities(self, logits: npt.ArrayLike) -> Floats:
        """float64 [n, n_classes]: calibrated probabilities (softmax, or sigmoid for several labels)."""
        return probabilities(logits, self.multilabel, self.temperature)


def waiting(folder: Path) -> Path:
    """The folder of the old bundle for the moment in which a new one takes its place."""
    return folder.parent / f".{folder.name}.old"


def _find(path: Path) -> Path:
    """The bundle's folder: `path`, `path/bundle`, or the one that a writer set aside before it was killed."""
    within = path / "bundle"
    for folder in (path, within, waiting(within), waiting(path)):
        if (folder / DESCRIPTION).is_file():
            return folder
    if not path.is_dir():
        problem = "is a file, not the folder of a run or bundle" if path.exists() else "does not exist"
        raise BundleError(f"{path} {problem}.", "Give the directory of a run, e.g. runs/first, or of a bundle.")
    if path.name == "bundle" or any((path / name).exists() for name in (MODEL, WEIGHTS, GOLDEN)):
        raise BundleError(f"{path} is a damaged bundle: {DESCRIPTION} is missing.", AGAIN)
    if within.is_dir():
        raise BundleError(f"{within} is a damaged bundle: {DESCRIPTION} is missing.", AGAIN)
    if several := describe_several(path):
        raise BundleError(*several)
    raise BundleError(
        f"{path} holds no bundle.", "If its training was broken off, finish it: tellapart train … --out RUN"
    )


# onnxruntime reads no model of 2 GiB.
_FILE = checks.record({"bytes": checks.integer(0, (1 << 31) - 1), "sha256": checks.text(64)})
#: What bundle.json says of the files that are used; entries of formats that are not known here do not count.
_FILES = checks.record(
    {MODEL: _FILE, WEIGHTS: _FILE, GOLDEN: _FILE, KNOWN: (checks.none_or(_FILE), lambda: None)},
)


def _check_files(folder: Path, values: Description) -> dict[str, str]:
    """Compare size and SHA-256 of each file with those in bundle.json; the SHA-256 by the file's name."""
    try:
        files = _FILES(values.files)
    except ValueError as error:
        raise BundleError(f"{folder / DESCRIPTION} does not name the files of a bundle.", AGAIN) from error
    if values.ood_score and not files[KNOWN]:
        raise BundleError(f"{folder / DESCRIPTION} has an out-of-distribution score, but no {KNOWN}.", AGAIN)
    entries = {name: entry for name, entry in files.items() if entry is not None}
    for name, entry in entries.items():
        path = folder / name
        if not path.is_file():
            raise BundleError(f"{folder} is a damaged bundle: {name} is missing.", AGAIN)
        size = path.stat().st_size
        if size != entry["bytes"]:
            raise BundleError(f"{path} is damaged: it has {size:,} bytes instead of {entry['bytes']:,}.", AGAIN)
    # Threads, since hashing releases the interpreter: a cold start waits for the largest file only.
    with ThreadPoolExecutor(len(entries)) as pool:
        digests = list(pool.map(lambda name: _sha256(folder / name), entries))
    for (name, entry), digest in zip(entries.items(), digests, strict=True):
        if digest != entry["sha256"]:
            raise BundleError(f"{folder / name} is damaged: its content is not what was written.", AGAIN)
    return dict(zip(entries, digests, strict=True))


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror}", AGAIN) from error


def own_files(folder: Path) -> set[str]:
    """Names of the files that belong to the bundle in a folder, whatever version of Tellapart wrote it."""
    own = {DESCRIPTION, MODEL, WEIGHTS, GOLDEN, KNOWN, CARD}
    with contextlib.suppress(BundleError):
        files = read_description(folder).files
        own |= {name for name in files if isinstance(name, str)} if isinstance(files, dict) else set()
    return own


def describe_files(folder: Path) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 of a new bundle's files: all but bundle.json, which holds this, and the card, which people edit.

    Args:
        folder: with neither of these two yet.
    """
    order = [MODEL, WEIGHTS, GOLDEN, KNOWN]
    names = sorted(path.name for path in folder.iterdir())
    names.sort(key=lambda name: order.index(name) if name in order else len(order))
    return {name: {"bytes": (folder / name).stat().st_size, "sha256": _sha256(folder / name)} for name in names}
