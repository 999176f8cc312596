"""The state of a training, in memory and on disk: sealed safetensors, with plain values as JSON beside the tensors."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from tellapart.core.old_names import current_layers, current_state
from tellapart.errors import RunError
from tellapart.models.architecture import Architecture
from tellapart.models.create import rebuild
from tellapart.models.network import Network
from tellapart.training.checkpoint_file import read_sealed, write_sealed

#: The share of a training's time that saving it may take.
SHARE = 0.02
#: Seconds between two checkpoints within an epoch, at least: more would wear out disks for little.
WITHIN_EPOCH = 10.0
_BEGIN_AGAIN = "Delete the folder 'checkpoints' to begin this training again from the start."


@dataclass
class State:
    """Where a training stands.

    With the recipe and the pictures, it determines everything that is still to come: data order, augmentation and
    dropout are functions of seed and position, and so have no state of their own.

    Attributes:
        stage: the stage that is under way, from 0; the number of stages when all are done.
        epoch: epochs done in it.
        step: steps done in the epoch under way.
        loss_sum, right, n_pictures: running sums of the epoch under way, but for `pending_losses`.
        start_value: what the stage monitors, of the weights that it began from; higher is better. None in the first.
        best_value: the best value so far of the stage's own epochs.
        best_epoch: the epoch (from 1) that had it.
        best: the network's tensors at that moment, or as the stage began where no epoch was better.
        optimizer: the optimizer's state, as its `state_dict` gives it; empty at a stage's beginning.
        average: the running mean of the weights, by the parameters' names; empty where there is none.
        n_averaged: steps that it has taken in.
        events: number of lines in the event log that belong to this state.
        gap: validation loss less training loss after the last epoch; None at a stage's beginning.
        gap_grew: in how many epochs on end it has grown.
        found_lrs: learning rates found by a test, by the stage's number as text (JSON knows no other keys).
        extends: of a linear probe: at which end its list of strengths is extended, see `linear_probe.end_to_extend`.
        chosen: for each finished stage, when it was best: its epoch, its step where it is counted in steps, the number
            of the strength (see `linear_probe.strength`) where it solves a linear head; 0 where it made nothing better.
        retraining: whether this is the retraining on training and validation pictures.
        pending_losses: of the latest steps' parts, mean loss, number of pictures, number of right ones: scalars on
            the device, which have not been asked for yet. Empty whenever a state is saved.
    """

    stage: int = 0
    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    right: float = 0.0
    n_pictures: int = 0
    start_value: float | None = None
    best_value: float | None = None
    best_epoch: int = 0
    best: dict[str, Tensor] = field(default_factory=dict)
    optimizer: dict[str, Any] = field(default_factory=dict)
    average: dict[str, Tensor] = field(default_factory=dict)
    n_averaged: int = 0
    events: int = 0
    gap: float | None = None
    gap_grew: int = 0
    found_lrs: dict[str, float] = field(default_factory=dict)
    extends: int = 0
    chosen: list[int] = field(default_factory=list)
    retraining: bool = False
    pending_losses: list[tuple[Tensor, int, Tensor]] = field(default_factory=list)

    @property
    def improved(self) -> bool:
        """Whether an epoch of the stage was better than what it began from."""
        return self.best_value is not None and (self.start_value is None or self.best_value > self.start_value)

    def flush_losses(self, keep: int = 0) -> None:
        """Add the pending losses to the running sums, but for the latest `keep` parts.

        That waits for the device: what was asked of it a while ago is there already.
        """
        while len(self.pending_losses) > keep:
            loss, size, right = self.pending_losses.pop(0)
            self.loss_sum += loss.item() * size
            self.right += right.item()
            self.n_pictures += size

    def next_epoch(self) -> None:
        """An epoch is over."""
        self.epoch, self.step = self.epoch + 1, 0
        self.loss_sum, self.right, self.n_pictures = 0.0, 0.0, 0

    def next_stage(self, chosen: int) -> None:
        """A stage is over: nothing of it but the network's weights goes on, and when it was best (see `chosen`)."""
        self.next_epoch()
        if not self.retraining:
            self.chosen = [*self.chosen, chosen]
        self.stage, self.epoch = self.stage + 1, 0
        self.start_value, self.best_value, self.best_epoch = None, None, 0
        self.best, self.optimizer = {}, {}
        self.average, self.n_averaged = {}, 0
        self.gap, self.gap_grew = None, 0
        self.extends = 0

    def for_retraining(self) -> State:
        """Where the retraining begins, once all stages are over: what they chose is kept."""
        return State(events=self.events, found_lrs=self.found_lrs, chosen=self.chosen, retraining=True)


def save_checkpoint(path: Path, network: nn.Module, state: State, previous: Path | None = None) -> None:
    """Write network and state into one file, whole or not at all; an older one becomes `previous`, if that is given."""
    state.flush_losses()
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
    plain = {k: v for k, v in vars(state).items() if k not in ("best", "optimizer", "average", "pending_losses")}
    about = {"state": plain, "scalars": scalars, "groups": state.optimizer.get("param_groups", [])}
    write_sealed(path, tensors, about, previous)


def load_checkpoint(path: Path, network: nn.Module) -> State:
    """Put the network back to what was saved and give the state.

    Raises:
        RunError: the file is damaged or belongs to another network.
    """
    return _restore(path, network, *_read(path))


def load_network(path: Path, architecture: Architecture) -> Network:
    """The network that was saved, built anew.

    Args:
        path: the checkpoint.
        architecture: as `Architecture.from_dict` checked it.

    Raises:
        RunError: the file is damaged or belongs to another network.
        ModelError: the architecture has more weights than the file.
    """
    tensors, about = _read(path)
    network = rebuild(architecture, sum(tensor.numel() for tensor in _under("network.", tensors).values()))
    _restore(path, network, tensors, about)
    return network


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        return read_sealed(path)
    except (OSError, ValueError) as error:
        raise RunError(f"The checkpoint {path} cannot be used: {error}.", _BEGIN_AGAIN) from error


def _restore(path: Path, network: nn.Module, tensors: dict[str, Tensor], about: dict[str, Any]) -> State:
    """Put a network back to what was read, and give the state."""
    try:
        network.load_state_dict(_layers("network.", tensors))
        state = State(
            **current_state(about["state"]), best=_layers("best.", tensors), average=_layers("average.", tensors)
        )
        per_parameter: dict[int, dict[str, Any]] = {}
        for key, value in [*_under("optimizer.", tensors).items(), *_under("optimizer.", about["scalars"]).items()]:
            index, _, name = key.partition(".")
            per_parameter.setdefault(int(index), {})[name] = value
        if about["groups"]:
            state.optimizer = {"state": per_parameter, "param_groups": about["groups"]}
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise RunError(
            f"The checkpoint {path} cannot be used, although it is whole: {error}",
            "It belongs to another network or another version of Tellapart. Choose another --out.",
        ) from error
    return state


@dataclass
class Checkpoints:
    """Two generations of a training on disk; writing them takes less than 2 % of its time.

    Attributes:
        last, previous: their files. While one generation takes the other's place, there is for a moment no last.
        seconds: what the latest write took.
        written: when it ended, by `time.monotonic`.
        are_written: not where another process, which leads, writes the same state.
    """

    last: Path
    previous: Path
    seconds: float = 0.0
    written: float = field(default_factory=time.monotonic)
    are_written: bool = True

    def due(self, epoch_done: bool) -> bool:
        """Whether it is time to save: not before 50 times what the latest write took; first after the first epoch."""
        wait = self.seconds / SHARE
        return self.are_written and time.monotonic() - self.written >= (wait if epoch_done else max(wait, WITHIN_EPOCH))

    def save(self, network: nn.Module, state: State) -> None:
        """Write a new generation; what was the last becomes the previous.

        Not where a pending loss is no number: with the next step the training stops, and says so. Two
        generations of such weights would leave nothing to go on from.
        """
        start = time.monotonic()
        state.flush_losses()
        if not self.are_written or not math.isfinite(state.loss_sum):
            return
        save_checkpoint(self.last, network, state, self.previous)
        self.written = time.monotonic()
        self.seconds = self.written - start

    def load(self, network: nn.Module) -> tuple[State, str]:
        """Put the network back to the newest generation that is whole.

        Returns:
            The state, and a sentence if that generation is not the last one. A damaged file is moved aside.

        Raises:
            RunError: none is whole, or they belong to another network.
        """
        wrong: list[str] = []
        for path in (self.last, self.previous):
            try:
                tensors, about = read_sealed(path)
            except (OSError, ValueError) as error:
                missing = isinstance(error, FileNotFoundError)
                wrong.append(f"{path.name} {'is missing' if missing else f'is damaged: {error}'}")
                continue
            state = _restore(path, network, tensors, about)
            if not wrong:
                return state, ""
            if self.last.exists():
                # Not left where it is: it would become the previous generation in the place of the good one.
                self.last.replace(self.last.with_name(f"damaged{self.last.suffix}"))
            return state, (
                f"The checkpoint {wrong[0]}. Going on from the one before it: "
                f"stage {state.stage + 1}, epoch {state.epoch + 1}, step {state.step + 1}."
            )
        raise RunError(f"No checkpoint in {self.last.parent} can be used: {'; '.join(wrong)}.", _BEGIN_AGAIN)


def copy_of(network: nn.Module) -> dict[str, Tensor]:
    """The network's tensors, copied."""
    return {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}


def _under(prefix: str, values: dict[str, Any]) -> dict[str, Any]:
    return {key[len(prefix) :]: value for key, value in values.items() if key.startswith(prefix)}


def _layers(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return current_layers(_under(prefix, tensors))
