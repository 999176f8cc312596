"""The server over real HTTP: what it answers, what it refuses, and how."""

import asyncio
import contextlib
import socket
import socketserver
import threading
import zlib
from types import SimpleNamespace

import httpx
import pytest

from tellapart.deploy.predictor import load
from tellapart.errors import UsageError
from tellapart.web.serve import bodies, client
from tellapart.web.serve.batches import Batches, Busy
from tellapart.web.serve.client import Client
from tests.web.serve.conftest import Running, picture

RED, GREEN, BLUE = (230, 20, 30), (20, 220, 30), (10, 20, 240)


def post(running, content, path="/v1/predict", **headers):
    sent = {"content-type": "application/octet-stream", **{k.replace("_", "-"): v for k, v in headers.items()}}
    return httpx.post(running.address + path, content=content, headers=sent, timeout=60)


def test_a_picture_gets_the_answer_that_predict_gives(running, run):
    content = picture(GREEN)
    answer = post(running, content, "/v1/predict?top=3&coverage=0.95", content_type="image/png").json()
    mine = load(run).predict(content, top=3, coverage=0.95).to_dict()
    assert answer["label"] == mine["label"] == "green"
    assert answer["certainty"] == pytest.approx(mine["certainty"], abs=1e-6)
    assert answer["labels"] == pytest.approx(mine["labels"], abs=1e-6)
    assert answer.keys() == mine.keys()


def test_a_form_with_several_pictures_is_answered_in_order(running):
    files = [
        ("p", ("r.png", picture(RED))),
        ("p", ("text.png", b"no picture")),
        ("q", ("b.jpg", picture(BLUE, "JPEG"))),
    ]
    answers = httpx.post(f"{running.address}/v1/predict", files=files, timeout=60).json()["answers"]
    assert [answer["label"] for answer in answers] == ["red", "", "blue"]
    assert [answer["path"] for answer in answers] == ["r.png", "text.png", "b.jpg"]
    assert "not a picture" in answers[1]["problem"]


@pytest.mark.parametrize(
    ("content", "headers", "status"),
    [
        (b"", {}, 400),
        (b"GIF89a, cut off", {}, 422),
        (b'{"pixels": [[1, 2, 3]]}', {"content_type": "application/json"}, 415),
        (b"--x\r\nno form", {"content_type": "multipart/form-data; boundary=y"}, 400),
        (b"x", {"content_type": "multipart/form-data"}, 400),
        (
            b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n--x--',
            {"content_type": "multipart/form-data; boundary=x"},
            413,
        ),
    ],
)
def test_what_is_no_picture_is_refused_with_a_reason(running, content, headers, status):
    response = post(running, content, **headers)
    assert response.status_code == status
    error = response.json()["error"]
    assert error
    assert "Traceback" not in error
    assert "/" not in error.replace("application/json", "").replace("image/jpeg", "")  # no path is shown


def test_a_bomb_is_refused(running):
    side = 60_000
    rows = zlib.compress(b"\0" * 1000)
    header = b"IHDR" + side.to_bytes(4) + side.to_bytes(4) + b"\x08\x02\0\0\0"
    chunks = [header, b"IDAT" + rows, b"IEND"]
    png = b"\x89PNG\r\n\x1a\n" + b"".join((len(c) - 4).to_bytes(4) + c + zlib.crc32(c).to_bytes(4) for c in chunks)
    response = post(running, png)
    assert response.status_code == 422
    assert "pixels" in response.json()["error"]


def test_a_large_request_is_refused_before_its_body_is_read(running):
    with socket.create_connection(("127.0.0.1", running.port), timeout=20) as connection:
        connection.sendall(
            b"POST /v1/predict HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            b"Content-Length: 999999999\r\nContent-Type: image/png\r\n\r\n"
        )
        assert connection.recv(100).startswith(b"HTTP/1.1 413")


def test_a_body_without_a_length_is_read_no_further_than_the_limit(running, monkeypatch):
    monkeypatch.setattr(bodies, "MOST_BYTES", 1000)

    def pieces():
        yield from [b"x" * 600] * 3

    response = httpx.post(
        f"{running.address}/v1/predict", content=pieces(), headers={"content-type": "image/png"}, timeout=60
    )
    assert response.status_code == 413


@pytest.mark.parametrize(
    "query", ["top=0", "top=x", "coverage=2", "coverage=nan", "unknown=maybe", "model=/etc/passwd"]
)
def test_parameters_are_checked(running, query):
    response = post(running, picture(), f"/v1/predict?{query}")
    assert response.status_code == 400
    assert response.json()["error"]


def test_strangers_are_refused(running):
    assert post(running, picture(), host="evil.example").status_code == 403
    assert post(running, picture(), origin="https://evil.example").status_code == 403
    assert post(running, picture(), origin=running.address).status_code == 200


def test_a_token_is_asked_for(with_token):
    assert post(with_token, picture()).status_code == 401
    assert post(with_token, picture(), authorization="Bearer wrong").status_code == 401
    assert post(with_token, picture(), authorization="Bearer s3cret").status_code == 200
    assert httpx.get(f"{with_token.address}/healthz").status_code == 200
    with httpx.Client(base_url=with_token.address) as browser:
        assert browser.get("/").status_code == 401
        page = browser.get("/?token=s3cret")
        assert page.status_code == 200
        assert "s3cret" not in page.text
        assert browser.get("/v1/model").status_code == 200  # with the cookie


def test_the_interface_describes_itself(running):
    described = httpx.get(f"{running.address}/openapi.json").json()
    assert described["components"]["schemas"]["Answer"]["example"]["label"] == "red"
    assert set(described["paths"]) >= {"/v1/predict", "/v1/model", "/healthz", "/readyz", "/metrics"}
    assert httpx.get(f"{running.address}/v1/model").json()["classes"] == ["red", "green", "blue"]
    assert httpx.get(f"{running.address}/nothing").status_code == 404


def test_counts_are_kept(running):
    def count():
        lines = httpx.get(f"{running.address}/metrics").text.splitlines()
        return float(
            next(line for line in lines if line.startswith('tellapart_pictures_total{result="answered"}')).split()[1]
        )

    post(running, picture())
    before = count()
    post(running, picture())
    assert count() == before + 1


def test_many_at_once_are_answered_as_one_alone(running):
    colours = [(i * 5 % 256, i * 11 % 256, i * 7 % 256) for i in range(20)]
    alone = [post(running, picture(colour)).json() for colour in colours]
    together = [None] * len(colours)

    def ask(i):
        together[i] = post(running, picture(colours[i])).json()

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(len(colours))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one, other in zip(alone, together, strict=True):
        assert one["label"] == other["label"]
        assert one["certainty"] == pytest.approx(other["certainty"], abs=1e-6)


def test_one_too_many_is_refused_at_once(run):
    async def story():
        batches = Batches(load(run, "onnxruntime"), most_waiting=3)
        batches.start()
        first = asyncio.create_task(batches.answers([picture()] * 3, {}))
        await asyncio.sleep(0)
        with pytest.raises(Busy):
            await batches.answers([picture()], {})
        answers = await first
        again = await batches.answers([picture(BLUE)], {})  # there is room again
        await batches.stop()
        return [answer.label for answer in answers + again]

    assert asyncio.run(story()) == ["red", "red", "red", "blue"]


def test_whoever_leaves_frees_his_place(run):
    async def story():
        batches = Batches(load(run, "onnxruntime"), most_waiting=2)
        batches.start()
        leaving = asyncio.create_task(batches.answers([picture()] * 2, {}))
        await asyncio.sleep(0)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        answers = await batches.answers([picture(GREEN)] * 2, {})
        await batches.stop()
        return batches.n_inside, [answer.label for answer in answers]

    assert asyncio.run(story()) == (0, ["green", "green"])


def test_a_model_that_fails_fails_its_requests_and_no_other(run):
    async def story():
        model = load(run, "onnxruntime")
        batches = Batches(model)
        batches.start()
        broken = load(run, "onnxruntime")
        broken.network.predict_distance = lambda *args, **options: 1 / 0
        batches.model = broken
        with pytest.raises(ZeroDivisionError):
            await batches.answers([picture()], {})
        batches.model = model
        answers = await batches.answers([picture()], {})
        await batches.stop()
        return answers[0].label

    assert asyncio.run(story()) == "red"


def test_the_model_is_exchanged_between_requests(run, tmp_path):
    started = Running(run)
    try:
        asyncio.run(started.served.exchange(load(run, "onnxruntime")))
        assert post(started, picture(BLUE)).json()["label"] == "blue"
    finally:
        started.stop()


def test_the_client_gives_the_answers_of_predict(running, with_token, run, tmp_path):
    path = tmp_path / "new.png"
    path.write_bytes(picture(BLUE))
    theirs, mine = (
        Client(running.address).predict(path, top=3, unknown=False),
        load(run).predict(path, top=3, unknown=False),
    )
    assert (theirs.path, theirs.label, theirs.chosen) == (mine.path, mine.label, mine.chosen)
    assert dict(theirs.labels) == pytest.approx(dict(mine.labels), abs=1e-6)
    assert "not a picture" in Client(running.address).predict(b"text").problem
    assert Client(with_token.address, "s3cret").predict(picture(GREEN)).label == "green"
    with pytest.raises(UsageError, match="A token is needed"):
        Client(with_token.address).predict(picture())
    with pytest.raises(UsageError, match="does not answer"):
        Client("http://127.0.0.1:9").predict(picture())
    with pytest.raises(UsageError, match="no address"):
        Client("file:///etc/passwd")


def test_the_client_says_what_is_wrong_with_a_file_or_a_server(running, run, tmp_path, monkeypatch):
    waits = []
    monkeypatch.setattr(client, "time", SimpleNamespace(sleep=waits.append))
    missing = Client(running.address).predict(tmp_path / "missing.png")
    assert (missing.label, missing.path) == ("", str(tmp_path / "missing.png"))
    assert missing.problem == load(run).predict(tmp_path / "missing.png").problem
    replies = {
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}": "as a server of Tellapart",
        b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>": "as a server of Tellapart",
        b"HTTP/1.1 200 OK\r\nContent-Length: 60\r\n\r\n{": "does not answer",
        b"SSH-2.0-OpenSSH_9.2\r\n": "does not answer",
        b"HTTP/1.1 429 Busy\r\nRetry-After: Wed, 21 Oct 2026 07:28:00 GMT\r\nContent-Length: 0\r\n\r\n": "status 429",
    }
    for reply, says in replies.items():
        with replying(reply) as address, pytest.raises(UsageError, match=says):
            Client(address).predict(picture())
    assert waits == [1, 1, 1, 1]
    with pytest.raises(UsageError, match="does not answer"):
        Client("http://127.0.0.1:port").predict(picture())


@contextlib.contextmanager
def replying(reply):
    """A server that says the same to everybody."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self):
            self.request.recv(65536)
            self.request.sendall(reply)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
