"""What is seen before a training: layers counted as torch counts them, sheets of the very pictures it will show."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tellapart.core.preprocess import Preprocessing
from tellapart.data.scan import scan
from tellapart.models.create import create_network
from tellapart.recipe.load import load_recipe
from tellapart.training.dataset import Dataset
from tellapart.training.pixels import augmented, fixed_view, plain
from tellapart.workflows import preview_images
from tellapart.workflows.preview_images import network_table, write_sheets


def test_layers_shapes_and_parameters_are_torchs_own():
    plan = load_recipe("scratch", ["data.size=32"])
    network = create_network(plan.model, 7, plan.data)
    network.train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    random = torch.get_rng_state()
    table = network_table(network, 16)
    assert torch.equal(torch.get_rng_state(), random)
    assert network.training
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    n = sum(p.numel() for p in network.parameters())
    assert table["parameters"] == table["layers"][0]["parameters"] == n
    assert table["layers"][0]["output"] == [7]
    assert table["bytes"]["weights"] == pytest.approx(4 * n, rel=0.02)
    assert table["bytes"]["activations"] == 16 * network_table(network, 1)["bytes"]["activations"]


def dataset(folder: Path, recipe) -> Dataset:
    catalog = scan(folder)
    preprocessing = Preprocessing(48, 64)
    return Dataset(catalog, catalog.readable[::3], catalog.readable[1::3], preprocessing, recipe.augment, recipe.seed)


def cell(path: Path, line: int, column: int) -> np.ndarray:
    with Image.open(path) as sheet:
        pixels = np.asarray(sheet.convert("RGB"))  # its paper has an alpha, by which a dark page recolours it
    left, top = 6 + column * (64 + 6), 6 + line * (48 + 18 + 6)
    return pixels[top : top + 48, left : left + 64]


def test_sheets_show_what_the_training_will_see(picture_folder, tmp_path):
    changes = ["mix.mixup=0.2", "mix.cutmix=0.2"]
    views = 'stages=[{}, {views=[[], [{transform="vertical_flip"}]]}]'
    plan = load_recipe("scratch", [*changes, views])
    seen = dataset(picture_folder(width=90, height=70), plan)
    write_sheets(seen, plan, tmp_path)
    first, last = int(seen.train[0]), int(seen.train[-1])
    assert np.array_equal(cell(tmp_path / "augmentation.png", 0, 0), plain(seen)(first))
    assert np.array_equal(cell(tmp_path / "augmentation.png", 3, 2), augmented(seen, 1)(last))
    assert np.array_equal(cell(tmp_path / "views.png", 3, 2), fixed_view(seen, plan.stages[1].views, 1)(last))
    unmixed, mixed = (cell(tmp_path / "mixing.png", line, 0).astype(int) for line in (0, 2))
    assert np.array_equal(unmixed, plain(seen)(first))
    replaced = (unmixed != mixed).any(axis=2).mean()
    assert 0.1 < replaced < 0.9


@pytest.mark.parametrize("per", ["picture", "batch"])
def test_mixing_is_shown_as_it_is_drawn(per, picture_folder, tmp_path, monkeypatch):
    plan = load_recipe("scratch", ["mix.cutmix=0.2", f"mix.per={per}", "augment=[]"])
    sheets = []
    monkeypatch.setattr(preview_images, "grid", lambda lines: sheets.append(lines) or Image.new("RGB", (1, 1)))
    write_sheets(dataset(picture_folder(), plan), plan, tmp_path)
    shares = {text for _, text in sheets[0][1]} - {"CutMix: 100 %"}  # of a batch, one may be its own partner
    assert (len(shares) == 1) == (per == "batch")


def test_sheets_of_versions_made_ahead_show_those_of_their_own_picture(picture_folder, tmp_path):
    views = 'stages=[{}, {views=[[], [{transform="vertical_flip"}]]}]'
    plan = load_recipe("scratch", ["data.ahead=eightfold", views])
    seen = replace(dataset(picture_folder(), plan), ahead=plan.data.ahead)
    write_sheets(seen, plan, tmp_path)
    last = int(seen.train[-1])
    picture = plain(seen)(last)
    assert np.array_equal(cell(tmp_path / "ahead.png", 3, 1), picture)
    assert np.array_equal(cell(tmp_path / "ahead.png", 3, 8), fixed_view(seen)(8 * last + 7))
    assert np.array_equal(cell(tmp_path / "augmentation.png", 3, 2), augmented(seen, 1)(8 * last))
    assert np.array_equal(cell(tmp_path / "views.png", 3, 2), picture[::-1])


def test_no_sheet_where_every_picture_is_shown_as_it_is(picture_folder, tmp_path):
    plan = load_recipe("scratch", ["augment=[]"])
    (tmp_path / "augmentation.png").write_bytes(b"of an earlier plan")
    write_sheets(dataset(picture_folder(), plan), plan, tmp_path)
    assert list(tmp_path.glob("*.png")) == []
    with_views = load_recipe("scratch", ["augment=[]", 'stages.0.views=[[], [{transform="horizontal_flip"}]]'])
    write_sheets(dataset(tmp_path / "photos", with_views), with_views, tmp_path)
    assert [path.name for path in tmp_path.glob("*.png")] == ["views.png"]
