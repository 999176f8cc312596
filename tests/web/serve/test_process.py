"""The command itself: a real process, signals, and its page in a real browser."""

import os
import re
import signal
import subprocess
import sys
import threading

import httpx
import pytest

from tests.web.serve.conftest import make_run, picture

HEADERS = {"content-type": "image/png"}


@pytest.fixture
def command(tmp_path):
    run = make_run(tmp_path / "run")
    words = [sys.executable, "-m", "tellapart", "serve", str(run), "--port", "0", "--engine", "onnxruntime"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    line = process.stdout.readline()
    address = re.search(r"http://127\.0\.0\.1:\d+/", line)
    assert address, line + process.stdout.read()
    yield process, address[0], run
    process.kill()
    process.communicate()


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="signals of Unix")
def test_a_bundle_is_exchanged_and_the_server_stops_without_a_dropped_request(command):
    process, address, run = command
    statuses, stop = [], threading.Event()

    def ask():
        while not stop.is_set():
            statuses.append(
                httpx.post(f"{address}v1/predict", content=picture(), headers=HEADERS, timeout=60).status_code
            )

    asking = threading.Thread(target=ask)
    asking.start()
    process.stdout.readline()  # "Ctrl-C ends it."
    process.send_signal(signal.SIGHUP)
    assert "loaded anew" in process.stdout.readline()
    (run / "bundle" / "model.onnx").write_bytes(b"damaged")
    process.send_signal(signal.SIGHUP)
    assert "not exchanged" in process.stdout.readline()
    stop.set()
    asking.join()
    assert set(statuses) == {200}
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) in (0, -signal.SIGTERM)


@pytest.mark.slow
def test_others_can_reach_it_with_a_token_alone(tmp_path, here):
    run = make_run(tmp_path / "run")
    refused = here("serve", run, "--host", "0.0.0.0")
    assert refused.returncode == 2
    assert "--token" in refused.stderr


@pytest.mark.slow
def test_its_page_answers_in_a_browser(running, chromium, tmp_path):
    playwright = pytest.importorskip("playwright.sync_api")
    for name, colour in {"sky": (10, 20, 240), "leaf": (20, 220, 30)}.items():
        (tmp_path / f"{name}.png").write_bytes(picture(colour))
    (tmp_path / "text.png").write_bytes(b"no picture")
    with playwright.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page, problems, requests = browser.new_page(), [], []
        page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        page.on("request", lambda request: requests.append(request.url))
        page.goto(running.address)
        page.get_by_text("Ready.").wait_for(timeout=60_000)
        page.set_input_files("#files", [str(path) for path in sorted(tmp_path.iterdir())])
        page.get_by_text("3 pictures answered.").wait_for(timeout=60_000)
        answers = page.locator(".said").all_inner_texts()
        browser.close()
    assert answers[0].startswith("not a picture")  # the latest comes first
    assert [answer.partition(" ")[0] for answer in answers[1:]] == ["blue", "green"]
    assert all(url.startswith((running.address, "blob:", "data:")) for url in requests)
    assert [text for text in problems if "422" not in text] == []
