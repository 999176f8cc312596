"""Memory that is freed: really kept, and really given back, as the system counts it."""

from __future__ import annotations

import json
import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="keeps memory with GNU's C library alone")

SCRIPT = """
import json, resource, sys
import numpy as np
from tellapart.core.hardware import give_back, keep_freed

def faults():  # pages that the system handed out
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()

if sys.argv[1] == "keep":
    keep_freed()
for _ in range(20):  # the C library's pieces settle
    np.ones(10_000_000, np.float32)
before = faults()
for _ in range(10):
    np.ones(10_000_000, np.float32)
asked = faults() - before
held = resident()
give_back()
print(json.dumps({"pages": asked, "given back": held - resident()}))
"""


def found(how: str) -> dict[str, int]:
    done = subprocess.run([sys.executable, "-c", SCRIPT, how], capture_output=True, text=True, check=True)
    answer: dict[str, int] = json.loads(done.stdout)
    return answer


def test_what_is_freed_is_kept_until_it_is_given_back() -> None:
    kept, plain = found("keep"), found("plain")
    assert plain["pages"] > 10 * 40e6 / (1 << 21)  # even where the system has large ones
    assert kept["pages"] < plain["pages"] / 10
    assert kept["given back"] > 30e6
