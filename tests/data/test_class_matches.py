"""Classes that a model does not know: named with what they are likely to be, and left out on request."""

from __future__ import annotations

import pytest

from tellapart.data.class_matches import likeliest
from tellapart.data.scan import scan
from tellapart.errors import DataError
from tests.data.labels.layouts import Draw

KNOWN = ("Fruit/Apple/Pink-Lady", "Vegetables/Mushroom/Brown-Cap-Mushroom", "café", "dog")


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("Vegetables/Brown-Cap-Mushroom", "Vegetables/Mushroom/Brown-Cap-Mushroom"),
        ("brown cap mushroom", "Vegetables/Mushroom/Brown-Cap-Mushroom"),
        ("Dog", "dog"),
        ("dogs", "dog"),
        ("cafe\u0301 ", "café"),
        ("zebra", None),
    ],
)
def test_the_likeliest_match(name: str, match: str | None) -> None:
    assert likeliest(name, KNOWN) == match


def test_unknown_classes_are_named_and_counted(draw: Draw) -> None:
    catalog = scan(draw("dog/1.png", "Dog/2.png", "Dog/3.png", "zebra/4.png"))
    with pytest.raises(DataError) as caught:
        catalog.with_classes(KNOWN)
    assert caught.value.message == (
        "2 of 3 classes of 3 pictures are not known to the model: 'Dog' (likely 'dog'), 'zebra'."
    )
    assert "--skip-unknown-classes" in caught.value.hint
    fewer, unknown = catalog.without_unknown(KNOWN)
    assert (unknown, fewer.classes, fewer.table["path"].to_list()) == (["Dog", "zebra"], ("dog",), ["dog/1.png"])
    assert fewer.with_classes(KNOWN).target().tolist() == [3]


def test_several_labels_go_where_any_is_unknown(draw: Draw) -> None:
    root = draw("1.png", "2.png", "3.png")
    (root / "labels.csv").write_text("file,labels\n1.png,dog;zebra\n2.png,dog;café\n3.png,\n")
    fewer, unknown = scan(root).without_unknown(KNOWN)
    assert (unknown, fewer.table["path"].to_list()) == (["zebra"], ["2.png", "3.png"])
    assert fewer.with_classes(KNOWN).target().tolist() == [[0, 0, 1, 1], [0, 0, 0, 0]]
