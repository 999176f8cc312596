"""Explanations come from a child process, here a small one: it is bounded, and started anew when it dies."""

import asyncio
import sys

import httpx
import pytest

from tellapart.web.serve import explainer
from tellapart.web.serve.batches import Busy
from tellapart.web.serve.bodies import Refused
from tellapart.web.serve.explainer import Explainer
from tests.web.serve.conftest import Running, picture

# Answers with its own number and the length of what was sent; words steer it otherwise.
CHILD = """
import json, os, sys, time
def send(answer):
    sys.stdout.buffer.write(len(answer).to_bytes(4, "big") + answer)
    sys.stdout.buffer.flush()
send(b"")
while head := sys.stdin.buffer.read(4):
    picture = sys.stdin.buffer.read(int.from_bytes(head, "big"))
    if picture == b"die":
        os._exit(1)
    if picture == b"sleep":
        time.sleep(1000)
    if picture == b"rubbish":
        send(b"{")
    if picture == b"long":
        sys.stdout.buffer.write(b"\\xff" * 4)
        sys.stdout.buffer.flush()
    if picture == b"unreadable":
        send(json.dumps({"problem": "not a picture"}).encode())
        continue
    send(json.dumps({"pid": os.getpid(), "length": len(picture)}).encode())
"""
COMMAND = (sys.executable, "-c", CHILD)


def story(steps, command=COMMAND, **options):
    async def run():
        tested = Explainer(command, **options)
        try:
            return await steps(tested)
        finally:
            await tested.stop()

    return asyncio.run(run())


def test_one_child_answers_all():
    async def steps(tested):
        return [await tested.explain(b"x" * n) for n in (3, 5_000_000, 0)]

    answers = story(steps)
    assert [answer["length"] for answer in answers] == [3, 5_000_000, 0]
    assert len({answer["pid"] for answer in answers}) == 1


@pytest.mark.parametrize("word", [b"die", b"rubbish", b"long"])
def test_a_child_that_dies_or_talks_nonsense_is_started_anew(word):
    async def steps(tested):
        first = await tested.explain(b"picture")
        with pytest.raises(Refused) as refused:
            await tested.explain(word)
        return first, refused.value.status, await tested.explain(b"picture")

    first, status, again = story(steps)
    assert status == 503
    assert first["pid"] != again["pid"]
    assert again["length"] == len(b"picture")


def test_one_that_takes_too_long_is_given_up():
    async def steps(tested):
        with pytest.raises(Refused, match="too long"):
            await tested.explain(b"sleep")
        tested._seconds = 60.0
        return await tested.explain(b"picture")

    assert story(steps, seconds=0.2)["length"] == len(b"picture")


def test_whoever_leaves_leaves_no_answer_for_the_next():
    async def steps(tested):
        await tested.explain(b"picture")
        leaving = asyncio.create_task(tested.explain(b"sleep"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        return await tested.explain(b"four")

    assert story(steps)["length"] == 4


def test_no_more_than_a_few_wait():
    async def steps(tested):
        waiting = [asyncio.create_task(tested.explain(b"picture")) for _ in range(explainer.MOST_WAITING)]
        await asyncio.sleep(0)
        with pytest.raises(Busy):
            await tested.explain(b"picture")
        return await asyncio.gather(*waiting)

    assert len(story(steps)) == explainer.MOST_WAITING


def test_who_comes_while_it_is_made_ready_is_told_when_to_come_again(monkeypatch):
    monkeypatch.setattr(explainer, "SECONDS_TO_START", 0.05)
    never = (sys.executable, "-c", "import sys; sys.stdin.read()")

    async def steps(tested):
        with pytest.raises(Refused) as refused:
            await tested.explain(b"picture")
        child = tested._child
        with pytest.raises(Refused):
            await tested.explain(b"picture")
        assert tested._child is child  # it goes on making itself ready
        return refused.value

    assert story(steps, never).headers == {"Retry-After": "10"}


def test_a_child_that_cannot_start_is_no_crash():
    async def steps(tested):
        with pytest.raises(Refused, match="failed"):
            await tested.explain(b"picture")

    story(steps, (sys.executable, "-c", "raise SystemExit('no torch')"))
    story(steps, ("/no/such/program",))


def test_an_idle_child_ends(monkeypatch):
    monkeypatch.setattr(explainer, "SECONDS_IDLE", 0.01)

    async def steps(tested):
        await tested.explain(b"picture")
        child = tested._child
        await child.wait()  # nobody asks, so it ends
        return (await tested.explain(b"four"))["length"]

    assert story(steps) == 4


def test_the_server_explains(run):
    started = Running(run, explainer=Explainer(COMMAND))
    try:

        def ask(content, kind="image/png"):
            headers = {"content-type": kind}
            return httpx.post(f"{started.address}/v1/explain", content=content, headers=headers, timeout=60)

        content = picture()
        first = ask(content)
        assert (first.status_code, first.json()["length"]) == (200, len(content))
        assert ask(b"unreadable").status_code == 422
        assert ask(b"die").status_code == 503
        assert ask(b"x", "application/json").status_code == 415
        assert ask(content).json()["pid"] != first.json()["pid"]
        assert httpx.get(f"{started.address}/v1/model").json()["explains"]
    finally:
        started.stop()


@pytest.mark.parametrize("reason", [(404, "Explanations need the run."), (501, "Explanations need torch.")])
def test_a_server_that_cannot_explain_says_why(run, reason):
    started = Running(run, no_explainer=reason)
    try:
        response = httpx.post(f"{started.address}/v1/explain", content=picture(), timeout=60)
        assert (response.status_code, response.json()["error"]) == reason
    finally:
        started.stop()
