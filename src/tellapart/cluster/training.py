"""`train --cluster`: the same training on several workers, started and watched by Ray Train.

Each attempt is one group of workers. Where one is lost, the next attempt goes on from the last checkpoint with as many
workers as the cluster still has: as many as divide the recipe's micro-batches, so that the result stays the same.
"""

from __future__ import annotations

import os
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tellapart.cluster.connect import Cluster
from tellapart.cluster.failures import ended, one_line
from tellapart.cluster.mailbox import Mailbox, Mailed, as_event
from tellapart.core.events import Event, Note, Progress, Validated
from tellapart.core.files import plainly
from tellapart.core.signals import stop_politely
from tellapart.data.catalog import Catalog
from tellapart.errors import ClusterError, LostWorkerError, TellapartError, UsageError
from tellapart.recipe.distributed import for_workers
from tellapart.runs.run import Run
from tellapart.runs.sessions import read_sessions
from tellapart.workflows.progress import ProgressSink
from tellapart.workflows.scan import scan

if TYPE_CHECKING:
    from tellapart.recipe.schema import Recipe
    from tellapart.workflows.train import RunOptions

#: Workers that are lost in a row without a step further than before: then something other than chance kills them.
_IN_VAIN = 3
#: Seconds after a lost worker in which Ray may learn which nodes are left, and between two looks at the mailbox.
_SETTLE, _LOOK = 3.0, 0.5
#: Of Ray Train, which reads them from the environment: seconds between two looks at workers, and until they have
#: started. A busy machine takes longer than its own minute to load torch.
_OF_TRAIN = {"RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "1.0", "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "600"}


@dataclass(frozen=True)
class Work:
    """A training as its leader takes it; paths are those of the machines that train.

    Attributes:
        pictures: a folder, or a table of files and labels; of a storage too. out: the run directory.
        recipe, options, corrections: see `workflows.train`.
        labels: how labels are read, see `scan`.
        scanning: takes pictures, where progress is shown, and labels; by default `workflows.scan`.
        scratch: a folder that all workers reach, as long as the command lasts.
    """

    pictures: Path | str
    out: Path
    recipe: Recipe
    options: RunOptions
    corrections: Path | None = None
    labels: dict[str, Any] = field(default_factory=dict)
    scanning: Callable[..., Catalog] = scan
    scratch: Path = Path()


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
    for name, value in _OF_TRAIN.items():
        os.environ.setdefault(name, value)  # gone with Ray
    # Of this command alone: another one may have the same run directory, and is to be refused there.
    scratch = cluster.logs / "training" if cluster.logs else work.out / f".ray-{secrets.token_hex(4)}"
    work = replace(work, scratch=scratch)
    with stop_politely() as stop:
        try:
            progress.follow(_attempts(cluster, work, n, stop), work.recipe)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def _attempts(cluster: Cluster, work: Work, n: int, stop: list[int]) -> Iterator[Event]:
    """The events of one group of workers after another, until the training is done."""
    losses, asked = _Losses(), n
    while True:
        n = _n_that_divide(work, min(asked, _n_available(cluster)), asked)
        if n < asked:
            yield Note(f"{n} of {asked} workers train: so many are there, and divide the micro-batches.")
        attempt = _Attempt(cluster, work, n, stop)
        yield from attempt.events(losses)
        if attempt.done:
            return
        yield losses.note(attempt.lost)
        time.sleep(_SETTLE)


class _Losses:
    """How often workers were lost without a step further than before."""

    def __init__(self) -> None:
        self.furthest, self.in_vain = (-1, -1, -1), 0

    def see(self, event: Event) -> None:
        """Take notice of a step that is further than before."""
        if (position := _position(event)) and position > self.furthest:
            self.furthest, self.in_vain = position, 0

    def note(self, reason: str) -> Note:
        """Count a lost worker, and say so.

        Raises:
            ClusterError: too many were lost in a row.
        """
        self.in_vain += 1
        if self.in_vain >= _IN_VAIN:
            raise ClusterError(
                f"Workers were lost {self.in_vain} times without a step in between: {reason}.",
                "What was saved is kept. Look at the machines' memory, then run the same command again.",
            )
        return Note(f"A worker was lost: {reason}. The training goes on from its last checkpoint.")


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
    """One group of workers; on a Ray that was started here, one after another of as many.

    There Ray Train itself replaces a group that has lost a worker, and its own processes need not start anew. Elsewhere
    a machine may be lost, and fewer workers go on.

    Attributes:
        done: the training is finished.
        lost: why the group ended otherwise, in words.
    """

    def __init__(self, cluster: Cluster, work: Work, n: int, stop: list[int]) -> None:
        self.cluster, self.work, self.n, self.stop = cluster, work, n, stop
        self.done = False
        self.lost = ""

    def events(self, losses: _Losses) -> Iterator[Event]:
        """What the leader tells, until the group has ended.

        Raises:
            ClusterError: what the leader says is wrong; another attempt would say the same.
            KeyboardInterrupt: all were asked to stop, and have.
        """
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
            for kind, value in ray.get(mailbox.take.remote()):
                match kind:
                    case "done":
                        self.done = True
                    case "failed":
                        raise ClusterError(*value)
                    case "stopped":
                        raise KeyboardInterrupt
                    case "lost" if self.cluster.logs:
                        yield losses.note(value)
                    case "lost":
                        self.lost = value
                if event := as_event((kind, value)):
                    losses.see(event)
                    yield event
            if over:
                break
            thread.join(_LOOK)
        ray.kill(mailbox)
        if asked and not self.done:
            raise KeyboardInterrupt

    def _fit(self, mailbox: Any) -> None:
        """Run the group to its end, in a thread: Ray's own handler of Ctrl-C would end it in the middle of a step."""
        train, torch = import_module("ray.train"), import_module("ray.train.torch")
        use_gpu = bool(self.cluster.n_gpus)
        backend = "cpu:gloo,cuda:nccl" if use_gpu else "gloo"
        out = self.work.out

        class Tell(train.UserCallback):  # type: ignore[misc, name-defined]
            """Runs where Ray Train does."""

            def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
                mailbox.put.remote([("lost", _why_lost(worker_exceptions, Run(out)))])

        self.work.scratch.mkdir(parents=True, exist_ok=True)
        try:
            torch.TorchTrainer(
                _train,
                train_loop_config={"work": self.work, "mailbox": mailbox},
                torch_config=torch.TorchConfig(backend=backend, timeout_s=1800),
                scaling_config=train.ScalingConfig(num_workers=self.n, use_gpu=use_gpu),
                run_config=train.RunConfig(
                    name="ray",
                    storage_path=str(self.work.scratch),
                    failure_config=train.FailureConfig(
                        max_failures=-1 if self.cluster.logs else 0, controller_failure_limit=_IN_VAIN
                    ),
                    callbacks=[Tell()],
                ),
            ).fit()
        except Exception as error:  # noqa: BLE001 -- whatever ended the group; what the leader had to say is in the mailbox
            self.lost = self.lost or one_line(error)


def _why_lost(failures: dict[int, Exception], run: Run) -> str:
    """Why a group of workers ended, in words, with the node's name; of each worker that failed, its failure."""
    causes = {rank: _raised(failure) for rank, failure in failures.items()}
    # Who died, rather than who was left and noticed.
    rank = min(causes, key=lambda rank: isinstance(causes[rank], LostWorkerError))
    reason = "no longer reaches another one" if isinstance(causes[rank], LostWorkerError) else ended(causes[rank])
    sessions = read_sessions(run)
    nodes = sessions[-1].nodes if sessions else []
    return f"worker {rank + 1}{f' on {nodes[rank]}' if rank < len(nodes) else ''} {reason}"


def _raised(error: Exception) -> Exception:
    """What a worker raised, or what Ray says of it, out of what Ray Train wraps around it."""
    inner: Exception = getattr(error, "health_check_failure", getattr(error, "_base_exc", error))
    return inner


def _train(config: dict[str, Any]) -> None:
    """What each worker of a group does: the first one leads, the others help."""
    from tellapart.core.processes import rank
    from tellapart.workflows.train import follow, help_to_the_end

    work: Work = config["work"]
    if rank():
        help_to_the_end(work.options.on_unreadable, work.options.runtime)
        return
    sink = Mailed(config["mailbox"])
    try:
        follow(sink, work.recipe, _scanned(work, sink), work.out, work.options, corrections=work.corrections)
        sink.waiting.append(("done", None))
        sink.answer = None
        sink.deliver(wait=True)
    except (TellapartError, KeyboardInterrupt) as error:
        if isinstance(error, KeyboardInterrupt):
            sink.waiting.append(("stopped", None))
        elif not isinstance(error, LostWorkerError):
            sink.waiting.append(("failed", (error.message, error.hint)))
        sink.answer = None
        sink.deliver(wait=True)
        # An error in any case: Ray Train then ends the others too, who wait for this worker.
        raise LostWorkerError("The first worker has ended.") from error


def _scanned(work: Work, sink: Mailed) -> Catalog:
    """The pictures, as the first attempt of this command saw them: every file is opened once."""
    file = work.scratch / "catalog.parquet"
    if not file.is_file():
        catalog = work.scanning(work.pictures, sink, **work.labels)
        with plainly():
            catalog.save(file)
        return catalog
    return Catalog.load(file)
