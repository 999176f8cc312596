"""Import of optional packages, with an error that names the extra to install."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from tellapart.errors import MissingExtraError


def require(module: str, feature: str, extra: str, package: str = "") -> ModuleType:
    """Import a module of an optional package.

    Args:
        module: dotted name, e.g. "sklearn.model_selection".
        feature: what the user asked for, as the subject of a sentence: "Dividing pictures into parts".
        extra: the extra of Tellapart that the package comes with.
        package: its name for pip, where that differs from the module's.

    Raises:
        MissingExtraError: the package is not installed.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        top = module.partition(".")[0]
        # A package that is there but lacks one of its own needs is another matter, and shown as it is.
        if (error.name or "").partition(".")[0] != top:
            raise
        raise MissingExtraError(feature, extra, package or top) from error
