"""Counts of answers in one file: whole, bounded, and right though several processes add to it."""

import json
import math
import subprocess
import sys
import threading

import pytest

from tellapart.core.cache import read_note
from tellapart.deploy import monitor as monitoring
from tellapart.deploy.answer import Answer
from tellapart.deploy.bundle.read import Bundle
from tellapart.deploy.monitor import Monitor, read_counts
from tellapart.errors import UsageError
from tellapart.evaluation.open_set import OodScore


def answer(label="red", certainty=0.97, score=None, path="a.png", unknown=None):
    chosen = () if unknown else (label,)
    return Answer(path, chosen, ((label, certainty),), certainty, ood_score=score, unknown=unknown)


BAD = Answer("bad.png", (), (), math.nan, "it is empty")


@pytest.fixture
def scored(bundle):
    from dataclasses import replace

    return replace(bundle, ood_score=OodScore((0.0, 1.0), (0.0, 1.0), 2.0, 0.99, 100))


def count(path, bundle, answers, n_odd=0):
    assert list(Monitor(path, bundle, n_odd).counting(answers)) == answers
    return read_counts(path, bundle)


def test_answers_certainty_unknown_and_unreadable_are_counted(scored, tmp_path):
    answers = [answer(), answer("green", 0.0, score=1.0), answer("blue", 1.0, score=9.0, unknown="far"), BAD]
    counts = count(tmp_path / "new" / "m.json", scored, answers)
    assert (counts.n, counts.n_unreadable, counts.n_unlike) == (3, 1, 1)
    assert counts.labels == {"red": 1, "green": 1, "blue": 1}
    assert [counts.certainty[0], counts.certainty[19], sum(counts.certainty)] == [1, 2, 3]
    counts = count(tmp_path / "new" / "m.json", scored, answers)
    assert (counts.n, counts.labels["red"], counts.odd) == (6, 2, [])


def test_several_labels_are_counted_each_and_none_as_none(tagger, tmp_path):
    both, neither = (
        Answer("a", ("red", "green"), (("red", 0.9), ("green", 0.8)), 0.8),
        Answer("b", (), (("red", 0.1),), 0.9),
    )
    assert count(tmp_path / "m.json", tagger, [both, neither]).labels == {"red": 1, "green": 1, "none": 1}


def test_the_oddest_pictures_are_kept_and_no_more_than_asked_for(scored, tmp_path):
    def some(start):
        return [answer(score=float(number), path=f"{number}.png") for number in range(start, start + 10)]

    count(tmp_path / "m.json", scored, some(20), n_odd=3)
    counts = count(tmp_path / "m.json", scored, some(15), n_odd=3)
    assert counts.odd == [(29.0, "29.png"), (28.0, "28.png"), (27.0, "27.png")]
    assert count(tmp_path / "m.json", scored, some(0)).odd == counts.odd
    with pytest.raises(UsageError, match="0 to 1,000"):
        Monitor(tmp_path / "m.json", scored, 1001)


def test_a_stream_that_breaks_off_has_counted_what_it_gave(bundle, tmp_path, monkeypatch):
    def answers():
        yield answer()
        yield answer()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(Monitor(tmp_path / "m.json", bundle).counting(answers()))
    assert read_counts(tmp_path / "m.json", bundle).n == 2
    monkeypatch.setattr(monitoring, "_ANSWERS", 3)
    monitor = Monitor(tmp_path / "n.json", bundle)
    for number in range(1, 8):
        monitor.add(answer())
        assert not (tmp_path / "n.json").exists() or read_counts(tmp_path / "n.json", bundle).n == number // 3 * 3


def test_threads_and_processes_that_count_into_one_file_add_up(bundle, tmp_path, monkeypatch):
    monkeypatch.setattr(monitoring, "_ANSWERS", 1)
    path = tmp_path / "m.json"
    threads = [threading.Thread(target=count, args=(path, bundle, [answer()] * 20)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert read_counts(path, bundle).n == 80


@pytest.mark.slow
def test_processes_that_count_into_one_file_add_up(bundle_folder, bundle, tmp_path):
    code = (
        "import sys; from pathlib import Path; from tellapart.deploy import monitor; "
        "from tellapart.deploy.answer import Answer; from tellapart.deploy.bundle.read import Bundle; "
        "monitor._ANSWERS = 1; m = monitor.Monitor(Path(sys.argv[2]), Bundle.load(sys.argv[1])); "
        "[m.add(Answer('a', ('red',), (('red', 0.9),), 0.9)) for _ in range(100)]"
    )
    command = [sys.executable, "-c", code, str(bundle_folder), str(tmp_path / "m.json")]
    children = [subprocess.Popen(command) for _ in range(4)]
    assert [child.wait() for child in children] == [0] * 4
    assert read_counts(tmp_path / "m.json", bundle).n == 400


def test_files_that_are_no_counts_of_this_model_are_left_alone(bundle, tagger, tmp_path):
    path = tmp_path / "m.json"
    count(path, bundle, [answer()])
    with pytest.raises(UsageError, match="another model"):
        Monitor(path, tagger)
    values = read_note(path)
    for change in ({"n": -1}, {"n": "1"}, {"certainty": [1]}, {"labels": []}, {"odd": 3}, {"format": 9}):
        monitoring.write_note(path, {**values, **change})
        with pytest.raises(UsageError, match="damaged"):
            Monitor(path, bundle)
    for content in ("", "mine", json.dumps({"n": 1})):
        path.write_text(content)
        with pytest.raises(UsageError, match="damaged"):
            Monitor(path, bundle)
        assert path.read_text() == content
    with pytest.raises(UsageError, match="does not exist"):
        read_counts(tmp_path / "nothing", bundle)


def test_the_file_stays_small(bundle: Bundle, tmp_path):
    path = tmp_path / "m.json"
    count(path, bundle, [answer(path="x" * 10_000 + str(number)) for number in range(50)], n_odd=5)
    assert path.stat().st_size < 25_000
