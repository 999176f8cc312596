"""Docs and recipe heads say what the result files say, and nobody types a figure."""

import json
import re
from pathlib import Path

import jinja2
import pytest

from benchmarks import record, results_pages
from tellapart.recipe.load import load_recipe


def template(words: str) -> jinja2.Template:
    pages = results_pages.environment()
    pages.loader = jinja2.DictLoader({"page.md": words})
    return pages.get_template("page.md")


def page(passage: str) -> str:
    return f"By hand: 7 %.\n\n<!-- figures: ours -->\n\n{passage}\n\n<!-- end of figures -->\n\nThe end.\n"


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(results_pages, "RESULTS", tmp_path)
    monkeypatch.setattr(record, "RESULTS", tmp_path)
    (tmp_path / "one.json").write_text('{"figures": {"accuracy": 0.8203}}')
    return tmp_path


WORDS = '{% macro ours() %}Right: {{ result("one").figures.accuracy | percent }}.{% endmacro %}'


def test_docs_and_heads_say_what_the_results_say() -> None:
    different = [str(path) for path, text in results_pages.pages().items() if path.read_text(encoding="utf-8") != text]
    assert not different, "Run `make results`."


def test_a_figure_that_was_changed_by_hand_is_noticed(results: Path) -> None:
    assert results_pages.page_text(page("Right: 82.0 %."), template(WORDS)) == page("Right: 82.0 %.")
    assert results_pages.page_text(page("Right: 83.0 %."), template(WORDS)) == page("Right: 82.0 %.")


def test_a_result_that_was_measured_anew_is_written(results: Path) -> None:
    (results / "one.json").write_text('{"figures": {"accuracy": 0.9}}')
    assert results_pages.page_text(page("Right: 82.0 %."), template(WORDS)) == page("Right: 90.0 %.")


@pytest.mark.parametrize("words", [WORDS.replace("one", "two"), WORDS.replace("accuracy", "recall"), "no passage"])
def test_a_figure_that_no_file_has_is_an_error(results: Path, words: str) -> None:
    with pytest.raises(results_pages.MissingFigure):
        results_pages.page_text(page(""), template(words))


def test_a_recipe_has_its_result_alone_written(results: Path) -> None:
    text = '# A recipe.\n#\n# Result: 3 % on\n# an old machine.\n#\n# More.\nabout = "Result: 4 %."\n'
    words = WORDS.replace("Right", "Result")
    written = results_pages.recipe_text(text, template(words), "ours")
    assert written == text.replace("3 % on\n# an old machine", "82.0 %")


@pytest.mark.parametrize("words", ["93.5 of them", "in 21 seconds", "6 times faster", "231 MB", "at 82 %"])
def test_a_typed_figure_is_noticed(words: str) -> None:
    assert results_pages.typed(words)
    assert not results_pages.typed(f'{{{{ "{words}" }}}} of version 0.1, at 300 × 300 pixels in 3 epochs')


def test_no_figure_is_typed() -> None:
    texts = {path.name: path.read_text(encoding="utf-8") for path in results_pages.PAGES.iterdir()}
    texts["docs/results.md"] = (results_pages.ROOT / "docs/results.md").read_text(encoding="utf-8")
    assert {name: figures for name, text in texts.items() if (figures := results_pages.typed(text))} == {}


def test_every_passage_of_a_template_is_on_its_page() -> None:
    pages = results_pages.environment()
    for name, source in results_pages.MARKDOWN.items():
        text = (results_pages.ROOT / name).read_text(encoding="utf-8")
        shown = re.findall(r"<!-- figures: (\w+) -->", text)
        assert 0 < len(shown) == text.count("<!-- end of figures -->"), name
        assert all(hasattr(pages.get_template(source).module, passage) for passage in shown), name


def test_every_recipe_with_a_result_file_has_a_result() -> None:
    for path in (results_pages.ROOT / results_pages.RECIPES).glob("*.toml"):
        if (results_pages.RESULTS / f"recipe_{path.stem}.json").is_file():
            assert "\n# Result: " in path.read_text(encoding="utf-8"), path.name


def test_what_another_backbone_brought_is_kept(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["benchmarks/recipes.py"])
    for network, accuracy in (("small", 0.7), ("large", 0.8), ("large", 0.9), ("third", 0.5)):
        record.write("recipe", {"accuracy": accuracy}, network)
    found = json.loads((results / "recipe.json").read_text())
    assert {"special", "load"} <= found["machine"].keys()
    measured = [(one["backbone"], one["figures"]["accuracy"]) for one in results_pages.backbones("recipe")]
    assert measured == [("third", 0.5), ("large", 0.9), ("small", 0.7)]


def test_the_backbone_is_that_of_the_recipe() -> None:
    assert record.backbone(load_recipe("transfer")) == load_recipe("transfer").model.name
    assert " and " in (record.backbone(load_recipe("labels-ensemble")) or "")
    assert record.backbone(load_recipe("study-cnn")) is None
