"""The state of a training, in memory and on disk: safetensors, with plain values as JSON beside the tensors."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from tellapart.errors import RunError
from tellapart.files import replacing


@dataclass
class State:
    """Where a training stands.

    With the recipe and the pictures, it determines everything that is still to come: data order, augmentation and
    dropout are functions of seed and position, and so have no state of their own.

    Attributes:
        stage: the stage that is under way, from 0; the number of stages when all are done.
        epoch: epochs done in it.
        step: steps done in the epoch under way.
        loss_sum, right, seen: running sums of the epoch under way.
        best_value: the best value so far of what the stage monitors; higher is better.
        best_epoch: the epoch (from 1) that had it.
        best: the network's tensors at that moment.
        optimizer: the optimizer's state, as its `state_dict` gives it; empty at a stage's beginning.
        average: the running mean of the weights, by the parameters' names; empty where there is none.
        n_averaged: steps that it has taken in.
        events: number of lines in the event log that belong to this state.
    """

    stage: int = 0
    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    right: float = 0.0
    seen: int = 0
    best_value: float | None = None
    best_epoch: int = 0
    best: dict[str, Tensor] = field(default_factory=dict)
    optimizer: dict[str, Any] = field(default_factory=dict)
    average: dict[str, Tensor] = field(default_factory=dict)
    n_averaged: int = 0
    events: int = 0

    def next_epoch(self) -> None:
        """An epoch is over."""
        self.epoch, self.step = self.epoch + 1, 0
        self.loss_sum, self.right, self.seen = 0.0, 0.0, 0

    def next_stage(self) -> None:
        """A stage is over: nothing of it but the network's weights goes on."""
        self.next_epoch()
        self.stage, self.epoch = self.stage + 1, 0
        self.best_value, self.best_epoch = None, 0
        self.best, self.optimizer = {}, {}
        self.average, self.n_averaged = {}, 0


def save_checkpoint(path: Path, network: nn.Module, state: State) -> None:
    """Write network and state into one file, whole or not at all."""
    tensors = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
    tensors |= {f"best.{name}": tensor for name, tensor in state.best.items()}
    tensors |= {f"average.{name}": tensor for name, tensor in state.average.items()}
    per_parameter = state.optimizer.get("state", {})
    scalars: dict[str, Any] = {}
    for index, values in per_parameter.items():
        for name, value in values.items():
            key = f"optimizer.{index}.{name}"
            if isinstance(value, Tensor):
                tensors[key] = value
            else:
                scalars[key] = value
    plain = {k: v for k, v in vars(state).items() if k not in ("best", "optimizer", "average")}
    about = {"state": plain, "scalars": scalars, "groups": state.optimizer.get("param_groups", [])}
    # Tensors that share memory cannot be stored twice; a copy on the CPU is contiguous and independent.
    ready = {k: v.detach().to("cpu", copy=True).contiguous() for k, v in tensors.items()}
    with replacing(path) as beside:
        save_file(ready, beside, metadata={"tellapart": json.dumps(about)})


def load_checkpoint(path: Path, network: nn.Module) -> State:
    """Put the network back to what was saved and give the state.

    Raises:
        RunError: the file is damaged or belongs to another network.
    """
    try:
        with safe_open(path, "pt") as file:
            about = json.loads(file.metadata()["tellapart"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  (not a dictionary)
        network.load_state_dict(_under("network.", tensors))
    except (OSError, KeyError, ValueError, TypeError, RuntimeError, SafetensorError) as error:
        raise RunError(
            f"The checkpoint {path} cannot be used: {error}", "Delete it to begin this training again from the start."
        ) from error
    state = State(**about["state"], best=_under("best.", tensors), average=_under("average.", tensors))
    per_parameter: dict[int, dict[str, Any]] = {}
    for key, value in [*_under("optimizer.", tensors).items(), *_under("optimizer.", about["scalars"]).items()]:
        index, _, name = key.partition(".")
        per_parameter.setdefault(int(index), {})[name] = value
    if about["groups"]:
        state.optimizer = {"state": per_parameter, "param_groups": about["groups"]}
    return state


def copy_of(network: nn.Module) -> dict[str, Tensor]:
    """The network's tensors, copied."""
    return {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}


def _under(prefix: str, values: dict[str, Any]) -> dict[str, Any]:
    return {key[len(prefix) :]: value for key, value in values.items() if key.startswith(prefix)}
