"""The sections of a recipe on training pictures: one for each transform, mixup and CutMix, and class balance.

They state keys, units, limits and defaults alone. `data/augmentation/transforms.py` draws the strengths and applies the
transforms; `data/augmentation/pixel_ops.py` computes the pixels.

A **strength** is drawn anew for every picture:

    degrees = 10                          always this value, with its sign
    degrees = { uniform = [-10, 10] }     uniform distribution
    degrees = { normal = [0, 5] }         normal distribution: mean, standard deviation; clipped to the key's limits
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError


class Section(BaseModel):
    """Base of all parts of a recipe: immutable, no unknown keys, no silent conversion, no number without end."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Uniform(Section):
    """A uniform distribution: low and high."""

    uniform: list[float]


class Normal(Section):
    """A normal distribution: mean and standard deviation."""

    normal: list[float]


Strength = float | Uniform | Normal


@dataclass(frozen=True)
class Limits:
    """The smallest and the largest value of a strength. A call checks the strength that a recipe has."""

    low: float
    high: float

    def __call__(self, written: Any) -> Any:
        """Return the strength unchanged.

        Raises:
            PydanticCustomError: another form, a number outside the limits, or two in the wrong order.
        """
        form, numbers = _form_of(written)
        if form == "normal" and not 0 <= numbers[1] < float("inf"):
            raise PydanticCustomError("strength", "a standard deviation is finite and not below 0")
        if not all(self.low <= number <= self.high for number in numbers[: 1 if form == "normal" else 2]):
            raise PydanticCustomError("strength", f"values from {self.low:g} to {self.high:g} are possible here")
        if form == "uniform" and numbers[0] > numbers[1]:
            raise PydanticCustomError("strength", "the lower value comes first")
        return written


def _form_of(written: Any) -> tuple[str, list[float]]:
    """The form of a strength, "fixed", "uniform" or "normal", and its numbers."""
    values = written.model_dump() if isinstance(written, Section) else written
    match values:
        case {"uniform": [_, _] as numbers, **more} if not more:
            form = "uniform"
        case {"normal": [_, _] as numbers, **more} if not more:
            form = "normal"
        case _:
            form, numbers = "fixed", [values]
    if not all(isinstance(number, int | float) and not isinstance(number, bool) for number in numbers):
        raise PydanticCustomError(
            "strength",
            "a strength is a number, { uniform = [low, high] } or { normal = [mean, standard deviation] }",
        )
    return form, numbers


_MAX_RATIO = 1_000


def _is_range(value: list[float]) -> list[float]:
    if len(value) != 2 or not 0 < value[0] <= value[1] <= _MAX_RATIO:
        raise PydanticCustomError("range", f"two numbers above 0 and up to {_MAX_RATIO} are needed, the lower first")
    return value


Degrees = Annotated[Strength, BeforeValidator(Limits(-360, 360))]
ShearDegrees = Annotated[Strength, BeforeValidator(Limits(-60, 60))]
SignedShare = Annotated[Strength, BeforeValidator(Limits(-1, 1))]
ScaleFactor = Annotated[Strength, BeforeValidator(Limits(0.2, 5))]
ZoomFactor = Annotated[Strength, BeforeValidator(Limits(1, 10))]
ColourFactor = Annotated[Strength, BeforeValidator(Limits(0, 10))]
Sigma = Annotated[Strength, BeforeValidator(Limits(0, 50))]
GreyLevels = Annotated[Strength, BeforeValidator(Limits(0, 255))]
Share = Annotated[Strength, BeforeValidator(Limits(0, 1))]
WindowShare = Annotated[Strength, BeforeValidator(Limits(0.001, 1))]
Quality = Annotated[Strength, BeforeValidator(Limits(1, 100))]
Probability = Annotated[float, Field(ge=0, le=1)]


class Transform(Section):
    """Base of all transforms. `probability` is the share of pictures that it changes."""

    transform: str
    probability: Probability = 1.0


class HorizontalFlip(Transform):
    """A flip of left and right."""

    transform: Literal["horizontal_flip"] = "horizontal_flip"


class VerticalFlip(Transform):
    """A flip of top and bottom."""

    transform: Literal["vertical_flip"] = "vertical_flip"


class QuarterTurns(Transform):
    """A rotation by one of `turns` degrees, counter-clockwise."""

    transform: Literal["quarter_turns"] = "quarter_turns"
    turns: list[Literal[90, 180, 270]] = Field(default=[90, 180, 270], min_length=1)


class Rotation(Transform):
    """A rotation about the centre by `degrees`, counter-clockwise; -15 to 15 by default."""

    transform: Literal["rotation"] = "rotation"
    degrees: Degrees = Uniform(uniform=[-15, 15])


class Shift(Transform):
    """A shift by shares of the width (`x`, to the right) and the height (`y`, downwards), in whole pixels.

    -0.1 to 0.1 by default.
    """

    transform: Literal["shift"] = "shift"
    x: SignedShare = Uniform(uniform=[-0.1, 0.1])
    y: SignedShare = Uniform(uniform=[-0.1, 0.1])


class Scale(Transform):
    """Scaling about the centre by `factor`, in the same frame; 0.9 to 1.1 by default."""

    transform: Literal["scale"] = "scale"
    factor: ScaleFactor = Uniform(uniform=[0.9, 1.1])


class Shear(Transform):
    """A shear by `x` degrees (the upper edge moves right) and `y` (the right edge moves up); -10 to 10 and 0."""

    transform: Literal["shear"] = "shear"
    x: ShearDegrees = Uniform(uniform=[-10, 10])
    y: ShearDegrees = 0.0


class Zoom(Transform):
    """A window at a random position, its sides 1 / `factor` of the picture's, fills the frame; 1 to 1.1 by default."""

    transform: Literal["zoom"] = "zoom"
    factor: ZoomFactor = Uniform(uniform=[1.0, 1.1])


class RandomResizedCrop(Transform):
    """A window of a random share of the area (`scale`) and width / height (`ratio`) fills the frame (Szegedy 2015).

    0.08 to 1 of the area by default. The logarithm of the ratio is uniform between those of two numbers. The crop comes
    first, from the decoded picture, whatever its position in the list.
    """

    transform: Literal["random_resized_crop"] = "random_resized_crop"
    scale: WindowShare = Uniform(uniform=[0.08, 1.0])
    ratio: Annotated[list[float], AfterValidator(_is_range)] = [3 / 4, 4 / 3]


class Brightness(Transform):
    """Pixels times `factor`: 0 is black, 1 changes nothing; 0.8 to 1.2 by default."""

    transform: Literal["brightness"] = "brightness"
    factor: ColourFactor = Uniform(uniform=[0.8, 1.2])


class Contrast(Transform):
    """Distance from the picture's mean grey times `factor`: 0 is plain grey, 1 changes nothing; 0.8 to 1.2."""

    transform: Literal["contrast"] = "contrast"
    factor: ColourFactor = Uniform(uniform=[0.8, 1.2])


class Saturation(Transform):
    """Distance of each pixel from its own grey times `factor`: 0 is black and white, 1 changes nothing; 0.8 to 1.2."""

    transform: Literal["saturation"] = "saturation"
    factor: ColourFactor = Uniform(uniform=[0.8, 1.2])


class Greyscale(Transform):
    """Grey, in three equal channels."""

    transform: Literal["greyscale"] = "greyscale"


class Negative(Transform):
    """Every pixel becomes 255 - pixel, as on photographic film."""

    transform: Literal["negative"] = "negative"


class Blur(Transform):
    """Gaussian blur, `sigma` in pixels of the network's input; 0.1 to 2 by default."""

    transform: Literal["blur"] = "blur"
    sigma: Sigma = Uniform(uniform=[0.1, 2.0])


class Noise(Transform):
    """Gaussian noise, for each pixel and channel by itself; `std` in grey levels of 0..255; 0 to 12 by default."""

    transform: Literal["noise"] = "noise"
    std: GreyLevels = Uniform(uniform=[0.0, 12.0])


class Erasing(Transform):
    """A rectangle of this share of the `area` becomes the mean colour (Zhong 2017); 0.02 to 0.33.

    Height / width lies between 0.3 and 3.3. The network's normalisation makes the mean colour zero.
    """

    transform: Literal["erasing"] = "erasing"
    area: Share = Uniform(uniform=[0.02, 0.33])


class Jpeg(Transform):
    """Compression as a JPEG of this `quality` (1 worst, 100 best; 4:2:0 colour); 30 to 95 by default."""

    transform: Literal["jpeg"] = "jpeg"
    quality: Quality = Uniform(uniform=[30, 95])


class RandAugment(Transform):
    """`n` random operations out of fourteen, each of strength `magnitude` of 30 (Cubuk 2019)."""

    transform: Literal["rand_augment"] = "rand_augment"
    n: int = Field(default=2, ge=1, le=14)
    magnitude: int = Field(default=9, ge=0, le=30)


class TrivialAugment(Transform):
    """One random operation out of fourteen, of a random strength (TrivialAugment Wide, Müller 2021)."""

    transform: Literal["trivial_augment"] = "trivial_augment"


AnyTransform = Annotated[
    HorizontalFlip
    | VerticalFlip
    | QuarterTurns
    | Rotation
    | Shift
    | Scale
    | Shear
    | Zoom
    | RandomResizedCrop
    | Brightness
    | Contrast
    | Saturation
    | Greyscale
    | Negative
    | Blur
    | Noise
    | Erasing
    | Jpeg
    | RandAugment
    | TrivialAugment,
    Field(discriminator="transform"),
]


@cache
def strengths(transform: type[Transform]) -> dict[str, Limits]:
    """The keys of a transform that are strengths, with their limits."""
    return {
        name: check.func
        for name, field in transform.model_fields.items()
        for check in field.metadata
        if isinstance(check, BeforeValidator) and isinstance(check.func, Limits)
    }


_FLIPS: tuple[tuple[Transform, ...], ...] = (
    (),
    (HorizontalFlip(),),
    (VerticalFlip(),),
    (HorizontalFlip(), VerticalFlip()),
)
_MOVED = (Scale(factor=Uniform(uniform=[0.8, 1.0])), Rotation(degrees=Uniform(uniform=[-15, 15])))
#: A picture, its horizontal, vertical and double flip, and these four once more scaled and rotated.
EIGHTFOLD: tuple[tuple[Transform, ...], ...] = (*_FLIPS, *((*flip, *_MOVED) for flip in _FLIPS))


def named_views(written: Any) -> Any:
    """The views that a recipe has: "eightfold" stands for `EIGHTFOLD`.

    Raises:
        PydanticCustomError: another name.
    """
    if written == "eightfold":
        return [list(view) for view in EIGHTFOLD]
    if isinstance(written, str):
        raise PydanticCustomError("views", 'expected "eightfold", or a list of views such as [[], [{ transform = … }]]')
    return written


class Mix(Section):
    """Mixing of two pictures and their labels: one choice for each picture or batch, mixup, CutMix or neither."""

    per: Literal["picture", "batch"] = Field(
        default="picture",
        description="one draw for each picture, or for a whole batch, as in the papers: of few batches, a small share "
        "may mix none",
    )
    mixup: Probability = Field(default=0.0, description="share of pictures that are blended (Zhang 2017)")
    mixup_alpha: float = Field(default=0.2, gt=0, le=1e6, description="weights are drawn from Beta(alpha, alpha)")
    cutmix: Probability = Field(default=0.0, description="share of pictures that get a rectangle of another (Yun 2019)")
    cutmix_alpha: float = Field(default=1.0, gt=0, le=1e6, description="areas are drawn from Beta(alpha, alpha)")

    @model_validator(mode="after")
    def _at_most_all(self) -> Self:
        if self.mixup + self.cutmix > 1:
            raise PydanticCustomError("mix", "mixup and cutmix together must not be above 1")
        if self.per != "picture" and not self.mixup + self.cutmix:
            raise PydanticCustomError("unused", "'per' does nothing without 'mixup' or 'cutmix', the share of pictures")
        for name in ("mixup", "cutmix"):
            alpha = f"{name}_alpha"
            if not getattr(self, name) and getattr(self, alpha) != Mix.model_fields[alpha].default:
                raise PydanticCustomError("unused", f"'{alpha}' does nothing without '{name}', the share of pictures")
        return self


class Balance(Section):
    """Class balance: see `data/loading/sampling.py`."""

    sampler: Literal["none", "weighted", "rarest", "oversample"] = Field(
        default="none", description="how often an epoch shows the pictures of a class"
    )
    multiple: float | None = Field(
        default=None, gt=1, le=1000, description="oversample: pictures of an epoch / training pictures"
    )
    class_weights: bool = Field(default=False, description="rare classes have larger weights in the loss")

    @model_validator(mode="after")
    def _multiple_of_oversample(self) -> Self:
        if self.sampler == "oversample" and self.multiple is None:
            raise PydanticCustomError("multiple", "sampler = \"oversample\" needs 'multiple', such as 4.0")
        if self.sampler != "oversample" and self.multiple is not None:
            raise PydanticCustomError("unused", "'multiple' belongs to sampler = \"oversample\"")
        return self
