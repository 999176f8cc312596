"""Hashes that are near each other are all found, and no others, as by comparing all with all."""

from __future__ import annotations

import math

import imagehash
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from tellapart.auditing import banded
from tellapart.auditing.banded import masks_of, near_hashes, perceptual_hashes


def brute_force(hashes: np.ndarray, most: int) -> set[tuple[int, int]]:
    """Pairs of different hashes, and each equal one with the first."""
    pairs = set()
    for one in range(len(hashes)):
        for two in range(one + 1, len(hashes)):
            differing = (int(hashes[one]) ^ int(hashes[two])).bit_count()
            if 0 < differing <= most:
                firsts = [int(np.flatnonzero(hashes == hashes[row])[0]) for row in (one, two)]
                pairs.add((min(firsts), max(firsts)))
            elif differing == 0 and one == np.flatnonzero(hashes == hashes[one])[0]:
                pairs.add((one, two))
    return pairs


# Few bits are set, so that many hashes are near each other; all 64 take part.
near_ones = st.builds(
    lambda base, flips: base ^ sum(1 << bit for bit in flips),
    st.sampled_from([0, 2**64 - 1, 0x0123456789ABCDEF]),
    st.sets(st.integers(0, 63), max_size=8),
)


@given(st.lists(near_ones | st.integers(0, 2**64 - 1), max_size=40), st.integers(0, 12), st.sampled_from([0, 1000]))
def test_pairs_are_those_of_brute_force(values, most, very_many):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(banded, "_VERY_MANY", very_many)
        check_pairs(values, most)


def check_pairs(values, most):
    hashes = np.array(values, np.uint64)
    found = np.concatenate(list(near_hashes(hashes, most)))
    assert found.shape[1] == 2
    assert (found[:, 0] < found[:, 1]).all()
    pairs = list(map(tuple, found.tolist()))
    assert len(pairs) == len(set(pairs))
    assert set(pairs) == brute_force(hashes, most)


@pytest.mark.parametrize("most", [0, 1, 3, 6, 12, 30])
def test_bands_cover_all_bits(most):
    assert len(masks_of(10_000_000, most)) == math.comb(most + 3, 3)
    masks = [int(mask) for mask in masks_of(1000, most)]
    assert len(set(masks)) == len(masks) == math.comb(most + 2, 2)
    everything = 0
    for mask in masks:
        everything |= mask
    assert everything == 2**64 - 1


def test_a_hundred_thousand_hashes_are_searched_at_once():
    """What is planted is found; comparing all with all would take five thousand million comparisons."""
    random = np.random.default_rng(0)
    hashes = random.integers(0, 2**64, 100_000, np.uint64)
    planted = np.arange(0, 50_000, 1000)
    for row in planted:
        flips = sum(1 << int(bit) for bit in random.choice(64, 6, replace=False))
        hashes[row + 50_000] = hashes[row] ^ np.uint64(flips)
    found = np.concatenate(list(near_hashes(hashes, 6)))
    assert {(int(row), int(row) + 50_000) for row in planted} == set(map(tuple, found.tolist()))


def test_a_hash_is_that_of_the_picture_and_of_its_mirror_image(scene):
    """As near as ImageHash's own for the same change, and mirrored pictures have the mirrored hash."""
    picture = scene(3).convert("L")
    small = [np.asarray(each.resize((32, 32), Image.Resampling.BOX)) for each in (picture, ImageOps.mirror(picture))]
    (one, two), (one_mirrored, two_mirrored), *_ = perceptual_hashes(np.stack(small))
    assert (int(one) ^ int(two_mirrored)).bit_count() <= 1
    assert (int(two) ^ int(one_mirrored)).bit_count() <= 1
    assert (int(one) ^ int(two)).bit_count() > 12
    softer = np.asarray(picture.resize((24, 20)).resize((32, 32)))
    (changed,), *_ = perceptual_hashes(softer[None])
    theirs = imagehash.phash(picture) - imagehash.phash(picture.resize((24, 20)))
    assert (int(one) ^ int(changed)).bit_count() <= max(6, theirs)


def test_an_audit_of_very_many_pictures_compares_the_same_pictures(picture_folder, monkeypatch):
    """Copies that were made smaller, and mirrored ones, come by hashes as they come without."""
    from PIL import ImageOps

    from tellapart.auditing import duplicates
    from tellapart.data.scan import scan
    from tellapart.data.statistics import Measures
    from tests.conftest import make_scene

    root = picture_folder(n=1)
    for number in range(6):
        picture = make_scene(number)
        picture.save(root / "circle" / f"scene{number}.png")
        changed = ImageOps.mirror(picture) if number % 2 else picture.resize((72, 60))
        changed.save(root / "square" / f"scene{number}.png")
    measures = Measures()
    catalog = scan(root, measures=measures)
    measured = measures.finish()

    def pairs() -> set[tuple[int, int, bool]]:
        work = duplicates.find_pairs(catalog, measured, None)
        while True:
            try:
                next(work)
            except StopIteration as end:
                return set(
                    zip(
                        *(column.tolist() for column in (end.value.first, end.value.second, end.value.mirrored)),
                        strict=True,
                    )
                )

    plain = pairs()
    assert len(plain) == 6
    monkeypatch.setattr(duplicates, "MANY", 1)
    assert pairs() == plain
