"""The section of a recipe on distillation: how much a student learns from a teacher's answers."""

from __future__ import annotations

from pydantic import Field

from tellapart.recipe.transforms import Section


class Distill(Section):
    """`[distill]`: a teacher's answers are learnt beside the labels; `tellapart distill` writes it."""

    temperature: float = Field(
        default=2.0, gt=0, le=100, description="divisor of both networks' logits: higher shows more of unlikely classes"
    )
    share: float = Field(default=0.7, ge=0, le=1, description="of the loss that the answers have, the labels the rest")
