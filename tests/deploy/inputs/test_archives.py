"""Archives are read in place, in order; no member reaches beyond them, and none makes work or memory without bound."""

import gzip
import io
import struct
import tarfile
import tracemalloc
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from tellapart.deploy.inputs import archives
from tellapart.deploy.inputs.archives import archive_pictures
from tellapart.deploy.predictor import answers
from tellapart.errors import UnreadableError, UsageError

COLOURS = {"a/red.png": "red", "b.PNG": "blue", "c/d/green.png": "lime"}


def png(colour):
    file = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(file, "PNG")
    return file.getvalue()


CONTENTS = {name: png(colour) for name, colour in COLOURS.items()}


def zipped(path, contents, **how):
    with zipfile.ZipFile(path, "w", **how) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return path


def tarred(path, contents, mode="w"):
    with tarfile.open(path, mode) as archive:
        for name, content in contents.items():
            add(archive, name, content)
    return path


def add(archive, name, content=b"", **how):
    member = tarfile.TarInfo(name)
    member.size = len(content)
    for key, value in how.items():
        setattr(member, key, value)
    archive.addfile(member, io.BytesIO(content))


def read(path):
    """Names within the archive and what each holds: its bytes, or why not."""
    said = {}
    for picture in archive_pictures(path):
        try:
            said[picture.name.removeprefix(str(path)).lstrip("/")] = picture.read()
        except UnreadableError as error:
            said[picture.name.removeprefix(str(path)).lstrip("/")] = error.reason
    return said


@pytest.mark.parametrize("how", [{}, {"compression": zipfile.ZIP_DEFLATED}, {"compression": zipfile.ZIP_LZMA}])
def test_a_zip_gives_its_pictures_in_order(tmp_path, how):
    path = zipped(
        tmp_path / "new.zip", {**CONTENTS, "notes.txt": b"", ".hidden.png": b"", "__MACOSX/x.png": b""}, **how
    )
    assert list(read(path).items()) == list(CONTENTS.items())


@pytest.mark.parametrize(
    ("name", "mode"), [("a.tar", "w"), ("a.tar.gz", "w:gz"), ("a.tbz2", "w:bz2"), ("a.txz", "w:xz")]
)
def test_a_tar_gives_its_pictures_in_order(tmp_path, name, mode):
    path = tarred(tmp_path / name, {**CONTENTS, "notes.txt": b"", ".hidden.png": b"", "@eaDir/x.png": b""}, mode)
    assert list(read(path).items()) == list(CONTENTS.items())


def test_their_pictures_are_answered_beside_others(bundle, plain, tmp_path):
    path = zipped(tmp_path / "new.zip", CONTENTS)
    given = [plain("first.png", "blue"), *archive_pictures(path), plain("last.png", "red")]
    assert [answer.label for answer in answers(bundle, given)] == ["blue", "red", "blue", "green", "red"]


@pytest.mark.parametrize(
    "name", ["../x.png", "a/../../x.png", "/etc/x.png", "C:/x.png", "..\\x.png", "\\\\server\\x.png"]
)
@pytest.mark.parametrize("make", [zipped, tarred])
def test_names_that_lead_out_are_refused_and_the_others_read(tmp_path, make, name):
    path = make(tmp_path / ("a.zip" if make is zipped else "a.tar"), {name: CONTENTS["b.PNG"], **CONTENTS})
    said = read(path)
    assert [value for key, value in said.items() if key not in CONTENTS] == ["its name leads out of the archive"]
    assert {key: said[key] for key in CONTENTS} == CONTENTS
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_in_a_tar_are_refused(tmp_path, kind):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        add(archive, "link.png", type=kind, linkname="/etc/passwd")
        add(archive, "b.png", CONTENTS["b.PNG"])
    assert read(tmp_path / "a.tar") == {
        "link.png": "a link or device, which is not followed",
        "b.png": CONTENTS["b.PNG"],
    }


def test_links_and_encrypted_members_of_a_zip_are_refused(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        link = zipfile.ZipInfo("link.png")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
        archive.writestr("secret.png", CONTENTS["b.PNG"])
    content = bytearray(path.read_bytes())
    content[content.rindex(b"PK\1\2") + 8] |= 1
    path.write_bytes(content)
    assert read(path) == {"link.png": "a link or device, which is not followed", "secret.png": "it is encrypted"}


# --- Bombs -------------------------------------------------------------------------------------------------------


def test_a_member_too_large_is_refused_unread(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MOST_MEMBER", 1000)
    contents = {"large.png": bytes(1001), "small.png": bytes(1000)}
    for path in (
        zipped(tmp_path / "a.zip", contents, compression=zipfile.ZIP_DEFLATED),
        tarred(tmp_path / "a.tar", contents),
    ):
        said = read(path)
        assert "1,001 bytes: more than the limit" in said["large.png"]
        assert said["small.png"] == bytes(1000)


def test_a_zip_whose_header_lies_about_the_size_gives_no_more_than_it_says(tmp_path):
    path = zipped(tmp_path / "a.zip", {"a.png": bytes(1_000_000)}, compression=zipfile.ZIP_DEFLATED)
    content = bytearray(path.read_bytes())
    struct.pack_into("<I", content, content.rindex(b"PK\1\2") + 24, 100)
    path.write_bytes(content)
    (value,) = read(path).values()
    assert isinstance(value, str) or len(value) <= 100


def test_a_tar_that_unpacks_to_far_more_than_pictures_do_ends_before_it_is_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "_ANYWAY", 1_000_000)
    path = tarred(
        tmp_path / "a.tar.gz", {"b.png": CONTENTS["b.PNG"], "zeros.bin": bytes(30_000_000), "c.png": b""}, "w:gz"
    )
    assert read(path) == {"b.png": CONTENTS["b.PNG"], "": "it unpacks to more than 200 times its size"}


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGLINK])
def test_a_name_of_megabytes_is_not_read_into_memory(tmp_path, kind):
    header = tarfile.TarInfo("././@LongLink")
    header.size, header.type = 50_000_000, kind
    with gzip.open(tmp_path / "a.tar.gz", "wb", compresslevel=1) as file:
        file.write(tarfile.TarInfo("b.txt").tobuf())
        file.write(header.tobuf())
        for _ in range(50):
            file.write(bytes(1_000_000))
        file.write(bytes(1024))
    tracemalloc.start()
    (reason,) = read(tmp_path / "a.tar.gz").values()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert "larger than any name" in reason
    assert peak < 5_000_000


def test_a_zip_with_too_many_members_is_refused_before_its_directory_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "_MOST_DIRECTORY", 100)
    with pytest.raises(UsageError, match="too many members"):
        archive_pictures(zipped(tmp_path / "a.zip", CONTENTS))


def test_a_tar_of_many_members_takes_no_more_memory(tmp_path):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as archive:
        for number in range(3_000):
            add(archive, f"{number}.txt", b"x")
    tracemalloc.start()
    assert read(path) == {}
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000


# --- Damage --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz", "a.txz"])
@pytest.mark.parametrize("content", [b"", b"no archive", bytes(100)])
def test_what_is_no_archive_is_an_error_at_once(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UsageError, match="cannot be read as an archive"):
        read(path)


def test_a_tar_that_is_cut_off_gives_what_came_before_and_a_row_that_says_so(tmp_path):
    path = tarred(
        tmp_path / "a.tar.gz", {f"{number}.png": png((number, number, 0)) + bytes(3000) for number in range(9)}, "w:gz"
    )
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    said = read(path)
    assert 0 < len(said) < 10
    assert "damaged here" in list(said.values())[-1]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), name=st.sampled_from(["a.zip", "a.tar", "a.tgz"]))
def test_any_damage_is_an_error_for_people(tmp_path, data, name):
    path = tmp_path / name
    (zipped if name == "a.zip" else tarred)(path, CONTENTS, **({"mode": "w:gz"} if name == "a.tgz" else {}))
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        said = read(path)
    except UsageError:
        return
    assert all(isinstance(value, (str, bytes)) for value in said.values())
    assert not Path(tmp_path.parent, "x.png").exists()
