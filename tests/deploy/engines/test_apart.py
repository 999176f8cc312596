"""The engine is chosen in another process: what it says, and what happens when it cannot."""

import subprocess

import pytest

from tellapart.deploy.engines import apart
from tellapart.deploy.engines.apart import choose_apart
from tellapart.deploy.engines.names import ENGINES
from tellapart.errors import BundleError, UsageError
from tests.web.serve.conftest import make_run


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("apart") / "run") / "bundle"


def test_a_choice_comes_with_what_is_said_of_it(bundle):
    said = []
    assert choose_apart(bundle, "auto", 2, said.append) in ENGINES
    assert said[0].startswith("Engine: ")
    assert choose_apart(bundle, "onnxruntime", 2, said.append) == "onnxruntime"


def test_what_is_wrong_over_there_is_said_here(bundle, tmp_path):
    with pytest.raises(BundleError, match="does not exist"):
        choose_apart(tmp_path / "none", "auto", 2, print)
    with pytest.raises(UsageError, match="no engine 'fast'"):
        choose_apart(bundle, "fast", 2, print)


@pytest.mark.parametrize("output", [b"", b"{", b'{"engine": "rubbish", "lines": []}'])
def test_a_process_that_comes_to_no_choice_is_an_error(bundle, monkeypatch, output):
    monkeypatch.setattr(apart.subprocess, "run", lambda command, **how: subprocess.CompletedProcess(command, 1, output))
    with pytest.raises(BundleError, match="--engine onnxruntime"):
        choose_apart(bundle, "auto", 2, print)
