"""Mixing by hand: the formulas of the papers on pictures small enough to count pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from tellapart.data.augmentation.mixup import cutmix, mix, mixup
from tellapart.recipe.transforms import Mix

ONE_LABEL = torch.eye(4)[torch.tensor([0, 1, 2, 3, 0, 1])]
SEVERAL = torch.tensor([[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 1], [1, 1, 1, 1], [1, 0, 0, 0]]).float()


def pictures(kind: torch.dtype = torch.uint8, height: int = 10, width: int = 14) -> torch.Tensor:
    """Six pictures, each of one grey: 0, 40, … 200."""
    return (torch.arange(6) * 40).view(6, 1, 1, 1).expand(6, height, width, 3).to(kind).contiguous()


class Beta(np.random.Generator):
    """A generator whose Beta draws are replaced by a number, so that formulas can be followed by hand."""

    def __init__(self, value: float, seed: int = 0) -> None:
        super().__init__(np.random.PCG64(seed))
        self.value = value

    def beta(self, a, b, size=None):
        return self.value


@pytest.mark.parametrize("targets", [ONE_LABEL, SEVERAL], ids=["one label", "several"])
@pytest.mark.parametrize("kind", [torch.uint8, torch.float32])
def test_mixup_is_the_papers_formula(targets, kind):
    images = pictures(kind)
    mixed, soft = mixup(images, targets, 0.2, Beta(0.7, seed=1))
    partner = np.random.Generator(np.random.PCG64(1)).permutation(6)
    for i in range(6):
        expected = 0.7 * 40 * i + 0.3 * 40 * partner[i]
        assert torch.allclose(
            mixed[i].float(), torch.tensor(expected).float(), atol=0.5 if kind == torch.uint8 else 1e-4
        )
        assert torch.allclose(soft[i], 0.7 * targets[i] + 0.3 * targets[partner[i]])
    assert mixed.dtype == kind
    assert mixed.shape == images.shape


def test_mixup_weight_follows_its_beta_distribution():
    images = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1)
    weights = []
    for seed in range(1500):
        mixed, _ = mixup(images, torch.eye(2), 0.4, np.random.default_rng(seed))
        if mixed[0] != 0:  # its partner was the other, and not itself
            weights.append(float(mixed[1]))
    assert stats.kstest(weights, stats.beta(0.4, 0.4).cdf).pvalue > 0.001


@pytest.mark.parametrize("targets", [ONE_LABEL, SEVERAL], ids=["one label", "several"])
@pytest.mark.parametrize("seed", range(12))
def test_cutmix_mixes_labels_by_the_pixels_that_were_replaced(targets, seed):
    images = pictures(height=11, width=17)
    mixed, soft = cutmix(images, targets, 1.0, np.random.default_rng(seed))
    changed = [i for i in range(6) if not torch.equal(mixed[i], images[i])]
    for i in changed:
        mask = (mixed[i] != images[i])[:, :, 0]
        partner = int(mixed[i][mask][0, 0]) // 40
        assert (mixed[i][mask] == 40 * partner).all(), "all replaced pixels come from one partner"
        high, wide = mask.any(dim=1).sum(), mask.any(dim=0).sum()
        assert mask.sum() == high * wide, "they make a rectangle"
        share = mask.float().mean()
        assert torch.allclose(soft[i], (1 - share) * targets[i] + share * targets[partner], atol=1e-6)
    for i in set(range(6)) - set(changed):
        assert torch.allclose(soft[i], targets[i])
    assert torch.equal(images, pictures(height=11, width=17)), "the input is left as it was"


def test_cutmix_area_follows_its_beta_distribution():
    """Where the rectangle does not hang over the edge, its area is what was drawn."""
    images = torch.zeros(2, 100, 100, 1, dtype=torch.uint8)
    images[1] = 1
    for own_share in (0.2, 0.5, 0.96):
        shares = []
        for seed in range(60):
            mixed, _ = cutmix(images, torch.eye(2), 1.0, Beta(own_share, seed))
            shares.append(float((mixed[0] != images[0]).float().mean()))
        assert max(shares) == pytest.approx(1 - own_share, abs=0.03) or own_share < 0.5
        assert max(shares) <= 1 - own_share + 0.02


def test_cutmix_reaches_every_place():
    images = torch.zeros(2, 12, 12, 1, dtype=torch.uint8)
    images[1] = 1
    seen = torch.zeros(12, 12)
    for seed in range(300):
        mixed, _ = cutmix(images, torch.eye(2), 1.0, np.random.default_rng(seed))
        seen += (mixed[0] != images[0])[:, :, 0]
    assert seen.min() > 0
    assert seen.min() < seen.max() < 300


def test_a_label_of_both_pictures_stays_certain():
    both = torch.ones(6, 2)
    for change in (mixup, cutmix):
        _, soft = change(pictures(), both, 1.0, np.random.default_rng(3))
        assert torch.allclose(soft, both)


def test_targets_stay_a_distribution():
    for seed in range(20):
        for change in (mixup, cutmix):
            _, soft = change(pictures(), ONE_LABEL, 1.0, np.random.default_rng(seed))
            assert torch.allclose(soft.sum(dim=1), torch.ones(6))
            assert (soft >= 0).all()


def kind_of_mix(seed: int, mixing: Mix) -> str:
    images = pictures(torch.float32)
    mixed, soft = mix(images, ONE_LABEL, mixing, np.random.default_rng(seed))
    if mixed is images:
        assert soft is ONE_LABEL
        return "none"
    flat = all(len(torch.unique(picture)) == 1 for picture in mixed)
    return "mixup" if flat else "cutmix"


def test_one_choice_a_batch_with_each_ones_probability():
    mixing = Mix(per="batch", mixup=0.5, mixup_alpha=5.0, cutmix=0.3, cutmix_alpha=5.0)
    kinds = [kind_of_mix(seed, mixing) for seed in range(1000)]
    counts = [kinds.count(kind) for kind in ("mixup", "cutmix", "none")]
    assert sum(counts) == 1000
    # A CutMix whose permutation leaves every picture in place looks like a mixup: once in 720.
    assert stats.chisquare(counts, [500, 300, 200]).pvalue > 0.001


def test_probabilities_of_0_and_1():
    assert {kind_of_mix(seed, Mix()) for seed in range(50)} == {"none"}
    assert {kind_of_mix(seed, Mix(mixup=1.0, mixup_alpha=5.0)) for seed in range(50)} == {"mixup"}


def test_the_generator_alone_decides():
    mixing = Mix(mixup=0.5, cutmix=0.5)
    before = torch.get_rng_state()
    first = [mix(pictures(), SEVERAL, mixing, np.random.default_rng(seed)) for seed in range(10)]
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(99)
    again = [mix(pictures(), SEVERAL, mixing, np.random.default_rng(seed)) for seed in range(10)]
    for (images, targets), (same_images, same_targets) in zip(first, again, strict=True):
        assert torch.equal(images, same_images)
        assert torch.equal(targets, same_targets)


def test_a_single_picture_is_its_own_partner():
    for change in (mixup, cutmix):
        mixed, soft = change(pictures()[2:3], ONE_LABEL[2:3], 1.0, np.random.default_rng(0))
        assert torch.equal(mixed, pictures()[2:3])
        assert torch.allclose(soft, ONE_LABEL[2:3])


@pytest.mark.parametrize("kind", [torch.uint8, torch.float32])
@pytest.mark.parametrize("targets", [ONE_LABEL, SEVERAL], ids=["one label", "several"])
def test_each_picture_has_a_draw_of_its_own(targets, kind):
    images, settings = pictures(kind), Mix(mixup=0.4, mixup_alpha=1.0, cutmix=0.4)
    kinds = set()
    for seed in range(20):
        mixed, soft = mix(images, targets, settings, np.random.default_rng(seed))
        assert (mixed.dtype, soft.dtype) == (kind, targets.dtype)
        ways = set()
        for i in range(6):
            values = mixed[i].unique().tolist()
            if len(values) == 2:  # a rectangle of one other picture
                (other,) = (round(value) // 40 for value in values if value != 40 * i)
                share = float((mixed[i] == 40 * i).float().mean())
            elif not torch.equal(mixed[i], images[i]):  # blended; with which, the label tells
                candidates = [j for j in range(6) if j != i]
                shares = [(values[0] - 40 * j) / (40 * i - 40 * j) for j in candidates]
                fits = [
                    (j, share)
                    for j, share in zip(candidates, shares, strict=True)
                    if -0.02 <= share <= 1.02
                    and torch.allclose(soft[i], share * targets[i] + (1 - share) * targets[j], atol=0.03)
                ]
                assert fits
                ways.add("mixup")
                continue
            else:
                continue
            assert torch.allclose(soft[i], share * targets[i] + (1 - share) * targets[other], atol=1e-5)
            ways.add("cutmix")
        kinds.add(tuple(sorted(ways)))
    assert ("cutmix", "mixup") in kinds, "both within one batch"
    assert torch.equal(images, pictures(kind)), "the input is left as it was"


def test_a_small_share_mixes_that_share_of_the_pictures_and_a_larger_one_the_same_and_more():
    images = torch.arange(512).view(512, 1, 1, 1).expand(512, 8, 8, 1).float().contiguous()
    targets = torch.eye(512)
    changed = {}
    for share in (0.01, 0.02, 0.06):
        mixed, _ = mix(images, targets, Mix(mixup=share), np.random.default_rng(3))
        rows = (mixed != images).flatten(1).any(1)
        changed[share] = {i: float(mixed[i].mean()) for i in np.flatnonzero(rows.numpy()).tolist()}
        assert abs(len(changed[share]) - 512 * share) < 4 * (512 * share) ** 0.5
    assert changed[0.01].items() < changed[0.02].items() < changed[0.06].items()


def test_a_picture_alone_in_its_batch_stays_as_it_is():
    image = torch.full((1, 4, 4, 3), 7.0)
    mixed, soft = mix(image, torch.eye(2)[:1], Mix(mixup=1.0), np.random.default_rng(0))
    assert torch.equal(mixed, image)
    assert torch.equal(soft, torch.eye(2)[:1])


def test_per_batch_is_one_draw_for_all():
    images, settings = pictures(torch.float32), Mix(per="batch", mixup=0.5)
    n_changed = {
        int((mix(images, ONE_LABEL, settings, np.random.default_rng(seed))[1] != ONE_LABEL).any(1).sum())
        for seed in range(40)
    }
    assert 0 in n_changed
    assert max(n_changed) >= 5
