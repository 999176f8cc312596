from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from tellapart.errors import RunError
from tellapart.training import checkpoint
from tellapart.training.checkpoint import Checkpoints, State, copy_of, load_checkpoint, save_checkpoint
from tellapart.training.checkpoint_file import read_sealed, write_sealed


def trained(kind: type[torch.optim.Optimizer]) -> tuple[nn.Module, State]:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 2))
    optimizer = kind([{"params": network[0].parameters()}, {"params": network[3].parameters(), "lr": 0.5}], lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        network(torch.randn(4, 3, 4, 4)).square().sum().backward()
        optimizer.step()
    state = State(1, 2, 3, 0.1 + 0.2, 4.0, 5, -0.8, -0.7, 2, copy_of(network), optimizer.state_dict(), events=9)
    state.average, state.n_averaged = {"0.weight": torch.randn(4, 3, 3, 3)}, 7
    return network, state


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.SGD, torch.optim.NAdam, torch.optim.Adadelta])
def test_what_is_saved_is_what_is_loaded(tmp_path: Path, kind: type[torch.optim.Optimizer]) -> None:
    network, state = trained(kind)
    save_checkpoint(tmp_path / "a.safetensors", network, state)
    other = trained(kind)[0]
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    loaded = load_checkpoint(tmp_path / "a.safetensors", other)
    assert all(
        torch.equal(a, b) for a, b in zip(network.state_dict().values(), other.state_dict().values(), strict=True)
    )
    assert loaded.best.keys() == state.best.keys()
    assert all(torch.equal(loaded.best[k], state.best[k]) for k in state.best)
    assert (loaded.stage, loaded.epoch, loaded.step, loaded.events) == (1, 2, 3, 9)
    assert loaded.loss_sum == state.loss_sum
    assert loaded.n_averaged == 7
    assert torch.equal(loaded.average["0.weight"], state.average["0.weight"])
    fresh = kind([{"params": other[0].parameters()}, {"params": other[3].parameters(), "lr": 0.5}], lr=0.1)
    fresh.load_state_dict(loaded.optimizer)
    assert fresh.param_groups[1]["lr"] == 0.5
    for index, values in state.optimizer["state"].items():
        for name, value in values.items():
            assert torch.equal(torch.as_tensor(loaded.optimizer["state"][index][name]), torch.as_tensor(value))


@pytest.mark.parametrize("damage", [b"", b"rubbish", b"\xff" * 100])
def test_a_damaged_checkpoint_says_what_to_do(tmp_path: Path, damage: bytes) -> None:
    network, state = trained(torch.optim.Adam)
    path = tmp_path / "a.safetensors"
    save_checkpoint(path, network, state)
    path.write_bytes(damage)
    with pytest.raises(RunError, match="cannot be used") as raised:
        load_checkpoint(path, network)
    assert "begin this training again" in raised.value.hint


def test_a_checkpoint_of_another_network_is_refused(tmp_path: Path) -> None:
    network, state = trained(torch.optim.Adam)
    save_checkpoint(tmp_path / "a.safetensors", network, state)
    with pytest.raises(RunError, match="cannot be used"):
        load_checkpoint(tmp_path / "a.safetensors", nn.Linear(2, 2))


def checkpoints(folder: Path) -> Checkpoints:
    return Checkpoints(folder / "last.safetensors", folder / "previous.safetensors")


def tiny(value: float) -> nn.Module:
    network = nn.Linear(2, 1)
    nn.init.constant_(network.weight, value)
    return network


KINDS = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int8, torch.uint8, torch.bool]


def test_tensors_of_every_kind_and_shape_are_read_back_by_us_and_by_the_library(tmp_path: Path) -> None:
    tensors = {f"{kind}{shape}": torch.ones(shape, dtype=kind) for kind in KINDS for shape in [(), (0,), (3,), (2, 5)]}
    tensors["turned"] = torch.arange(6.0).reshape(2, 3).T
    tensors["tied"] = tensors["turned"]
    tensors["last"] = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)
    write_sealed(tmp_path / "a", tensors, {"name": "Bäume", "n": [1, 2.5, None]})
    ours, about = read_sealed(tmp_path / "a")
    assert about == {"name": "Bäume", "n": [1, 2.5, None]}
    for read in (ours, safetensors.torch.load_file(tmp_path / "a")):
        assert read.keys() == tensors.keys()
        assert all(torch.equal(read[key], tensors[key]) and read[key].dtype == tensors[key].dtype for key in tensors)


def test_two_generations_are_kept(tmp_path: Path) -> None:
    kept = checkpoints(tmp_path)
    for number in range(3):
        kept.save(tiny(number), State(epoch=number))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last.safetensors", "previous.safetensors"]
    network = tiny(9)
    state, note = kept.load(network)
    assert (state.epoch, note, network.weight[0, 0].item()) == (2, "", 2.0)
    kept.last.unlink()  # as a kill between the two renames leaves it
    state, note = kept.load(network)
    assert (state.epoch, network.weight[0, 0].item()) == (1, 1.0)
    assert "last.safetensors is missing" in note
    assert "epoch 2" in note


def test_every_byte_of_a_checkpoint_is_watched(tmp_path: Path) -> None:
    """Flipped one after the other, each in all its bits and in a random one: noticed, and made up for."""
    kept = checkpoints(tmp_path)
    kept.save(tiny(1), State(epoch=1))
    kept.save(tiny(2), State(epoch=2, optimizer={"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{}]}))
    whole, network = bytearray(kept.last.read_bytes()), tiny(9)
    bits = np.random.default_rng(0).integers(8, size=len(whole))
    for place in range(len(whole)):
        for flip in (0xFF, 1 << int(bits[place])):
            damaged = bytearray(whole)
            damaged[place] ^= flip
            kept.last.write_bytes(damaged)
            state, note = kept.load(network)
            assert (state.epoch, network.weight[0, 0].item()) == (1, 1.0), place
            assert "last.safetensors is damaged" in note
            assert not kept.last.exists()
            assert (tmp_path / "damaged.safetensors").read_bytes() == damaged
    kept.save(tiny(3), State(epoch=3))
    assert kept.previous.exists()
    assert kept.load(network)[0].epoch == 3


@pytest.mark.parametrize("rest", [0, 1, 8, 40, 120, -1])
def test_a_checkpoint_cut_short_is_noticed(tmp_path: Path, rest: int) -> None:
    kept = checkpoints(tmp_path)
    for number in range(2):
        kept.save(tiny(number), State(epoch=number))
    kept.last.write_bytes(kept.last.read_bytes()[:rest])
    assert kept.load(tiny(9))[0].epoch == 0


def test_where_no_generation_is_whole_it_says_what_to_do(tmp_path: Path) -> None:
    kept = checkpoints(tmp_path)
    for number in range(2):
        kept.save(tiny(number), State(epoch=number))
    for path in (kept.last, kept.previous):
        path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(RunError, match=r"last.safetensors is damaged.*; previous.safetensors is damaged") as raised:
        kept.load(tiny(9))
    assert "begin this training again" in raised.value.hint
    assert kept.last.exists()


def test_a_whole_checkpoint_that_does_not_fit_is_no_damage(tmp_path: Path) -> None:
    kept = checkpoints(tmp_path)
    for number in range(2):
        kept.save(tiny(number), State(epoch=number))
    with pytest.raises(RunError, match="although it is whole") as raised:
        kept.load(nn.Linear(3, 3))
    assert "another" in raised.value.hint
    assert kept.last.exists()


def test_saving_waits_fifty_times_what_it_takes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)

    def slowly(*_: object) -> None:
        nonlocal now
        now += 0.5

    monkeypatch.setattr(checkpoint, "save_checkpoint", slowly)
    kept = Checkpoints(tmp_path / "last", tmp_path / "previous", written=now)
    spent, begun = 0.0, now
    for step in range(1, 10_000):
        now += 0.1
        if kept.due(epoch_done=step % 10 == 0):
            kept.save(tiny(1), State())
            spent += 0.5
    assert spent / (now - begun) < 0.02
    assert spent > 15


def test_quick_saving_within_an_epoch_is_not_done_all_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: 100.0)
    kept = Checkpoints(Path("a"), Path("b"), seconds=0.001, written=99.0)
    assert kept.due(epoch_done=True)
    assert not kept.due(epoch_done=False)


def test_what_was_told_is_added_up_before_it_is_saved(tmp_path: Path) -> None:
    network, state = nn.Linear(2, 1), State(loss_sum=1.0, right=1.0, n_pictures=2)
    state.pending_losses = [(torch.tensor(0.5), 4, torch.tensor(3)), (torch.tensor(2.0), 2, torch.tensor(0))]
    state.flush_losses(keep=1)
    assert (state.loss_sum, state.right, state.n_pictures, len(state.pending_losses)) == (3.0, 4.0, 6, 1)
    save_checkpoint(tmp_path / "last", network, state)
    found = load_checkpoint(tmp_path / "last", network)
    assert (found.loss_sum, found.right, found.n_pictures, found.pending_losses) == (7.0, 4.0, 8, [])


def test_fields_under_their_names_of_version_0_1_are_read(tmp_path: Path) -> None:
    network = nn.Linear(2, 1)
    tensors = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
    fields = {"loss_sum": 1.5, "right": 1.0, "seen": 2, "found": {"0": 0.1}}
    write_sealed(tmp_path / "last", tensors, {"state": fields, "scalars": {}, "groups": []}, None)
    state = load_checkpoint(tmp_path / "last", network)
    assert (state.loss_sum, state.n_pictures, state.found_lrs) == (1.5, 2, {"0": 0.1})


def test_weights_that_gave_no_number_are_not_saved(tmp_path: Path) -> None:
    kept = checkpoints(tmp_path)
    kept.save(tiny(0), State(step=1))
    state = State(step=2)
    state.pending_losses = [(torch.tensor(torch.nan), 4, torch.tensor(3))]
    kept.save(tiny(1), state)
    assert kept.load(tiny(9))[0].step == 1
    assert not kept.previous.exists()
