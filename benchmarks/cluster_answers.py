"""`predict --cluster auto` beside plain `predict`, and millions of made-up names through a cluster with a fake reader.

TELLAPART_TEST_DATA=… python -m benchmarks.cluster_answers --pictures 400 --rounds 3 --names 200000 1000000

Speed: each way answers the same pictures in turn, by the same engine, on an idle Ray that was started before. What is
compared is pictures a second once workers are asked; starting Ray is told apart. Memory: names of pictures that do not
exist go through lists, workers and answers; a worker answers without reading. The largest resident size of the driver
is told for each number of names: what grows with it is the slope.
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
        written, n_written = ParquetParts(Path(folder) / "answers", 1, ()), 0
        (Path(folder) / "answers").mkdir()
        for content in over_parts(cluster, FakeReader, {}, Path(folder), len(sizes), Pace()):
            for values in json.loads(content):
                written.add(_answer_of(values))
                n_written += 1
        written.finish(Path(folder) / "answers.parquet")
        assert n_written == n
        assert pl.scan_parquet(Path(folder) / "answers.parquet").select(pl.len()).collect().item() == n
        return {
            "names": n,
            "parts": len(sizes),
            "seconds_of_listing": round(listed, 1),
            "seconds": round(time.monotonic() - start, 1),
            "processor_seconds_of_the_driver": round(time.process_time() - used, 1),
            "mib_before": before >> 10,
            "mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10,
        }


def apart(n: int) -> dict[str, Any]:
    """`through_cluster` in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.cluster_answers", "--one", str(n)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def speeds(pictures: list[str], n_rounds: int) -> dict[str, Any]:
    """Pictures a second of both ways, in turn."""
    from benchmarks.answer_speed import write_bundle_of
    from tellapart.cluster.connect import connected
    from tellapart.cluster.predicting import predict_on_cluster
    from tellapart.deploy.predict_inputs import Request, predict_inputs

    taken: dict[str, list[float]] = {"plain": [], "cluster": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_bundle_of("mobilenetv2_100", folder / "bundle", pictures)
        (folder / "names.txt").write_text("\n".join(pictures))
        start = time.monotonic()
        with connected("auto") as cluster:
            starting = time.monotonic() - start
            for number in range(n_rounds + 1):
                for way in taken:
                    out = folder / f"{way}-{number}.parquet"
                    request = Request(folder / "bundle", (str(folder / "names.txt"),), engine=ENGINE, out=out)
                    lines: list[str] = []
                    if way == "plain":
                        predict_inputs(request, lines.append)
                    else:
                        predict_on_cluster(request, "auto", lines.append)
                    if number:  # the first round warms up
                        taken[way].append(_speed(lines))
                    print(number, way, lines[-1], file=sys.stderr)
            same = [pl.read_parquet(folder / f"{way}-{n_rounds}.parquet") for way in taken]
            ratios = [cluster_ / plain for plain, cluster_ in zip(*taken.values(), strict=True)]
            return {
                "pictures": len(pictures),
                "workers": cluster.n_cpus,
                "same_rows": same[0].equals(same[1]),
                "ratio": statistics.median(ratios),
                "ratios": ratios,
                "pictures_a_second": {way: record.spread(values) for way, values in taken.items()},
                "seconds_to_start_ray": round(starting, 1),
            }


def _speed(lines: list[str]) -> float:
    """Of the line that a command ends with, such as “551 pictures in 28 s, 20.1 a second”."""
    last = next(line for line in reversed(lines) if " a second" in line)
    return float(last.partition(" s, ")[2].partition(" a second")[0].replace(",", ""))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pictures", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--names", type=int, nargs="*", default=[])
    parser.add_argument("--one", type=int, help="answer so many made-up names in this process, and print figures")
    asked = parser.parse_args()
    if asked.one is not None:
        print(json.dumps(through_cluster(asked.one)))
        return
    figures: dict[str, Any] = {"made_up_names": [apart(n) for n in asked.names]}
    if len(figures["made_up_names"]) > 1:
        few, many = figures["made_up_names"][0], figures["made_up_names"][-1]
        more = (many["names"] - few["names"]) / 1e6
        figures["mib_a_million_names"] = round((many["mib"] - few["mib"]) / more, 1)
        figures["seconds_a_million_names"] = round((many["seconds"] - few["seconds"]) / more, 1)
    if asked.pictures:
        data = Path(os.environ["TELLAPART_TEST_DATA"]) / "animals"
        files = sorted(str(path) for path in data.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
        figures["speed"] = speeds((files * (asked.pictures // len(files) + 1))[: asked.pictures], asked.rounds)
    record.write("cluster_answers", figures)


if __name__ == "__main__":
    main()
