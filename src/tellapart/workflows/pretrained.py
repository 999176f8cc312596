"""Pretrained networks as they are published, for what needs their features alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tellapart.models.create import create_network
from tellapart.models.pretrained import announcements
from tellapart.recipe.schema import Data, Model

if TYPE_CHECKING:
    from tellapart.models.network import Network
    from tellapart.workflows.progress import ProgressSink


def pretrained_network(name: str | None, n_classes: int, progress: ProgressSink) -> Network:
    """A pretrained network; what has to be fetched for it is said before.

    Args:
        name: for `--model`; None: that of the recipe `transfer`.
        n_classes: of the head, which is new; 0 counts as 1.
        progress: where it is said.

    Raises:
        ModelError, WeightsError: see `create_network`.
    """
    model = Model(name=name) if name else Model()
    for line in announcements(model):
        progress.say(line)
    return create_network(model, max(1, n_classes), Data())
