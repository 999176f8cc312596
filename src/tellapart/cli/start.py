"""The program's entry point: a plain `predict RUN PICTURE…` is answered at once, all else by the command line.

The command line's parser takes as long to load as the network takes to answer. Without options it is not needed.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence
from pathlib import Path


def main() -> None:
    """Run the program."""
    # Loading torch makes a million objects that stay. To search them for garbage again and again takes a tenth of it.
    gc.set_threshold(10_000, 20, 50)
    if is_plain(sys.argv[1:]):
        _predict(Path(sys.argv[2]), sys.argv[3:])
    else:
        from tellapart.cli.main import main as run_command

        run_command()


def is_plain(words: Sequence[str]) -> bool:
    """Whether these words are `predict`, a run and pictures, without any option."""
    return len(words) > 2 and words[0] == "predict" and not any(word[:1] == "-" and word != "-" for word in words)


def _predict(run: Path, pictures: Sequence[str]) -> None:
    from tellapart.cli.ending import UNREADABLE, errors_for_people
    from tellapart.core.output import guard_output, print_err

    guard_output()
    with errors_for_people():
        from tellapart.deploy.predict_inputs import Request, predict_inputs

        if predict_inputs(Request(run, tuple(pictures)), print_err):
            sys.exit(UNREADABLE)
