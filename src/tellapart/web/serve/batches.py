"""Pictures of many requests share batches: those that wait already run together, and nobody waits for company.

A picture is decoded on a thread, waits in a queue, and is answered with the others that are there when the network is
free. The number of pictures on this way is bounded: one more is refused at once, so that nobody waits in vain.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

from tellapart.core.hardware import n_processors
from tellapart.deploy.answer import Answer
from tellapart.deploy.engines.names import AT_ONCE
from tellapart.deploy.predictor import BATCH, AnswerOptions, Classifier, answers_to_read
from tellapart.deploy.read_pictures import PictureRead, read_one

#: Pictures that may be decoded, wait and be answered at a time: a few seconds' work on two processors.
MOST_WAITING = 128


class Busy(Exception):
    """So many pictures wait that another one would be answered late."""


@dataclass(eq=False)
class _Waiting:
    """A picture in the queue, for the model that it was prepared for."""

    picture: PictureRead
    model: Classifier
    options: AnswerOptions
    answer: asyncio.Future[Answer] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Batches:
    """Answers pictures in batches; made and used in one event loop.

    Attributes:
        model: answers what comes from now on; may be exchanged at any time.
        n_inside: pictures on their way.
        n_batches: that were run so far.
    """

    def __init__(self, model: Classifier, most_waiting: int = MOST_WAITING) -> None:
        self.model = model
        self.most_waiting = most_waiting
        self.n_inside = 0
        self.n_batches = 0
        self._queue: asyncio.Queue[_Waiting] = asyncio.Queue()
        self._readers = ThreadPoolExecutor(n_processors(), thread_name_prefix="read")
        self._network = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="network")
        self._workers: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to answer."""
        self._workers = [asyncio.create_task(self._work()) for _ in range(AT_ONCE)]

    async def stop(self) -> None:
        """End when all pictures that are inside are answered."""
        while self.n_inside:
            await asyncio.sleep(0.01)
        for worker in self._workers:
            worker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await worker
        self._readers.shutdown()
        self._network.shutdown()

    async def answers(self, files: Sequence[bytes], options: AnswerOptions) -> list[Answer]:
        """Answers to the contents of picture files, in their order.

        Raises:
            Busy: there is no room for that many.
            TellapartError: an option that this model does not have, or a model that cannot be run.
        """
        model = self.model
        answers_to_read(
            model.network, model.bundle, iter(()), BATCH, **options
        )  # what cannot be asked for is an error now
        with self._inside(len(files)):
            return list(await asyncio.gather(*(self._answer(file, model, options) for file in files)))

    def check_room(self, n: int = 1) -> None:
        """Whether so many more pictures may come; asked before they are read, a refusal costs next to nothing.

        Raises:
            Busy: they may not.
        """
        if self.n_inside + n > self.most_waiting:
            raise Busy

    @contextmanager
    def _inside(self, n: int) -> Iterator[None]:
        self.check_room(n)
        self.n_inside += n
        try:
            yield
        finally:
            self.n_inside -= n

    async def _answer(self, file: bytes, model: Classifier, options: AnswerOptions) -> Answer:
        loop = asyncio.get_running_loop()
        picture = await loop.run_in_executor(self._readers, read_one, file, model.bundle.preprocessing)
        waiting = _Waiting(picture, model, options)
        self._queue.put_nowait(waiting)
        return await waiting.answer

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        left: list[_Waiting] = []
        while True:
            waiting = left or [await self._queue.get()]
            while len(waiting) < BATCH and not self._queue.empty():
                waiting.append(self._queue.get_nowait())
            first = waiting[0]
            batch = [w for w in waiting if w.model is first.model and w.options == first.options]
            left = [w for w in waiting if w not in batch]
            batch = [w for w in batch if not w.answer.done()]  # whoever has left needs no answer
            if not batch:
                continue
            try:
                answers = await loop.run_in_executor(self._network, _run, batch)
            except Exception as error:  # noqa: BLE001 - it is theirs who wait; this loop must live
                for w in batch:
                    if not w.answer.done():
                        w.answer.set_exception(error)
                continue
            self.n_batches += 1
            for w, answer in zip(batch, answers, strict=True):
                if not w.answer.done():
                    w.answer.set_result(answer)


def _run(batch: Sequence[_Waiting]) -> list[Answer]:
    first = batch[0]
    pictures = iter([waiting.picture for waiting in batch])
    return list(answers_to_read(first.model.network, first.model.bundle, pictures, len(batch), **first.options))
