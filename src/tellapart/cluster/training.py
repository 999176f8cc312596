"""`train --cluster`: the same training on several workers, started and watched by Ray Train.

Each attempt is one group of workers. Where one is lost, the next attempt goes on from the last checkpoint with as many
workers as the cluster still has: as many as divide the recipe's micro-batches, so that the result stays the same.
"""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tellapart.cluster.connect import Cluster
from tellapart.cluster.failures import one_line
from tellapart.cluster.mailbox import Mailbox, Mailed, Message, as_event
from tellapart.core.events import Event, Note, Progress, Validated
from tellapart.core.signals import stop_politely
from tellapart.errors import ClusterError, LostWorkerError, TellapartError, UsageError
from tellapart.recipe.distributed import for_workers
from tellapart.runs.run import Run
from tellapart.runs.sessions import read_sessions
from tellapart.workflows.progress import ProgressSink

if TYPE_CHECKING:
    from tellapart.recipe.schema import Recipe
    from tellapart.workflows.train import RunOptions

#: Where a Ray that was started here runs alone, its workers' connections stay on this machine too.
_LOOPBACK = {"GLOO_SOCKET_IFNAME": "lo0" if sys.platform == "darwin" else "lo"}
#: Folder in the run directory that Ray Train wants for itself, as long as it trains.
_OF_RAY = ".ray"
#: Workers that are lost in a row without a step further than before: then something other than chance kills them.
_IN_VAIN = 3
#: Seconds after a lost worker in which Ray may learn which nodes are left, and between two looks at the mailbox.
_SETTLE, _LOOK = 3.0, 0.2


@dataclass(frozen=True)
class Work:
    """A training as its leader takes it; paths are those of the machines that train.

    Attributes:
        pictures: a folder, or a table of files and labels. out: the run directory.
        recipe, options, corrections: see `workflows.train`.
        labels: how labels are read, see `scan`.
    """

    pictures: Path
    out: Path
    recipe: Recipe
    options: RunOptions
    corrections: Path | None = None
    labels: dict[str, Any] = field(default_factory=dict)


def train_on_cluster(cluster: Cluster, work: Work, n_workers: int | None, progress: ProgressSink) -> None:
    """Train to the end, whatever workers are lost on the way.

    Args:
        cluster: connected.
        work: what is trained.
        n_workers: None: as many as the cluster has GPUs, or else processors.

    Raises:
        UsageError: the cluster has not so many.
        TellapartError: the leader's own error, such as a recipe that cannot be trained.
        ClusterError: workers are lost again and again without a step in between.
        KeyboardInterrupt: stopped; the state has been saved.
    """
    most = _n_available(cluster)
    n = n_workers or most
    if n > most:
        kind = "GPUs" if cluster.n_gpus else "processors"
        raise UsageError(f"--workers {n}: the cluster has {most} {kind}.", "Give fewer workers, or add machines.")
    # A busy machine takes longer than Ray's own minute to load torch; read by Ray Train here, and gone with Ray.
    os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "600")
    with stop_politely() as stop:
        try:
            progress.follow(_attempts(cluster, work, n, stop), work.recipe)
        finally:
            shutil.rmtree(work.out / _OF_RAY, ignore_errors=True)


def _attempts(cluster: Cluster, work: Work, n: int, stop: list[int]) -> Iterator[Event]:
    """The events of one group of workers after another, until the training is done."""
    furthest, in_vain, asked = (-1, -1, -1), 0, n
    while True:
        n = _n_that_divide(work, min(asked, _n_available(cluster)), asked)
        if n < asked:
            yield Note(f"{n} of {asked} workers train: so many are there, and divide the micro-batches.")
        attempt = _Attempt(cluster, work, n, stop)
        for event in attempt.events():
            if (position := _position(event)) and position > furthest:
                furthest, in_vain = position, 0
            yield event
        if attempt.error:
            raise attempt.error
        if attempt.done:
            return
        in_vain += 1
        if in_vain >= _IN_VAIN:
            raise ClusterError(
                f"Workers were lost {in_vain} times without a step in between: {attempt.lost}.",
                "What was saved is kept. Look at the machines' memory, then run the same command again.",
            )
        yield Note(f"A worker was lost: {attempt.lost}. The training goes on from its last checkpoint.")
        time.sleep(_SETTLE)


def _n_that_divide(work: Work, most: int, asked: int) -> int:
    """The largest number of workers that divides the micro-batches: of the run, or as they will be for so many."""
    run = Run(work.out)
    recipe = for_workers(work.recipe, asked, run.recipe if run.begun else None)
    n_parts = recipe.distributed.micro_batches if recipe.distributed else 1
    return max(n for n in range(1, max(1, most) + 1) if n_parts % n == 0)


def _position(event: Event) -> tuple[int, int, int] | None:
    """How far a training is: stage, epoch, step."""
    match event:
        case Progress():
            return event.stage, event.epoch, event.step
        case Validated():
            return event.stage, event.epoch + 1, 0
    return None


def _n_available(cluster: Cluster) -> int:
    """Workers that the cluster has room for now: one a GPU where it has any, else one a processor."""
    ray: Any = import_module("ray")
    now = ray.cluster_resources()
    return int(now.get("GPU" if cluster.n_gpus else "CPU", 0))


class _Attempt:
    """One group of workers.

    Attributes:
        done: the training is finished.
        error: what the leader says is wrong; another attempt would say the same.
        lost: why the group ended otherwise, in words.
    """

    def __init__(self, cluster: Cluster, work: Work, n: int, stop: list[int]) -> None:
        self.cluster, self.work, self.n, self.stop = cluster, work, n, stop
        self.done = False
        self.error: BaseException | None = None
        self.lost = ""

    def events(self) -> Iterator[Event]:
        """What the leader tells, until the group has ended."""
        ray: Any = import_module("ray")
        mailbox = ray.remote(num_cpus=0)(Mailbox).remote()
        thread = threading.Thread(target=self._fit, args=(mailbox,), name="tellapart-ray-train", daemon=True)
        thread.start()
        asked = False
        while True:
            over = not thread.is_alive()
            if self.stop and not asked:
                asked = True
                mailbox.ask_to_stop.remote()
            for message in ray.get(mailbox.take.remote()):
                self._note(message)
                if event := as_event(message):
                    yield event
            if over:
                break
            thread.join(_LOOK)
        ray.kill(mailbox)
        if asked and not self.done:
            raise KeyboardInterrupt

    def _note(self, message: Message) -> None:
        kind, value = message
        if kind == "done":
            self.done = True
        elif kind == "failed":
            self.error = ClusterError(*value)

    def _fit(self, mailbox: Any) -> None:
        """Run the group to its end, in a thread: Ray's own handler of Ctrl-C would end it in the middle of a step."""
        train, torch = import_module("ray.train"), import_module("ray.train.torch")
        use_gpu = bool(self.cluster.n_gpus)
        backend = "cpu:gloo,cuda:nccl" if use_gpu else "gloo"
        self.work.out.mkdir(parents=True, exist_ok=True)
        try:
            torch.TorchTrainer(
                _train,
                train_loop_config={"work": self.work, "mailbox": mailbox},
                torch_config=torch.TorchConfig(backend=backend, timeout_s=1800),
                scaling_config=train.ScalingConfig(num_workers=self.n, use_gpu=use_gpu),
                run_config=train.RunConfig(
                    name="ray",
                    storage_path=str(self.work.out / _OF_RAY),
                    failure_config=train.FailureConfig(max_failures=0),
                    worker_runtime_env={"env_vars": _LOOPBACK} if self.cluster.logs else None,
                ),
            ).fit()
        except Exception as error:  # noqa: BLE001 -- whatever ended the group; what the leader had to say is in the mailbox
            self.lost = _why_lost(error, Run(self.work.out))


def _why_lost(error: Exception, run: Run) -> str:
    """Why a group of workers ended, in words, with the node's name."""
    failures: dict[int, Exception] = getattr(error, "worker_failures", {})
    if not failures:
        return one_line(error)
    rank, cause = next(iter(failures.items()))
    sessions = read_sessions(run)
    nodes = sessions[-1].nodes if sessions else []
    return f"worker {rank + 1}{f' on {nodes[rank]}' if rank < len(nodes) else ''}: {one_line(cause)}"


def _train(config: dict[str, Any]) -> None:
    """What each worker of a group does: the first one leads, the others help."""
    from tellapart.core.processes import rank
    from tellapart.workflows.scan import scan
    from tellapart.workflows.train import follow, help_to_the_end

    work: Work = config["work"]
    if rank():
        with suppress(LostWorkerError):  # the leader is lost, or has ended with a word to the command
            help_to_the_end(work.options.on_unreadable, work.options.runtime)
        return
    sink = Mailed(config["mailbox"])
    try:
        catalog = scan(work.pictures, sink, **work.labels)
        follow(sink, work.recipe, catalog, work.out, work.options, corrections=work.corrections)
        sink.waiting.append(("done", None))
    except LostWorkerError:
        sink.deliver(wait=True)
        raise
    except KeyboardInterrupt:
        pass
    except TellapartError as error:
        sink.waiting.append(("failed", (error.message, error.hint)))
    sink.answer = None
    sink.deliver(wait=True)
