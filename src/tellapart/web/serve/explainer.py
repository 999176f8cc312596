"""Explanations come from a child process, since they need torch: started on demand, bounded, started anew if it dies.

It is asked and answers through its standard input and output: four bytes of a length, and so many bytes.
"""

from __future__ import annotations

import asyncio
import json
from asyncio.subprocess import PIPE, Process
from collections.abc import Sequence
from typing import Any

from tellapart.web.serve.batches import Busy
from tellapart.web.serve.bodies import Refused

#: Explanations that may be under way or wait, since one takes about a second.
MOST_WAITING = 4
#: Seconds for one, seconds that a request waits for the child to be ready, and seconds after which an idle one ends.
SECONDS, SECONDS_TO_START, SECONDS_IDLE = 60.0, 60.0, 600.0
_MOST_ANSWER = 20_000_000
_HEAD = 4


class Explainer:
    """Explains answers; made and used in one event loop.

    Args:
        command: of the child. It sends a first, empty answer when it is ready.
        seconds: for one explanation.
    """

    def __init__(self, command: Sequence[str], seconds: float = SECONDS) -> None:
        self._command, self._seconds = command, seconds
        self._child: Process | None = None
        self._ready: asyncio.Task[bytes] | None = None
        self._alone = asyncio.Lock()
        self._n_inside = 0
        self._end: asyncio.TimerHandle | None = None
        self._ending: asyncio.Future[None] | None = None  # a task that nobody holds may be collected

    async def explain(self, picture: bytes) -> dict[str, Any]:
        """Why a picture is answered as it is, as the child says it.

        Raises:
            Busy: others wait already.
            Refused: it is not ready yet, took too long, or died; the next request starts another one.
        """
        if self._n_inside >= MOST_WAITING:
            raise Busy
        self._n_inside += 1
        try:
            async with self._alone:
                return await self._asked(picture)
        finally:
            self._n_inside -= 1

    async def stop(self) -> None:
        """End the child; the next request starts another one."""
        if self._end is not None:
            self._end.cancel()
        child, ready = self._child, self._ready
        self._child = self._ready = None
        if ready is not None:
            ready.cancel()
        if child is not None:
            if child.returncode is None:
                child.kill()
            await child.wait()

    async def _asked(self, picture: bytes) -> dict[str, Any]:
        if self._end is not None:
            self._end.cancel()
        answered = False
        try:
            child = await self._started()
            assert child.stdin is not None
            child.stdin.write(len(picture).to_bytes(_HEAD, "big") + picture)
            explanation: dict[str, Any] = json.loads(await asyncio.wait_for(_receive(child), self._seconds))
            answered = True
        except TimeoutError:
            raise Refused(503, "The explanation took too long and was given up.") from None
        except (OSError, EOFError, ValueError):
            raise Refused(503, "The explanation failed. Its operator sees why.") from None
        finally:
            # Otherwise an answer may be left, which the next one who asks would take for his own.
            if not answered and self._is_ready:
                await asyncio.shield(self.stop())
        self._end = asyncio.get_running_loop().call_later(SECONDS_IDLE, self._stop_idle)
        return explanation

    @property
    def _is_ready(self) -> bool:
        return self._ready is not None and self._ready.done()

    async def _started(self) -> Process:
        """The child, ready for a picture.

        Raises:
            Refused: it is not ready yet. It goes on making itself ready.
        """
        if self._child is None or self._child.returncode is not None:
            await self.stop()
            self._child = await asyncio.create_subprocess_exec(
                *self._command, stdin=PIPE, stdout=PIPE, start_new_session=True
            )
            self._ready = asyncio.create_task(_receive(self._child))
        assert self._ready is not None
        await asyncio.wait({self._ready}, timeout=SECONDS_TO_START)
        if not self._is_ready:
            raise Refused(503, "Explanations are being made ready. Try again in ten seconds.", Retry_After="10")
        self._ready.result()
        return self._child

    def _stop_idle(self) -> None:
        if not self._n_inside:
            self._ending = asyncio.ensure_future(self.stop())


async def _receive(child: Process) -> bytes:
    """One answer of the child.

    Raises:
        EOFError: it ended. OSError: the pipe broke. ValueError: it is too long.
    """
    assert child.stdout is not None
    length = int.from_bytes(await child.stdout.readexactly(_HEAD), "big")
    if length > _MOST_ANSWER:
        raise ValueError(f"{length:,} bytes are too much for an explanation")
    return await child.stdout.readexactly(length)
