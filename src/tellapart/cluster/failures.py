"""What fails on a worker, as one sentence with the node's name: nobody is shown the traceback of another machine."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

from tellapart.errors import ClusterError, TellapartError

if TYPE_CHECKING:
    from ray.exceptions import RayError

#: Characters of a message from elsewhere.
_LONGEST = 300
_ADDRESS = re.compile(r"\bip[=:] ?([\w.:]+)")
#: What Ray calls it, and what happened, after "A worker …".
_ENDS = {
    "OutOfMemoryError": "was ended because its machine's memory was full",
    "OutOfDiskError": "found its machine's disk full",
    "NodeDiedError": "is lost: its machine no longer answers",
    "ActorUnschedulableError": "cannot start: no machine has the processors or GPUs that it asks for",
    "TaskUnschedulableError": "cannot start: no machine has the processors or GPUs that it asks for",
    "RuntimeEnvSetupError": "cannot start: its environment cannot be set up",
    "WorkerCrashedError": "died",
    "ActorDiedError": "died",
    "ActorUnavailableError": "does not answer",
    "GetTimeoutError": "did not answer in time",
    "ObjectLostError": "died, and what it had computed went with it",
    "OwnerDiedError": "died, and what it had computed went with it",
}


@contextmanager
def failures_in_words() -> Iterator[None]:
    """Within it, what Ray raises becomes a `ClusterError`."""
    from ray.exceptions import RayError

    try:
        yield
    except TellapartError as error:
        if isinstance(error, RayError):  # Ray gives what a worker raised both classes
            raise in_words(error) from None
        raise
    except RayError as error:
        raise in_words(error) from None


def in_words(error: RayError) -> TellapartError:
    """An error of Ray for people: what a worker raised, and the name of its node."""
    from ray.exceptions import RayTaskError

    inner = _innermost(error)
    if not isinstance(inner, RayTaskError):
        return ClusterError(f"A worker{_on(inner)} {ended(inner)}.")
    cause = inner.cause
    if isinstance(cause, TellapartError):
        return ClusterError(f"Worker{_on(inner)}: {cause.message}", cause.hint)
    return ClusterError(f"A worker{_on(inner)} failed: {type(cause).__name__}: {one_line(cause)}.")


def ended(error: BaseException) -> str:
    """What happened to a worker, as a verb: "died"."""
    return _ENDS.get(type(error).__name__, f"failed: {one_line(error)}")


def one_line(error: BaseException) -> str:
    """The first line of what an error says, shortened, without a full stop."""
    first = next(filter(None, map(str.strip, str(error).splitlines())), type(error).__name__)
    return first[:_LONGEST].rstrip(". ")


def _innermost(error: BaseException) -> BaseException:
    """The error of a worker that others are wrapped around."""
    from ray.exceptions import RayError, RayTaskError

    while True:
        inner = error.cause if isinstance(error, RayTaskError) else error.__cause__
        if not isinstance(inner, RayError):
            return error
        error = inner


def _on(error: BaseException) -> str:
    """Where it was, as " on NAME": the machine's name, else its address."""
    ray: Any = import_module("ray")
    address = getattr(error, "ip", None)
    if not address:  # most of its errors say it in their text alone
        line = _ADDRESS.search(str(error))
        if line is None:
            return ""
        address = line[1]
    nodes = ray.nodes() if ray.is_initialized() else []
    names = {node["NodeManagerAddress"]: node["NodeName"] or node["NodeManagerHostname"] for node in nodes}
    name = names.get(address, address)
    if name == address:  # Ray's name for a node is its address, unless it was given one
        name = next((n["NodeManagerHostname"] for n in nodes if n["NodeManagerAddress"] == address), address)
    return f" on {name}"
