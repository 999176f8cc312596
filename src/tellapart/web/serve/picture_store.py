"""Keeps the pictures that were answered, and what people say they show, where `review`, `scan` and `train` read them.

The folder holds the pictures, side by side and without labels, named by their content: the same picture is stored once.
`corrections.csv` beside them holds what people said; see `data.corrections`. Both grow up to a limit, and no further.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from tellapart.core.files import plainly, replacing, sweep
from tellapart.core.output import print_err
from tellapart.data.corrections import CORRECTIONS, CorrectionLog, to_cell
from tellapart.errors import RunError, UsageError
from tellapart.web.serve.bodies import Refused

#: Who decides in the table of corrections.
AT_THE_PAGE = "the server's page"
_NAME = re.compile(r"[0-9a-f]{64}\.[a-z0-9]{2,4}")
_STARTS = {
    "jpg": rb"\xff\xd8",
    "gif": rb"GIF8",
    "webp": rb"RIFF....WEBP",
    "avif": rb"....ftypavi[fs]",
    "tif": rb"II\*\0|MM\0\*",
    "jp2": rb"\0\0\0\x0cjP|\xff\x4f\xff\x51",
    "bmp": rb"BM",
    "psd": rb"8BPS",
    "ico": rb"\0\0[\1\2]\0",
    "ppm": rb"P[1-6]",
}
# Each line is appended to a table that is read as a whole.
_MOST_LOG = 8_000_000


class PictureStore:
    """A folder of pictures that were answered. One thread at a time may use it.

    Args:
        folder: made where it is missing; nothing in it is changed or removed.
        most_bytes: that pictures and corrections may take in all.

    Attributes:
        n_bytes: that they take.

    Raises:
        UsageError: the folder lies where nothing can be written.
    """

    def __init__(self, folder: Path, most_bytes: int) -> None:
        self.folder, self.most_bytes = folder, most_bytes
        self.log = CorrectionLog(folder / CORRECTIONS)
        try:
            with plainly():
                folder.mkdir(parents=True, exist_ok=True)
                sweep(folder)
                self.n_bytes = sum(path.stat().st_size for path in folder.iterdir() if _NAME.fullmatch(path.name))
        except RunError as error:
            raise UsageError(f"--keep {folder}: {error.message}", "Choose a folder that can be written.") from None
        self._failed = False

    @property
    def full(self) -> bool:
        """Whether nothing more is kept."""
        return self._failed or self.n_bytes >= self.most_bytes

    def add(self, content: bytes) -> str | None:
        """Keep a picture that has been decoded.

        Returns:
            The name of its file; None where there is no room, which the operator is told once.
        """
        name = f"{hashlib.sha256(content).hexdigest()}.{_suffix(content)}"
        path = self.folder / name
        if path.is_file():
            return name
        if self.n_bytes + len(content) > self.most_bytes:
            self._tell(f"{self.folder} has reached its {self.most_bytes:,} bytes: pictures are not kept any more.")
            return None
        try:
            with replacing(path) as beside:
                beside.write_bytes(content)
        except OSError as error:
            self._tell(f"Pictures cannot be kept: {error.filename}: {error.strerror}.")
            return None
        self._failed = False
        self.n_bytes += len(content)
        return name

    def correct(self, name: str, labels: Sequence[str], multilabel: bool) -> None:
        """Write down what somebody says a picture shows.

        Args:
            name: of its file.
            labels: names of classes; none: it shows none of them.
            multilabel: whether the model gives several.

        Raises:
            Refused: no such picture is kept, or there is no room for a correction.
        """
        if not _NAME.fullmatch(name) or not (self.folder / name).is_file():
            raise Refused(404, "No such picture is kept here.")
        size = self.log.path.stat().st_size if self.log.path.is_file() else 0
        if size > _MOST_LOG:
            raise Refused(409, "There is no room for more corrections.")
        # Where a picture may have several labels, none at all is a label like another.
        decision = "relabel" if labels or multilabel else "exclude"
        after = to_cell(labels, multilabel) if decision == "relabel" else ""
        try:
            self.log.add(0, name, to_cell((), multilabel), after, AT_THE_PAGE, decision, name[:64])
        except OSError as error:
            self._tell(f"What somebody said cannot be written: {error.filename}: {error.strerror}.")
            raise Refused(507, "The correction cannot be written; the operator sees why.") from error

    def _tell(self, line: str) -> None:
        if not self._failed:
            print_err(line)
        self._failed = True


def _suffix(content: bytes) -> str:
    """A suffix under which `scan` takes the file for a picture; what it is, it tells by the content."""
    return next((suffix for suffix, start in _STARTS.items() if re.match(start, content, re.DOTALL)), "png")
