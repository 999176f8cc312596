"""The whole plan of a training, read from TOML. Strict: an unknown key is an error that suggests the right one."""

from __future__ import annotations

import difflib
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Self, Union, get_origin

from pydantic import BeforeValidator, Field, ValidationError, field_validator, model_validator
from pydantic_core import PydanticCustomError

from tellapart.errors import RecipeError
from tellapart.recipe_evaluation import Judgement
from tellapart.recipe_networks import AnyBlock, Member
from tellapart.recipe_transforms import AnyTransform, Balance, Mix, Section, named_views

_RANGE = r"^[-+.\deE]+\.\.[-+.\deE]+$"  # "1e-4..1e-2"
SHIPPED = Path(__file__).parent / "recipes"


class Data(Section):
    """How pictures are divided, multiplied and brought to size."""

    size: int | None = Field(default=None, ge=1, le=4096, description="side in pixels; by default the weights' own")
    fit: Literal["crop", "squash", "pad"] = "crop"
    crop: float | None = Field(
        default=None, gt=0, le=1, description="share kept by fit='crop'; by default the weights' own"
    )
    validation: float = Field(default=0.15, gt=0, lt=1, description="share of pictures for validation")
    test: float = Field(default=0.15, ge=0, lt=1, description="share of pictures for the test")
    split_seed: int | None = Field(
        default=None,
        ge=0,
        description="what the parts are drawn with, to keep them over several seeds; by default seed",
    )
    ahead: Annotated[list[list[AnyTransform]], BeforeValidator(named_views)] = Field(
        default_factory=list,
        description='versions of each training picture, all of which an epoch shows: "eightfold", or one list of '
        "transforms a version, an empty one for the picture itself",
    )

    @model_validator(mode="after")
    def _nothing_ignored(self) -> Self:
        if self.fit != "crop" and self.crop not in (None, 1):
            raise PydanticCustomError("unused", f'\'crop\' belongs to fit = "crop"; "{self.fit}" cuts nothing off')
        return self


class Head(Section):
    """What stands on top of the body: linear, or hidden layers before it."""

    hidden: list[Annotated[int, Field(ge=1)]] = Field(default_factory=list, description="sizes of hidden layers")
    activation: Literal["relu", "gelu", "silu", "hardswish"] = "relu"
    dropout: float = Field(default=0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _nothing_ignored(self) -> Self:
        if self.activation != "relu" and not self.hidden:
            raise PydanticCustomError("unused", "'activation' belongs to hidden layers: 'hidden' gives their sizes")
        return self


class Model(Section):
    """Which network, and where its weights come from."""

    name: str = "mobilenetv2_100"
    pretrained: bool = True
    weights: str | None = Field(
        default=None,
        description="a file of weights, instead of the pretrained ones; or a run directory: what it began with",
    )
    head: Head = Head()
    dropout: float | None = Field(default=None, ge=0, lt=1, description="for the networks of our own")
    blocks: list[AnyBlock] = Field(default_factory=list, description="name = 'blocks': what it is built of")
    members: list[Member] = Field(default_factory=list, description="name = 'ensemble': bodies side by side")
    resize_inside: int | None = Field(
        default=None, ge=1, le=4096, description="side that the network brings pictures of data.size to"
    )

    @model_validator(mode="after")
    def _one_network(self) -> Self:
        for name, key, given in (("blocks", "blocks", self.blocks), ("ensemble", "members", self.members)):
            if (self.name == name) != bool(given):
                raise PydanticCustomError("model", f"name = '{name}' and [[model.{key}]] belong together")
        if self.members and not self.pretrained:
            raise PydanticCustomError("unused", "each of [[model.members]] has a 'pretrained' of its own: say it there")
        return self


class FoundRate(Section):
    """A peak learning rate that is found by a test at the stage's beginning; `rate = "find"` is the valley."""

    find: Literal["valley", "steepest", "tenth_of_minimum", "highest_falling"]
    spread: float = Field(
        default=1.0, ge=1, description="the first layers take the head's rate divided by this, those between in steps"
    )
    otherwise: float | None = Field(default=None, gt=0, description="the rate where the loss does not fall in the test")


#: What an optimizer that goes step by step is told.
_OF_STEPS = (
    "steps",
    "batch_size",
    "accumulate",
    "rate",
    "weight_decay",
    "momentum",
    "clip",
    "average",
    "schedule",
    "warmup",
)


class Stage(Section):
    """One piece of the training: what is trained, for how long, how."""

    name: str = ""
    train: Literal["head", "all"] | Annotated[int, Field(gt=0)] | Annotated[float, Field(gt=0, lt=1)] = Field(
        default="all",
        description="the head, everything, the last n groups of layers, or a share of the groups, below 1",
    )
    epochs: int = Field(default=10, ge=1)
    steps: int | None = Field(default=None, ge=1, description="length in steps of the optimizer, instead of epochs")
    batch_size: int = Field(default=64, ge=1)
    accumulate: int = Field(default=1, ge=1, description="batches whose gradients make one step")
    size: int | None = Field(default=None, ge=1, le=4096, description="side of the pictures in this stage, in pixels")
    per_class: int | None = Field(
        default=None,
        ge=1,
        description="train on at most so many pictures of a class, drawn at random; by default all",
    )
    loss: Literal["auto", "cross_entropy", "binary_cross_entropy", "focal", "asymmetric", "squeezed"] = "auto"
    optimizer: Literal["adamw", "adam", "sgd", "nadam", "adadelta", "muon", "lbfgs"] = Field(
        default="adamw",
        description="lbfgs solves a linear head exactly, one strength of regularisation an epoch, at most nine",
    )
    rate: (
        Annotated[float, Field(gt=0)]
        | list[float]
        | Annotated[str, Field(pattern=_RANGE)]
        | FoundRate
        | dict[str, float]
    ) = Field(
        default=1e-3,
        description='peak learning rate; for groups of layers: a list from input to head, a range "1e-4..1e-2", or '
        '{ head = 1e-3, decay = 0.75 }; found by a test: "find", or { find = "valley", spread = 100 }',
    )
    weight_decay: float = Field(default=0.01, ge=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    clip: float | None = Field(default=None, gt=0, description="largest norm of a step's gradient")
    average: float | None = Field(
        default=None, gt=0, lt=1, description="decay of a running mean of the weights, which is then what is validated"
    )
    schedule: Literal["constant", "step", "cosine", "one_cycle", "sgdr"] = "cosine"
    step_epochs: int = Field(default=1, ge=1, description="step: epochs between two steps down")
    step_factor: float = Field(default=0.1, gt=0, le=1, description="step: what the rate is multiplied by")
    cycle_length: int = Field(default=1, ge=1, description="sgdr: epochs of the first cycle")
    cycle_multiplier: int = Field(default=1, ge=1, description="sgdr: how much longer each cycle is than the last")
    warmup: float = Field(default=0.0, ge=0, lt=1, description="share of the steps in which the rate rises from 0")
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    batch_norm: Literal["update", "keep", "free"] = Field(
        default="update",
        description="statistics of batch normalisation: update those of trained layers, keep all, or free: update "
        "those of frozen layers too, which then run in every epoch, as what they give changes",
    )
    patience: int | None = Field(default=None, ge=1, description="epochs without improvement before the stage stops")
    stop_on: Literal["monitor", "gap"] = Field(
        default="monitor",
        description="what patience waits for: a better epoch; or gap: validation loss less training loss grows in so "
        "many epochs on end",
    )
    monitor: Literal["score", "loss"] = Field(default="loss", description="what decides which epoch is best")
    augment: bool = Field(default=True, description="whether the recipe's [[augment]] is applied")
    views: list[list[AnyTransform]] = Field(
        default_factory=list,
        description="fixed views of each training picture. Where layers are frozen, what they make of each view is "
        "computed once and stored; an epoch shows one view of each picture, drawn at random",
    )

    @model_validator(mode="after")
    def _nothing_ignored(self) -> Self:
        """An option that this schedule or optimizer does not use is a mistake, not a detail."""
        of_schedule = {"step": ("step_epochs", "step_factor"), "sgdr": ("cycle_length", "cycle_multiplier")}
        for schedule, names in of_schedule.items():
            for name in names:
                if self.schedule != schedule and getattr(self, name) != Stage.model_fields[name].default:
                    raise PydanticCustomError("unused", f"'{name}' belongs to schedule = \"{schedule}\"")
        if self.steps is not None and self.epochs != Stage.model_fields["epochs"].default:
            raise PydanticCustomError("unused", "'epochs' and 'steps' exclude each other")
        for name in _OF_STEPS if self.optimizer == "lbfgs" else ():
            if getattr(self, name) != Stage.model_fields[name].default:
                raise PydanticCustomError(
                    "unused", f"'{name}' is not for optimizer = \"lbfgs\", which solves the head without steps"
                )
        if self.stop_on == "gap" and self.patience is None:
            raise PydanticCustomError("unused", "stop_on = \"gap\" needs 'patience'")
        return self

    @field_validator("rate", mode="before")
    @classmethod
    def _find(cls, rate: Any) -> Any:
        return {"find": "valley"} if rate == "find" else rate


class Plan(Section):
    """What is left open and chosen for the pictures and the machine: `model.name = "auto"`, `data.size`, epochs."""

    minutes: float = Field(default=5.0, gt=0, description="what the training may take, from scan to report")
    why: list[str] = Field(default_factory=list, description="filled in with the choice: its reasons")


class Recipe(Section):
    """A whole training. Every key has a default; a recipe file states what it changes."""

    about: str = ""
    seed: int = Field(default=0, ge=0, lt=2**63)
    data: Data = Data()
    augment: list[AnyTransform] = Field(default_factory=list)
    mix: Mix = Mix()
    balance: Balance = Balance()
    model: Model = Model()
    stages: list[Stage] = Field(default_factory=lambda: [Stage()], min_length=1)
    evaluation: Judgement = Judgement()
    retrain: bool = Field(
        default=False,
        description="train once more, from the same initial weights, on training and validation pictures together, "
        "each stage for as long as was best on validation",
    )
    plan: Plan | None = None

    @model_validator(mode="after")
    def _nothing_ignored(self) -> Self:
        """Random changes that no stage applies are a mistake, not a detail."""
        given = {"[[augment]]": bool(self.augment), "[mix]": self.mix.mixup + self.mix.cutmix > 0}
        applied = any(stage.augment and not stage.views for stage in self.stages)
        for name in (name for name, is_given in given.items() if is_given and not applied):
            raise PydanticCustomError(
                "unused",
                f"no stage applies {name}: every one has fixed 'views', which take its place, or augment = false",
            )
        return self

    @property
    def split_seed(self) -> int:
        """What the pictures are divided with."""
        return self.seed if self.data.split_seed is None else self.data.split_seed

    def to_toml(self) -> str:
        """The complete recipe, defaults included, as TOML that `load_recipe` reads back to an equal one."""
        return _as_toml(self.model_dump(exclude_none=True))


def shipped() -> dict[str, Path]:
    """Name and file of every recipe that comes with Tellapart."""
    return {path.stem: path for path in sorted(SHIPPED.glob("*.toml"))}


def describe_shipped() -> dict[str, str]:
    """Name and first sentence of every shipped recipe."""
    return {name: tomllib.loads(path.read_text(encoding="utf-8")).get("about", "") for name, path in shipped().items()}


def recipe_text(name: str) -> str:
    """The text of a shipped recipe or a recipe file, comments included.

    Raises:
        RecipeError: there is none.
    """
    return _text(_find(name))


def load_recipe(name: str | Path, changes: list[str] | None = None) -> Recipe:
    """Read a recipe.

    Args:
        name: the name of a shipped recipe or the path of a TOML file. A file may begin from another recipe with
            `extends = "transfer"` (a shipped name, or a path relative to the file).
        changes: "key=value" texts, e.g. "stages.0.epochs=2"; values are TOML, or bare words for text.

    Raises:
        RecipeError: no such recipe, bad TOML, an unknown key, a wrong type or a value out of range; with the file,
            the line and a suggestion.
    """
    sources = _read(_find(name))
    values: dict[str, Any] = {}
    for source in reversed(sources):
        values = _merge(values, source.values)
    if changes:
        values.setdefault("stages", [{}])  # the default, so that a change can reach into it
    for change in changes or []:
        _apply(values, change)
    try:
        recipe = Recipe.model_validate(values)
    except ValidationError as error:
        raise RecipeError(*_explain(error, sources, changes or [])) from None
    last = f"stages.{len(recipe.stages) - 1}.epochs"
    for change in changes or []:
        if recipe.plan and not recipe.plan.why and change.partition("=")[0].strip() == last:
            raise RecipeError(
                f"--set {change}: this recipe's plan decides how many epochs its last stage has.",
                "Say what it may take (--minutes), or take a recipe without a plan: --recipe transfer",
            )
    return recipe


@dataclass(frozen=True)
class _Source:
    """One file of a recipe, and what it says itself."""

    path: Path
    text: str
    values: dict[str, Any]

    def place(self, key: str) -> str:
        """Where a key of the outermost table stands."""
        return f"{self.path}, line {_line_of(self.text, [key])}"


def _read(path: Path, seen: tuple[Path, ...] = ()) -> list[_Source]:
    """A recipe's file, then the one that it extends, and so on."""
    text = _text(path)
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{path} is not valid TOML: {error}") from error
    parent = values.pop("extends", None)
    source = _Source(path, text, values)
    if parent is None:
        return [source]
    place = source.place("extends")
    if not isinstance(parent, str):
        raise RecipeError(f"{place}: 'extends' must be the name or path of one recipe.", 'For example: "transfer"')
    try:
        base = _find(parent, path.parent)
    except RecipeError as error:
        raise RecipeError(f"{place}: {error.message}", error.hint) from None
    if base in (*seen, path):
        raise RecipeError(f"{place}: 'extends' leads back to the same recipe.", "Remove one of the two 'extends'.")
    return [source, *_read(base, (*seen, path))]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path} cannot be read: {error}", "A recipe is a text file in UTF-8.") from error


def _find(name: str | Path, folder: Path | None = None) -> Path:
    known = shipped()
    if str(name) in known:
        return known[str(name)].resolve()
    path = (folder or Path()) / Path(name).expanduser()
    if path.is_file():
        return path.resolve()
    close = difflib.get_close_matches(str(name), known, n=1)
    hint = f"Did you mean '{close[0]}'? " if close else ""
    where = f" in {folder}" if folder else ""
    raise RecipeError(
        f"There is no recipe '{name}'{where}.", f"{hint}Shipped: {', '.join(known)}. Or give a .toml file."
    )


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Tables are merged key by key; everything else, lists of stages too, is replaced."""
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def _apply(values: dict[str, Any], change: str) -> None:
    """Put one "key=value" into the values."""
    key, equals, text = change.partition("=")
    key = key.strip()
    if not equals or not key:
        raise RecipeError(f"--set {change}: expected key=value.", "For example: --set stages.0.epochs=2")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    place: Any = values
    *path, last = key.split(".")
    for depth, part in enumerate(path):
        place = _step(place, part, ".".join(path[: depth + 1]), change)
    _step(place, last, key, change)
    place[int(last) if isinstance(place, list) else last] = value


def _step(place: Any, part: str, key: str, change: str) -> Any:
    if isinstance(place, list):
        if not part.isdecimal() or int(part) >= len(place):
            raise RecipeError(
                f"--set {change}: '{key}' does not exist.", f"It has {len(place)} entries, counted from 0."
            )
        return place[int(part)]
    if not isinstance(place, dict):
        raise RecipeError(f"--set {change}: '{key}' lies below a plain value.", "Set that plain value itself.")
    if part.isdecimal():
        raise RecipeError(f"--set {change}: '{key}' does not exist.", "The recipe has no such list.")
    return place.setdefault(part, {})


def _explain(error: ValidationError, sources: list[_Source], changes: list[str]) -> tuple[str, str]:
    """Message and hint for the first thing wrong."""
    errors = error.errors()
    # A rate may be a section or a plain value. It was meant as the section where it says what to find.
    found = [e for e in errors if FoundRate.__name__ in e["loc"]]
    meant = found and all(e["type"] not in ("missing", "model_type") for e in found)
    first = found[0] if meant else errors[0]
    where = [part for part in first["loc"] if not (isinstance(part, str) and "[" in part)]
    # A union reports the member it tried last ("int", "literal…"): that is not a key of the recipe.
    section, where = _section_of(where)
    if first["type"] == "union_tag_invalid":
        where = [*where, first["ctx"]["discriminator"].strip("'")]
    key = ".".join(map(str, where))
    place = _place(where, sources, changes)
    if first["type"] == "extra_forbidden":
        return f"{place}: unknown key '{key}'.", _did_you_mean(str(where[-1]), list(section.model_fields))
    if first["type"] == "union_tag_invalid":
        tag, names = first["ctx"]["tag"], re.findall(r"'([^']+)'", first["ctx"]["expected_tags"])
        return f"{place}: '{key}': there is no {where[-1]} '{tag}'.", _did_you_mean(tag, names)
    if first["type"] == "union_tag_not_found":
        tag = first["ctx"]["discriminator"].strip("'")
        return f"{place}: '{key}' does not say which {tag} it is.", f'For example: {tag} = "{_EXAMPLES[tag]}"'
    # What does not go together is a whole table, and too long to be repeated.
    said = "" if isinstance(first["input"], dict) else f" (it is {first['input']!r})"
    at = f"'{key}': " if key else ""
    return (
        f"{place}: {at}{first['msg']}{said}.",
        "tellapart recipes show NAME prints examples.",
    )


_EXAMPLES = {"transform": "horizontal_flip", "block": "conv"}  # by the key that tells sections of a list apart


def _place(where: list[Any], sources: list[_Source], changes: list[str]) -> str:
    """The change or the file and line that a location comes from. The last change wins, then the first file."""
    key = ".".join(map(str, where)) + "."
    for change in reversed(changes):
        changed = change.partition("=")[0].strip() + "."
        if key.startswith(changed) or changed.startswith(key):
            return f"--set {change}"
    source = next((source for source in sources if _holds(source.values, where)), sources[0])
    line = _line_of(source.text, where)
    return f"{source.path}, line {line}" if line else str(source.path)


def _holds(values: Any, where: list[Any]) -> bool:
    """Whether a file says what stands at a location; a list counts as a whole, since it replaces that of a parent."""
    for part in where:
        if isinstance(part, int):
            return True
        if not isinstance(values, dict) or part not in values:
            return False
        values = values[part]
    return True


def _did_you_mean(written: str, names: list[str]) -> str:
    close = difflib.get_close_matches(written, names, n=1)
    return f"Did you mean '{close[0]}'?" if close else f"Possible here: {', '.join(names)}."


def _section_of(where: list[Any]) -> tuple[type[Section], list[Any]]:
    """The section that holds the last key of a location, and the part of the location that names keys."""
    section: type[Section] = Recipe
    inner: dict[str, type[Section]] = {}
    keys: list[Any] = []
    for part in where:
        if part in inner:  # which of several sections it was taken for: not a key
            section, inner = inner[part], {}
            continue
        if inner and not isinstance(part, int):  # a plain value beside such sections
            break
        keys.append(part)
        if isinstance(part, int):
            continue
        field = section.model_fields.get(part)
        if field is None:
            break
        inner = _sections_in(field.annotation)
        if len(inner) == 1 and get_origin(field.annotation) not in (Union, UnionType):
            section, inner = next(iter(inner.values())), {}
        elif not inner:
            break
    return section, keys


def _sections_in(annotation: Any) -> dict[str, type[Section]]:
    """The sections that a field may hold; those told apart by a key such as `transform` by its value."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        tag = next((annotation.model_fields[key] for key in _EXAMPLES if key in annotation.model_fields), None)
        return {tag.default if tag else annotation.__name__: annotation}
    found: dict[str, type[Section]] = {}
    for part in getattr(annotation, "__args__", ()):
        found |= _sections_in(part)
    return found


# Not a line of an array, such as `[{ transform = "negative" }]` or `[1, 2]`.
_HEADER = re.compile(r"^\s*(\[\[?)\s*([^\[\]{},=]+?)\s*\]\]?\s*(#.*)?$")


def _line_of(text: str, where: list[Any]) -> int | None:
    """Line of a key, found by following table headers; None where it was inherited or set elsewhere."""
    table: list[Any] = []
    counts: dict[tuple[Any, ...], int] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        header = _HEADER.match(line)
        if header:
            table = _table(header[2], header[1] == "[[", counts)
            if table == where:
                return number
        else:
            key = line.split("=", 1)[0].strip()
            path = [*table, *(part.strip().strip("\"'") for part in key.split("."))]
            if "=" in line and path == where[: len(path)] and len(path) > len(table):
                return number
    return None


def _table(header: str, is_list: bool, counts: dict[tuple[Any, ...], int]) -> list[Any]:
    """Location of the table that a header opens; `counts` holds how often each list of tables was added to."""
    table: list[Any] = []
    names = [part.strip().strip("\"'") for part in header.split(".")]
    for depth, name in enumerate(names, start=1):
        table.append(name)
        if is_list and depth == len(names):
            counts[tuple(table)] = counts.get(tuple(table), -1) + 1
        if tuple(table) in counts:
            table.append(counts[tuple(table)])
    return table


def _as_toml(values: dict[str, Any], prefix: str = "") -> str:
    """TOML text of plain values: scalars first, then tables, then lists of tables."""
    lines: list[str] = []
    later: list[str] = []
    for key, value in values.items():
        name = f"{prefix}.{key}" if prefix else key
        if isinstance(value, dict):
            later.append(f"\n[{name}]\n{_as_toml(value, name)}")
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            later += [f"\n[[{name}]]\n{_as_toml(entry, name)}" for entry in value]
        else:
            lines.append(f"{key} = {_scalar(value)}\n")
    return "".join(lines) + "".join(later)


def _scalar(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        escaped = "".join(
            _ESCAPES.get(c, c) if (c >= " " and c != "\x7f") or c in _ESCAPES else f"\\u{ord(c):04x}" for c in value
        )
        return f'"{escaped}"'
    if isinstance(value, list):
        return "[" + ", ".join(map(_scalar, value)) + "]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_scalar(inner)}" for key, inner in value.items()) + " }"
    return repr(value)


_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r"}
