"""The verb `export`: a classifier in another format, checked on its golden pictures when it is written."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tellapart.core.files import naming
from tellapart.core.hardware import n_processors
from tellapart.core.preprocess import Pixels
from tellapart.core.suggest import suggest
from tellapart.deploy.bundle.read import Bundle
from tellapart.deploy.bundle.record_export import record_export
from tellapart.deploy.export.exported import Exported
from tellapart.deploy.read_pictures import read_ahead
from tellapart.errors import UsageError
from tellapart.runs.run import Run
from tellapart.workflows.finalize import unbroken
from tellapart.workflows.progress import ProgressSink, ShowStep, progress_sink


@dataclass(frozen=True)
class ExportOptions:
    """Options that some formats take.

    Attributes:
        browser_engine: for "html": a folder with the engine that runs in a browser; None to look for it.
        with_preprocessing: for "onnx": the network takes a decoded picture of any size.
        max_loss: for "int8": share of the validation pictures, 0 to 1, that may be lost.
        show: called with what is done, and how much of how much.
    """

    browser_engine: Path | None
    with_preprocessing: bool
    max_loss: float
    show: ShowStep


@dataclass(frozen=True)
class _Format:
    """A format: the name of the file that is written where none is asked for, and the function that writes it."""

    file: str
    write: Callable[[Bundle, Path, ExportOptions], Exported]


def _onnx(bundle: Bundle, path: Path, options: ExportOptions) -> Exported:
    from tellapart.deploy.export.onnx_file import export_onnx_file

    return export_onnx_file(bundle, path, options.with_preprocessing)


def _openvino(bundle: Bundle, path: Path, options: ExportOptions) -> Exported:
    from tellapart.deploy.export.openvino_folder import export_openvino

    return export_openvino(bundle, path)


def _torch(bundle: Bundle, path: Path, options: ExportOptions) -> Exported:
    from tellapart.deploy.export.torch_program import export_torch

    return export_torch(bundle, path)


def _timm(bundle: Bundle, path: Path, options: ExportOptions) -> Exported:
    from tellapart.deploy.export.timm_folder import export_timm

    return export_timm(bundle, path)


def _html(bundle: Bundle, path: Path, options: ExportOptions) -> Exported:
    from tellapart.deploy.export.html import export_html

    return export_html(bundle, path, options.browser_engine)


def _int8(bundle: Bundle, path: Path, options: ExportOptions) -> Exported:
    from tellapart.deploy.export.int8 import export_int8

    pictures, target = _validation(bundle, options.show)
    return export_int8(bundle, path, pictures, target, options.max_loss)


def _validation(bundle: Bundle, show: ShowStep) -> tuple[Pixels, npt.NDArray[Any]]:
    """The validation pictures of the run that a bundle lies in, preprocessed, and their labels.

    Raises:
        UsageError: it lies in none, or they cannot be read.
    """
    run = Run(bundle.folder.parent)
    if not run.catalog_file.is_file() or not run.split_file.is_file():
        raise UsageError(
            f"{bundle.folder} lies in no run directory: 8 bits need the validation pictures.", "Name the run directory."
        )
    catalog = run.catalog
    rows = unbroken(run, catalog, run.split.validation)  # those that broke before were left out on request
    paths = [catalog.path(int(row)) for row in rows]
    read = []
    for picture in read_ahead(paths, bundle.preprocessing, n_processors(), ahead=64):
        read.append(picture)
        show("reading validation pictures", len(read), len(paths))
    if missing := [picture.path for picture in read if picture.pixels is None]:
        raise UsageError(
            f"{missing[0]}: this validation picture can no longer be read.", "Put it back, or train again."
        )
    frame = (0, bundle.preprocessing.height, bundle.preprocessing.width, 3)
    pictures = np.stack([p.pixels for p in read if p.pixels is not None]) if read else np.empty(frame, np.uint8)
    return pictures, catalog.target(rows)


FORMATS: dict[str, _Format] = {
    "html": _Format("classifier.html", _html),
    "onnx": _Format("classifier.onnx", _onnx),
    "openvino": _Format("openvino", _openvino),
    "torch": _Format("classifier.pt2", _torch),
    "int8": _Format("classifier.int8.onnx", _int8),
    "timm": _Format("timm", _timm),
}


def export(
    run: str | Path,
    to: str,
    out: str | Path | None = None,
    *,
    browser_engine: str | Path | None = None,
    with_preprocessing: bool = False,
    max_loss: float = 0.01,
    progress: bool = False,
) -> Exported:
    """Write a classifier in another format. Its answers to a few known pictures are checked.

    Args:
        run: a run directory or a bundle.
        to: the format: "html", "onnx", "openvino", "torch", "int8" or "timm".
        out: the file or folder to write; by default in the folder `exports` beside the bundle.
        browser_engine: for "html": a folder with the engine that runs in a browser; by default it is looked for.
        with_preprocessing: for "onnx": the network takes a decoded picture of any size.
        max_loss: for "int8": share of the validation pictures, 0 to 1, that may be lost.
        progress: show progress on standard error.

    Raises:
        UsageError: there is no such format.
        BundleError: there is no bundle, or the export answers otherwise than it.
    """
    if to not in FORMATS:
        raise UsageError(f"There is no format {to!r}.", f"{suggest(to, FORMATS)} push sends to a hub.")
    bundle = Bundle.load(Path(run))
    path = bundle.folder.parent / "exports" / FORMATS[to].file if out is None else Path(out)
    engine = None if browser_engine is None else Path(browser_engine)
    with progress_sink(progress).steps() as show:
        show(f"writing {path.name}, and checking its answers", 0, 1)
        with naming(path):
            exported = FORMATS[to].write(bundle, path, ExportOptions(engine, with_preprocessing, max_loss, show))
    record_export(bundle.folder, to, exported.path, exported.difference)
    return exported


def push(run: Path, repository: str, public: bool, progress: ProgressSink) -> str:
    """Send a bundle to a hub repository: see `deploy.export.push`. What is sent, and where to, is said before.

    Args:
        run: a run directory or a bundle.
        repository: OWNER/NAME.
        public: whether a new repository can be seen by everybody; else it is private.
        progress: where lines are shown.

    Returns:
        The address of what was sent.

    Raises:
        UsageError: no such repository can be, or the model card names folders of this machine.
        BundleError: there is no bundle, or it does not give its golden answers.
        HubError: the hub cannot be reached, or refuses.
    """
    from tellapart.deploy.bundle.golden import check_golden
    from tellapart.deploy.export.push import check_repository, pack
    from tellapart.deploy.export.push import push as send

    check_repository(repository)
    bundle = Bundle.load(run)
    with tempfile.TemporaryDirectory() as folder:
        parcel = pack(bundle, Path(folder))
        check_golden(Bundle.load(parcel.folder))  # what arrives elsewhere answers as the bundle here
        return send(parcel, repository, public, progress.note)
