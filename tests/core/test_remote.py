"""Storage elsewhere, against a real S3 server on this machine: mirrored, streamed, bounded, no trace of a key."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tellapart.core import remote
from tellapart.core.files import cache_folder
from tellapart.errors import DataError, MissingExtraError, UsageError
from tellapart.runs.run import Run
from tests.deploy.conftest import _make_bundle

SECRET = "shhh-do-not-write-me"


@pytest.fixture(scope="module")
def s3() -> Iterator[Callable[..., str]]:
    """A maker of addresses s3://bucket/…, whose objects are files of a folder, on a server of this process."""
    pytest.importorskip("s3fs")
    server_room = pytest.importorskip("moto.server")
    server = server_room.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "someone")
        patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        import s3fs

        filesystem = s3fs.S3FileSystem(use_listings_cache=False)
        filesystem.mkdir("bucket")

        def put(folder: Path, name: str) -> str:
            for path in sorted(folder.rglob("*")):
                if path.is_file():
                    filesystem.put_file(str(path), f"bucket/{name}/{path.relative_to(folder).as_posix()}")
            return f"s3://bucket/{name}"

        yield put
    server.stop()


@pytest.fixture
def storage(s3: Any) -> Any:
    import s3fs

    return s3fs.S3FileSystem(use_listings_cache=False)


def test_what_is_an_address():
    assert remote.remote_url("s3://bucket/a/b.jpg") == "s3://bucket/a/b.jpg"
    assert remote.remote_url(Path("s3://bucket/a/")) == "s3://bucket/a"
    assert remote.remote_url("gs://bucket") == "gs://bucket"
    for name in ("bucket/a", "/s3/a", "http://host/a", "file:///etc/passwd", "s3:", "s3://", "C:\\s3", "a/s3://b/c"):
        assert remote.remote_url(name) is None


@pytest.mark.parametrize("url", ["s3://key:secret@bucket/a", "s3://key@bucket/a", "s3://host:9000/bucket"])
def test_an_address_with_credentials_is_refused_and_not_repeated(url):
    with pytest.raises(UsageError, match="must not hold credentials") as error:
        remote.remote_url(url)
    assert "key" not in error.value.message
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("words", [["predict", "run", "a.png", "--out"], ["audit", "photos", "--out"]])
def test_what_is_written_here_is_not_written_to_a_folder_called_s3(here, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = here(*words, "s3://bucket/a.csv")
    assert done.returncode == 2
    assert "s3://bucket/a.csv: this is written to a file of this machine" in done.stderr
    assert list(tmp_path.iterdir()) == []


@given(st.text(max_size=30))
def test_any_address_stays_below_its_bucket(text):
    try:
        url = remote.remote_url(f"s3://b/{text}")
    except UsageError:
        return
    assert url is None or ".." not in url.split("/")


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "s3fs", None)
    with pytest.raises(MissingExtraError) as error:
        remote.at_hand("s3://bucket/a")
    assert "tellapart[s3]" in error.value.hint
    with pytest.raises(UsageError, match="needs the package gcsfs"):
        remote.at_hand("gs://bucket/a")


def test_a_folder_is_mirrored_and_kept_up_to_date(s3, storage, tmp_path, monkeypatch):
    folder = tmp_path / "here"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.txt").write_text("one")
    (folder / "sub" / "ünï.txt").write_text("two")
    url = s3(folder, "mirrored")
    fetched: list[str] = []
    fetch = remote._fetch
    monkeypatch.setattr(remote, "_fetch", lambda file, *to: fetched.append(file.url) or fetch(file, *to))
    mirror = remote.at_hand(url)
    assert {p.relative_to(mirror).as_posix(): p.read_text() for p in mirror.rglob("*") if p.is_file()} == {
        "a.txt": "one",
        "sub/ünï.txt": "two",
    }
    assert mirror.name == "mirrored"
    assert len(fetched) == 2
    assert remote.at_hand(url) == mirror
    assert len(fetched) == 2  # nothing has changed
    storage.pipe_file("bucket/mirrored/a.txt", b"ONE")
    storage.rm("bucket/mirrored/sub/ünï.txt")
    (mirror / "mine.txt").write_text("not of the mirror")
    remote.at_hand(url)
    assert fetched[2:] == [f"{url}/a.txt"]
    assert (mirror / "a.txt").read_text() == "ONE"
    assert not (mirror / "sub" / "ünï.txt").exists()
    assert (mirror / "mine.txt").exists()


def test_a_mirror_that_was_broken_off_goes_on(s3, tmp_path, monkeypatch):
    """What was fetched is noted now and then, not at the end alone."""
    for name in "abcd":
        (tmp_path / name).write_text(name)
    url = s3(tmp_path, "broken")
    fetched: list[str] = []
    fetch = remote._fetch

    def broken(file: remote.RemoteFile, folder: Path, name: str) -> tuple[remote.RemoteFile, str]:
        if name.endswith("c"):
            raise KeyboardInterrupt
        return fetch(file, folder, name)

    with monkeypatch.context() as patch:
        patch.setattr(remote, "_NOTE", 0.0)
        patch.setattr(remote, "_fetch", broken)
        with pytest.raises(KeyboardInterrupt):
            remote.at_hand(url)
    monkeypatch.setattr(remote, "_fetch", lambda file, *to: fetched.append(file.url[-1]) or fetch(file, *to))
    assert sorted(path.name for path in remote.at_hand(url).iterdir()) == list("abcd")
    assert fetched == ["c", "d"]


def test_workers_of_another_machine_have_a_mirror_of_their_own(s3, picture_folder, tmp_path, monkeypatch):
    """A mirror's path means nothing there; the address does."""
    from tellapart.data.catalog import Catalog
    from tellapart.data.scan import scan
    from tellapart.training.parallel.workers import Workers
    from tellapart.workflows.leading import hand_out, received

    class Told(Workers):
        """The leader's word, kept until another one takes it."""

        words: ClassVar[list[bytes]] = []

        def from_leader(self, data: bytes | None = None) -> bytes:
            if self.leads:
                self.words.append(data or b"")
                return data or b""
            return self.words.pop(0)

    url = s3(picture_folder(n=2), "shared")
    run = Run(tmp_path / "run")
    run.directory.mkdir()
    scan(url).save(run.catalog_file)
    hand_out(Told(), run, finished=False)
    monkeypatch.setenv("TELLAPART_CACHE", str(tmp_path / "another machine"))
    with received(Told(rank=1)) as there:
        assert there is not None
        catalog, leaders = there.catalog, Catalog.load(run.catalog_file)
    assert catalog.root.is_relative_to(tmp_path / "another machine")
    assert catalog.table.equals(leaders.table)
    assert [catalog.path(row).read_bytes() for row in range(2)] == [leaders.path(row).read_bytes() for row in range(2)]
    assert remote.mirrored(catalog.root) == (url, "")
    assert remote.mirrored(catalog.root / "a" / "b") == (url, "a/b")
    assert remote.mirrored(tmp_path) is None


def test_a_file_is_mirrored_under_its_name(s3, tmp_path):
    (tmp_path / "list.csv").write_text("path\n")
    assert remote.at_hand(f"{s3(tmp_path, 'one')}/list.csv").name == "list.csv"


def test_what_is_not_there_or_too_large_is_said(s3, tmp_path, monkeypatch):
    (tmp_path / "a.bin").write_bytes(bytes(1000))
    url = s3(tmp_path, "large")
    with pytest.raises(DataError, match="s3://bucket/none: there is nothing"):
        remote.at_hand("s3://bucket/none")
    with pytest.raises(DataError, match="s3://bucket/large/none"):
        remote.read_remote(f"{url}/none", 10)
    assert remote.read_remote(f"{url}/a.bin", 1000) == bytes(1000)
    with pytest.raises(DataError, match="more than 0 MB"):
        remote.read_remote(f"{url}/a.bin", 999)
    monkeypatch.setattr(remote, "MOST_FILE", 999)
    with pytest.raises(DataError, match="at most"):
        remote.at_hand(url)
    monkeypatch.setattr(remote, "MOST_FILE", 10_000)
    monkeypatch.setattr(remote, "_MOST_ALL", 999)
    with pytest.raises(DataError, match="there is room for"):
        remote.at_hand(url)


@pytest.mark.parametrize("name", ["a//b.txt", "../up.txt", "a/../../up.txt", "x" * 300])
def test_names_that_no_file_can_have_are_refused(s3, name, monkeypatch, tmp_path):
    files = [remote.RemoteFile(f"s3://bucket/odd/{name}", 1, "v")]
    monkeypatch.setattr(remote, "find_remote", lambda _url: files)
    with pytest.raises(DataError, match="no name that a file can have"):
        remote.at_hand("s3://bucket/odd")


def test_pictures_and_bundles_elsewhere_give_the_answers_of_those_here(s3, here, picture_folder, tmp_path):
    bundle, folder = _make_bundle(tmp_path / "run" / "bundle"), picture_folder(n=2)
    (folder / ".hidden.png").write_bytes(b"")
    (folder / "notes.txt").write_text("no picture")
    (folder / "circle" / "bad.png").write_bytes(b"bad")
    urls = s3(tmp_path / "run", "run"), s3(folder, "photos")
    alone = here("predict", bundle.parent, folder, "--format", "csv")
    there = here("predict", *urls, "--format", "csv")
    assert (alone.returncode, there.returncode) == (3, 3), there.stderr
    assert there.stdout == alone.stdout.replace(str(folder), urls[1])
    listed = tmp_path / "list.txt"
    listed.write_text(f"{urls[1]}/circle/000.png\n{urls[1]}/circle/gone.png\n")
    one = here("predict", urls[0], listed, "--format", "jsonl")
    first, second = map(json.loads, one.stdout.splitlines())
    assert first["path"] == f"{urls[1]}/circle/000.png"
    assert first["label"] is not None
    assert second["problem"] == "there is no such file"


def test_a_scan_of_pictures_elsewhere_is_that_of_those_here(s3, here, picture_folder):
    folder = picture_folder(n=2)
    alone, there = (json.loads(here("scan", root, "--json").stdout) for root in (folder, s3(folder, "scanned")))
    assert there.pop("root") != alone.pop("root")
    assert there == alone


def test_what_is_written_elsewhere_arrives_whole_and_last_of_all_what_names_it(s3, storage, tmp_path):
    with remote.copied_to(Path("s3://bucket/runs/first")) as folder:
        (folder / "bundle").mkdir(parents=True)
        (folder / "bundle" / "bundle.json").write_text("{}")
        (folder / "report.html").write_text("page")
    assert sorted(storage.find("bucket/runs/first")) == [
        "bucket/runs/first/bundle/bundle.json",
        "bucket/runs/first/report.html",
    ]
    with remote.copied_to(tmp_path / "plain") as plain:
        assert plain == tmp_path / "plain"


def test_no_key_is_written_anywhere(s3, tmp_path):
    """After all that, in the cache of these tests."""
    files = [path for path in cache_folder("").rglob("*") if path.is_file()]
    assert files
    for path in files:
        assert SECRET.encode() not in path.read_bytes()
    assert SECRET in os.environ["AWS_SECRET_ACCESS_KEY"]
