"""Pictures are kept on request: bounded, named by their content, and taken up by scan, review and train."""

import errno
import hashlib

import httpx
import pytest

from tellapart.core import files
from tellapart.data.corrections import corrected, read_corrections
from tellapart.data.scan import scan
from tellapart.errors import UsageError
from tellapart.web.serve.picture_store import AT_THE_PAGE, PictureStore
from tests.web.serve.conftest import Running, picture

RED, GREEN, BLUE = (230, 20, 30), (20, 220, 30), (10, 20, 240)
MANY = 1_000_000


@pytest.fixture
def keeping(run, tmp_path):
    started = Running(run, store=PictureStore(tmp_path / "kept", MANY))
    started.folder = tmp_path / "kept"
    yield started
    started.stop()


def ask(running, content):
    headers = {"content-type": "image/png"}
    return httpx.post(f"{running.address}/v1/predict", content=content, headers=headers, timeout=60).json()


def correct(running, stored_as, labels, **headers):
    body = {"stored_as": stored_as, "labels": labels}
    return httpx.post(f"{running.address}/v1/correction", json=body, headers=headers, timeout=60)


def test_pictures_are_kept_by_their_content_and_corrections_beside_them(keeping):
    red, jpeg = picture(RED), picture(BLUE, "JPEG")
    names = [ask(keeping, content)["stored_as"] for content in (red, jpeg, red)]
    assert names[0] == names[2] == f"{hashlib.sha256(red).hexdigest()}.png"
    assert names[1].endswith(".jpg")
    assert (keeping.folder / names[0]).read_bytes() == red
    assert "stored_as" in ask(keeping, b"no picture") or len(list(keeping.folder.iterdir())) == 2
    assert correct(keeping, names[0], ["green"]).status_code == 200
    assert correct(keeping, names[1], []).status_code == 200
    catalog, applied = corrected(scan(keeping.folder), keeping.folder / "corrections.csv")
    assert (applied.relabelled, applied.excluded) == (1, 1)
    assert catalog.classes == ("green",)
    assert {line.by for line in read_corrections(keeping.folder / "corrections.csv")} == {AT_THE_PAGE}


def test_the_page_and_the_model_say_that_pictures_are_kept(keeping, running):
    ask(keeping, picture(GREEN))
    about = httpx.get(f"{keeping.address}/v1/model").json()
    assert about["keeps"]
    assert about["store"] == {"bytes": len(picture(GREEN)), "most_bytes": MANY, "full": False}
    assert "are kept there" in httpx.get(keeping.address).text
    assert str(keeping.folder) not in httpx.get(keeping.address).text
    assert "are not kept there" in httpx.get(running.address).text
    assert not httpx.get(f"{running.address}/v1/model").json()["keeps"]
    assert correct(running, "x.png", ["red"]).status_code == 404


def test_forms_and_tensors_are_kept_too(keeping):
    files = [("p", ("a.png", picture(RED))), ("p", ("text.png", b"no picture")), ("p", ("b.png", picture(BLUE)))]
    answers = httpx.post(f"{keeping.address}/v1/predict", files=files, timeout=60).json()["answers"]
    assert [bool(answer["stored_as"]) for answer in answers] == [True, False, True]
    infer = f"{keeping.address}/v2/models/colours/infer"
    headers = {"inference-header-content-length": "0", "content-type": "application/octet-stream"}
    assert httpx.post(infer, content=picture(GREEN), headers=headers, timeout=60).status_code == 200
    assert len(list(keeping.folder.iterdir())) == 3


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"stored_as": "../../etc/passwd", "labels": ["red"]}, 404),
        ({"stored_as": f"{'0' * 64}.png", "labels": ["red"]}, 404),
        ({"stored_as": "STORED", "labels": ["yellow"]}, 400),
        ({"stored_as": "STORED", "labels": ["red", "green"]}, 400),
        ({"stored_as": "STORED", "labels": "red"}, 400),
        ({"stored_as": "STORED"}, 400),
        ([], 400),
    ],
)
def test_what_is_no_correction_is_refused_and_not_written(keeping, body, status):
    stored = ask(keeping, picture(RED))["stored_as"]
    if isinstance(body, dict) and body["stored_as"] == "STORED":
        body = {**body, "stored_as": stored}
    response = httpx.post(f"{keeping.address}/v1/correction", json=body, timeout=60)
    assert response.status_code == status
    assert response.json()["error"]
    assert not (keeping.folder / "corrections.csv").exists()


def test_a_correction_of_another_page_is_refused(keeping):
    stored = ask(keeping, picture(RED))["stored_as"]
    assert correct(keeping, stored, ["red"], origin="https://evil.example").status_code == 403
    plain = {"content": f'{{"stored_as": "{stored}", "labels": ["red"]}}', "headers": {"content-type": "text/plain"}}
    assert httpx.post(f"{keeping.address}/v1/correction", **plain).status_code == 415


def test_no_more_is_kept_than_the_limit_and_answers_go_on(run, tmp_path, capsys):
    one = len(picture(RED))
    started = Running(run, store=PictureStore(tmp_path, one + 10))
    try:
        assert ask(started, picture(RED))["stored_as"]
        answer = ask(started, picture(GREEN))
        assert (answer["label"], answer["stored_as"]) == ("green", None)
        assert ask(started, picture(BLUE))["label"] == "blue"
        assert httpx.get(f"{started.address}/v1/model").json()["store"]["full"]
        assert 'stored_total{result="no room"} 2.0' in httpx.get(f"{started.address}/metrics").text
    finally:
        started.stop()
    assert capsys.readouterr().err.count("not kept any more") == 1
    assert PictureStore(tmp_path, one + 10).n_bytes == one  # what an earlier server kept counts


def test_a_full_disk_stops_no_answer(keeping, monkeypatch, capsys):
    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    stored = ask(keeping, picture(RED))["stored_as"]
    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fsync", full)
        answer = ask(keeping, picture(GREEN))
        assert (answer["label"], answer["stored_as"]) == ("green", None)
        assert correct(keeping, stored, ["red"]).status_code == 507
    assert [path.name for path in keeping.folder.glob("*.png")] == [stored]
    assert not list(keeping.folder.glob(".*.part"))
    assert "No space left on device" in capsys.readouterr().err
    assert ask(keeping, picture(GREEN))["stored_as"]  # there is room again


def test_a_folder_that_cannot_be_written_is_an_error_at_once(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="--keep"):
        PictureStore(tmp_path / "file" / "kept", MANY)
