"""Sorts answered pictures into folders, one a class, by links or copies. No picture is moved or changed."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tellapart.core.files import replacing
from tellapart.core.text import counted
from tellapart.core.unicode_names import composed
from tellapart.deploy.answer import NONE, UNKNOWN, Answer
from tellapart.deploy.inputs.suffixes import is_archive
from tellapart.errors import UsageError

_LONGEST = 100
# What Windows does not allow in a name, separators among it, and whatever steers a terminal.
_UNSAFE = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]')
_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


def folder_names(classes: Sequence[str]) -> dict[str, str]:
    """A folder's name for each class, and for the answers "unknown" and "none"; safe on any system, no two alike.

    A name that had to be changed, or that another system could not tell from an earlier one, ends in a digest.
    """
    names: dict[str, str] = {}
    taken: set[str] = set()
    for label in (UNKNOWN, NONE, *classes):
        if label in names:  # a class of that very name: its pictures lie with these
            continue
        plain = _UNSAFE.sub("_", label).strip().rstrip(". ")[:_LONGEST].lstrip(".")
        if plain != label or not plain or _DEVICES.fullmatch(plain) or _without_case(plain) in taken:
            digest = hashlib.sha256(label.encode("utf-8", "surrogatepass")).hexdigest()[:8]
            plain = f"{plain or 'class'}-{digest}"
        taken.add(_without_case(plain))
        names[label] = plain
    return names


class SortInto:
    """A folder of folders that answered pictures are put into while they pass.

    Args:
        folder: it and its folders are made when they are needed.
        classes: all that can be answered.
        inputs: what the pictures come from: the folder may not lie there, or its links would be answered too.
        copies: copy the files, instead of linking to them.
        dry: count only.

    Attributes:
        counts: pictures by the name of their folder.
        n_left_out: pictures without an answer, which are in no folder.

    Raises:
        UsageError: the folder is a file, or lies where the pictures come from; or these come from an archive.
    """

    def __init__(
        self, folder: Path, classes: Sequence[str], inputs: Iterable[str], copies: bool = False, dry: bool = False
    ) -> None:
        self.folder, self.names, self.copies, self.dry = folder, folder_names(classes), copies, dry
        self.counts: Counter[str] = Counter()
        self.n_left_out = 0
        if folder.exists() and not folder.is_dir():
            raise UsageError(f"--sort-into {folder}: this is a file.", "Name a folder.")
        real = folder.resolve()
        for text in inputs:
            if is_archive(text) and os.path.isfile(text):
                raise UsageError(
                    f"--sort-into links or copies files, and {text} is an archive.",
                    "Unpack it first, and answer the folder.",
                )
            if os.path.isdir(text) and real.is_relative_to(Path(text).resolve()):
                raise UsageError(
                    f"--sort-into {folder} lies in {text}, where the pictures come from: they would be answered twice.",
                    "Name a folder elsewhere.",
                )

    def sorting(self, answers: Iterable[Answer]) -> Iterator[Answer]:
        """Pass answers on, and put each picture into the folder of each of its labels.

        Raises:
            UsageError: a picture is no file, such as one in an archive.
            OSError: a link or copy cannot be made.
        """
        for answer in answers:
            if answer.problem is not None:
                self.n_left_out += 1
            else:
                labels = answer.chosen or (answer.label,)
                for label in labels:
                    self.counts[self.names[label]] += 1
                    if not self.dry:
                        self._put(answer.path, self.folder / self.names[label])
            yield answer

    def lines(self) -> list[str]:
        """Counts for people, the largest folder first."""
        done = "would be copied" if self.dry and self.copies else "would be linked" if self.dry else ""
        done = done or ("copied" if self.copies else "linked")
        total = sum(self.counts.values())
        lines = [f"{counted(total, 'picture')} {done} into {self.folder}:"]
        lines += [f"  {n:>9,}  {name}" for name, n in self.counts.most_common()]
        if self.n_left_out:
            lines.append(f"{self.n_left_out:,} could not be read, and are in no folder.")
        if self.dry:
            lines.append("Nothing was written: leave --dry-run out to do it.")
        return lines

    def _put(self, path: str, folder: Path) -> None:
        source = os.path.abspath(path)
        if not os.path.isfile(source):
            raise UsageError(
                f"{path or 'A picture'} is no file that could be linked or copied.", "Give files or folders."
            )
        target = self._free(source, folder)
        if target is None:
            return
        if self.copies:
            with replacing(target) as beside:
                shutil.copyfile(source, beside)
            shutil.copystat(source, target)
            return
        folder.mkdir(parents=True, exist_ok=True)
        try:
            target.symlink_to(source)
        except OSError as error:
            if os.name == "nt":
                raise UsageError("Windows allows links to administrators alone.", "Copy instead: --copy") from error
            raise

    def _free(self, source: str, folder: Path) -> Path | None:
        """Where the picture goes: under its own name, or with a digest of its path where another has that name.

        None where it lies there already, from an earlier run.
        """
        name = os.path.basename(source)
        stem, suffix = os.path.splitext(name)
        digest = hashlib.sha256(os.fsencode(source)).hexdigest()[:12]
        for target in (folder / name, folder / f"{stem}-{digest}{suffix}"):
            if not os.path.lexists(target):
                return target
            if self._is(target, source):
                return None
        raise UsageError(f"{target} is there already, and is another file.", "Name another folder, or an empty one.")

    def _is(self, target: Path, source: str) -> bool:
        if target.is_symlink():
            return not self.copies and os.readlink(target) == source
        if not self.copies or not target.is_file():
            return False
        one, other = target.stat(), os.stat(source)
        return one.st_size == other.st_size and int(one.st_mtime) == int(other.st_mtime)


def _without_case(name: str) -> str:
    return composed(name).casefold()
