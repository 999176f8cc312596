"""The server under load: throughput beside `predict` and LitServe, latency below its limit, overload, growth.

    TELLAPART_TEST_DATA=… python -m benchmarks.serve_load [--parts speed overload growth] [--seconds 8] [--rounds 3]
        [--growth 20000] [--litserve PYTHON]

The loader is open-loop: requests go out at times that are fixed beforehand, whether or not earlier ones are answered,
so that a slow server cannot slow its own load down. It shares the processors with the server; so throughput is stated
also in answers per second of the server's processor time, which other programs on the machine change less.

`predict` answers the same pictures in its own process, in turn with the servers: its throughput is what a server could
reach at most. LitServe runs the same network in onnxruntime with the decoding that its guide shows (Pillow), in an
environment of its own (PYTHON), with batches as large and no waiting.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import record
from benchmarks.answer_speed import write_bundle_of

NETWORK, SMALL = "mobilenetv2_100", "small-cnn"
MOST_OPEN = 400  # connections of the loader
PARTS = ("speed", "overload", "growth")  # each has a file of results
CLOSED = 32  # requests under way where the greatest throughput is measured
LITSERVE = Path(__file__).parent / "serve_load_litserve.py"


@dataclass
class Answers:
    """What came back: seconds by status. 0: no response."""

    seconds: dict[int, list[float]] = field(default_factory=dict)
    lasted: float = 0.0

    def add(self, status: int, seconds: float) -> None:
        """Count one response."""
        self.seconds.setdefault(status, []).append(seconds)

    @property
    def rate(self) -> float:
        """Pictures answered a second."""
        return len(self.seconds.get(200, [])) / self.lasted

    def summary(self) -> dict[str, Any]:
        """Counts, and median and 99th percentile of the seconds by status."""
        return {
            str(status): {
                "n": len(values),
                "median_ms": round(1000 * statistics.median(values), 1),
                "p99_ms": round(1000 * sorted(values)[int(0.99 * (len(values) - 1))], 1),
            }
            for status, values in sorted(self.seconds.items())
        }


class Loader:
    """Sends requests over connections that are used again."""

    def __init__(self, port: int, requests: list[bytes]) -> None:
        self.port, self.requests = port, requests
        self.idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self.n_sent = 0

    async def one(self, answers: Answers, begin: float | None = None) -> None:
        """Send one request, and count its response; its time begins at `begin`, when it should have been sent."""
        loop = asyncio.get_running_loop()
        begin = loop.time() if begin is None else begin
        status = 0
        request = self.requests[self.n_sent % len(self.requests)]
        self.n_sent += 1
        with contextlib.suppress(OSError, EOFError):
            reader, writer = await self._connection()
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"(?i)content-length: (\d+)", head)
            await reader.readexactly(int(length[1]) if length else 0)
            status = int(head.split(b" ", 2)[1])
            if b"connection: close" in head.lower():
                writer.close()
            else:
                self.idle.append((reader, writer))
        answers.add(status, loop.time() - begin)

    async def _connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """One that is open still, as far as one can know, or a new one."""
        while self.idle:
            reader, writer = self.idle.pop()
            if not reader.at_eof() and not writer.is_closing():
                return reader, writer
            writer.close()
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def closed(self, seconds: float, n: int = CLOSED, most: int | None = None) -> Answers:
        """`n` requests under way at any time: the greatest throughput."""
        answers, begin = Answers(), time.perf_counter()

        async def ask() -> None:
            while time.perf_counter() - begin < seconds and (most is None or self.n_sent < most):
                await self.one(answers)

        await asyncio.gather(*(ask() for _ in range(n)))
        answers.lasted = time.perf_counter() - begin
        return answers

    async def open(self, rate: float, seconds: float) -> Answers:
        """So many requests a second, whatever becomes of them. Those that no connection is free for count as 0."""
        answers, loop, tasks = Answers(), asyncio.get_running_loop(), set()
        begin = loop.time()
        for number in range(int(rate * seconds)):
            at = begin + number / rate
            await asyncio.sleep(max(0.0, at - loop.time()))
            if len(tasks) >= MOST_OPEN:
                answers.add(0, 0.0)
                continue
            task = asyncio.ensure_future(self.one(answers, at))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        answers.lasted = loop.time() - begin
        n_in_time = len(answers.seconds.get(200, []))  # what is answered after the end is not part of the rate
        await asyncio.gather(*tasks)
        answers.lasted *= max(1, len(answers.seconds.get(200, []))) / max(1, n_in_time)
        return answers

    def close(self) -> None:
        """Close what is open."""
        for _, writer in self.idle:
            writer.close()
        self.idle.clear()


def raw(content: bytes) -> bytes:
    """A request of ours: the bytes of a picture."""
    head = "POST /v1/predict?top=1 HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/jpeg\r\n"
    return f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content


def form(content: bytes) -> bytes:
    """A request of LitServe: a form with a file."""
    part = (
        b'--x\r\nContent-Disposition: form-data; name="content"; filename="a.jpg"\r\n\r\n' + content + b"\r\n--x--\r\n"
    )
    head = "POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: multipart/form-data; boundary=x\r\n"
    return f"{head}Content-Length: {len(part)}\r\n\r\n".encode() + part


@dataclass
class Resources:
    """What a process and its children take: seconds of processors, MB, files, threads."""

    processor: float = 0.0
    megabytes: float = 0.0
    files: int = 0
    threads: int = 0

    @classmethod
    def of(cls, process: int) -> Resources:
        """Read from /proc, with all descendants."""
        total, waiting = cls(), [process]
        while waiting:
            folder = Path(f"/proc/{waiting.pop()}")
            with contextlib.suppress(OSError):
                times = (folder / "stat").read_text().rpartition(")")[2].split()
                status = (folder / "status").read_text()
                total.processor += (int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK")
                total.megabytes += int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024  # type: ignore[index]
                total.threads += int(re.search(r"Threads:\s+(\d+)", status)[1])  # type: ignore[index]
                total.files += len(list((folder / "fd").iterdir()))
                children = (folder / "task").glob("*/children")
                waiting += [int(child) for path in children for child in path.read_text().split()]
        return total


@contextlib.contextmanager
def server(command: list[str], ready: str) -> Iterator[tuple[int, int]]:
    """A server's process and port. It has printed a line that `ready` finds the port in."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        assert process.stdout is not None
        port = next(found[1] for line in process.stdout if (found := re.search(ready, line)))
        while True:  # LitServe says its address before it listens
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", int(port)), 1.0):
                break
            time.sleep(0.1)
        yield process.pid, int(port)
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # LitServe's children outlive their parent otherwise
        process.wait()


@contextlib.contextmanager
def awake(group: int) -> Iterator[None]:
    """Let a server run for so long only: LitServe asks for work without a pause, which would slow others down."""
    os.killpg(group, signal.SIGCONT)
    try:
        yield
    finally:
        os.killpg(group, signal.SIGSTOP)


def ours(bundle: str) -> Any:
    """Our server, with the engine that LitServe has too."""
    words = [sys.executable, "-m", "tellapart", "serve", bundle, "--port", "0", "--engine", "onnxruntime"]
    return server(words, r"http://127\.0\.0\.1:(\d+)")


def predict(bundle: str, pictures: list[str], seconds: float) -> dict[str, float]:
    """Pictures a second of `predict` in a process of its own, and a second of its processor time."""
    code = (
        "import sys, time, tellapart as ta\n"
        "model, names, n = ta.load(sys.argv[1], engine='onnxruntime'), sys.argv[3:], 0\n"
        "model.predict(names[:16])\n"
        "begin, used = time.perf_counter(), time.process_time()\n"
        "while time.perf_counter() - begin < float(sys.argv[2]):\n"
        "    n += len(model.predict(names, top=1))\n"
        "print(n / (time.perf_counter() - begin), n / (time.process_time() - used))\n"
    )
    words = [sys.executable, "-c", code, bundle, str(seconds), *pictures]
    rate, per_processor = map(float, subprocess.run(words, capture_output=True, text=True, check=True).stdout.split())
    return {"rate": rate, "per_processor_second": per_processor}


async def throughput(process: int, port: int, requests: list[bytes], seconds: float) -> dict[str, float]:
    """The same of a server, by the loader."""
    loader = Loader(port, requests)
    await loader.closed(min(1.0, seconds / 4))  # warm
    before = Resources.of(process).processor
    answers = await loader.closed(seconds)
    used = Resources.of(process).processor - before
    loader.close()
    return {"rate": answers.rate, "per_processor_second": len(answers.seconds.get(200, [])) / used}


async def in_turn(contestants: dict[str, Callable[[], Any]], rounds: int) -> dict[str, Any]:
    """Each contestant's throughput, one a round."""
    values: dict[str, list[dict[str, float]]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, contestant in contestants.items():
            values[name].append(await contestant())
            print(name, {key: round(value, 1) for key, value in values[name][-1].items()}, flush=True)
    return {
        name: {key: record.spread([value[key] for value in found]) for key in found[0]}
        for name, found in values.items()
    }


async def loads(bundle: str, requests: list[bytes], arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Latency at 80 % of the peak, and what becomes of three times the peak; the peak is that of the moment."""
    rounds: list[dict[str, Any]] = []
    with ours(bundle) as (_, port):
        loader = Loader(port, requests)
        for _ in range(arguments.rounds):
            peak = (await loader.closed(arguments.seconds)).rate
            at_80 = await loader.open(0.8 * peak, arguments.seconds)
            at_300 = await loader.open(3 * peak, arguments.seconds)
            rounds.append(
                {
                    "peak": round(peak, 1),
                    "at_80_percent": at_80.summary(),
                    "at_300_percent": at_300.summary(),
                    "answered_of_peak": round(at_300.rate / peak, 3),
                }
            )
            print(rounds[-1], flush=True)
        loader.close()
    return rounds


async def growth(bundle: str, requests: list[bytes], n: int) -> dict[str, Any]:
    """What the server takes after a tenth of the requests, and after all of them."""
    with ours(bundle) as (process, port):
        loader, stages = Loader(port, requests), {}
        for share in (0.1, 0.4, 0.7, 1.0):
            answers = await loader.closed(1e9, most=int(n * share))
            assert set(answers.seconds) == {200}, answers.summary()
            now = Resources.of(process)
            stages[str(int(n * share))] = {
                "megabytes": round(now.megabytes, 1),
                "files": now.files,
                "threads": now.threads,
            }
            print(stages, flush=True)
        loader.close()
    return {"n": n, "network": SMALL, "by_requests": stages}


async def speeds(bundle: str, pictures: list[str], arguments: argparse.Namespace) -> dict[str, Any]:
    """Throughput of all contestants, and what our server takes afterwards."""
    contents, seconds = [Path(path).read_bytes() for path in pictures], arguments.seconds
    with contextlib.ExitStack() as running:
        process, port = running.enter_context(ours(bundle))

        async def ask_ours() -> dict[str, float]:
            return await throughput(process, port, list(map(raw, contents)), seconds)

        async def ask_predict() -> dict[str, float]:
            return await asyncio.to_thread(predict, bundle, pictures, seconds)

        contestants = {"serve": ask_ours, "predict": ask_predict}
        if arguments.litserve:
            words = [arguments.litserve, str(LITSERVE), f"{bundle}/model.onnx"]
            their_process, their_port = running.enter_context(server(words, r"listens at (\d+)"))
            os.killpg(their_process, signal.SIGSTOP)

            async def ask_litserve() -> dict[str, float]:
                with awake(their_process):
                    return await throughput(their_process, their_port, list(map(form, contents)), seconds)

            contestants["litserve"] = ask_litserve
        found = await in_turn(contestants, arguments.rounds)
        now = Resources.of(process)
        memory = {"megabytes": round(now.megabytes, 1), "files": now.files, "threads": now.threads}
    return {"throughput": found, "memory": memory, "rounds": arguments.rounds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", default=PARTS, choices=PARTS)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pictures", type=int, default=64)
    parser.add_argument("--growth", type=int, default=20_000)
    parser.add_argument("--litserve", default="", help="Python of an environment with litserve and onnxruntime.")
    arguments = parser.parse_args()
    paths = sorted(map(str, (Path(os.environ["TELLAPART_TEST_DATA"]) / "fruit").rglob("*.jpg")))
    pictures = paths[:: max(1, len(paths) // arguments.pictures)][: arguments.pictures]
    requests = [raw(Path(path).read_bytes()) for path in pictures]
    with tempfile.TemporaryDirectory() as folder:
        bundles = {name: str(Path(folder) / name) for name in (NETWORK, SMALL)}
        for name, bundle in bundles.items():
            write_bundle_of(name, Path(bundle), paths)
        print("The networks are written.", flush=True)
        if "speed" in arguments.parts:
            record.write("serve_load", asyncio.run(speeds(bundles[NETWORK], pictures, arguments)))
        if "overload" in arguments.parts:
            rounds = {name: asyncio.run(loads(bundle, requests, arguments)) for name, bundle in bundles.items()}
            record.write("serve_overload", rounds)
        if "growth" in arguments.parts:
            record.write("serve_growth", asyncio.run(growth(bundles[SMALL], requests[:8], arguments.growth)))


if __name__ == "__main__":
    main()
