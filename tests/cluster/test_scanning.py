"""`scan --cluster` and `audit --cluster` see what one process sees."""

from __future__ import annotations

import dataclasses
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tellapart.cluster import parts, scanning
from tellapart.cluster.connect import Cluster
from tellapart.cluster.scanning import looking_on
from tellapart.data.scan import scan
from tellapart.data.statistics import Measures
from tellapart.workflows.progress import progress_sink


@pytest.fixture
def folder(picture_folder) -> Path:
    root: Path = picture_folder(n=30)
    (root / "circle" / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n nothing")
    (root / "square" / "copy.png").write_bytes((root / "circle" / "001.png").read_bytes())
    return root


def same(one: Measures, other: Measures) -> None:
    mine, theirs = one.finish(), other.finish()
    for field in dataclasses.fields(mine):
        np.testing.assert_array_equal(getattr(mine, field.name), getattr(theirs, field.name))


def test_facts_and_measures_of_parts_are_those_of_the_whole(folder, monkeypatch, tmp_path):
    """What a worker sends, and what is made of it, without a worker."""
    monkeypatch.setattr(parts, "_SMALLEST", 32)

    def here(_cluster, make, settings, lists, n_parts, _pace):
        work = make(**settings)
        return (work(pl.read_parquet(lists / f"{number:06}.parquet")) for number in range(n_parts))

    monkeypatch.setattr(scanning, "over_parts", here)
    mine, theirs = Measures(), Measures()
    expected = scan(folder, measures=mine)
    monkeypatch.setattr(scanning, "connected", lambda address: nullcontext(Cluster(address, 1, 1, 0)))
    with looking_on("auto", progress_sink(False), tmp_path / "lists") as looking:
        scanned = scan(folder, measures=theirs, looking=looking)
    assert scanned.table.equals(expected.table)
    assert scanned.layout == expected.layout
    same(mine, theirs)
    assert list((tmp_path / "lists").iterdir()) == []


@pytest.mark.slow
def test_a_scan_is_that_of_one_process(here, folder, small_ray):
    alone = here("scan", folder, "--json")
    assert alone.returncode == 0
    assert here("scan", folder, "--json", "--cluster", "auto").stdout == alone.stdout


@pytest.mark.slow
def test_an_audit_is_that_of_one_process(here, folder, small_ray, tmp_path):
    outputs = []
    for name, more in (("alone", []), ("cluster", ["--cluster", "auto"])):
        done = here("audit", folder, "--out", tmp_path / name, "--quiet", *more)
        assert done.returncode == 0, done.stderr
        findings = {path.name: path.read_bytes() for path in (tmp_path / name).glob("*.csv")}
        assert findings
        outputs.append((done.stdout.replace(str(tmp_path / name), ""), findings))
    assert outputs[0] == outputs[1]
    assert "contradiction" in outputs[0][0]  # the same picture in two classes
