"""The review's server: what it answers, and whom it does not."""

from __future__ import annotations

import pytest

from tellapart.data.corrections import read_corrections
from tellapart.errors import DataError

TOKEN = "secret"


@pytest.fixture
def client(make_session):
    pytest.importorskip("fastapi")
    from starlette.testclient import TestClient

    from tellapart.web.review.app import make_app

    session = make_session()
    with TestClient(make_app(session, TOKEN), base_url="http://127.0.0.1:8000") as client:
        client.session = session
        yield client


def test_nobody_without_the_token(client) -> None:
    for address in ("/", "/wrong/", "/wrong/about", "/wrong/picture/large/0", f"/{TOKEN[:-1]}/", "/about"):
        assert client.get(address).status_code == 404
    assert client.post("/wrong/decide", json={"item": 0, "decision": "keep"}).status_code == 404
    assert client.get(f"/{TOKEN}/").status_code == 200
    assert client.get(f"/{TOKEN}/about").json()["title"] == "<b>fruit</b>"


def test_no_other_page_and_no_other_host(client) -> None:
    post = {"json": {"item": 0, "decision": "keep"}}
    assert client.post(f"/{TOKEN}/decide", headers={"Origin": "http://evil.example"}, **post).status_code == 404
    assert client.get(f"/{TOKEN}/about", headers={"Host": "evil.example:8000"}).status_code == 404
    plain = {"content": '{"item": 0, "decision": "keep"}', "headers": {"Content-Type": "text/plain"}}
    assert client.post(f"/{TOKEN}/decide", **plain).status_code == 400
    assert client.post(f"/{TOKEN}/decide", headers={"Origin": "http://127.0.0.1:8000"}, **post).status_code == 200
    policy = client.get(f"/{TOKEN}/").headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


def test_only_pictures_of_the_review(client) -> None:
    answer = client.get(f"/{TOKEN}/picture/large/0")
    assert answer.headers["Content-Type"] == "image/jpeg"
    assert answer.content[:2] == b"\xff\xd8"
    for row in ("9999", "-1", "..%2F..%2Fetc%2Fpasswd", "x"):
        assert client.get(f"/{TOKEN}/picture/large/{row}").status_code == 404
    for name in ("app.py", "..%2Fapp.py", "session.py"):
        assert client.get(f"/{TOKEN}/{name}").status_code == 404


def test_the_report_of_the_run_is_one_click_away_and_reaches_nothing(make_session, tmp_path) -> None:
    from starlette.testclient import TestClient

    from tellapart.web.review.app import make_app

    report = tmp_path / "report.html"
    with TestClient(make_app(make_session(report=report), TOKEN), base_url="http://127.0.0.1:8000") as client:
        assert client.get(f"/{TOKEN}/about").json()["report"] is False
        assert client.get(f"/{TOKEN}/report").status_code == 404
        report.write_text("<p>How good it is: größer</p>", "utf-8")
        assert client.get(f"/{TOKEN}/about").json()["report"] is True
        answer = client.get(f"/{TOKEN}/report")
        assert answer.text == "<p>How good it is: größer</p>"
        policy = answer.headers["Content-Security-Policy"]
        assert policy.startswith("sandbox allow-scripts; default-src 'none'")
        assert "connect-src" not in policy
        assert answer.headers["Cache-Control"] == "no-store"
        assert client.get("/report").status_code == 404


def test_a_picture_that_is_gone_is_said(client) -> None:
    client.session.path(0).unlink()
    answer = client.get(f"/{TOKEN}/picture/large/0")
    assert answer.status_code == 410
    assert str(client.session.path(0).name) in answer.text


@pytest.mark.parametrize(
    "body",
    [
        {"item": 99, "decision": "keep"},
        {"item": -1, "decision": "keep"},
        {"item": "0", "decision": "keep"},
        {"item": 0, "decision": "drop table"},
        {"item": 0, "decision": "undo"},
        {"item": 0, "decision": "relabel", "to": ["unheard of"]},
        {"item": 0, "decision": "relabel", "to": []},
        {"item": 0, "decision": "relabel", "to": "abc"},
        [],
        "x",
    ],
)
def test_what_is_no_decision_is_refused_and_not_written(client, body) -> None:
    answer = client.post(f"/{TOKEN}/decide", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]
    assert not client.session.log.path.exists()


def test_decisions_and_undo(client) -> None:
    session = client.session
    other = session.items[0].suggested[0]
    state = client.post(f"/{TOKEN}/decide", json={"item": 0, "decision": "relabel", "to": [other]}).json()
    assert state == {"version": 1, "decisions": {"0": {"decision": "relabel", "to": [other]}}}
    same = {"item": 1, "decision": "relabel", "to": list(session.items[1].labels)}
    assert client.post(f"/{TOKEN}/decide", json=same).json()["decisions"]["1"]["decision"] == "keep"
    line = read_corrections(session.log.path)[0]
    assert (line.file, line.before, line.after) == (session.items[0].file, session.items[0].labels[0], other)
    assert (line.by, line.sha256) == ("me", session.items[0].sha256)
    assert client.post(f"/{TOKEN}/undo", json={}).json()["item"] == 1
    assert client.get(f"/{TOKEN}/state").json()["decisions"].keys() == {"0"}


def test_several_labels_may_be_none(make_session) -> None:
    session = make_session(multilabel=True)
    session.decide(0, "relabel", [])
    assert session.state()["decisions"]["0"] == {"decision": "relabel", "to": []}
    session.decide(0, "relabel", list(reversed(session.classes)))
    assert len(session.state()["decisions"]["0"]["to"]) == 3
    with pytest.raises(DataError):
        session.decide(0, "relabel", ["?"])
