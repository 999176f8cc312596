import stat
import tarfile

import pytest

from tellapart.deploy.export import browser_engine
from tellapart.errors import BundleError


@pytest.fixture(autouse=True)
def _nothing_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("TELLAPART_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(browser_engine, "_CARRIED", tmp_path / "carried")
    monkeypatch.setenv("PATH", "")


def fake_npm(folder, monkeypatch, script):
    folder.mkdir()
    npm = folder / "npm"
    npm.write_text(f"#!/bin/sh\n{script}\n")
    npm.chmod(npm.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_without_npm_the_error_says_three_ways_out():
    with pytest.raises(BundleError, match="npm is not installed") as error:
        browser_engine.browser_engine()
    assert "--browser-engine FOLDER" in error.value.hint
    assert error.value.hint.count(";") == 2


def test_a_failing_npm_is_quoted(tmp_path, monkeypatch):
    fake_npm(tmp_path / "bin", monkeypatch, "echo 'no network' >&2; exit 1")
    with pytest.raises(BundleError, match="npm could not fetch it: no network"):
        browser_engine.browser_engine()


def test_a_package_with_other_files_is_refused_and_nothing_is_kept(tmp_path, monkeypatch):
    archive = tmp_path / "other.tgz"
    with tarfile.open(archive, "w:gz") as package:
        for name in browser_engine.DIGESTS:
            (tmp_path / name).write_text("alert(1)")
            package.add(tmp_path / name, f"package/dist/{name}")
    fake_npm(tmp_path / "bin", monkeypatch, f"cp {archive} .")
    with pytest.raises(BundleError, match="its content is another"):
        browser_engine.browser_engine()
    assert not list((tmp_path / "cache").rglob("*.mjs"))


def test_a_package_that_is_none_is_refused(tmp_path, monkeypatch):
    fake_npm(tmp_path / "bin", monkeypatch, "echo nothing > some.tgz")
    with pytest.raises(BundleError, match="npm's package cannot be read"):
        browser_engine.browser_engine()


def test_a_named_folder_is_checked(tmp_path):
    for name in browser_engine.DIGESTS:
        (tmp_path / name).write_text("alert(1)")
    with pytest.raises(BundleError, match="its content is another"):
        browser_engine.browser_engine(tmp_path)
    with pytest.raises(BundleError, match="No such file"):
        browser_engine.browser_engine(tmp_path / "nowhere")
