"""Arguments and options that several commands share."""

from __future__ import annotations

import functools
import inspect
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tellapart.core.output import print_err
from tellapart.core.remote import check_local

if TYPE_CHECKING:
    from tellapart.recipe.schema import Recipe
    from tellapart.workflows.progress import ProgressSink

Pictures = Annotated[Path, typer.Argument(help="A folder of pictures, or a table of files and labels.")]
#: The recipe of every command that takes one.
DEFAULT_RECIPE = "fast"
RecipeName = Annotated[
    str, typer.Option("--recipe", "-r", help="A shipped recipe (see `tellapart recipes`) or a TOML file.")
]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", "-s", metavar="KEY=VALUE", help="Change the recipe; may be repeated."),
]
ModelName = Annotated[str | None, typer.Option("--model", "-m", help="The network (see `tellapart models`).")]
Seed = Annotated[int | None, typer.Option(min=0, help="Seed of all random choices.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Say too how each choice was measured.")]
NoExplain = Annotated[
    bool, typer.Option("--no-explain", help="Explain no answers in the report, which saves its time.")
]
Offline = Annotated[
    bool,
    typer.Option("--offline", help="Never ask a hub for weights: only those on this machine. As HF_HUB_OFFLINE=1."),
]
Cluster = Annotated[
    str | None,
    typer.Option(
        help="Work on a cluster: auto starts Ray on this machine; or ray://HOST:10001, or the address HOST:PORT of a "
        "cluster that this machine is a node of."
    ),
]
TtaMean = Annotated[
    str | None,
    typer.Option(help="Average logits or probabilities over the copies; the run's own by default."),
]
#: Layout of the labels: keyword arguments of `ta.scan`; see `with_label_options`.
LabelOptions = dict[str, Any]


def out_option(text: str, storage: bool = False) -> Any:
    """The option that says where a command writes; its help says what, and where by default.

    Args:
        text: the help.
        storage: whether it may be a place in a storage (s3://…); else such a place is refused.
    """
    return typer.Option("--out", "-o", help=text, callback=None if storage else _on_this_machine)


def _on_this_machine(path: Path | None) -> Path | None:
    check_local(path, "--out")
    return path


def label_options(
    layout: Annotated[str | None, typer.Option(help="Layout of the labels; by default it is detected.")] = None,
    labels: Annotated[Path | None, typer.Option(help="A table or list of labels.")] = None,
    class_file: Annotated[Path | None, typer.Option(help="Names of classes given as numbers.")] = None,
    label_depth: Annotated[int | None, typer.Option(help="Levels of nested folders that make a label.")] = None,
    delimiter: Annotated[str | None, typer.Option(help="Delimiter between labels in one cell.")] = None,
    image_column: Annotated[str | None, typer.Option(help="Column of a table that holds the pictures.")] = None,
    label_column: Annotated[str | None, typer.Option(help="Column of a table that holds the labels.")] = None,
    follow_links: Annotated[bool, typer.Option("--follow-links", help="Follow links out of the folder too.")] = False,
) -> None:
    """The options on the layout of labels: `with_label_options` gives them to a command."""


def with_label_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options on the layout of labels, instead of its parameter `label_options`."""
    own = inspect.signature(command, eval_str=True).parameters.values()
    options = inspect.signature(label_options, eval_str=True).parameters
    parameters = [each for one in own for each in (options.values() if one.name == "label_options" else [one])]

    @functools.wraps(command)
    def with_options(**arguments: Any) -> None:
        command(label_options={name: arguments.pop(name) for name in options}, **arguments)

    named = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in parameters]
    with_options.__signature__ = inspect.Signature(named)  # type: ignore[attr-defined]
    with_options.__annotations__ = {each.name: each.annotation for each in named}
    return with_options


@contextmanager
def opened_on(cluster: str | None, progress: ProgressSink, lists: Path | None = None) -> Iterator[dict[str, Any]]:
    """Options of a scan whose files are opened on a cluster, as long as this lasts; none without one.

    Args:
        cluster: its address.
        progress: where it is told.
        lists: a folder that all its nodes reach; by default a temporary one.
    """
    if cluster is None:
        yield {}
        return
    from tellapart.cluster.scanning import looking_on

    with looking_on(cluster, progress, lists) as looking:
        yield {"looking": looking}


@contextmanager
def joined_on(cluster: str | None, lists: Path | None = None) -> Iterator[dict[str, Any]]:
    """Options of an audit whose near duplicates are looked for on a cluster; none without one. As `opened_on`."""
    if cluster is None:
        yield {}
        return
    from tellapart.cluster.duplicates import joining_on

    with joining_on(cluster, lists) as joining:
        yield {"joining": joining}


def stay_offline(offline: bool) -> None:
    """Where it is wanted, keep this process and those that it starts from asking a hub for weights."""
    if offline:
        os.environ["HF_HUB_OFFLINE"] = "1"  # which the hub's library reads when it is loaded


def as_changes(
    model: str | None = None, weights: Path | None = None, seed: int | None = None, no_explain: bool = False
) -> list[str]:
    """Options of a training as changes of its recipe, as --set takes them."""
    changes = [f"model.name={_toml_text(model)}"] if model is not None else []
    changes += [f"model.weights={_toml_text(str(weights.resolve()))}"] if weights else []
    changes += [f"seed={seed}"] if seed is not None else []
    return changes + (["evaluation.explain=false"] if no_explain else [])


def _toml_text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def load_recipe(name: str, changes: list[str] | None) -> Recipe:
    """Load the recipe of a command. A line on standard error names today's key for each key of version 0.1."""
    from tellapart.recipe.load import read_recipe

    recipe, renamed = read_recipe(name, changes)
    for line in dict.fromkeys(renamed):
        print_err(line)
    return recipe
