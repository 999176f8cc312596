"""Keys of what is stored: by content, and by place where chance is at work."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from tellapart.core.preprocess import Preprocessing
from tellapart.data.augmentation.transforms import left_to_chance
from tellapart.data.scan import scan
from tellapart.recipe.transforms import EIGHTFOLD, Brightness, HorizontalFlip, Noise, RandomResizedCrop
from tellapart.training.dataset import Dataset


def test_keys_go_by_content_and_where_chance_is_at_work_by_place_too(picture_folder: Any) -> None:
    catalog = scan(picture_folder(n=4))
    rows = np.arange(12)
    dataset = Dataset(catalog, rows, rows, Preprocessing(32, 32), (), 0)
    flip, noise = [HorizontalFlip()], [Noise()]
    views = [[], flip, noise, noise]
    found = dataset.keys(views).reshape(12, 4)
    assert len(np.unique(found)) == 48
    some = replace(dataset, train=rows[3:5]).keys([flip, []]).reshape(2, 2)
    assert np.array_equal(some, found[3:5, 1::-1])
    reseeded = replace(dataset, seed=1).keys(views).reshape(12, 4)
    assert np.array_equal(reseeded == found, np.repeat([[True, True, False, False]], 12, 0))


def test_keys_of_versions_made_ahead(picture_folder: Any) -> None:
    catalog = scan(picture_folder(n=4))
    rows = np.arange(12)
    dataset = Dataset(catalog, rows, rows, Preprocessing(32, 32), (), 0, EIGHTFOLD)
    found = dataset.keys([[], [HorizontalFlip()]]).reshape(12, 8, 2)
    assert len(np.unique(found)) == 12 * 8 * 2
    assert np.array_equal(found[:, 0, 0], replace(dataset, ahead=()).keys([[]]))
    reseeded = replace(dataset, seed=1).keys([[], [HorizontalFlip()]]).reshape(12, 8, 2)
    same = (reseeded == found).all((0, 2))
    assert same.tolist() == [True] * 4 + [False] * 4


def test_what_is_left_to_chance() -> None:
    assert not left_to_chance([])
    assert not left_to_chance([HorizontalFlip(), Brightness(factor=1.2)])
    assert left_to_chance([HorizontalFlip(probability=0.5)])
    assert left_to_chance([Brightness()])
    assert left_to_chance([RandomResizedCrop(scale=1.0)])
