"""The architecture of a network as plain values, and the check of those that come from a file."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from tellapart.core.plain_json import first_fault
from tellapart.core.preprocess import Preprocessing
from tellapart.errors import ModelError
from tellapart.models.backbones import is_known
from tellapart.models.options import Side, check_options
from tellapart.recipe.networks import LAYOUTS
from tellapart.recipe.schema import Head
from tellapart.recipe.transforms import Section

Source = Literal["own", "timm", "torchvision", "ensemble"]

_AGAIN = "Train the network again, or take its files again from where they came from."


@dataclass(frozen=True)
class Architecture:
    """All that is needed to build a network again, without its weights. Plain values, for JSON.

    Attributes:
        source: who defines the backbone: Tellapart itself, timm or torchvision.
        name: the backbone's name there.
        options: arguments that differ from the definition's own, e.g. {"pad_type": "same"} or {"dropout": 0.2}.
        head: hidden layers, activation and dropout between features and logits.
        n_classes: number of logits.
        preprocessing: from a picture to the network's input.
        resize_inside: side in pixels that the network itself brings its input to; None: as it comes.
    """

    source: Source
    name: str
    head: Head
    n_classes: int
    preprocessing: Preprocessing
    options: dict[str, Any] = field(default_factory=dict)
    resize_inside: int | None = None

    @property
    def backbone_size(self) -> tuple[int, int]:
        """Height and width of the pictures that the backbone sees."""
        side = self.resize_inside
        return (side, side) if side else (self.preprocessing.height, self.preprocessing.width)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self) | {"head": self.head.model_dump()}

    @classmethod
    def from_dict(cls, values: Any) -> Architecture:
        """The inverse of `as_dict`, for values from any file: names, options and sizes are checked.

        One of our own networks that has layouts, and states none, is of version 0.1.

        Raises:
            ModelError: something is missing or out of range, or a name or an option is none of those known here.
        """
        try:
            stored = _Stored.model_validate(values)
            preprocessing = Preprocessing.from_dict(stored.preprocessing)
            of_blocks = (stored.source, stored.name) == ("own", "blocks")
            check_options("blocks" if of_blocks else stored.source, stored.options)
        except ValueError as error:
            fault = first_fault(error) if isinstance(error, ValidationError) else error
            raise ModelError(f"A network's description cannot be used: {fault}.", _AGAIN) from None
        if stored.source == "ensemble":
            members = stored.options["members"]
            if any(member.get("source") == "ensemble" for member in members):
                raise ModelError("A network's description has an ensemble within an ensemble.", _AGAIN)
            for member in members:
                cls.from_dict(member)
        elif not is_known(stored.source, stored.name):
            raise ModelError(f"A network's description asks for one that is not known: {stored.name!r}.", _AGAIN)
        has_layouts = stored.source == "own" and stored.name in LAYOUTS
        options = {"layout": 1} | stored.options if has_layouts else stored.options
        return cls(**(dict(stored) | {"preprocessing": preprocessing, "options": options}))


class _Stored(Section):
    """An architecture as a file has it; options, preprocessing and name are checked for themselves."""

    source: Source
    name: Annotated[str, Field(max_length=10_000)]  # an ensemble's holds those of its members
    head: Head
    n_classes: Annotated[int, Field(ge=0, le=1_000_000)]
    preprocessing: dict[str, Any]
    options: dict[str, Any] = Field(default_factory=dict)
    resize_inside: Side | None = None
