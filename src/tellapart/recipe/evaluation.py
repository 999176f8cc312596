"""The section of a recipe on evaluation: thresholds, the limit for unknown pictures, test-time augmentation."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from tellapart.core.predictions import Mean
from tellapart.recipe.transforms import Section


def _rule(written: Any) -> Any:
    """Check the rule for thresholds that a recipe has."""
    if isinstance(written, dict) and len(written) == 1:
        ((name, least),) = written.items()
        is_rule = name in ("precision", "recall") and _is_number(least) and 0 < least <= 1
    else:
        is_rule = written == "f1" or (_is_number(written) and 0 < written < 1)
    if not is_rule:
        raise PydanticCustomError(
            "rule",
            '"f1", a number between 0 and 1 such as 0.5, { precision = 0.9 } or { recall = 0.9 } is possible here, '
            "with a share above 0",
        )
    return written


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


class EvaluationConfig(Section):
    """`[evaluation]`: thresholds and the limit for unknown pictures, mostly from validation; test-time augmentation."""

    thresholds: Annotated[Literal["f1"] | float | dict[str, float], BeforeValidator(_rule)] = Field(
        default="f1",
        description="multilabel: the threshold of each label has the best F1, is this number such as 0.5, or has at "
        "least this precision or recall",
    )
    known: float = Field(
        default=0.99,
        ge=0.5,
        lt=1,
        description="share of the pictures of known classes that get an answer; the rest is called unknown",
    )
    tta: int = Field(
        default=0,
        ge=0,
        le=32,
        description="test-time augmentation: number of copies whose answers are averaged with the picture's own",
    )
    tta_mean: Mean = Field(default="logits", description="quantity that is averaged over a picture and its copies")
    explain: bool | None = Field(
        default=None,
        description="explanations of some answers in the report; by default a training has them, a fold has none",
    )

    @model_validator(mode="after")
    def _nothing_ignored(self) -> Self:
        if self.tta_mean != "logits" and not self.tta:
            raise PydanticCustomError("unused", "'tta_mean' belongs to test-time augmentation: set 'tta' above 0")
        return self
