"""`predict --cluster auto` beside plain `predict`, and millions of made-up names through a cluster with a fake reader.

TELLAPART_TEST_DATA=… python -m benchmarks.cluster_answers --pictures 200 1600 --rounds 3 --names 1000000 10000000

Speed: each way answers the same pictures in turn, by the same engine, on an idle Ray that was started before. What is
compared is pictures a second once workers are asked, so the start of their processes counts; starting Ray is told
apart. With two numbers of pictures, what the further ones took says how fast workers are once they are there. Memory:
names of pictures that do not exist go through lists, workers and answers; a worker answers without reading. The
resident size of the driver is told as names pass, and the largest one for each number of names.

Writes cluster_answers.json for pictures, cluster_names.json for names.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks import record

ENGINE = "onnxruntime"


class FakeReader:
    """A worker that answers names without a picture or a network: what is left is what a cluster costs."""

    def __call__(self, part: pl.DataFrame) -> bytes:
        """The same answer to each name."""
        names = [os.fsdecode(name) for name in part["name"]]
        return json.dumps([[name, ["a"], [["a", 0.75]], 0.75, None, [], None, None] for name in names]).encode()


def made_up(n: int) -> Iterator[Path]:
    return (Path(f"/pictures/{number // 1000:06}/{number:09}.jpg") for number in range(n))


def through_cluster(n: int) -> dict[str, Any]:
    """Answer so many made-up names in this process; run in one of its own, whose memory is then that of this alone."""
    from tellapart.cluster.connect import connected
    from tellapart.cluster.parts import Pace, over_parts, write_parts
    from tellapart.cluster.predicting import _PICTURES, _answer_of, _Named
    from tellapart.deploy.parquet_parts import ParquetParts

    with connected("auto") as cluster, tempfile.TemporaryDirectory() as folder:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start, used = time.monotonic(), time.process_time()
        sizes = write_parts(_Named().rows(made_up(n)), _PICTURES, Path(folder))
        listed = time.monotonic() - start
        (Path(folder) / "answers").mkdir()
        written, n_written = ParquetParts(Path(folder) / "answers", 1, ()), 0
        curve: list[tuple[int, int]] = []
        for content in over_parts(cluster, FakeReader, {}, Path(folder), len(sizes), Pace()):
            for values in json.loads(content):
                written.add(_answer_of(values))
                n_written += 1
            if n_written >= n * len(curve) / 20:
                curve.append((n_written, _resident()))
        answered = time.monotonic() - start
        written.finish(Path(folder) / "answers.parquet")
        assert n_written == n
        assert pl.scan_parquet(Path(folder) / "answers.parquet").select(pl.len()).collect().item() == n
        return {
            "names": n,
            "parts": len(sizes),
            "seconds_of_listing": round(listed, 1),
            "seconds_until_all_were_answered": round(answered, 1),
            "seconds": round(time.monotonic() - start, 1),
            "processor_seconds_of_the_driver": round(time.process_time() - used, 1),
            "mib_before": before >> 10,
            "mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10,
            "mib_after_names": curve,
        }


def _resident() -> int:
    """MiB of this process now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() >> 20


def apart(n: int) -> dict[str, Any]:
    """`through_cluster` in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.cluster_answers", "--one", str(n)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def speeds(files: list[str], numbers: list[int], n_rounds: int) -> dict[str, Any]:
    """Pictures a second of both ways, in turn, for each number of pictures."""
    from benchmarks.answer_speed import write_bundle_of
    from tellapart.cluster.connect import connected
    from tellapart.cluster.predicting import predict_on_cluster
    from tellapart.deploy.predict_inputs import Request, predict_inputs

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_bundle_of("mobilenetv2_100", folder / "bundle", files[:32])
        start = time.monotonic()
        with connected("auto") as cluster:
            starting = time.monotonic() - start

            def seconds(way: str, n: int, out: Path) -> float:
                request = Request(folder / "bundle", (str(folder / f"{n}.txt"),), engine=ENGINE, out=out)
                lines: list[str] = []
                if way == "plain":
                    predict_inputs(request, lines.append)
                else:
                    predict_on_cluster(request, "auto", lines.append)
                print(n, way, lines[-1:], file=sys.stderr)
                return n / _speed(lines)

            taken: dict[int, dict[str, list[float]]] = {n: {"plain": [], "cluster": []} for n in numbers}
            for n in numbers:
                pictures = (files * (n // len(files) + 1))[:n]
                (folder / f"{n}.txt").write_text("\n".join(pictures))
            for way in taken[numbers[0]]:  # warms up
                seconds(way, numbers[0], folder / "out.parquet")
            for number in range(n_rounds):
                for n, by_way in taken.items():
                    for way, values in by_way.items():
                        values.append(seconds(way, n, folder / f"{way}-{number}-{n}.parquet"))
            same = [pl.read_parquet(folder / f"{way}-0-{numbers[-1]}.parquet") for way in taken[numbers[0]]]
            figures = {str(n): _compared(by_way, n) for n, by_way in taken.items()}
            if len(numbers) > 1:
                few, many = taken[numbers[0]], taken[numbers[-1]]
                more = {way: [b - a for a, b in zip(few[way], many[way], strict=True)] for way in many}
                figures["further"] = _compared(more, numbers[-1] - numbers[0])
            return {
                "workers": cluster.n_cpus,
                "same_rows": same[0].equals(same[1]),
                "seconds_to_start_ray": round(starting, 1),
                "pictures": figures,
            }


def _compared(seconds: dict[str, list[float]], n: int) -> dict[str, Any]:
    ratios = [plain / cluster_ for plain, cluster_ in zip(*seconds.values(), strict=True)]
    speed = {way: record.spread([n / value for value in values]) for way, values in seconds.items()}
    return {"n": n, "ratio": statistics.median(ratios), "ratios": ratios, "pictures_a_second": speed}


def _speed(lines: list[str]) -> float:
    """Of the line that a command ends with, such as “551 pictures in 28 s, 20.1 a second”."""
    last = next(line for line in reversed(lines) if " a second" in line)
    return float(last.partition(" s, ")[2].partition(" a second")[0].replace(",", ""))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pictures", type=int, nargs="*", default=[200, 1600])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--names", type=int, nargs="*", default=[])
    parser.add_argument("--one", type=int, help="answer so many made-up names in this process, and print figures")
    asked = parser.parse_args()
    if asked.one is not None:
        print(json.dumps(through_cluster(asked.one)))
        return
    if asked.names:
        names = [apart(n) for n in asked.names]
        figures: dict[str, Any] = {"made_up_names": names}
        if len(names) > 1:
            more = (names[-1]["names"] - names[0]["names"]) / 1e6
            figures["mib_a_million_names"] = round((names[-1]["mib"] - names[0]["mib"]) / more, 1)
            figures["seconds_a_million_names"] = round((names[-1]["seconds"] - names[0]["seconds"]) / more, 1)
        record.write("cluster_names", figures)
    if asked.pictures:
        data = Path(os.environ["TELLAPART_TEST_DATA"]) / "animals"
        files = sorted(str(path) for path in data.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
        record.write("cluster_answers", speeds(files, sorted(asked.pictures), asked.rounds))


if __name__ == "__main__":
    main()
