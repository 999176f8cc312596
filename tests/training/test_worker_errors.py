"""What one worker meets with, all are told; one that is gone is noticed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import json, os, sys
from pathlib import Path
import torch.distributed as dist
from tellapart.errors import LostCacheError, TellapartError, UnreadableError
from tellapart.training.parallel.workers import Workers

ERRORS = {
    "picture": UnreadableError("/photos/a.jpg", "it is cut off"),
    "cache": LostCacheError("The store is gone."),
    "own": TellapartError("The disk is full.", "Make room."),
    "other": MemoryError("no room for 3 GiB\\nmore lines"),
}

def meet(folder, rank):
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    workers, told = Workers(rank, 2, nodes=("red", "blue")), {}
    for name, error in ERRORS.items():
        try:
            with workers.together():
                if rank:
                    raise error
        except TellapartError as seen:
            told[name] = [type(seen).__name__, str(seen)]
    if rank:
        workers.stop.append(2)
    workers.agree()
    told["stop"] = workers.stop
    told["from leader"] = workers.json_from_leader({"n": 1} if workers.leads else None)
    told["texts"] = workers.texts("ü" * rank)
    Path(folder, f"{rank}.json").write_text(json.dumps(told))
    if rank:
        os._exit(9)
    try:
        workers.agree()
    except TellapartError as seen:
        told["lost"] = [type(seen).__name__, seen.message.partition(" (")[0], seen.hint]
    Path(folder, "0.json").write_text(json.dumps(told))

folder = sys.argv[1]
if child := os.fork():
    meet(folder, 0)
    os.waitpid(child, 0)
else:
    meet(folder, 1)
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, list[str]]]:
    """What each of two workers was told; the second met with the errors, and was killed in the end."""
    folder = tmp_path_factory.mktemp("errors")
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(Path(folder, f"{rank}.json").read_text(encoding="utf-8")) for rank in (0, 1)]


def test_a_picture_that_broke_at_one_worker_is_left_out_by_all(told: list[dict[str, list[str]]]) -> None:
    assert told[0]["picture"] == told[1]["picture"] == ["UnreadableError", "/photos/a.jpg: it is cut off"]
    assert told[0]["cache"] == told[1]["cache"] == ["LostCacheError", "The store is gone."]


def test_other_errors_are_one_sentence_with_the_name_of_the_node(told: list[dict[str, list[str]]]) -> None:
    assert told[0]["own"] == ["WorkerError", "Worker 2 of 2 on blue failed: The disk is full.\nMake room."]
    assert told[0]["other"] == ["WorkerError", "Worker 2 of 2 on blue failed: MemoryError: no room for 3 GiB."]


def test_a_wish_to_stop_and_what_the_leader_says_reach_all(told: list[dict[str, list[str]]]) -> None:
    for each in told:
        assert (each["stop"], each["from leader"], each["texts"]) == ([2], {"n": 1}, ["", "ü"])


def test_a_worker_that_is_gone_is_noticed(told: list[dict[str, list[str]]]) -> None:
    kind, message, hint = told[0]["lost"]
    assert (kind, message) == ("LostWorkerError", "A worker was lost in the middle of a step")
    assert hint.startswith("Run the same command again")
