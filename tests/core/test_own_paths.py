"""Paths of this machine are taken out of what is passed on, and nothing else is."""

from __future__ import annotations

import pytest

from tellapart.core.own_paths import without_folders


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("/mnt/my photos/w.safetensors", "w.safetensors"),
        ("D:\\photos\\w.pt", "w.pt"),
        ("/data/w.pt, without its classifier of 1000 classes", "w.pt, without its classifier of 1000 classes"),
        ("weights of (/data/models/w.pt)", "weights of (w.pt)"),
        ("https://example.org/a/b", "https://example.org/a/b"),
        ("Fruit/Apple/Pink-Lady", "Fruit/Apple/Pink-Lady"),
        ("runs/first", "runs/first"),
        ("1/2 of /", "1/2 of /"),
    ],
)
def test_texts(text: str, left: str) -> None:
    assert without_folders(text) == left
    assert without_folders({"a": [text, 3, None]}) == {"a": [left, 3, None]}


def test_commands() -> None:
    command = "tellapart train '/mnt/my photos' --set 'model.weights=\"/data/w.pt\"' --out runs/first"
    assert without_folders({"command": command}) == {
        "command": "tellapart train 'my photos' --set model.weights=w.pt --out runs/first"
    }
    assert without_folders({"command": "no 'end"}) == {"command": ""}
