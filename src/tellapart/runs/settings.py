"""The settings of a run in effect: its recipe, flat and as text, with the values that its defaults stand for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from tellapart.core.bundle_description import read_description
from tellapart.errors import BundleError
from tellapart.recipe.transforms import Section, Transform
from tellapart.runs.run import Run

if TYPE_CHECKING:
    from tellapart.recipe.schema import Recipe, Stage

#: Keys that are no settings: words about the recipe, and the plan with its reasons, of which the minutes were set.
_WORDS = ("about", "plan")


def settings(run: Run) -> dict[str, str]:
    """A run's recipe flat and as text: "stages.0.epochs" → "7".

    A key that is not set has the value that is in effect, such as the size that the weights came with. A key that
    does nothing in this recipe, such as `epochs` beside `steps`, is left out.
    """
    values = dict(_flat(run.recipe))
    values["plan.minutes"] = run.recipe.plan and run.recipe.plan.minutes
    for name, value in _effective(run).items():
        if values.get(name, "") in (None, "auto"):
            values[name] = value
    left_out = {*_WORDS, *_idle(run.recipe)}
    return {name: _text(value) for name, value in values.items() if name not in left_out}


def _flat(section: Section, name: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names and plain values.

    Lists of transforms, and keys that may hold a table or something else (`lr`, `thresholds`), stay together.
    """
    for key, plain in section.model_dump().items():
        value, path = getattr(section, key), f"{name}.{key}" if name else key
        if isinstance(value, Section) and _is_section(type(section).model_fields[key].annotation):
            yield from _flat(value, path)
        elif (
            isinstance(value, list) and value and isinstance(value[0], Section) and not isinstance(value[0], Transform)
        ):
            for number, inner in enumerate(value):
                yield from _flat(inner, f"{path}.{number}")
        else:
            yield path, plain


def _is_section(annotation: Any) -> bool:
    """Whether a key is declared to hold a section, always and nothing else."""
    return isinstance(annotation, type) and issubclass(annotation, Section)


def _effective(run: Run) -> dict[str, Any]:
    """Values of keys that were not set, or left to Tellapart."""
    recipe = run.recipe
    preprocessing = _preprocessing(run)
    normalisation = {key: preprocessing[key] for key in ("mean", "std") if key in preprocessing}
    size = recipe.data.size or preprocessing.get("height", "that of the weights")
    loss = "binary_cross_entropy" if run.catalog.multilabel else "cross_entropy"
    weights = run.environment.get("weights") if run.environment_file.is_file() else None
    values = {
        "data.size": size,
        "data.crop": preprocessing.get("crop", "that of the weights"),
        "data.normalisation": normalisation or "that of the weights",
        "data.split_seed": recipe.split_seed,
        "model.weights": weights or ("pretrained" if recipe.model.pretrained else "random"),
        "model.dropout": "that of the network",
    }
    for i in range(len(recipe.stages)):
        values |= {f"stages.{i}.size": size, f"stages.{i}.per_class": "all", f"stages.{i}.loss": loss}
    return values


def _preprocessing(run: Run) -> dict[str, Any]:
    """Preprocessing of the network that answers; empty before there is one, and where its bundle is damaged."""
    try:
        return read_description(run.bundle).preprocessing.as_dict()
    except BundleError:
        return {}


def _idle(recipe: Recipe) -> Iterator[str]:
    """Names of keys that do nothing beside the others of this recipe."""
    if recipe.data.fit != "crop":
        yield "data.crop"
    yield from (f"mix.{name}_alpha" for name in ("mixup", "cutmix") if not getattr(recipe.mix, name))
    if not recipe.mix.mixup + recipe.mix.cutmix:
        yield "mix.per"
    if not recipe.augment:
        yield "augment_per"
    if recipe.balance.sampler != "oversample":
        yield "balance.multiple"
    if not recipe.evaluation.tta:
        yield "evaluation.tta_mean"
    for i, stage in enumerate(recipe.stages):
        yield from (f"stages.{i}.{key}" for key in _idle_in(stage))


def _idle_in(stage: Stage) -> Iterator[str]:
    yield "steps" if stage.steps is None else "epochs"
    if stage.schedule != "step":
        yield from ("step_epochs", "step_factor")
    if stage.schedule != "sgdr":
        yield from ("cycle_length", "cycle_multiplier")
    if stage.patience is None:
        yield "stop_on"


def _text(value: Any) -> str:
    """A setting as a person would write it: 0.002, "none" for an empty list, transforms with their strengths."""
    if value is None:
        return "none"
    if isinstance(value, Mapping):
        others = dict(value)
        first = [str(others.pop("transform"))] if "transform" in others else []
        pairs = (f"{key}={_text(inner)}" for key, inner in others.items() if inner is not None)
        return " ".join([*first, *pairs])
    if isinstance(value, list):
        between = "; " if value and isinstance(value[0], Mapping | list) else "–" if len(value) == 2 else ", "
        return between.join(map(_text, value)) or "none"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
