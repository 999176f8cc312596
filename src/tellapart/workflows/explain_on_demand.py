"""Explains one picture after the other to the server that started this process: `python -m … RUN`.

A request is a picture's bytes on standard input, an answer JSON on standard output; before each stand four bytes of its
length. A first, empty answer says that all is ready. The process ends when its input does.
"""

from __future__ import annotations

import base64
import json
import os
import sys
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import torch

from tellapart.core.limits import limit_memory
from tellapart.core.output import print_err
from tellapart.core.preprocess import Pixels
from tellapart.core.vectors import nearest
from tellapart.data.decoding.decode import decode, read_picture
from tellapart.deploy.bundle.read import Bundle
from tellapart.errors import TellapartError, UnreadableError
from tellapart.explaining.attribution import METHODS, heat_maps
from tellapart.explaining.overlay import at_eye_size, overlay
from tellapart.report.thumbnail import thumbnail
from tellapart.runs.run import Run
from tellapart.training.extract_features import features
from tellapart.training.runtime import Runtime, default_workers
from tellapart.workflows.explain import able_methods, training_rows
from tellapart.workflows.label_issues import trained

_MOST_MEMORY = 4.0  # GiB
_MOST_TRAINING, _N_ALIKE = 2_000, 6  # pictures among which alike ones are looked for, and how many are shown
_MOST_LABELS = 2  # several labels: maps a picture
_SIDE, _SMALL = 320, 160  # pixels
_MOST_PICTURE = 100_000_000  # bytes
_HEAD = 4


class OnDemand:
    """What explanations of a run need, made once.

    Raises:
        TellapartError: the run cannot be read.
    """

    def __init__(self, run: Run) -> None:
        self.bundle = Bundle.load(run.directory)
        self.catalog = run.catalog
        self.network = trained(run, "best").eval()
        self.rows = training_rows(run, _MOST_TRAINING)
        self.notes: list[str] = []
        self.vectors = self._vectors()

    def _vectors(self) -> npt.NDArray[np.float32]:
        """Features of the training pictures; none where these cannot be read any more."""
        runtime = Runtime("cpu", workers=default_workers())
        try:
            computing = features(self.network, self.catalog, self.rows, runtime, "features of training pictures")
            while True:
                next(computing)
        except StopIteration as end:
            vectors: npt.NDArray[np.float32] = end.value
            return vectors
        except (TellapartError, OSError) as error:
            print_err(f"Training pictures cannot be compared with: {error}")
            self.rows = self.rows[:0]
            self.notes.append("The training pictures are not where they were, so none can be shown.")
            return np.empty((0, 1), np.float32)

    def explain(self, content: bytes) -> dict[str, Any]:
        """Maps of what speaks for the answer, and the training pictures that look like the picture, as plain values.

        `problem` says why the picture cannot be read.
        """
        try:
            pixels = read_picture(content, self.network.preprocessing)[None]
        except UnreadableError as error:
            return {"problem": error.reason}
        with torch.inference_mode():
            logits, vector = self.network.answer(torch.from_numpy(pixels))
        methods, notes = able_methods(self.network, pixels, list(METHODS))
        numbers = self._answered(logits.numpy())
        return {
            "picture": _jpeg(at_eye_size(pixels[0])),
            "maps": self._maps(pixels, numbers, methods[0]) if methods else [],
            "method": METHODS[methods[0]] if methods else None,
            "alike": self._alike(vector.numpy()),
            "notes": self.notes + ([] if methods else notes),
        }

    def _answered(self, logits: npt.NDArray[np.float32]) -> list[int]:
        """Numbers of the classes that are answered, or of the most probable one where none is."""
        probabilities = self.bundle.probabilities(logits)[0]
        order = np.argsort(-probabilities, kind="stable").tolist()
        chosen = [i for i in order if self.bundle.multilabel and probabilities[i] >= self.bundle.thresholds[i]]
        return (chosen or order[:1])[:_MOST_LABELS]

    def _maps(self, pixels: Pixels, numbers: list[int], method: str) -> list[dict[str, str]]:
        warm = heat_maps(self.network, np.repeat(pixels, len(numbers), axis=0), np.array(numbers), method)
        return [
            {
                "label": self.bundle.classes[number],
                "picture": _jpeg(overlay(pixels[0], values)),
                "note": "" if values.any() else "Nothing in the picture speaks for it.",
            }
            for number, values in zip(numbers, warm, strict=True)
        ]

    def _alike(self, vector: npt.NDArray[np.float32]) -> list[dict[str, Any]]:
        if not len(self.rows):
            return []
        positions, similarities = nearest(vector, self.vectors, _N_ALIKE)
        alike = []
        for position, similarity in zip(positions[0], similarities[0], strict=True):
            row = int(self.rows[position])
            if position < 0:
                continue
            try:
                small = _jpeg(decode(self.catalog.path(row), _SMALL), _SMALL)
            except (TellapartError, OSError):
                continue
            labels = [self.catalog.classes[number] for number in self.catalog.table["labels"][row]]
            alike.append({"labels": labels, "similarity": round(float(similarity), 3), "picture": small})
        return alike


def _jpeg(pixels: Pixels, side: int = _SIDE) -> str:
    """A small picture as an address for a page."""
    return f"data:image/jpeg;base64,{base64.b64encode(thumbnail(pixels, side)).decode()}"


def answer_all(on_demand: OnDemand, requests: BinaryIO, answers: BinaryIO) -> None:
    """Explain what is asked for until there is no more."""
    _send(answers, b"")
    while len(head := requests.read(_HEAD)) == _HEAD:
        length = int.from_bytes(head, "big")
        if length > _MOST_PICTURE:
            return
        _send(answers, json.dumps(on_demand.explain(requests.read(length))).encode())


def _send(answers: BinaryIO, answer: bytes) -> None:
    answers.write(len(answer).to_bytes(_HEAD, "big") + answer)
    answers.flush()


def main() -> None:
    """Explain until standard input ends."""
    limit_memory(_MOST_MEMORY)
    if hasattr(os, "nice"):
        os.nice(10)  # answers come first
    # Whatever a library prints goes to standard error: standard output is for answers alone.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    try:
        on_demand = OnDemand(Run(Path(sys.argv[1])))
    except TellapartError as error:
        sys.exit(f"Explanations cannot be given: {error.message} {error.hint}")
    answer_all(on_demand, sys.stdin.buffer, answers)


if __name__ == "__main__":
    main()
