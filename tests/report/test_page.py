import html.parser
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tellapart.core.text import json_in_html
from tellapart.errors import UnreadableError
from tellapart.report.blocks import Block, Code, Photo, Section, Text
from tellapart.report.main_page import report_page
from tellapart.report.page import write_report
from tellapart.report.run_data import ReportData
from tellapart.report.thumbnail import gather, thumbnail

BAD = "<script>alert(1)</script>"
HOSTILE = (BAD, "\"quotes' & ampersand", "ثعلب الأحمر", "日本の柴犬", "a\nnewline", "</template><b>", "{{ 7 * 7 }}")

Make = Callable[..., ReportData]


class Reader(html.parser.HTMLParser):
    """Collects elements and the text outside <style> and <script>."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.inside = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.inside = tag

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside not in ("style", "script"):
            self.text.append(data)


def read(path: Path) -> Reader:
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    return reader


def words_of(path: Path) -> str:
    return " ".join(" ".join(read(path).text).replace("\u202f", " ").split())


def test_it_tells_the_whole_story(make_data: Make, tmp_path: Path) -> None:
    path = write_report(make_data(notes=["Two pictures were left out."]), tmp_path)
    assert path == tmp_path / "report.html"
    text = words_of(path)
    for part in (
        "fruit",
        "4 May 2026, 14:03",
        "Of 100 pictures it has not seen",
        "95 % interval",
        "Two pictures were left out.",
        "540 pictures 360 training, 90 validation, 90 test",
        "One folder a class. Validation and test were drawn by class.",
        "1 file could not be read and was left out",
        "the file ends too early",
        "Loss",
        "Accuracy",
        "Learning rate",
        "The weights kept are those after epoch 10 of 12.",
        "Which classes are taken for which",
        "Most often confused",
        "Every class",
        "The most wrong answers",
        "The least certain answers",
        "tellapart train 'my photos/' --out runs/first",
        'name = "mobilenetv2_100"',
        "packages.torch 2.6.0",
    ):
        assert part in text, part


def test_all_counts_of_the_confusion_matrix_are_there(make_data: Make, tmp_path: Path) -> None:
    data = make_data()
    page = write_report(data, tmp_path).read_text(encoding="utf-8")
    cells = dict(re.findall(r'<button type="button" tabindex="-1" data-key="(\d+-\d+)"[^>]*>(\d+)</button>', page))
    assert data.evaluation is not None
    expected = {f"{i}-{j}": str(n) for i, line in enumerate(data.evaluation.confusion) for j, n in enumerate(line) if n}
    assert cells == expected


@pytest.mark.parametrize("multilabel", [False, True])
def test_names_cannot_become_markup(make_data: Make, tmp_path: Path, multilabel: bool) -> None:
    data = make_data(
        HOSTILE,
        multilabel=multilabel,
        title=f"<img src=x onerror=alert(1)>{BAD}",
        when=BAD,
        model=BAD,
        name=lambda row: f"we\"ird'/\n{BAD}\u2028\u202e{row}\udc80.jpg",
        command=f"tellapart train '</script>{BAD}'",
        recipe=BAD,
        environment={BAD: {BAD: [BAD]}},
        notes=[BAD],
    )
    path = write_report(data, tmp_path)
    page = path.read_text(encoding="utf-8")
    assert BAD not in page
    reader = read(path)
    tags = [tag for tag, _ in reader.elements]
    assert tags.count("script") == 3  # theme, pictures, behaviour
    assert not any(name.startswith("on") for _, attributes in reader.elements for name in attributes)
    assert not any(attributes.get("src") == "x" for _, attributes in reader.elements)
    text = " ".join(reader.text)
    for name in HOSTILE:
        assert name.replace("\n", "\u240a") in text


def test_it_loads_nothing(make_data: Make, tmp_path: Path) -> None:
    path = write_report(make_data(), tmp_path)
    for tag, attributes in read(path).elements:
        assert tag not in ("iframe", "object", "embed", "base", "audio", "video")
        for name in ("src", "href", "srcset", "action", "poster", "data", "xlink:href"):
            assert (attributes.get(name) or "#").startswith(("#", "data:")), (tag, attributes)
    page = path.read_text(encoding="utf-8")
    assert not re.search(r"(?i)https?:|[\"'(=]//\w|@import|url\(", page)
    assert "default-src 'none'" in page


def test_only_its_own_scripts_may_run(make_data: Make, tmp_path: Path) -> None:
    page = write_report(make_data(), tmp_path).read_text(encoding="utf-8")
    policy = re.search(r"script-src ([^;]*);", page)
    assert policy is not None
    assert "unsafe" not in policy[1]
    assert policy[1].count("sha256-") == 2


def test_json_cannot_leave_its_script() -> None:
    value = {"</script>": "<!-- & \u2028 \u2029 日本", "n": [1, None]}
    text = json_in_html(value)
    assert not set("<>&\u2028\u2029") & set(text)
    assert json.loads(text) == value


def test_a_picture_is_in_the_file_once(make_data: Make, tmp_path: Path) -> None:
    page = write_report(make_data(), tmp_path).read_text(encoding="utf-8")
    pictures = json.loads(page.split('id="ta-pictures">')[1].split("</script>")[0])
    shown = set(re.findall(r'data-row="(\d+)"', page))
    assert shown == set(pictures)
    assert all(page.count(jpeg) == 1 for jpeg in pictures.values())


@pytest.mark.parametrize("n_classes", [10, pytest.param(81, marks=pytest.mark.slow), 400])
def test_ten_thousand_pictures_stay_under_15_megabytes(make_data: Make, tmp_path: Path, n_classes: int) -> None:
    random = np.random.default_rng(0)
    classes = tuple(f"class number {i}" for i in range(n_classes))
    data = make_data(classes, 10_000, skill=2.5, jpeg=lambda row: random.bytes(9_000), name="folder/{}.jpg".format)
    path = write_report(data, tmp_path)
    assert 5e6 < path.stat().st_size < 15e6
    text = words_of(path)
    assert re.search(r"it holds [\d,]+ of the [\d,]+ pictures it speaks of", text)
    if n_classes > 100:
        assert "The 100 classes with most errors are shown, of 400." in text


def test_pictures_that_are_gone_are_named_not_hidden(make_data: Make, tmp_path: Path) -> None:
    def jpeg(row: int) -> bytes:
        raise UnreadableError(f"photos/{row}.jpg", "the file is not there any more")

    text = words_of(write_report(make_data(jpeg=jpeg), tmp_path))
    assert re.search(r"\d+ pictures could not be read when this page was written; the first: photos/", text)


def test_parts_that_are_missing_leave_no_gap(make_data: Make, tmp_path: Path) -> None:
    bare = make_data(evaluations=[], predictions=None, events=[], recipe="", command="", environment={})
    text = words_of(write_report(bare, tmp_path))
    assert "What it was trained on" in text
    for part in ("How the training went", "How good it is", "Where it fails", "How to repeat it", "interval"):
        assert part not in text


def test_without_validation_only_the_curves_of_training_are_drawn(make_data: Make, tmp_path: Path) -> None:
    data = make_data()
    events = [
        e | {"validation_loss": None, "validation_accuracy": None, "best": False} if e["event"] == "Validated" else e
        for e in data.events
    ]
    text = words_of(write_report(make_data(events=events, evaluations=data.evaluations[:1]), tmp_path))
    assert "Loss" in text
    assert "The weights kept" not in text


def test_a_score_on_validation_says_that_it_flatters(make_data: Make, tmp_path: Path) -> None:
    data = make_data()
    text = words_of(write_report(make_data(evaluations=data.evaluations[1:]), tmp_path))
    assert "The best epoch was chosen on these pictures" in text


def test_later_parts_add_sections(make_data: Make, tmp_path: Path) -> None:
    sheet = Section("augmentation", "What training pictures look like", [Photo(thumbnail(grey(40, 30)), "a sheet")])
    page = write_report(make_data(more=[sheet]), tmp_path).read_text(encoding="utf-8")
    assert page.index('id="errors"') < page.index('id="augmentation"') < page.index('id="repeat"')
    assert 'src="data:image/jpeg;base64,' in page


def test_further_sections_stand_where_they_ask_to(make_data: Make) -> None:
    def further(anchor: str, after: str) -> Section:
        return Section(anchor, anchor, [Text(anchor)], after=after)

    more = [further("a", "pictures"), further("b", "score"), further("c", "pictures"), further("d", "elsewhere")]
    more += [further("e", "b"), further("training", ""), further("c", "pictures")]
    sections = report_page(make_data(more=more, next_step="use it", then=[("ask", "tellapart predict")])).sections
    anchors = [section.anchor for section in sections]
    assert anchors == ["score", "b", "e", "errors", "next", "pictures", "a", "c", "training", "d", "repeat"]
    assert sections[8].title == "How the training went"
    assert sections[8].blocks[-1] == Text("training")
    assert len(sections[7].blocks) == 2


def test_the_command_of_the_next_step_can_be_copied(make_data: Make) -> None:
    def blocks(next_step: str) -> list[Block]:
        page = report_page(make_data(next_step=next_step))
        return list(next(section for section in page.sections if section.anchor == "next").blocks)

    assert blocks("2 labels look wrong: see them: tellapart review run") == [
        Text("2 labels look wrong: see them:", "lead"),
        Code("tellapart review run"),
    ]
    assert blocks("more pictures; tellapart errors run shows which.") == [
        Text("More pictures; tellapart errors run shows which.", "lead")
    ]


def test_a_report_is_replaced_whole_or_not_at_all(make_data: Make, tmp_path: Path) -> None:
    path = write_report(make_data(), tmp_path)
    before = path.read_bytes()

    def broken(row: int) -> bytes:
        raise RuntimeError("a fault in the program")

    with pytest.raises(RuntimeError):
        write_report(make_data(jpeg=broken), tmp_path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.html"]


def test_the_same_story_gives_the_same_page(make_data: Make, tmp_path: Path) -> None:
    first = write_report(make_data(), tmp_path / "a").read_bytes()
    assert write_report(make_data(), tmp_path / "b").read_bytes() == first


def grey(height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), 128, np.uint8)


@pytest.mark.parametrize(("height", "width", "size"), [(400, 200, (96, 192)), (50, 60, (60, 50)), (1, 1, (1, 1))])
def test_thumbnails_are_small_jpegs(height: int, width: int, size: tuple[int, int]) -> None:
    import io

    from PIL import Image

    with Image.open(io.BytesIO(thumbnail(grey(height, width)))) as picture:
        assert (picture.format, picture.size) == ("JPEG", size)


def test_gathering_stops_when_there_is_no_more_room() -> None:
    made = gather([3, 1, 3, 2, 5], lambda row: bytes(100), most_bytes=250)
    assert list(made.jpeg) == [3, 1]
    assert (made.n_wanted, made.failed) == (4, {})
    assert list(gather(range(9), lambda row: b"x", most_pictures=4).jpeg) == [0, 1, 2, 3]
