"""The schema of recipes: all settings of a training, as sections of keys. An unknown key is an error."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic_core import PydanticCustomError

from tellapart.recipe.distill import Distill
from tellapart.recipe.distributed import Distributed
from tellapart.recipe.evaluation import EvaluationConfig
from tellapart.recipe.networks import CURRENT_LAYOUT, LAYOUTS, AnyBlock, Layout, Member, check_layout
from tellapart.recipe.transforms import AnyTransform, Balance, Mix, Section, named_views

#: Bounds that no training comes near to; they keep a recipe from asking for work without end.
MAX_EPOCHS, MAX_LR, MAX_ENTRIES = 1_000_000, 1e6, 100
_RANGE = r"^[-+.\deE]+\.\.[-+.\deE]+$"  # "1e-4..1e-2"


class Normalisation(Section):
    """Mean and deviation of each channel, for pixels of 0 to 1: pixels less the mean, over the deviation."""

    mean: Annotated[list[Annotated[float, Field(ge=0, le=1)]], Field(min_length=3, max_length=3)]
    std: Annotated[list[Annotated[float, Field(ge=1e-3, le=10)]], Field(min_length=3, max_length=3)]


def _share_or_number(value: float) -> float:
    if value >= 1 and (value < 2 or value % 1):
        raise PydanticCustomError(
            "share", "Input should be less than 1: a share of the pictures; or a whole number of them, at least 2"
        )
    return int(value) if value >= 2 else value


#: A share of the pictures, below 1, or a number of them, at least 2.
ShareOrNumber = Annotated[float, AfterValidator(_share_or_number)]


class Data(Section):
    """`[data]`: the split, versions made ahead, and the size of the network's input."""

    size: int | None = Field(default=None, ge=1, le=4096, description="side in pixels; by default the weights' own")
    fit: Literal["crop", "squash", "pad"] = "crop"
    crop: float | None = Field(
        default=None, ge=1e-6, le=1, description="share of the side that fit='crop' keeps; by default the weights' own"
    )
    normalisation: Normalisation | None = Field(
        default=None,
        description='{ mean = [0.5, 0.5, 0.5], std = [0.25, 0.25, 0.25] }, or "rescale": pixels / 255 alone; by '
        "default that of the weights",
    )
    validation: ShareOrNumber = Field(
        default=0.15, gt=0, le=1e9, description="share, or number, of pictures for validation"
    )
    test: ShareOrNumber = Field(default=0.15, ge=0, le=1e9, description="share, or number, of pictures for the test")
    split_seed: int | None = Field(
        default=None,
        ge=0,
        lt=2**63,
        description="seed of the split alone, to train several seeds on one split; by default seed",
    )
    ahead: Annotated[list[list[AnyTransform]], BeforeValidator(named_views)] = Field(
        default_factory=list,
        max_length=MAX_ENTRIES,
        description='versions of each training picture, all shown in an epoch: "eightfold", or a list of transforms '
        "for each version, empty for the picture itself",
    )

    @field_validator("normalisation", mode="before")
    @classmethod
    def _rescale(cls, written: Any) -> Any:
        if written == "rescale":
            return {"mean": [0.0] * 3, "std": [1.0] * 3}
        if isinstance(written, str):
            raise PydanticCustomError("normalisation", 'expected "rescale", or { mean = […], std = […] }')
        return written

    @model_validator(mode="after")
    def _nothing_ignored(self) -> Self:
        if self.fit != "crop" and self.crop not in (None, 1):
            raise PydanticCustomError("unused", f'\'crop\' belongs to fit = "crop"; "{self.fit}" cuts nothing off')
        return self


class Head(Section):
    """`[model.head]`: the head on the backbone: a linear layer, and hidden layers before it."""

    hidden: list[Annotated[int, Field(ge=1, le=8192)]] = Field(
        default_factory=list, max_length=8, description="sizes of hidden layers"
    )
    activation: Literal["relu", "gelu", "silu", "hardswish"] = "relu"
    dropout: float = Field(default=0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _nothing_ignored(self) -> Self:
        if self.activation != "relu" and not self.hidden:
            raise PydanticCustomError("unused", "'activation' belongs to hidden layers: 'hidden' gives their sizes")
        return self


class Model(Section):
    """`[model]`: the network and the source of its weights."""

    name: str = "tf_efficientnet_lite0"  # at hand on any machine: tellapart[train] brings its weights
    pretrained: bool = True
    weights: str | None = Field(
        default=None,
        description="a file of weights, instead of the pretrained ones; or a run directory, for its initial weights",
    )
    head: Head = Head()
    dropout: float | None = Field(default=None, ge=0, lt=1, description="for Tellapart's own networks")
    batch_norm: bool = Field(default=False, description="tutorial-cnn: batch norm after each convolution")
    layout: Layout = CURRENT_LAYOUT
    blocks: list[AnyBlock] = Field(
        default_factory=list, max_length=1_000, description="name = 'blocks': the layers in their order"
    )
    members: list[Member] = Field(
        default_factory=list, max_length=MAX_ENTRIES, description="name = 'ensemble': its backbones"
    )
    resize_inside: int | None = Field(
        default=None, ge=1, le=4096, description="side to which the network resizes its input of data.size"
    )

    @model_validator(mode="after")
    def _one_network(self) -> Self:
        for name, key, entries in (("blocks", "blocks", self.blocks), ("ensemble", "members", self.members)):
            if (self.name == name) != bool(entries):
                raise PydanticCustomError("model", f"name = '{name}' and [[model.{key}]] belong together")
        if self.members and not self.pretrained:
            raise PydanticCustomError("unused", "each of [[model.members]] has a 'pretrained' of its own: set it there")
        if self.batch_norm and self.name != "tutorial-cnn":
            raise PydanticCustomError("unused", "'batch_norm' belongs to name = \"tutorial-cnn\"")
        check_layout(self.name, self.layout)
        return self

    @model_serializer(mode="wrap")
    def _own_keys(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out the keys of other networks."""
        values: dict[str, Any] = serialize(self)
        others = {"layout"} if self.name not in LAYOUTS else set[str]()
        others |= {"batch_norm"} if self.name != "tutorial-cnn" else set()
        return {key: value for key, value in values.items() if key not in others}


class FoundLr(Section):
    """A peak learning rate that a test at the stage's beginning finds; `lr = "find"` is the valley."""

    find: Literal["valley", "steepest", "tenth_of_minimum", "highest_falling"]
    spread: float = Field(
        default=1.0,
        ge=1,
        le=1e6,
        description="the head's learning rate / that of the first layers; geometric in between",
    )
    otherwise: float | None = Field(
        default=None, gt=0, le=MAX_LR, description="the learning rate where the loss does not fall in the test"
    )


#: Inverse strengths of the L2 penalty of a linear probe, as C in scikit-learn's LogisticRegression: strongest first.
L2 = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0)
#: Keys of a linear probe alone, and of a training by steps alone.
PROBE_KEYS = ("solver", "l2", "folds")
STEP_KEYS = (
    "epochs",
    "steps",
    "shuffle",
    "optimizer",
    "batch_size",
    "accumulate",
    "lr",
    "weight_decay",
    "momentum",
    "clip",
    "average",
    "schedule",
    "step_epochs",
    "step_factor",
    "cycle_length",
    "cycle_multiplier",
    "warmup",
)


class Stage(Section):
    """One part of a training: by steps of an optimizer, or a linear probe, whose head a solver computes exactly."""

    name: str = ""
    train: Literal["head", "all"] | Annotated[int, Field(gt=0, le=10_000)] | Annotated[float, Field(gt=0, lt=1)] = (
        Field(
            default="all",
            description="the head, all layers, the last n groups of layers, or a share of the groups, below 1",
        )
    )
    solver: Literal["lbfgs"] | None = Field(
        default=None, description="a linear probe: L-BFGS computes the head exactly, on stored features"
    )
    l2: Annotated[list[Annotated[float, Field(gt=0, le=1e12)]], Field(min_length=1, max_length=100)] = Field(
        default=list(L2),
        description="of a linear probe: inverse strengths of regularisation (C), tried in this order",
    )
    folds: int | None = Field(
        default=None,
        ge=2,
        le=20,
        description="of a linear probe: its strength is chosen by cross-validation on the training pictures in so many "
        "folds; by default on the validation pictures",
    )
    epochs: int = Field(default=10, ge=1, le=MAX_EPOCHS)
    steps: int | None = Field(
        default=None, ge=1, le=1_000_000_000, description="length in steps of the optimizer, instead of epochs"
    )
    batch_size: int = Field(default=64, ge=1, le=65_536)
    shuffle: bool = Field(default=True, description="a new order in every epoch; else that of the pictures' paths")
    accumulate: int = Field(default=1, ge=1, le=65_536, description="batches whose gradients make one step")
    size: int | None = Field(default=None, ge=1, le=4096, description="side of the pictures in this stage, in pixels")
    per_class: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000_000,
        description="largest number of training pictures of a class, drawn at random; by default all",
    )
    loss: Literal["auto", "cross_entropy", "binary_cross_entropy", "focal", "asymmetric", "squeezed"] = "auto"
    optimizer: Literal["adamw", "adam", "sgd", "nadam", "adadelta", "muon"] = "adamw"
    lr: (
        Annotated[float, Field(gt=0, le=MAX_LR)]
        | Annotated[list[Annotated[float, Field(le=MAX_LR)]], Field(max_length=1_000)]
        | Annotated[str, Field(pattern=_RANGE, max_length=100)]
        | FoundLr
        | dict[str, Annotated[float, Field(le=MAX_LR)]]
    ) = Field(
        default=1e-3,
        description='peak learning rate; for groups of layers: a list from input to head, a range "1e-4..1e-2", or '
        '{ head = 1e-3, decay = 0.75 }; found by a test: "find", or { find = "valley", spread = 100 }',
    )
    weight_decay: float = Field(default=0.01, ge=0, le=1e6)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    clip: float | None = Field(default=None, gt=0, le=1e12, description="largest norm of a step's gradient")
    average: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="decay of a moving average of the weights, which is then validated",
    )
    schedule: Literal["constant", "step", "cosine", "one_cycle", "sgdr"] = "cosine"
    step_epochs: int = Field(default=1, ge=1, le=MAX_EPOCHS, description="step: epochs between two steps down")
    step_factor: float = Field(default=0.1, gt=0, le=1, description="step: factor of the learning rate at each")
    cycle_length: int = Field(default=1, ge=1, le=MAX_EPOCHS, description="sgdr: epochs of the first cycle")
    cycle_multiplier: int = Field(
        default=1, ge=1, le=1_000, description="sgdr: length of a cycle / that of the one before"
    )
    warmup: float = Field(default=0.0, ge=0, lt=1, description="share of the steps with a rising learning rate")
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    batch_norm: Literal["update", "keep", "free"] = Field(
        default="update",
        description="statistics of batch normalisation: update those of trained layers, keep all, or free: update "
        "those of frozen layers too, which then run in every epoch, since their features change",
    )
    patience: int | None = Field(
        default=None, ge=1, le=MAX_EPOCHS, description="epochs without improvement before the stage stops"
    )
    stop_on: Literal["monitor", "gap"] = Field(
        default="monitor",
        description="condition of patience: monitor: no better epoch; gap: validation loss - training loss grew in "
        "each of these epochs",
    )
    monitor: Literal["score", "loss"] = Field(default="loss", description="criterion of the best epoch")
    augment: bool = Field(default=True, description="whether the recipe's [[augment]] is applied")
    views: list[list[AnyTransform]] = Field(
        default_factory=list,
        max_length=MAX_ENTRIES,
        description="fixed views of each training picture. An epoch shows one of them, drawn at random. The features "
        "of frozen layers are computed once a view and stored",
    )

    @model_validator(mode="after")
    def _nothing_ignored(self) -> Self:
        """Refuse a key that this solver, schedule or length does not use."""
        for name in STEP_KEYS if self.solver else ():
            if name in self.model_fields_set:
                raise PydanticCustomError(
                    "unused", f"'{name}' is not for solver = \"{self.solver}\", which computes the head without steps"
                )
        for name in PROBE_KEYS[1:] if not self.solver else ():
            if name in self.model_fields_set:
                raise PydanticCustomError("unused", f"'{name}' belongs to solver = \"lbfgs\"")
        of_schedule = {"step": ("step_epochs", "step_factor"), "sgdr": ("cycle_length", "cycle_multiplier")}
        for schedule, names in of_schedule.items():
            for name in names:
                if self.schedule != schedule and getattr(self, name) != Stage.model_fields[name].default:
                    raise PydanticCustomError("unused", f"'{name}' belongs to schedule = \"{schedule}\"")
        if self.steps is not None and self.epochs != Stage.model_fields["epochs"].default:
            raise PydanticCustomError("unused", "'epochs' and 'steps' exclude each other")
        if self.stop_on == "gap" and self.patience is None:
            raise PydanticCustomError("unused", "stop_on = \"gap\" needs 'patience'")
        return self

    @model_serializer(mode="wrap")
    def _own_keys(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out the keys of the other kind of stage: a recipe that has them is refused."""
        values: dict[str, Any] = serialize(self)
        others = STEP_KEYS if self.solver else PROBE_KEYS
        return {key: value for key, value in values.items() if key not in others}

    @field_validator("lr", mode="before")
    @classmethod
    def _find(cls, lr: Any) -> Any:
        return {"find": "valley"} if lr == "find" else lr


class Plan(Section):
    """`[plan]`: `model.name = "auto"`, `data.size` and epochs are chosen for the pictures and the machine."""

    minutes: float = Field(default=5.0, gt=0, le=1e6, description="time of the training, from scan to report")
    why: list[str] = Field(default_factory=list, description="reasons for the choice; Tellapart writes them")


class Recipe(Section):
    """A whole training. Every key has a default; a recipe file states the others."""

    about: str = ""
    seed: int = Field(default=0, ge=0, lt=2**63)
    data: Data = Data()
    augment: list[AnyTransform] = Field(default_factory=list, max_length=MAX_ENTRIES)
    augment_per: Literal["picture", "batch"] = Field(
        default="picture", description="one draw of [[augment]] for each picture, or for all pictures of a batch"
    )
    mix: Mix = Mix()
    balance: Balance = Balance()
    model: Model = Model()
    stages: list[Stage] = Field(default_factory=lambda: [Stage()], min_length=1, max_length=MAX_ENTRIES)
    evaluation: EvaluationConfig = EvaluationConfig()
    retrain: bool = Field(
        default=False,
        description="train once more, from the same initial weights, on training and validation pictures together; "
        "each stage ends at the epoch that was best on validation",
    )
    plan: Plan | None = None
    distill: Distill | None = None
    distributed: Distributed | None = None

    @model_validator(mode="after")
    def _nothing_ignored(self) -> Self:
        """Refuse random changes that no stage applies, and orders that nothing keeps to."""
        drawn = self.balance.sampler in ("weighted", "rarest")
        if drawn and not all(stage.shuffle for stage in self.stages):
            raise PydanticCustomError(
                "unused", f"'shuffle' = false: sampler = \"{self.balance.sampler}\" draws the order of the pictures"
            )
        if self.augment_per != "picture" and not self.augment:
            raise PydanticCustomError("unused", "'augment_per' does nothing without [[augment]]")
        random = {"[[augment]]": bool(self.augment), "[mix]": self.mix.mixup + self.mix.cutmix > 0}
        applied = any(stage.augment and not stage.views for stage in self.stages)
        for name in (name for name, is_set in random.items() if is_set and not applied):
            raise PydanticCustomError(
                "unused", f"no stage applies {name}: each has fixed 'views', which replace it, or augment = false"
            )
        return self

    @property
    def split_seed(self) -> int:
        """The seed of the split."""
        return self.seed if self.data.split_seed is None else self.data.split_seed

    def to_toml(self) -> str:
        """The complete recipe as TOML, defaults included. `load_recipe` makes an equal recipe of it."""
        import tomlkit  # half a second to import, and most commands write no recipe

        return tomlkit.dumps(self.model_dump(exclude_none=True))
