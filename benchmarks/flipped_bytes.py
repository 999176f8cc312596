"""Every byte of a bundle changed in turn: each bundle is refused, or answers as before.

    python -m benchmarks.flipped_bytes [STRIDE]

Of the network and its weights, a megabyte each, only each STRIDE-th byte is changed: any of them changes the digest.
The bundle is that of `tests/deploy/bundle`: small, with every kind of file and every ability.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np

from benchmarks import record
from benchmarks.fuzz_bundles import write_whole
from tellapart.deploy.answer import Answer
from tellapart.deploy.bundle.read import Bundle
from tellapart.deploy.predictor import answers
from tellapart.errors import BundleError

LARGE = 100_000  # bytes
PICTURE = np.random.default_rng(3).integers(0, 256, (20, 30, 3), np.uint8)


def answer(folder: Path) -> Answer | None:
    """The bundle's answer; None where it is refused."""
    try:
        return next(answers(Bundle.load(folder), [PICTURE]))
    except BundleError:
        return None


def main() -> None:
    stride = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    figures = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_whole(folder)
        before = answer(folder)
        assert before is not None
        for file in sorted(path for path in folder.iterdir() if path.is_file()):
            content, outcome = file.read_bytes(), Counter[str]()
            step = stride if len(content) > LARGE else 1
            for position in range(0, len(content), step):
                changed = bytearray(content)
                changed[position] ^= 1 << position % 8
                file.write_bytes(changed)
                after = answer(folder)
                outcome["refused" if after is None else "same answer" if after == before else "other answer"] += 1
            file.write_bytes(content)
            figures[file.name] = {"bytes": len(content), "step": step, **outcome}
            print(file.name, figures[file.name], flush=True)
    record.write("flipped_bytes", {"files": figures})


if __name__ == "__main__":
    main()
