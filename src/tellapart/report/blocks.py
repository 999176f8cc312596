"""Sections and blocks of a page. Each block is a plain value and has a template of the same name.

A new part of a report is a function that returns a `Section` of these. A new kind of block is a dataclass here and
a file in templates/blocks/.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

from markupsafe import Markup


@dataclass(frozen=True)
class Text:
    """A paragraph. "lead" is larger, "note" is quiet, "warning" is marked."""

    text: str
    look: Literal["", "lead", "note", "warning"] = ""
    template: str = field(default="text", init=False)


@dataclass(frozen=True)
class Facts:
    """Short figures side by side: (name, value, an addition in small type or "")."""

    facts: Sequence[tuple[str, str, str]]
    template: str = field(default="facts", init=False)


@dataclass(frozen=True)
class Chart:
    """A drawing made by `charts`. `svg` goes into the page as it is; `table`, its numbers, opens by a click.

    The caption says what the chart shows.
    """

    title: str
    svg: Markup
    caption: str = ""
    table: Table | None = None
    template: str = field(default="chart", init=False)


@dataclass(frozen=True)
class Side:
    """Blocks side by side where the page is wide, below each other where it is not. `small`: three or more a line.

    A list of blocks is one column.
    """

    blocks: Sequence[Block | list[Block]]
    small: bool = False
    template: str = field(default="side", init=False)

    @property
    def columns(self) -> list[list[Block]]:
        """Its columns, each a list of blocks."""
        return [column if isinstance(column, list) else [column] for column in self.blocks]


@dataclass(frozen=True)
class Fold:
    """Blocks that a click on the summary opens (HTML's <details>). `printed`: they are open on paper too."""

    summary: str
    blocks: Sequence[Block]
    printed: bool = False
    template: str = field(default="fold", init=False)


@dataclass(frozen=True)
class Code:
    """Text in a fixed-width font with a button that copies it."""

    text: str
    title: str = ""
    template: str = field(default="code", init=False)


@dataclass(frozen=True)
class Photo:
    """One large image that is no picture of the catalog, such as a contact sheet.

    `jpeg` holds the file's bytes; `dark` those for a dark page, where they differ. On a narrow page, a `wide` one keeps
    its size and scrolls: its captions could not be read otherwise.
    """

    jpeg: bytes
    alt: str
    caption: str = ""
    wide: bool = False
    title: str = ""
    dark: bytes = b""
    template: str = field(default="photo", init=False)


@dataclass(frozen=True)
class Cell:
    """One cell of a table.

    Attributes:
        text: what is shown.
        value: what the column is sorted by; by default the text.
        quiet: an addition in small grey type, such as an interval; left out on a phone.
        span: low, value, high in 0..1, drawn as a line with a dot.
        opens: a row and column of a matrix on the page; makes the cell a button that shows its pictures.
        indent: steps to the right, for what belongs to the row above.
        href: a path beside the page that a click opens. strong: set in bold. code: a command or key, in a fixed width.
    """

    text: str
    value: float | None = None
    quiet: str = ""
    span: tuple[float, float, float] | None = None
    opens: str = ""
    indent: int = 0
    href: str = ""
    strong: bool = False
    code: bool = False


@dataclass(frozen=True)
class Table:
    """A table. Columns whose first cell has a value are set to the right and sorted as numbers."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""
    sortable: bool = False
    title: str = ""
    template: str = field(default="table", init=False)


@dataclass(frozen=True)
class Label:
    """A class under a picture. `right` is None where that is not known."""

    name: str
    certainty: float | None = None
    right: bool | None = None


@dataclass(frozen=True)
class Card:
    """A picture of the catalog with its labels. `link` opens the file itself; `note` is one more line."""

    row: int
    name: str
    labels: Sequence[Label] = ()
    answered: Sequence[Label] = ()
    has_answer: bool = True
    link: str = ""
    note: str = ""


@dataclass(frozen=True)
class Gallery:
    """Pictures with their labels. Without pictures, the text `empty` is shown. `named`: file names stand below."""

    title: str
    cards: Sequence[Card]
    caption: str = ""
    empty: str = ""
    named: bool = False
    template: str = field(default="gallery", init=False)


@dataclass(frozen=True)
class Pairs:
    """Pairs of pictures: two cards and a caption each. Without pairs, the text `empty` is shown."""

    title: str
    pairs: Sequence[tuple[Card, Card, str]]
    caption: str = ""
    empty: str = ""
    template: str = field(default="pairs", init=False)


@dataclass(frozen=True)
class HeatMap:
    """An attribution map: a JPEG with colours from little to much. `note` is a remark or ""."""

    title: str
    jpeg: bytes
    method: str
    note: str = ""


@dataclass(frozen=True)
class Explained:
    """A picture with its attribution maps and its nearest training pictures.

    Attributes:
        card: its labels; its row is not used.
        seen: a JPEG of the picture as the network sees it.
        maps: attribution maps, one a class.
        alike: training pictures with the most similar features.
    """

    card: Card
    picture: bytes
    maps: Sequence[HeatMap]
    alike: Sequence[Card] = ()
    template: str = field(default="explained", init=False)


@dataclass(frozen=True)
class ClassCard:
    """A class with its number of pictures in each part of the split, and some examples."""

    name: str
    n: int
    parts: Sequence[tuple[str, int]]
    cards: Sequence[Card]


@dataclass(frozen=True)
class Classes:
    """All classes with examples. `largest` is the scale of the bars."""

    classes: Sequence[ClassCard]
    largest: int
    template: str = field(default="classes", init=False)

    @property
    def shown(self) -> Sequence[ClassCard]:
        """The classes whose examples are shown without a click."""
        return self.classes[:SHOWN_CLASSES]

    @property
    def folded(self) -> Sequence[ClassCard]:
        """The others."""
        return self.classes[SHOWN_CLASSES:]


#: Classes whose examples are shown without a click.
SHOWN_CLASSES = 12
#: Shares at which a matrix's next shade begins.
SHADES = (0.01, 0.03, 0.1, 0.3, 0.6, 0.85)


@dataclass(frozen=True)
class MatrixCell:
    """One count. `share` is of the row's total; `key` names the group of pictures that a click shows, "" for none."""

    n: int
    share: float
    key: str = ""

    @property
    def shade(self) -> int:
        """Shade 0 to 6. The steps widen, so that rare errors show beside a full diagonal."""
        return sum(self.share >= limit for limit in SHADES)


@dataclass(frozen=True)
class Group:
    """The pictures behind one cell of a matrix.

    Attributes:
        title: given and answered class. n: number of pictures. share: their share of the row, in words.
        cards: some of them. right: True where the answer is right.
    """

    key: str
    title: str
    n: int
    share: str
    cards: Sequence[Card]
    right: bool = False


@dataclass(frozen=True)
class Matrix:
    """Counts by row and column; a click on a cell shows its pictures.

    Attributes:
        title: heading. rows, columns: names. corner: headings of rows and of columns.
        cells: [n_rows][n_columns].
        groups: the pictures behind the cells. first: key of the group shown at the start, or "".
        square: True where the diagonal holds the right answers.
        table: stands below; its cells may open groups.
        name: of its pictures, where another matrix stands beside it. beside: that one, which opens no pictures.
    """

    title: str
    rows: Sequence[str]
    columns: Sequence[str]
    corner: tuple[str, str]
    cells: Sequence[Sequence[MatrixCell]]
    groups: Sequence[Group]
    first: str = ""
    square: bool = True
    caption: str = ""
    table: Table | None = None
    name: str = ""
    beside: Matrix | None = None
    template: str = field(default="matrix", init=False)

    @property
    def all(self) -> list[Matrix]:
        """This one, and the one beside it."""
        return [self] if self.beside is None else [self, self.beside]

    @property
    def shades(self) -> list[str]:
        """Legend: the range of shares of each shade."""
        edges = [f"{100 * limit:.0f}" for limit in SHADES]
        between = [f"{a}–{b}" for a, b in pairwise(edges)]
        return [f"under {edges[0]}", *between, f"over {edges[-1]} %"]

    @property
    def size(self) -> str:
        """Size class of the matrix: "s" for few cells to "xl" for very many; "low" for long lists of few columns."""
        n = max(len(self.rows), len(self.columns))
        if n > 5 and len(self.columns) <= 4:
            return "low"
        return "s" if n <= 5 else "m" if n <= 12 else "l" if n <= 30 else "xl"

    @property
    def flat(self) -> bool:
        """True where the columns' names are short enough to be written across."""
        longest = max(map(len, self.columns), default=0)
        return longest <= {"s": 11, "low": 11, "m": 4, "l": 3, "xl": 2}[self.size]


Block = Text | Facts | Chart | Side | Fold | Code | Photo | Table | Gallery | Pairs | Explained | Classes | Matrix


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        anchor: its name in links: small letters, no blanks.
        title: its heading. blocks: what it shows.
        short: its name in the menu; by default the title.
        after: of a section in `ReportData.more`: the anchor of the section that it follows.
    """

    anchor: str
    title: str
    blocks: Sequence[Block]
    short: str = ""
    after: str = "errors"

    @property
    def in_menu(self) -> str:
        """Its name in the menu."""
        return self.short or self.title


@dataclass(frozen=True)
class Headline:
    """The number that is shown first.

    Attributes:
        figure: what is set large, without unit: "92.4". unit: "%" or "".
        metric: the metric and its pictures, in words.
        span: low, value, high in 0..1, drawn on a scale; None where the metric has no such scale.
        interval: the same in words. sentence: the score in plain language.
        mark: another value on the scale to compare with, and its name.
    """

    figure: str
    unit: str
    metric: str
    interval: str
    sentence: str
    span: tuple[float, float, float] | None = None
    mark: tuple[float, str] | None = None


@dataclass(frozen=True)
class Page:
    """A whole page, ready to be written by `page.write_page`. `remarks` are notes that a click opens."""

    title: str
    subtitle: Sequence[str]
    sections: Sequence[Section]
    headline: Headline | None = None
    facts: Sequence[tuple[str, str, str]] = ()
    notes: Sequence[str] = ()
    remarks: Sequence[str] = ()
