"""Pictures in tar and zip archives, read in place: nothing is unpacked to disk, and no member can reach beyond it."""

from __future__ import annotations

import os
import re
import tarfile
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from tellapart.core.files import is_hidden
from tellapart.data.decoding.decode import EXTENSIONS
from tellapart.deploy.read_pictures import NamedPicture
from tellapart.errors import UnreadableError, UsageError

#: Bytes of a picture: larger ones are no photographs.
MOST_MEMBER = 64 << 20
#: Bytes of a zip's directory, which is held in memory: about 150,000 pictures.
_MOST_DIRECTORY = 16 << 20
#: An archive may unpack to so many times its size, and to this many bytes in any case.
_MOST_RATIO, _ANYWAY = 200, 1 << 30
#: Bytes of a header that names a tar's next member.
_MOST_NAME = 1 << 20
_NOT_INSIDE = "its name leads out of the archive"


def archive_pictures(path: Path) -> Iterator[NamedPicture]:
    """Every picture of an archive, in its order, under the name ARCHIVE/MEMBER.

    Members that are hidden or no pictures by their suffix are passed over, as in a folder. One that is a link, has a
    name that leads out of the archive, is encrypted or too large, comes with the reason instead of its content; so does
    an archive that is cut off or unpacks to far more than a picture archive does, which ends it.

    Raises:
        UsageError: at once: it is no archive, or a zip with too many members.
    """
    try:
        if path.name.lower().endswith(".zip"):
            return _zip_pictures(path, _open_zip(path))
        return _tar_pictures(path, _open_tar(path))
    except (OSError, EOFError, tarfile.TarError, zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise UsageError(f"{path} cannot be read as an archive: {_words(error)}.") from error


def _refused(path: Path, name: str, reason: str) -> NamedPicture:
    def refuse() -> bytes:
        raise UnreadableError(name, reason)

    return NamedPicture(f"{path}/{name}" if name else str(path), refuse)


def _is_wanted(name: str) -> bool:
    parts = PurePosixPath(name.replace("\\", "/")).parts
    hidden = any(is_hidden(part) for part in parts if part not in ("..", "/"))
    return not hidden and os.path.splitext(name)[1].lower() in EXTENSIONS


def _leads_out(name: str) -> bool:
    plain = name.replace("\\", "/")
    return plain.startswith("/") or ".." in plain.split("/") or bool(re.match(r"[A-Za-z]:", plain))


def _words(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


# --- zip -----------------------------------------------------------------------------------------------------------


def _open_zip(path: Path) -> zipfile.ZipFile:
    with path.open("rb") as file:
        end = zipfile._EndRecData(file)  # type: ignore[attr-defined]
    if end is None:
        raise zipfile.BadZipFile("it has no directory at its end")
    if end[zipfile._ECD_SIZE] > _MOST_DIRECTORY:  # type: ignore[attr-defined]
        raise UsageError(
            f"{path} holds too many members for a zip read in place: {end[zipfile._ECD_ENTRIES_TOTAL]:,}.",  # type: ignore[attr-defined]
            "Unpack it, or pack the pictures as .tar.",
        )
    return zipfile.ZipFile(path)


def _zip_pictures(path: Path, archive: zipfile.ZipFile) -> Iterator[NamedPicture]:
    """The archive stays open for the pictures that are still to be read, and closes with the last of them."""
    for info in archive.infolist():
        if info.is_dir() or not _is_wanted(info.filename):
            continue
        if problem := _zip_problem(info):
            yield _refused(path, info.filename, problem)
        else:
            yield NamedPicture(f"{path}/{info.filename}", partial(_zip_bytes, path, archive, info))


def _zip_problem(info: zipfile.ZipInfo) -> str:
    """Why a member is not read, "" where it is."""
    if _leads_out(info.filename):
        return _NOT_INSIDE
    if (info.external_attr >> 16) & 0o170000 not in (0, 0o100000):
        return "a link or device, which is not followed"
    if info.flag_bits & 1:
        return "it is encrypted"
    if info.file_size > MOST_MEMBER:
        return f"it has {info.file_size:,} bytes: more than the limit of {MOST_MEMBER:,}"
    return ""


def _zip_bytes(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """The content of a member; never more bytes than its header says."""
    try:
        with archive.open(info) as member:
            return member.read(info.file_size)
    except Exception as error:  # zlib, bz2, lzma and zipfile each have errors of their own
        raise UnreadableError(f"{path}/{info.filename}", f"the archive is damaged here ({_words(error)})") from error


# --- tar -----------------------------------------------------------------------------------------------------------


class _BoundedInfo(tarfile.TarInfo):
    """A member whose header is of reasonable size: the library reads long names and maps of holes whole."""

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        named = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE)
        if self.type == tarfile.GNUTYPE_SPARSE or (
            self.type in (*named, tarfile.SOLARIS_XHDTYPE) and self.size > _MOST_NAME
        ):
            raise tarfile.ReadError("a member's header is larger than any name")
        return super()._proc_member(archive)  # type: ignore[misc,no-any-return]


def _open_tar(path: Path) -> tuple[BinaryIO, tarfile.TarFile]:
    file = path.open("rb")
    try:
        return file, tarfile.open(fileobj=file, mode="r|*", tarinfo=_BoundedInfo)
    except BaseException:
        file.close()
        raise


def _tar_pictures(path: Path, opened: tuple[BinaryIO, tarfile.TarFile]) -> Iterator[NamedPicture]:
    file, archive = opened
    most = max(_ANYWAY, _MOST_RATIO * path.stat().st_size)
    with file, archive:
        try:
            while (member := archive.next()) is not None:
                archive.members = []  # type: ignore[attr-defined]  # the library would keep every header it has read
                if member.offset_data + member.size > most:
                    yield _refused(path, "", f"it unpacks to more than {_MOST_RATIO} times its size")
                    return
                if member.isdir() or not _is_wanted(member.name):
                    continue
                yield _tar_picture(path, archive, member)
        except Exception as error:  # noqa: BLE001 - the errors of tarfile, zlib and lzma share no base
            yield _refused(path, "", f"the archive is damaged here ({_words(error)}); what comes before was read")


def _tar_picture(path: Path, archive: tarfile.TarFile, member: tarfile.TarInfo) -> NamedPicture:
    """A member's content, read now, since a stream cannot be gone back in."""
    if _leads_out(member.name):
        return _refused(path, member.name, _NOT_INSIDE)
    if not member.isreg():
        return _refused(path, member.name, "a link or device, which is not followed")
    if member.size > MOST_MEMBER:
        return _refused(path, member.name, f"it has {member.size:,} bytes: more than the limit of {MOST_MEMBER:,}")
    reader = archive.extractfile(member)
    content = reader.read(member.size) if reader else b""
    if len(content) < member.size:
        raise EOFError("it is cut off")
    return NamedPicture(f"{path}/{member.name}", lambda: content, len(content))
