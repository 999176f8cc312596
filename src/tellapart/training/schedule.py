"""Learning rates: a factor for each step, and a peak rate for each group of layers.

No torch. Nothing has a memory, so that a training which resumes needs only the number of the step.

With t the step, T all steps, e the final factor and fall(s) = e + (1 - e) · ½ (1 + cos(π s)), which falls from
1 at s = 0 to e at s = 1:

* constant: 1
* step: step_factor ^ ⌊epoch of t / step_epochs⌋
* cosine: fall(t / T). The final factor belongs to step T, the first that is not done: no step has factor 0.
* one_cycle: up from 1/25 along half a cosine, down to `final` at the last step along another (Smith and Topin
  2018, arXiv 1708.07120; as torch's OneCycleLR). The rise takes the share `warmup` of the steps, or 0.3 if
  that is 0.
* sgdr: cosine with warm restarts (Loshchilov and Hutter 2017, arXiv 1608.03983): fall(t_c / T_c) within cycle c,
  which has cycle_length · cycle_multiplier^c epochs. Three whole cycles of length 1 and multiplier 2
  take 1 + 2 + 4 = 7 epochs.

Warm-up, W = round(warmup · T) steps, is linear: (t + 1) / (W + 1). A cosine fills the steps after it; step and
sgdr keep to their epochs, and are multiplied by it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tellapart.core.suggest import suggest
from tellapart.errors import RecipeError

Schedule = Callable[[int], float]
LearningRate = float | Sequence[float] | str | Mapping[str, float]

KINDS = ("constant", "step", "cosine", "one_cycle", "sgdr")


def schedule(
    kind: str,
    total_steps: int,
    steps_per_epoch: int,
    *,
    warmup: float = 0.0,
    final: float | None = None,
    step_epochs: int = 1,
    step_factor: float = 0.1,
    cycle_length: int = 1,
    cycle_multiplier: int = 1,
) -> Schedule:
    """A function from the step (0 … total_steps - 1) to a factor in [0, 1] of the peak learning rate.

    The shapes are in the module's docstring.

    Args:
        kind: one of `KINDS`.
        total_steps: steps of the stage, at least 1.
        steps_per_epoch: at least 1.
        warmup: share of the steps in which the factor rises, in [0, 1).
        final: factor in [0, 1] at which a fall ends; by default 0, for one_cycle 1e-4. Not for constant and step.
        step_epochs: epochs between two steps down.
        step_factor: in (0, 1].
        cycle_length: epochs of the first cycle.
        cycle_multiplier: how many times as long each cycle is as the one before.

    Raises:
        RecipeError: an unknown kind, or a value out of range.
    """
    if total_steps < 1 or steps_per_epoch < 1:
        raise ValueError(f"a schedule of {total_steps} steps, {steps_per_epoch} an epoch")
    _check(kind, warmup, final, step_epochs, step_factor, cycle_length, cycle_multiplier)
    low = final if final is not None else 1e-4 if kind == "one_cycle" else 0.0
    warm_steps = 0 if kind == "one_cycle" else min(round(warmup * total_steps), total_steps - 1)

    shapes: dict[str, Schedule] = {
        "constant": lambda step: 1.0,
        "step": lambda step: float(step_factor ** (step // steps_per_epoch // step_epochs)),
        "cosine": lambda step: _fall(max(0, step - warm_steps) / (total_steps - warm_steps), low),
        "one_cycle": lambda step: _one_cycle(step, total_steps, warmup or 0.3, low),
        "sgdr": lambda step: _warm_restarts(step, cycle_length * steps_per_epoch, cycle_multiplier, low),
    }
    shape = shapes[kind]

    def factor(step: int) -> float:
        if not 0 <= step < total_steps:
            raise ValueError(f"step {step} of a schedule of {total_steps} steps")
        return min(1.0, (step + 1) / (warm_steps + 1)) * shape(step)

    return factor


def group_lrs(lr: LearningRate, n_groups: int) -> list[float]:
    """Peak learning rate of each group of layers, from the first layers to the head.

    Args:
        lr: one of

            * a number: the same for all.
            * a list. The last value is the head's, the values before it are spread evenly over the groups before it:
              `[1e-4, 1e-3, 1e-2]` is first half, second half, head.
            * a range "1e-4..1e-2": geometric, the first group has the first value and the head the last.
            * `{head = 1e-3, decay = 0.75}`: layer-wise decay, each group has `decay` times that of the group after
              it (Clark et al. 2020, arXiv 2003.10555).
        n_groups: at least 1. Count frozen groups too, so that a group's value does not depend on frozen layers.

    Raises:
        RecipeError: a text, list or table that cannot be read so, or a value that is not above 0.
    """
    if isinstance(lr, str):
        first, last = _range(lr)
        ends = max(n_groups - 1, 1)
        return [first * (last / first) ** (group / ends) for group in range(n_groups - 1)] + [last]
    if isinstance(lr, Mapping):
        if set(lr) != {"head", "decay"}:
            raise RecipeError(f"lr: {dict(lr)} is not understood.", "Write lr = { head = 1e-3, decay = 0.75 }.")
        top, decay = _positive(lr["head"]), _positive(lr["decay"])
        if decay > 1:
            raise RecipeError(
                f"lr: a decay of {decay} is above 1.", "Earlier layers take smaller learning rates: try 0.75."
            )
        return [top * decay ** (n_groups - 1 - group) for group in range(n_groups)]
    if isinstance(lr, Sequence):
        values = [_positive(value) for value in lr]
        if not 1 <= len(values) <= n_groups:
            raise RecipeError(
                f"lr: {len(values)} values for {n_groups} groups of layers.", "Give at least one and at most as many."
            )
        *before, head = values
        backbone = n_groups - 1 if before else n_groups
        return [(before or values)[group * max(len(before), 1) // backbone] for group in range(n_groups - 1)] + [head]
    return [_positive(lr)] * n_groups


def _fall(share: float, low: float) -> float:
    return low + (1 - low) * (1 + math.cos(math.pi * share)) / 2


def _one_cycle(step: int, total_steps: int, rise: float, low: float) -> float:
    # Where the peak lies, between two steps maybe, is OneCycleLR's.
    peak = max(0.0, rise * total_steps - 1)
    if step < peak:
        return _fall(1 - step / peak, 1 / 25)
    return _fall((step - peak) / max(total_steps - 1 - peak, 1e-9), low)


def _warm_restarts(step: int, length: int, multiplier: int, low: float) -> float:
    if multiplier == 1:
        return _fall(step % length / length, low)
    while step >= length:
        step, length = step - length, length * multiplier
    return _fall(step / length, low)


def _range(text: str) -> tuple[float, float]:
    first, dots, last = text.partition("..")
    try:
        if dots:
            return _positive(float(first)), _positive(float(last))
    except ValueError:
        pass
    raise RecipeError(f"lr: '{text}' is not a range.", 'Write a number, or a range such as "1e-4..1e-2".')


def _positive(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise RecipeError(f"lr: {value!r} is not a number above 0.")
    return float(value)


def _check(
    kind: str,
    warmup: float,
    final: float | None,
    step_epochs: int,
    step_factor: float,
    cycle_length: int,
    cycle_multiplier: int,
) -> None:
    if kind not in KINDS:
        raise RecipeError(f"There is no schedule '{kind}'.", suggest(kind, KINDS))
    if final is not None and kind in ("constant", "step"):
        raise RecipeError(f"schedule: '{kind}' does not fall to a final factor.", "Leave 'final' out.")
    ranges = [
        ("warmup", warmup, 0 <= warmup < 1, "at least 0 and below 1"),
        ("final", final, final is None or 0 <= final <= 1, "between 0 and 1"),
        ("step_factor", step_factor, 0 < step_factor <= 1, "above 0 and at most 1"),
        ("step_epochs", step_epochs, step_epochs >= 1, "at least 1"),
        ("cycle_length", cycle_length, cycle_length >= 1, "at least 1"),
        ("cycle_multiplier", cycle_multiplier, cycle_multiplier >= 1, "at least 1"),
    ]
    for name, value, right, wanted in ranges:
        if not right:
            raise RecipeError(f"schedule: '{name}' is {value}; it must be {wanted}.")
