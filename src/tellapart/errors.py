"""Every error a user can meet. Each says what is wrong, where, and what to do next.

The command line prints the message and leaves with `exit_code`; it never shows a traceback for any of these.
"""

from __future__ import annotations


class TellapartError(Exception):
    """Base of all errors meant for people.

    Args:
        message: what is wrong, and where (file, row, key).
        hint: what to do next; printed on a line of its own.
    """

    exit_code = 2

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message


class UsageError(TellapartError):
    """An argument that cannot be used as given."""


class DataError(TellapartError):
    """Pictures, labels or tables that cannot be used as they are."""


class UnreadableError(DataError):
    """A picture that cannot be read. `reason` is one plain sentence without the path."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason

    def __reduce__(self) -> tuple[type[UnreadableError], tuple[str, str]]:
        return type(self), (self.path, self.reason)


class SplitError(DataError):
    """The pictures cannot be divided as asked."""


class RecipeError(TellapartError):
    """A recipe with an unknown key, a wrong type or a value out of range."""


class ModelError(TellapartError):
    """A network that does not exist or cannot be built as asked."""


class WeightsError(TellapartError):
    """Pretrained weights that cannot be had or do not fit."""


class TrainingError(TellapartError):
    """A training that cannot go on, such as a loss that is not finite."""


class RunError(TellapartError):
    """A run directory that is damaged, incomplete, in use, or made from other data."""


class CacheError(TellapartError):
    """A cache that cannot be written or read, such as on a full disk."""


class LostCacheError(CacheError):
    """A part of the cache that something else damaged while it was read: it has to be made again."""


class ClusterError(TellapartError):
    """A cluster that does not answer, or a worker of it that failed."""


class WorkerError(ClusterError):
    """A worker of a training on several processes has failed; the message names its node."""


class LostWorkerError(WorkerError):
    """A worker is there no longer: it was killed, or its node cannot be reached."""


class BundleError(TellapartError):
    """A bundle that is damaged or does not give the answers it was written with."""


class HubError(TellapartError):
    """A hub that cannot be reached, or that refuses what is sent."""


class MissingExtraError(TellapartError):
    """A part of Tellapart that needs an extra which is not installed."""

    def __init__(self, feature: str, extra: str, missing: str) -> None:
        super().__init__(
            f"{feature} needs the package '{missing}', which is not installed.",
            f"Install it with: pip install 'tellapart[{extra}]'",
        )


def system_error_message(error: OSError) -> str:
    """What the system says of a full disk, a folder that may not be written to and the like, for people."""
    return f"{error.filename or 'Reading or writing failed'}: {error.strerror or error}."
