from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from tellapart.errors import RunError
from tellapart.training.checkpoint import State, copy_of, load_checkpoint, save_checkpoint


def trained(kind: type[torch.optim.Optimizer]) -> tuple[nn.Module, State]:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 2))
    optimizer = kind([{"params": network[0].parameters()}, {"params": network[3].parameters(), "lr": 0.5}], lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        network(torch.randn(4, 3, 4, 4)).square().sum().backward()
        optimizer.step()
    state = State(1, 2, 3, 0.1 + 0.2, 4.0, 5, -0.7, 2, copy_of(network), optimizer.state_dict(), events=9)
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
