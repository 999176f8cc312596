"""What tests share: real pictures and weights where they are at hand, made-up ones, and no trace left behind."""

from __future__ import annotations

import gc
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest
from PIL import Image, ImageDraw

from tests.sharing import common_folder, made_once

if TYPE_CHECKING:
    import numpy as np

    from tellapart.core.preprocess import Pixels
    from tellapart.models.network import Network

# Read when a hub's library is imported, so it must be set before any test module is.
os.environ["HF_HUB_OFFLINE"] = "1"
# As a training sets it (`limit_spinning`), which must happen before any test loads torch.
os.environ.setdefault("GOMP_SPINCOUNT", "20000")

# Tests run beside each other, one a core: more threads in each of them would only wait for one another.
# NumPy's library reads this when it is loaded, so nothing above imports NumPy.
if "PYTEST_XDIST_WORKER" in os.environ:
    for _threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS"):
        os.environ.setdefault(_threads, "1")

# `make test` draws the same few examples every time, `make test-all` new ones. No test may fail on a busy machine.
_PATIENT: Any = {"deadline": None, "suppress_health_check": [hypothesis.HealthCheck.too_slow]}
hypothesis.settings.register_profile("same", max_examples=25, derandomize=True, **_PATIENT)
hypothesis.settings.register_profile("new", max_examples=75, print_blob=True, **_PATIENT)
hypothesis.settings.load_profile("same")


def pytest_collection_finish() -> None:
    """Modules live as long as the process: the garbage collector need not look through them again and again."""
    gc.freeze()


Command = Callable[..., subprocess.CompletedProcess[str]]
PictureFolder = Callable[..., Path]


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests never read or write the user's cache; neither do the programs they start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TELLAPART_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def _folder_named_by(variable: str, what: str) -> Path:
    value = os.environ.get(variable)
    if not value:
        pytest.skip(f"needs {what}: {variable} is not set")
    folder = Path(value)
    if not folder.is_dir():
        pytest.fail(f"{variable} names {folder}, which is not a folder")
    return folder


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real pictures."""
    return _folder_named_by("TELLAPART_TEST_DATA", "real pictures")


@pytest.fixture(scope="session")
def weights() -> Path:
    """The folder of real pretrained weights."""
    return _folder_named_by("TELLAPART_WEIGHTS", "pretrained weights")


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of a Chromium that can open pages."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    found = next(filter(None, map(shutil.which, names)), None)
    return found or pytest.skip("needs a browser: no Chromium or Chrome on the PATH")


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs a command of the program in this process, without loading all libraries once more."""
    from tellapart.cli import main

    def command(*words: str | Path) -> subprocess.CompletedProcess[str]:
        monkeypatch.setattr(sys, "argv", ["tellapart", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main.main()
        printed = capsys.readouterr()
        return subprocess.CompletedProcess(sys.argv, int(left.value.code or 0), printed.out, printed.err)

    return command


@pytest.fixture(scope="session")
def common(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all processes of this test run have in common."""
    return common_folder(tmp_path_factory)


@pytest.fixture(scope="module")
def short_ends(common: Path) -> Iterator[None]:
    """Trainings in this process draw no figures, and networks of the same layers are exported once in a test run.

    Both take longer than a small training. For tests that are about neither.
    """
    import onnx
    import onnx.numpy_helper
    import torch.onnx

    from tellapart.core.files import write_text
    from tellapart.deploy.export.formats import FORMATS
    from tellapart.report import run_report

    export_onnx = FORMATS["model.onnx"]

    def export(network: Network, golden: Pixels, path: Path) -> None:
        """Give the stored model of the same layers this network's weights. The bundle's writer checks its answers."""
        layers = hashlib.sha256(f"{network} {network.architecture}".encode()).hexdigest()
        with pytest.MonkeyPatch.context() as patch:  # as they are: joined layers would have weights of their own
            patch.setattr(torch.onnx, "export", partial(torch.onnx.export, optimize=False))
            model = onnx.load(made_once(common / f"{layers}.onnx", partial(export_onnx, network, golden)))
        weights = {f"network.{name}": tensor.numpy() for name, tensor in network.state_dict().items()}
        for tensor in model.graph.initializer:
            if tensor.name in weights:
                tensor.CopyFrom(onnx.numpy_helper.from_array(weights[tensor.name], tensor.name))
        onnx.save(model, path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_report, "write_figures", lambda _data, folder: write_text(folder / "curves.svg", "<svg/>"))
        patch.setitem(FORMATS, "model.onnx", export)
        yield


@pytest.fixture
def picture_folder(tmp_path: Path) -> PictureFolder:
    """A maker of class folders: see `make_pictures`; the folder lies in the test's own."""

    def make(name: str = "photos", **how: object) -> Path:
        return make_pictures(tmp_path / name, **how)  # type: ignore[arg-type]

    return make


@pytest.fixture(scope="session")
def scene() -> Callable[..., Image.Image]:
    """A maker of pictures that look like nothing, but have structure at all sizes: see `make_scene`."""
    return make_scene


def make_scene(seed: int, width: int = 96, height: int = 80) -> Image.Image:
    """A picture with structure at all sizes, as photographs have: a sum of ever finer noise."""
    import numpy as np

    random = np.random.default_rng(seed)
    whole = np.zeros((height, width, 3))
    for size in (4, 8, 16, 32, *(size for size in (64, 128, 256) if size <= height // 2)):
        noise = Image.fromarray(random.integers(0, 256, (size, size, 3), np.uint8))
        whole += np.asarray(noise.resize((width, height), Image.Resampling.BICUBIC), float) * 4 / size
    whole += random.normal(0, 2, whole.shape)
    whole -= whole.min()
    return Image.fromarray(np.uint8(255 * whole / whole.max()))


@pytest.fixture(scope="session")
def pictures_at() -> PictureFolder:
    """`make_pictures` itself, for fixtures that live longer than a test."""
    return make_pictures


def make_pictures(
    root: Path,
    classes: tuple[str, ...] = ("circle", "square", "triangle"),
    n: int = 12,
    width: int = 40,
    height: int = 32,
    suffix: str = ".png",
    seed: int = 0,
) -> Path:
    """Write root/CLASS/000.png …: a shape in the class's colour, of any size, anywhere, on noise. Easy to learn.

    No two pictures are the same. Colour and shape go by a class's number, so any names will do.
    """
    import numpy as np

    random = np.random.default_rng(seed)
    for number, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for i in range(n):
            noise = random.integers(0, 80, (height, width, 3), np.uint8)
            picture = Image.fromarray(noise)
            _draw_shape(picture, number, number / len(classes), random)
            picture.save(root / name / f"{i:03}{suffix}")
    return root


def _draw_shape(picture: Image.Image, number: int, hue: float, random: np.random.Generator) -> None:
    colour = f"hsv({round(360 * hue)}, 90%, {random.integers(75, 100)}%)"
    size = int(random.integers(min(picture.size) // 3, min(picture.size) * 3 // 4))
    left = int(random.integers(0, picture.width - size))
    top = int(random.integers(0, picture.height - size))
    box = (left, top, left + size, top + size)
    draw = ImageDraw.Draw(picture)
    if number % 3 == 0:
        draw.ellipse(box, fill=colour)
    elif number % 3 == 1:
        draw.rectangle(box, fill=colour)
    else:
        draw.polygon([(left, top + size), (left + size, top + size), (left + size // 2, top)], fill=colour)


@pytest.fixture
def same_runs() -> Callable[[Path, Path], None]:
    """Holds two finished run directories against each other, to the bit."""

    def same(one: Path, other: Path) -> None:
        mine, theirs = _result(one), _result(other)
        assert [name for name in mine if mine[name] != theirs[name]] == []

    return same


def _result(directory: Path) -> dict[str, Any]:
    """All of a finished run that must not depend on whether it was broken off: everything but times."""
    from tellapart.runs.run import Run

    run = Run(directory)
    assert run.finished
    files = [run.checkpoint("last"), run.checkpoint("best"), run.checkpoint("initial"), run.evaluation_file]
    files += [run.bundle / "model.safetensors", run.bundle / "golden.safetensors", run.split_file, run.recipe_file]
    said = [run.predictions(on) for on in ("validation", "test")]
    return {
        **{path.name: path.read_bytes() for path in files},
        "events": [{k: v for k, v in event.items() if k not in ("seconds", "preparation")} for event in run.events()],
        "predictions": [(p.row.tobytes(), p.logits.tobytes(), p.target.tobytes(), p.classes) for p in said],
    }
