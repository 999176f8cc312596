"""Layer groups of a network, from input to head, and the split of a backbone in two pieces.

Groups are for freezing and for learning rates that differ with depth. Pieces are for running the frozen first part of
a backbone once a picture and only the rest in every epoch.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from tellapart.errors import ModelError
from tellapart.models.ensemble import SideBySide
from tellapart.models.network import Network

_NOT_A_CHAIN = (RuntimeError, TypeError, ValueError, AssertionError, AttributeError, IndexError)
#: To find a chain takes half a second and more, so each network's is found once, not once a stage.
_CHAINS: WeakKeyDictionary[Network, list[tuple[str, bool]]] = WeakKeyDictionary()


def layer_groups(network: Network) -> list[list[str]]:
    """Names of modules in groups from input to head: stem, stages or blocks, head.

    Each module that owns parameters or buffers itself is in exactly one group, and so are the modules around and
    between them that belong to one group alone. So a group's parameters are those that its modules own *themselves*
    (`parameters(recurse=False)`): see `train_last`.

    In an ensemble, each group has a group of every member, counted from the head: the last one has each member's last.
    """
    backbone = network.backbone
    group_of = _numbers(backbone, network.architecture.source)
    if isinstance(backbone, SideBySide):
        group_of = _aligned_groups(backbone, [member["source"] for member in network.architecture.options["members"]])
    spans: dict[str, set[int]] = {}
    for name, group in group_of.items():
        for depth in range(name.count(".") + 1 if name else 0):
            spans.setdefault(name.rsplit(".", depth)[0], set()).add(group)
    groups: list[list[str]] = [[] for _ in range(max(group_of.values(), default=-1) + 1)]
    last = 0
    for name, module in backbone.named_modules():
        inside = spans.get(name, set())
        if name in group_of:
            last = group_of[name]
        elif len(inside) == 1:
            last = min(inside)
        elif inside or not name or any(module.children()):
            continue
        groups[last].append(f"backbone.{name}" if name else "backbone")
    head = [f"head.{name}" if name else "head" for name, _ in network.head.named_modules()]
    return [group for group in groups if group] + [head]


def train_last(network: Network, n_groups: int) -> None:
    """Put the last groups in training mode and freeze the others: no gradients, no new batch-norm statistics.

    To be called wherever `network.train()` would be.

    Args:
        network: changed in place.
        n_groups: how many groups learn, counted from the head; 1 is the head alone.

    Raises:
        ModelError: there are not so many groups.
    """
    groups = layer_groups(network)
    _check(n_groups, len(groups))
    network.train()
    for number, group in enumerate(groups):
        learns = number >= len(groups) - n_groups
        for name in group:
            module = network.get_submodule(name)
            module.training = learns
            for parameter in module.parameters(recurse=False):
                parameter.requires_grad_(learns)


def chain(backbone: nn.Module, example: Tensor) -> list[tuple[str, nn.Module]]:
    """A backbone as a chain: a list of its own submodules that give the same result when run in order.

    What is not a chain at some level stays whole; a backbone that is none at all comes back as [("", backbone)].
    Equality is not assumed but tried, bit for bit, in evaluation and in training mode, on a copy.

    Args:
        backbone: left as it is.
        example: float [n, 3, h, w], n at least 2; random values are best.
    """
    trial, x = copy.deepcopy(backbone).cpu().float().eval(), example.cpu().float()
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        names = _expand("", trial, x, trial(x.clone()))
        pieces = nn.Sequential(*(trial.get_submodule(name) for name in names))
        if not _same(trial.train(), pieces.train(), x):
            names = [""]
    return [(name, backbone.get_submodule(name)) for name in names]


def cut_points(network: Network) -> list[str]:
    """Names of backbone submodules, in order, before which the backbone can be cut. Empty where it cannot be.

    A submodule that changes its input in place is none of them: it would spoil what has been stored.
    """
    return [name for name, safe in _links(network) if safe]


def cut_before(network: Network, n_groups: int) -> str | None:
    """The cut that leaves as little as possible to run again when only the last groups learn.

    Args:
        network: left as it is.
        n_groups: how many groups learn, counted from the head. For the head alone (1), storing the features is
            better than any cut.

    Returns:
        One of `cut_points`, or None where no cut has frozen groups alone before it.

    Raises:
        ModelError: there are not so many groups.
    """
    groups = layer_groups(network)
    _check(n_groups, len(groups))
    learning = {name for group in groups[len(groups) - n_groups : -1] for name in group}
    best = None
    for name, safe in _links(network):
        best = name if safe else best
        part = network.backbone.get_submodule(name)
        if any(_join("backbone", _join(name, inner)) in learning for inner, m in part.named_modules() if _owns(m)):
            break
    return best


def split_backbone(network: Network, at: str) -> tuple[nn.Sequential, nn.Sequential]:
    """Two pieces of the backbone that share its parameters: `rest(first(x))` equals `backbone(x)`.

    Args:
        network: left as it is.
        at: one of `cut_points`; the first module of the second piece.

    Raises:
        ModelError: the backbone cannot be cut there.
    """
    links = _links(network)
    possible = cut_points(network)
    if at not in possible:
        raise ModelError(
            f"{network.architecture.name} cannot be cut before '{at}'.",
            f"Possible: {', '.join(possible)}." if possible else "This network cannot be cut at all.",
        )
    modules = [network.backbone.get_submodule(name) for name, _ in links]
    cut = [name for name, _ in links].index(at)
    return nn.Sequential(*modules[:cut]), nn.Sequential(*modules[cut:])


def _links(network: Network) -> list[tuple[str, bool]]:
    """Names along the chain, and whether the backbone can be cut before each; found once for each network."""
    if network not in _CHAINS:
        _CHAINS[network] = _find_links(network)
    return _CHAINS[network]


def _find_links(network: Network) -> list[tuple[str, bool]]:
    random = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, *network.architecture.backbone_size, generator=random).to(memory_format=torch.channels_last)
    links = []
    with torch.no_grad():
        for number, (name, module) in enumerate(chain(network.backbone, x)):
            before = x.clone()
            after: Tensor = copy.deepcopy(module).cpu().float().eval()(x)
            links.append((name, number > 0 and torch.equal(before, x)))
            x = after
    return links


def _expand(name: str, module: nn.Module, x: Tensor, y: Tensor) -> list[str]:
    """Names of the modules that replace this one, which turns x into y; its own where its children are not a chain."""
    children = [(n, c) for n, c in module.named_children() if not isinstance(c, nn.Identity)]
    container = not name or isinstance(module, nn.Sequential) or any(isinstance(c, nn.Sequential) for _, c in children)
    if not children or not container:
        return [name]
    names: list[str] = []
    h = x.clone()
    try:
        for child_name, child in children:
            before = h.clone()
            h = child(h)
            names += _expand(_join(name, child_name), child, before, h)
    except _NOT_A_CHAIN:
        return [name]
    # A result without any variation (a dead network) would make everything look equal.
    varied = isinstance(h, Tensor) and bool((y != y.flatten()[0]).any())
    return names if varied and torch.equal(h, y) else [name]


def _same(one: nn.Module, other: nn.Module, x: Tensor) -> bool:
    """Whether two modules give equal results from equal random states."""
    results, state = [], torch.get_rng_state()
    for module in (one, other):
        torch.set_rng_state(state)
        results.append(module(x.clone()))
    return torch.equal(*results)


def _owns(module: nn.Module) -> bool:
    return next(module.parameters(recurse=False), None) is not None


def _join(name: str, inner: str) -> str:
    return f"{name}.{inner}" if name and inner else name or inner


def _aligned_groups(backbone: SideBySide, sources: Sequence[str]) -> dict[str, int]:
    """Groups of an ensemble's members by name of module, aligned at their ends."""
    members = []
    for number, (member, source) in enumerate(zip(backbone.members, sources, strict=True)):
        group_of = _numbers(member.get_submodule("backbone"), source)
        order = {group: i for i, group in enumerate(sorted(set(group_of.values())))}
        members.append({_join(f"members.{number}.backbone", name): order[group] for name, group in group_of.items()})
    depths = [1 + max(group_of.values(), default=-1) for group_of in members]
    return {
        name: max(depths) - depth + group
        for group_of, depth in zip(members, depths, strict=True)
        for name, group in group_of.items()
    }


def _numbers(backbone: nn.Module, source: str) -> dict[str, int]:
    """Number of the group of each module of a backbone that owns parameters, by name."""
    return _timm_groups(backbone) or _part_groups(backbone, inside=source == "torchvision")


def _timm_groups(backbone: nn.Module) -> dict[str, int]:
    """Group by name of each module of a timm backbone that owns parameters, as timm itself groups them; else empty."""
    matcher = getattr(backbone, "group_matcher", None)
    if matcher is None:
        return {}
    from timm.models import group_parameters as timm_groups

    try:
        groups = timm_groups(backbone, matcher(coarse=True), reverse=True)
    except AssertionError:  # some networks offer only a fine grouping
        groups = timm_groups(backbone, matcher(coarse=False), reverse=True)
    group_of: dict[str, int] = {}
    for parameter, group in groups.items():
        group_of.setdefault(parameter.rpartition(".")[0], group)
    return group_of


def _part_groups(backbone: nn.Module, inside: bool) -> dict[str, int]:
    """Group by name of each module that owns parameters: one group a part, norms with the part before them.

    Args:
        backbone: to be grouped.
        inside: whether the modules inside of an `nn.Sequential` are parts, instead of itself.
    """
    parts: list[str] = []
    for name, child in backbone.named_children():
        opened = inside and isinstance(child, nn.Sequential)
        parts += [_join(name, inner) for inner, _ in child.named_children()] if opened else [name]
    group_of = {"": 0} if _owns(backbone) else {}
    number = -1
    for part in parts:
        module = backbone.get_submodule(part)
        if number < 0 or any(p.ndim > 1 for p in module.parameters()):
            number += any(True for _ in module.parameters())
        group_of |= {_join(part, name): number for name, m in module.named_modules() if _owns(m)}
    return group_of


def _check(n_groups: int, available: int) -> None:
    if not 1 <= n_groups <= available:
        raise ModelError(
            f"{n_groups} layer groups cannot be trained: this network has {available}.",
            f"Choose 1 (the head alone) to {available} (everything).",
        )
