"""`study --cluster`: trainings of a study as actors of Ray, several on one GPU if so asked.

Each actor holds the very process that does trainings on one machine, and hands lines to and fro. So a table is the same
without a cluster, to the bit: seeds, threads, storage and the order of decisions are the study's own.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from tellapart.cluster.connect import Cluster
from tellapart.cluster.failures import in_words
from tellapart.experiments.execute import Hands
from tellapart.experiments.run_study import StudyOptions

#: Machines are lost now and then; a training that has lost so many in a row has a hand in it.
_TRIES = 3


class Relay:
    """An actor: a process for trainings on its node.

    Args:
        directory: of the study, at the same place on all nodes.
    """

    def __init__(self, directory: str) -> None:
        command = [sys.executable, "-m", "tellapart.experiments.worker", directory]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, encoding="utf-8")

    def exchange(self, line: str) -> str:
        """Give the process a line, and take the line that it answers; "" where it died."""
        assert self.process.stdin
        assert self.process.stdout
        try:
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
        except OSError:
            return ""
        return self.process.stdout.readline()


class RemoteHand:
    """A process on a node of the cluster; see `execute.Hand`."""

    def __init__(self, resources: dict[str, float], directory: Path) -> None:
        self._ray: Any = import_module("ray")
        self._actor = self._ray.remote(**resources)(Relay).remote(str(directory.resolve()))
        self._reason = "Its process died."

    def exchange(self, line: str) -> str:
        """Give it a line, and take the line that it answers; "" where it, or its node, died."""
        try:
            answer: str = self._ray.get(self._actor.exchange.remote(line))
        except self._ray.exceptions.RayError as error:
            self._reason = in_words(error).message
            return ""
        return answer

    def finish(self) -> None:
        """Let it go: others may want its place."""
        self.kill()

    def kill(self) -> None:
        """End it at once; the process ends with its actor."""
        self._ray.kill(self._actor)

    def death(self) -> str:
        """A sentence on why it ended; its place is free again."""
        self.kill()
        return self._reason


def on_cluster(cluster: Cluster, options: StudyOptions, threads: int) -> StudyOptions:
    """The options of a study whose trainings run on a cluster.

    Args:
        cluster: connected.
        options: `parallel` trainings at a time; 1 stands for as many as there is room for. With GPUs, each gets its
            share of them.
        threads: of each training, as many processors it takes.
    """
    if cluster.n_gpus:
        n = options.parallel if options.parallel > 1 else cluster.n_gpus
        resources = {"num_cpus": min(threads, cluster.n_cpus / n), "num_gpus": min(1.0, cluster.n_gpus / n)}
    else:
        room = max(1, cluster.n_cpus // threads)
        n = min(options.parallel, room) if options.parallel > 1 else room
        resources = {"num_cpus": float(min(threads, cluster.n_cpus))}
    return replace(options, hands=Hands(n, partial(RemoteHand, resources), _TRIES))
