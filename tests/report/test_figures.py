from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image

from tellapart.report import figures
from tellapart.report.figures import write_figures
from tellapart.report.run_data import ReportData

ALL = {"loss", "accuracy", "learning_rate", "confusion_counts", "confusion_fractions", "f1", "class_counts"}


def test_every_figure_as_png_and_svg_and_the_same_bytes_again(
    make_data: Callable[..., ReportData], tmp_path: Path
) -> None:
    written = write_figures(make_data(), tmp_path / "figures")
    assert {path.stem for path in written} == ALL
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == sorted(path.name for path in written)
    for one, other in zip(written, write_figures(make_data(), tmp_path / "again"), strict=True):
        assert one.read_bytes() == other.read_bytes(), one.name
    for path in written:
        if path.suffix == ".png":
            with Image.open(path) as picture:
                picture.load()
                assert picture.width > 400
        else:
            assert ElementTree.parse(path).getroot().tag == "{http://www.w3.org/2000/svg}svg"


@pytest.fixture
def svg_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pixels take most of the time, and not every test looks at them."""
    save = figures.save_figure
    monkeypatch.setattr(figures, "save_figure", lambda figure, path: path.suffix == ".svg" and save(figure, path))


@pytest.mark.usefixtures("svg_alone")
def test_class_names_are_text_not_formulas_or_markup(make_data: Callable[..., ReportData], tmp_path: Path) -> None:
    classes = ("$5 note", "a_b^$c$", "<b>&amp;</b>", "日本の柴犬", "two\nlines", "bad\udc80", "ثعلب")
    written = write_figures(make_data(classes), tmp_path)
    for path in written:
        if path.suffix == ".svg":
            ElementTree.parse(path)


@pytest.mark.usefixtures("svg_alone")
def test_several_labels_have_no_confusion_matrix(make_data: Callable[..., ReportData], tmp_path: Path) -> None:
    written = write_figures(make_data(multilabel=True), tmp_path)
    assert {path.stem for path in written} == {name for name in ALL if not name.startswith("confusion")}


def test_a_story_without_training_or_score(make_data: Callable[..., ReportData], tmp_path: Path) -> None:
    written = write_figures(make_data(events=[], evaluations=[], predictions=None), tmp_path)
    assert {path.stem for path in written} == {"class_counts"}


@pytest.mark.usefixtures("svg_alone")
def test_no_state_of_matplotlib_is_left_changed(make_data: Callable[..., ReportData], tmp_path: Path) -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    write_figures(make_data(evaluations=[], predictions=None), tmp_path)
    assert dict(matplotlib.rcParams) == before
