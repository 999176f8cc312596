"""The engine that runs a network in a browser: two files of onnxruntime-web, checked by their digests.

They are too large to be cached with the code. A wheel carries them; from a clone they are fetched once with npm.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tellapart.core.files import cache_folder, replacing
from tellapart.errors import BundleError

NAME, VERSION, LICENSE = "onnxruntime-web", "1.30.0", "MIT"
SCRIPT, BINARY = "ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"
#: SHA-256 of the two files of that version.
DIGESTS = {
    SCRIPT: "11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90",
    BINARY: "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
}
_CARRIED = Path(__file__).parents[1] / "page" / "engine"
_MOST_BYTES = 1 << 25
_SECONDS = 300


@dataclass(frozen=True)
class BrowserEngine:
    """The text of its script, and its WebAssembly."""

    script: str
    binary: bytes


def browser_engine(folder: Path | None = None) -> BrowserEngine:
    """The engine: from a folder, from the installed package, from the cache, or fetched with npm into the cache.

    Args:
        folder: holds the two files, for machines without npm or network; None to look in the other places.

    Raises:
        BundleError: it cannot be had, or a file is not that of the version known here.
    """
    if folder is not None:
        return _read(folder)
    cached = cache_folder("browser-engine") / VERSION
    for candidate in (_CARRIED, cached):
        try:
            return _read(candidate)
        except BundleError:
            continue  # not there, or damaged: the next place, and at last npm's
    fetch(cached)
    return _read(cached)


def fetch(folder: Path) -> None:
    """Fetch the two files with npm into a folder, each whole or not at all.

    Raises:
        BundleError: there is no npm, the network cannot be reached, or the files are not those known here.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise _unobtainable("npm is not installed")
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        command = [npm, "pack", f"{NAME}@{VERSION}", "--ignore-scripts", "--silent", "--pack-destination", name]
        try:
            subprocess.run(command, cwd=scratch, capture_output=True, timeout=_SECONDS, check=True)
            _take_out(next(scratch.glob("*.tgz")), scratch)
            for file in DIGESTS:
                _checked(scratch / file)
        except subprocess.CalledProcessError as error:
            lines = error.stderr.decode("utf-8", "replace").strip().splitlines()
            raise _unobtainable(f"npm could not fetch it: {lines[0] if lines else 'it does not say why'}") from None
        except subprocess.TimeoutExpired:
            raise _unobtainable(f"npm did not fetch it within {_SECONDS} seconds") from None
        except (StopIteration, OSError, tarfile.TarError, KeyError) as error:
            raise _unobtainable(f"npm's package cannot be read: {error}") from None
        for file in DIGESTS:
            with replacing(folder / file) as beside:
                shutil.copyfile(scratch / file, beside)


def _take_out(archive: Path, folder: Path) -> None:
    """The two files of the package, by their exact names."""
    with tarfile.open(archive) as package:
        for file in DIGESTS:
            content = package.extractfile(f"package/dist/{file}")
            if content is None:
                raise KeyError(file)
            (folder / file).write_bytes(content.read(_MOST_BYTES))


def _read(folder: Path) -> BrowserEngine:
    return BrowserEngine(_checked(folder / SCRIPT).decode(), _checked(folder / BINARY))


def _checked(path: Path) -> bytes:
    """A file's content, which is that of the version known here."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise BundleError(f"{path} is not the file of {NAME} {VERSION}: it is too large.")
        content = path.read_bytes()
    except OSError as error:
        raise BundleError(f"{path}: {error.strerror}.", _hint()) from error
    if hashlib.sha256(content).hexdigest() != DIGESTS[path.name]:
        raise BundleError(f"{path} is not the file of {NAME} {VERSION}: its content is another.", _hint())
    return content


def _unobtainable(why: str) -> BundleError:
    return BundleError(f"The page needs an engine to run in a browser, {NAME} {VERSION}: {why}.", _hint())


def _hint() -> str:
    return (
        "Three ways out: install npm (nodejs.org) and connect to the network once; or install Tellapart from its "
        f"wheel, which carries the engine; or get {SCRIPT} and {BINARY} from the folder dist of {NAME} {VERSION} "
        "elsewhere, and name their folder: --browser-engine FOLDER"
    )
