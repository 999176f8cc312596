"""Ctrl-C, SIGTERM and SIGHUP end a program soon, whatever it is doing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")

STUCK = """
import hashlib, sys
from tellapart.core import signals
signals.GRACE = 0.5
with signals.stopped_soon(), signals.stop_politely() as stop:
    print("busy", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)  # one call that takes minutes and runs no handler of ours
"""
WAITING = """
import time
from tellapart.core import signals
with signals.stopped_soon():
    try:
        print("busy", flush=True)
        time.sleep(600)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
        raise SystemExit(7)
"""
POLITE = """
import time
from tellapart.core import signals
with signals.stopped_soon():
    with signals.stop_politely() as stop:
        print("busy", flush=True)
        while not stop:
            time.sleep(0.01)
        print("finished a step", flush=True)
    print("saved", flush=True)
"""


def stop(program: str, number: int) -> tuple[int, str, str]:
    """Exit code and output of a program that is sent a signal when it is busy."""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "busy\n"
        process.send_signal(number)
        out, error = process.communicate(timeout=60)
    return process.returncode, out, error


STOPS = [signal.SIGTERM, signal.SIGINT] + ([] if os.name == "nt" else [signal.SIGHUP])


@pytest.mark.parametrize("number", STOPS)
def test_a_call_that_does_not_end_is_ended(number):
    code, _, error = stop(STUCK, number)
    assert code == 130
    assert "The same command goes on" in error


@pytest.mark.parametrize("number", STOPS)
def test_what_can_be_interrupted_is(number):
    assert stop(WAITING, number)[:2] == (7, "interrupted\n")


@pytest.mark.parametrize("number", STOPS)
def test_who_sees_the_wish_may_finish_its_step(number):
    code, out, error = stop(POLITE, number)
    assert (code, out) == (0, "finished a step\nsaved\n")
    assert "Stopping after this step" in error


NOHUP = """
import signal, sys
from tellapart.core import signals
signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
with signals.stopped_soon(), signals.stop_politely() as stop:
    signal.raise_signal(signal.SIGHUP)
    sys.exit(7 if not stop else 1)
"""


def test_a_program_started_by_nohup_outlives_its_terminal():
    assert subprocess.run([sys.executable, "-c", NOHUP], check=False).returncode == 7


CLOSED = """
import sys, time
from pathlib import Path
from tellapart.core import signals
with signals.stopped_soon(), signals.stop_politely() as stop:
    print("busy", flush=True)
    while not stop:
        time.sleep(0.01)
    Path(sys.argv[1]).write_text("saved")
"""


def test_a_second_hang_up_is_no_hurry():
    """A closed terminal sends two."""
    from tellapart.core.signals import stop_politely, stopped_soon

    with stopped_soon():
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGHUP)
        signal.raise_signal(signal.SIGHUP)
    with stop_politely() as stop:
        signal.raise_signal(signal.SIGHUP)
        signal.raise_signal(signal.SIGHUP)
        assert stop == [signal.SIGHUP]
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_a_closed_terminal_lets_the_step_end(tmp_path):
    """What is written to it then fails, from within the handler too."""
    import pty

    child, terminal = pty.fork()
    if child == 0:
        os.execv(sys.executable, [sys.executable, "-c", CLOSED, str(tmp_path / "state")])
    printed = b""
    while not printed.endswith(b"\n"):
        printed += os.read(terminal, 100)
    os.close(terminal)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) in (0, 120)  # Python's own, where the last flush fails
    assert (tmp_path / "state").read_text() == "saved"


def test_handlers_are_put_back():
    from tellapart.core.signals import stop_politely, stopped_soon

    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with stopped_soon(), stop_politely():
        assert signal.getsignal(signal.SIGTERM) != before[0]
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
