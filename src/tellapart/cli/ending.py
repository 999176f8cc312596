"""How the program ends: errors meant for people become a message and an exit code, never a traceback."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tellapart.core.output import print_err
from tellapart.core.text import Lines, visible
from tellapart.errors import TellapartError, system_error_message

#: Exit code of `predict` where some pictures could not be read.
UNREADABLE = 3


@contextmanager
def errors_for_people() -> Iterator[None]:
    """Within it, a `TellapartError`, an interruption or a fault of the system ends the program with its exit code."""
    try:
        yield
    except TellapartError as error:
        print_err(Lines(f"Error: {visible(error.message)}"), *filter(None, [error.hint]))
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # Whoever read the output has stopped reading; closing quietly is what other programs do.
        sys.stderr.close()
        sys.exit(141)
    except OSError as error:  # a full disk, a folder that may not be written to
        print_err(f"Error: {system_error_message(error)}")
        sys.exit(TellapartError.exit_code)
