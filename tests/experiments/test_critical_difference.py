"""Ranks over several picture sets, against SciPy and Demšar's own example."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from tellapart.errors import UsageError
from tellapart.experiments.across_studies import compare_studies, ranks_text
from tellapart.experiments.critical_difference import critical_difference
from tests.experiments.made_up import write_study

# Demšar 2006, table 2: AUC of C4.5 and three variants on 14 data sets (its mean ranks: 3.143, 2.000, 2.893, 1.964).
DEMSAR = np.array(
    [
        *([0.763, 0.768, 0.771, 0.798], [0.599, 0.591, 0.590, 0.569], [0.954, 0.971, 0.968, 0.967]),
        *([0.628, 0.661, 0.654, 0.657], [0.882, 0.888, 0.886, 0.898], [0.936, 0.931, 0.916, 0.931]),
        *([0.661, 0.668, 0.609, 0.685], [0.583, 0.583, 0.563, 0.625], [0.775, 0.838, 0.866, 0.875]),
        *([1.000, 1.000, 1.000, 1.000], [0.940, 0.962, 0.965, 0.962], [0.619, 0.666, 0.614, 0.669]),
        *([0.972, 0.981, 0.9751, 0.975], [0.957, 0.978, 0.946, 0.970]),
    ]
)
NAMES = ["C4.5", "C4.5+m", "C4.5+cf", "C4.5+m+cf"]


def test_demsars_example():
    ranks = critical_difference([str(i) for i in range(14)], NAMES, DEMSAR)
    assert dict(zip(ranks.names, ranks.ranks, strict=True)) == pytest.approx(
        {"C4.5": 3.143, "C4.5+m": 2.000, "C4.5+cf": 2.893, "C4.5+m+cf": 1.964}, abs=0.001
    )
    assert ranks.distance == pytest.approx(1.25, abs=0.005)  # q is 2.569, CD 1.25
    assert ranks.p == pytest.approx(stats.friedmanchisquare(*DEMSAR.T).pvalue)
    assert [len([r for r in ranks.ranks if low <= r <= high]) for low, high in ranks.groups] == [4]


def test_settings_far_apart_stand_in_different_groups():
    scores = np.arange(5)[None] / 10 + np.random.default_rng(0).normal(0, 1e-3, (12, 5))
    ranks = critical_difference(list("abcdefghijkl"), list("vwxyz"), scores)
    assert ranks.names == list("zyxwv")
    assert len(ranks.groups) > 1
    pairs = critical_difference(list("abcdefghijkl"), list("vwxyz"), scores, test="wilcoxon")
    assert pairs.groups == []
    assert pairs.distance is None
    assert critical_difference(list("abcdefghijkl"), list("vwxyz"), scores, lower_is_better=True).names == list("vwxyz")


def test_ties_share_a_rank_and_tell_nothing():
    ranks = critical_difference(["a", "b"], ["x", "y", "z"], np.full((2, 3), 0.5))
    assert ranks.ranks == [2, 2, 2]
    assert (ranks.p, ranks.groups) == (1.0, [(2, 2)])


def test_a_missing_score_is_named():
    with pytest.raises(UsageError, match="no score"):
        critical_difference(["a", "b"], ["x", "y"], np.array([[0.1, np.nan], [0.2, 0.3]]))


def test_studies_of_one_file_on_several_sets(tmp_path):
    cells = [({"lr": rate}, accuracy) for rate, accuracy in (("0.1", 0.6), ("0.01", 0.8), ("0.001", 0.7))]
    folders = [
        write_study(tmp_path / name, {"lr": ["0.1", "0.01", "0.001"]}, cells, 2, 120, random=i)
        for i, name in enumerate("abc")
    ]
    out = tmp_path / "ranks.html"
    ranks = compare_studies(folders, out)
    assert ranks.names == ["lr = 0.01", "lr = 0.001", "lr = 0.1"]
    assert 'id="ranks"' in out.read_text()
    assert "lr = 0.01" in ranks_text(ranks)
    with pytest.raises(UsageError, match="One study alone"):
        compare_studies(folders[:1])
    other = write_study(tmp_path / "d", {"size": ["1", "2"]}, [({"size": "1"}, 0.5), ({"size": "2"}, 0.6)], 2, 60)
    with pytest.raises(UsageError, match="0 settings in common"):
        compare_studies([folders[0], other])
