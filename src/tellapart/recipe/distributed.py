"""The recipe's section on several processes, and what it is where a recipe does not say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from tellapart.recipe.transforms import Section

if TYPE_CHECKING:
    from tellapart.recipe.schema import Recipe

#: Micro-batches of a batch, at least, where the recipe does not say: 8 pictures of 32 fit a processor's cache.
AT_LEAST = 4


class Distributed(Section):
    """`[distributed]`: how a step is divided over processes; the result is the same for any number of them."""

    micro_batches: int = Field(
        default=AT_LEAST,
        ge=1,
        le=65_536,
        description="pieces of each batch, whose gradients are added in their order; any number of workers that "
        "divides them gives the same weights, on a CPU in float32 to the bit",
    )
    reduce: Literal["ordered", "all_reduce"] = Field(
        default="ordered",
        description="sum of gradients: in the order of micro-batches, or in the order that is fastest, which gives the "
        "same but for rounding",
    )
    batch_norm: Literal["local", "kept", "synchronised"] = Field(
        default="local",
        description="statistics of batch norm in training: of a micro-batch, kept as they are, or of the whole step, "
        "which gives the same for another number of workers but for rounding",
    )
    threads: int = Field(default=1, ge=1, le=1024, description="of torch in each worker; results depend on them")


def for_workers(recipe: Recipe, n: int | None, begun: Recipe | None = None) -> Recipe:
    """The recipe as a training on so many workers takes it.

    Args:
        recipe: as the user gave it.
        n: number of workers; None where this process was started alone.
        begun: the recipe that the run was begun with: where the user's says nothing, its division stays.
    """
    distributed = recipe.distributed or (begun.distributed if begun else None)
    if distributed is None:
        if n is None or begun is not None:
            return recipe
        distributed = Distributed(micro_batches=n * -(-AT_LEAST // n))
    stages = recipe.stages
    if distributed.batch_norm == "kept":
        stages = [stage if stage.solver else stage.model_copy(update={"batch_norm": "keep"}) for stage in stages]
    return recipe.model_copy(update={"distributed": distributed, "stages": stages})
