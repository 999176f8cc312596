"""The figures in the docs and in the recipes' heads, written from the result files, so that no number is typed.

python -m benchmarks.results_pages            (make results)
python -m benchmarks.results_pages --check    what would change; exit code 1 if anything would

A page holds passages. In Markdown a passage stands between `<!-- figures: NAME -->` and `<!-- end of figures -->`, in
a recipe it is the paragraph that begins with `# Result:`. Everything else on a page is written by hand. What a passage
says stands in `benchmarks/pages/`: in the file of the page, the macro NAME (Jinja). Words are written there; a figure
is `{{ result("speed").… }}`, so it comes from `benchmarks/results/speed.json`, and one that is missing is an error.
A number that was set rather than measured is written as text, `{{ "95 %" }}`, where it looks like a figure.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
import textwrap
from pathlib import Path
from typing import Any

import jinja2

from tellapart.core.files import write_text
from tellapart.evaluation.intervals import wilson

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
PAGES = ROOT / "benchmarks" / "pages"
RECIPES = "src/tellapart/recipe/shipped"
#: Template of each Markdown page that has passages.
MARKDOWN = {f"docs/{page.name}": page.name for page in sorted(PAGES.glob("[a-z]*.md"))} | {"README.md": "README.md"}
WIDTH = 120
_KEPT = "\N{NO-BREAK SPACE}%"  # a number and its sign stay on one line

_PASSAGE = re.compile(r"^(<!-- figures: (\w+) -->\n)(.*?)(<!-- end of figures -->\n)", re.DOTALL | re.MULTILINE)
_HEAD = re.compile(r"^# Result: .*?(?=^(?:#$|[^#]))", re.DOTALL | re.MULTILINE)
#: What Jinja fills in, and what looks like a figure: a number with a decimal point or a unit.
_FILLED = re.compile(r"\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}", re.DOTALL)
_FIGURE = re.compile(
    r"(?<!version )\b\d+\.\d+|\d[\d,]*[ -]?(?:%|s\b|ms\b|seconds|minutes|times|×(?! ?\d)|MB|GB|pictures/s|points)"
)


class MissingFigure(Exception):
    """A passage asks for a figure that no result file has."""


def result(name: str) -> dict[str, Any]:
    """A result file: script, date, machine, versions, figures; of networks with a backbone, that and `before`.

    Raises:
        MissingFigure: there is no such file.
    """
    path = RESULTS / f"{name}.json"
    if not path.is_file():
        raise MissingFigure(f"{path.name} is not in benchmarks/results/.")
    read: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return read


def backbones(name: str) -> list[dict[str, Any]]:
    """The newest result of a file, and those with other backbones that were measured before it."""
    newest = result(name)
    return [newest, *newest.get("before", [])]


def percent(share: float | list[float], digits: int = 1) -> str:
    """0.8203 as 82.0 %; several as 93.7, 93.5 %."""
    shares = share if isinstance(share, list) else [share]
    return f"{', '.join(f'{100 * value:.{digits}f}' for value in shares)} %"


def digits(value: float, n: int = 3) -> str:
    """As many digits as say something: 3,120, 56.9, 0.413."""
    rounded = float(f"{value:.{n}g}")
    return f"{rounded:,.0f}" if value >= 10 ** (n - 1) else f"{value:#.{n}g}"


def fixed(value: float | list[float], n: int = 0) -> str:
    """A number with n decimals, or several."""
    values = value if isinstance(value, list) else [value]
    return ", ".join(f"{number:,.{n}f}" for number in values)


def extent(value: dict[str, Any], scale: float = 1.0, n: int = 0) -> str:
    """From the smallest to the largest of a spread: 78.3 to 82.2."""
    return f"{fixed(value['min'] * scale, n)} to {fixed(value['max'] * scale, n)}"


def score(measured: dict[str, Any], part: str, metric: str = "accuracy") -> str:
    """A score of a recipe's runs in percent; of several seeds the mean, with the smallest and the largest."""
    return _over_seeds([100 * value for value in _scores(measured, part, metric)], 1, " %")


def share(measured: dict[str, Any], part: str, metric: str) -> str:
    """The same as a share of 1: 0.85."""
    return _over_seeds(_scores(measured, part, metric), 2, "")


def _scores(measured: dict[str, Any], part: str, metric: str) -> list[float]:
    runs = measured["figures"]["runs"]
    return [run[part][metric] if isinstance(run[part], dict) else run[part] for run in runs]


def _over_seeds(values: list[float], n: int, unit: str) -> str:
    mean = f"{statistics.fmean(values):.{n}f}{unit}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.{n}f} to {max(values):.{n}f}, {len(values)} seeds)"


def machine(name: str) -> str:
    """Where a file was made: 2 cores of Intel Xeon (avx2, avx512f)."""
    about = result(name)["machine"]
    special = ", ".join(about["special"]) or "no special instructions"
    processor = re.sub(r"\((R|TM)\)| Processor| CPU", "", about["processor"])
    return f"{about['processors']} cores of {processor} ({special})"


def interval(share: float, n: int) -> str:
    """The 95 % Wilson interval of a share of n pictures, in percent: 68 to 78."""
    low, high = wilson(share, n)
    return f"{100 * float(low):.0f} to {100 * float(high):.0f}"


def environment(pages: Path = PAGES) -> jinja2.Environment:
    """Of the templates: a name that does not exist is an error."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(pages),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,
    )
    filters = (percent, digits, fixed, extent)
    functions = (result, backbones, machine, interval, score, share)
    made.filters |= {function.__name__: function for function in filters}
    made.globals |= {function.__name__: function for function in functions}
    return made


def passage(template: jinja2.Template, name: str) -> str:
    """The text of a passage.

    Raises:
        MissingFigure: there is no such passage, or a figure that it names is in no result file.
    """
    macro = getattr(template.module, name, None)
    if macro is None:
        raise MissingFigure(f"benchmarks/pages/{template.name} has no passage {name}.")
    try:
        return str(macro()).strip()
    except jinja2.UndefinedError as error:
        raise MissingFigure(f"benchmarks/pages/{template.name}, {name}: {error}") from None


def wrapped(text: str, prefix: str = "") -> str:
    """Paragraphs and items of lists in lines of at most `WIDTH`; tables as they are."""
    paragraphs = []
    for paragraph in re.split(r"\n\s*\n", text):
        if paragraph.startswith(("|", "!", "#")):
            paragraphs.append(paragraph)
            continue
        items = re.split(r"\n(?=\* )", paragraph)
        fills = [
            textwrap.fill(
                " ".join(item.split()).replace(" %", _KEPT),
                WIDTH,
                initial_indent=prefix,
                subsequent_indent=prefix + "  " * item.startswith("* "),
                break_long_words=False,
                break_on_hyphens=False,
            )
            for item in items
        ]
        paragraphs.append("\n".join(fills).replace(_KEPT, " %"))
    return f"\n{prefix}\n".join(paragraphs)


def page_text(text: str, template: jinja2.Template) -> str:
    """A Markdown page with its passages written anew."""
    return _PASSAGE.sub(lambda match: f"{match[1]}\n{wrapped(passage(template, match[2]))}\n\n{match[4]}", text)


def recipe_text(text: str, template: jinja2.Template, name: str) -> str:
    """A recipe with its result written anew."""
    return _HEAD.sub(lambda _: wrapped(passage(template, name.replace("-", "_")), "# ") + "\n", text)


def pages() -> dict[Path, str]:
    """Every page that has passages, as it should be."""
    templates = environment()
    made = {}
    for page, name in MARKDOWN.items():
        path = ROOT / page
        made[path] = page_text(path.read_text(encoding="utf-8"), templates.get_template(name))
    for path in sorted((ROOT / RECIPES).glob("*.toml")):
        made[path] = recipe_text(path.read_text(encoding="utf-8"), templates.get_template("recipes.txt"), path.stem)
    return made


def typed(text: str) -> list[str]:
    """What looks like a figure in the words of a template, or of a page outside its passages."""
    return [match[0] for match in _FIGURE.finditer(_FILLED.sub("", _PASSAGE.sub("", text)))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing")
    check = parser.parse_args().check
    try:
        changed = {path: text for path, text in pages().items() if text != path.read_text(encoding="utf-8")}
    except MissingFigure as error:
        sys.exit(str(error))
    for path, text in changed.items():
        print(f"{'differs from its result files' if check else 'written'}: {path.relative_to(ROOT)}")
        if not check:
            write_text(path, text)
    sys.exit(bool(check and changed))


if __name__ == "__main__":
    main()
