"""The part of a recipe that says how answers are judged and given."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from tellapart.core.predictions import Mean
from tellapart.recipe.transforms import Section


def _rule(written: Any) -> Any:
    """Check a rule for thresholds as it is written in a recipe."""
    if isinstance(written, dict):
        fine = len(written) == 1 and all(
            name in ("precision", "recall") and 0 < least <= 1 for name, least in written.items()
        )
        if not fine:
            raise PydanticCustomError(
                "rule", '"f1", { precision = 0.9 } or { recall = 0.9 } is possible here, with a share above 0'
            )
    return written


class EvaluationConfig(Section):
    """`[evaluation]`: how thresholds are chosen, when a picture is unlike all that is known, and averaging over copies.

    Everything is fitted on the validation pictures.
    """

    thresholds: Annotated[Literal["f1"] | dict[str, float], AfterValidator(_rule)] = Field(
        default="f1",
        description="several labels: each label's threshold has the best F1, or at least this precision or recall",
    )
    known: float = Field(
        default=0.99,
        ge=0.5,
        lt=1,
        description="share of pictures of the known classes that is to be answered, rather than called unknown",
    )
    tta: int = Field(
        default=0,
        ge=0,
        le=32,
        description="test-time augmentation: changed copies of each picture whose answers are averaged with its own",
    )
    tta_mean: Mean = Field(default="logits", description="what is averaged over a picture and its changed copies")

    @model_validator(mode="after")
    def _nothing_ignored(self) -> Self:
        if self.tta_mean != "logits" and not self.tta:
            raise PydanticCustomError("unused", "'tta_mean' belongs to changed copies: 'tta' says how many")
        return self
