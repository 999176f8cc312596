"""Studies in processes of their own: killed, several at a time, on one database."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import optuna
import pytest
import sqlalchemy

from tellapart.experiments import storage as life
from tellapart.experiments.results import read_results
from tests.experiments import small

pytestmark = pytest.mark.slow


def table(directory: Path) -> bytes:
    """All that must be the same, however a study came about: the whole table but for times."""
    return read_results(directory).runs.drop("seconds").write_csv().encode()


def finished(process: subprocess.Popen[str]) -> None:
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    assert "Page: " in out


def n_results(directory: Path) -> int:
    return len(list(directory.rglob("result.json")))


def wait_for(condition, seconds=300):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, do):
    """The table of a grid that nobody broke off."""
    return read_results(do(tmp_path_factory.mktemp("unbroken")).directory)


def test_a_killed_study_goes_on_to_the_same_table(tmp_path, photos, unbroken):
    """It is killed three times, with SIGKILL: as it begins to train, and after some trainings."""
    file, out = small.write(tmp_path), tmp_path / "out"
    for n in (0, 2, 5):
        process = small.start(file, photos, "--out", out)
        wait_for(lambda n=n: n_results(out) >= n and (out / "study.json").is_file())
        process.send_signal(signal.SIGKILL)
        process.communicate()
    done = {path: path.stat().st_mtime_ns for path in out.rglob("result.json")}
    finished(small.start(file, photos, "--out", out))
    assert table(out) == table(unbroken.directory)
    assert {path: path.stat().st_mtime_ns for path in done} == done


def test_several_at_a_time_give_the_same_table(tmp_path, photos, unbroken):
    out = tmp_path / "out"
    text = f"threads = {unbroken.description.threads}\n{small.GRID}"
    finished(small.start(small.write(tmp_path, text), photos, "--out", out, "--parallel", "2"))
    assert table(out) == table(unbroken.directory)


def test_a_killed_worker_fails_its_training_alone(tmp_path, photos):
    out = tmp_path / "out"
    process = small.start(
        small.write(tmp_path, small.GRID.replace("seeds = 2", 'seeds = 2\nset = ["stages.0.epochs=40"]')),
        photos,
        "--out",
        out,
        "--parallel",
        "2",
    )
    wait_for(lambda: n_results(out) >= 1)
    workers = subprocess.run(
        ["pgrep", "-P", str(process.pid), "-f", "experiments.worker"], capture_output=True, text=True, check=True
    )
    os.kill(int(workers.stdout.split()[0]), signal.SIGKILL)
    finished(process)
    runs = read_results(out).runs
    assert runs.height == 8
    failed = runs.filter(runs["status"] == "failed")
    assert failed.height <= 1
    assert all("signal 9" in reason for reason in failed["reason"])


def test_workers_end_with_whoever_started_them(tmp_path, photos):
    out = tmp_path / "out"
    process = small.start(small.write(tmp_path), photos, "--out", out, "--parallel", "2")
    wait_for(lambda: n_results(out) >= 1)
    workers = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=True)
    numbers = list(map(int, workers.stdout.split()))
    process.kill()
    process.communicate()
    wait_for(lambda: not any(Path(f"/proc/{number}/cmdline").exists() for number in numbers), 60)


def test_a_study_stopped_among_several_trainings_fails_none(tmp_path, photos):
    """Its workers are ended with it, which is no failure of what they were at, and none is left over."""
    file = small.write(tmp_path, small.GRID.replace("seeds = 2", 'seeds = 2\nset = ["stages.0.epochs=40"]'))
    process = small.start(file, photos, "--out", tmp_path / "out", "--parallel", "2")
    wait_for(lambda: n_results(tmp_path / "out") >= 1)
    workers = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=True)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert not any(Path(f"/proc/{number}").exists() for number in workers.stdout.split())
    assert read_results(tmp_path / "out").runs["status"].unique().to_list() == ["done"]


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    """The URL of a real PostgreSQL server, for this module alone."""
    folders = [str(path) for path in Path("/usr/lib/postgresql").glob("*/bin")]
    program = shutil.which("initdb", path=os.pathsep.join(folders) or None)
    if program is None:
        pytest.skip("needs a database server: Debian's package postgresql")
    # Not among the other files of tests: another run of pytest closes their folder to all users but this one.
    data = Path(tempfile.mkdtemp(prefix="tellapart-postgres-"))
    data.chmod(0o777)
    # The server refuses to be root's.
    as_user = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
    binaries, port = Path(program).parent, str(20_000 + os.getpid() % 10_000)
    folder = str(data / "db")
    options = f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories={data} -c fsync=off"
    how = {"check": True, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": "/"}
    subprocess.run([*as_user, program, "-D", folder, "-U", "tester", "-A", "trust"], **how)
    control = [*as_user, str(binaries / "pg_ctl"), "-D", folder, "-w"]
    subprocess.run([*control, "-l", str(data / "log"), "-o", options, "start"], **how)
    try:
        yield f"postgresql://tester@127.0.0.1:{port}/postgres"
    finally:
        subprocess.run([*control, "-m", "immediate", "stop"], **how)
        shutil.rmtree(data)


@contextmanager
def opened(url: str) -> Iterator[optuna.storages.RDBStorage]:
    """Optuna's storage in a database, whose connections end with the block."""
    storage = optuna.storages.RDBStorage(url.replace("postgresql://", "postgresql+psycopg://"))
    try:
        yield storage
    finally:
        storage.engine.dispose()


def test_two_machines_do_one_study_on_a_database(tmp_path, photos, unbroken, postgres):
    """Two processes with folders of their own, which share the database alone; both end with the whole table."""
    shared = ["--storage", postgres]
    file = small.write(tmp_path)
    outs = [tmp_path / name / "grid" for name in ("a", "b")]
    processes = [small.start(file, photos, "--out", out, *shared) for out in outs]
    for process in processes:
        finished(process)
    assert table(outs[0]) == table(outs[1]) == table(unbroken.directory)
    with opened(postgres) as storage:
        trials = optuna.load_study(study_name="grid", storage=storage).trials
    names = [trial.user_attrs["training"] for trial in trials if trial.state == optuna.trial.TrialState.COMPLETE]
    assert sorted(names) == sorted(path.removeprefix("cells/") for path in unbroken.runs["path"])


def test_two_processes_search_together(tmp_path, photos, postgres):
    file, out = small.write(tmp_path, small.SEARCH), tmp_path / "search"
    processes = [small.start(file, photos, "--out", out, "--storage", postgres) for _ in range(2)]
    for process in processes:
        finished(process)
    runs = read_results(out).runs
    assert runs["status"].unique().to_list() == ["done"]
    assert 4 <= runs["cell"].n_unique() <= 6


def test_a_training_of_a_dead_machine_is_done_by_another(tmp_path, photos, do, postgres, monkeypatch):
    """This process waits for a sign of life for some seconds, not for a minute and a half."""
    text = f"threads = 1\n{small.PAIR}"
    file = small.write(tmp_path, text)
    with opened(postgres) as storage:
        dead = small.start(file, photos, "--out", tmp_path / "a" / "out", "--storage", postgres)

        def alive():
            try:
                trials = optuna.load_study(study_name="out", storage=storage).trials
            except KeyError:
                return False
            running = {trial._trial_id for trial in trials if trial.state == optuna.trial.TrialState.RUNNING}
            with storage.engine.connect() as connection:
                signs = connection.execute(sqlalchemy.text("SELECT trial_id FROM trial_heartbeats")).scalars()
                return not running.isdisjoint(signs)

        wait_for(alive)
        dead.kill()
    dead.communicate()
    monkeypatch.setattr(life, "HEARTBEAT", 1)
    monkeypatch.setattr(life, "GRACE", 5)
    results = do(tmp_path / "b", text, storage=postgres)
    assert results.runs["status"].to_list() == ["done", "done"]
