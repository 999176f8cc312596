"""Pictures that ask for too much: refused, reduced, or decoded one after the other."""

from __future__ import annotations

import struct
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

from tellapart.data.decoding import limits
from tellapart.data.decoding.decode import MAX_PIXELS, decode, examine
from tests.data.decoding.pictures import bomb_png, photo, reason, saved, with_size, written


def test_jpegs_in_pieces_of_one_channel_are_counted_with_their_coefficients() -> None:
    """Such files make decoders keep the whole picture in memory, whatever the scale."""
    content = saved(photo(), "JPEG", progressive=True, subsampling=0)
    assert "more than the limit" in reason(with_size(content, 65000, 65000))


def test_a_jpeg_of_thousands_of_scans_is_refused() -> None:
    content = saved(photo(), "JPEG", progressive=True)
    scan = content.index(b"\xff\xda")
    assert "scans: more than the limit" in reason(content[:scan] + content[scan:-2] * 300 + content[-2:])


def test_a_header_that_claims_too_much_is_found_out_at_once() -> None:
    assert reason(with_size(saved(photo(), "JPEG"), 65000, 65000)) == "the file ends too early: it is truncated"


def test_pictures_with_too_many_pixels_are_refused_by_their_header(tmp_path: Path) -> None:
    side = 11_000
    assert side * side > MAX_PIXELS
    facts = examine(written(tmp_path / "bomb.png", bomb_png(side, 10)))
    assert facts.problem == f"11,000 × 11,000 pixels: more than the limit of {MAX_PIXELS / 1e6:,.0f} million"
    assert facts.width == side


def test_icons_with_a_picture_too_large_inside_are_refused() -> None:
    inside = bomb_png(9000, 10)
    entry = struct.pack("<BBBBHHII", 16, 16, 0, 0, 1, 32, len(inside), 22)
    assert "more than the limit" in reason(struct.pack("<HHH", 0, 1, 1) + entry + inside)


_MEMORY = """
import sys
from pathlib import Path
from tellapart.data.decoding.decode import decode
from tellapart.data.scan import scan
catalog = scan(sys.argv[1], layout="folders", workers=4)
for row in catalog.readable:
    decode(catalog.path(row))
status = Path("/proc/self/status").read_text()
peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
print(len(catalog), len(catalog.readable), int(peak.split()[1]) * 1024)
"""


def peak_memory(folder: Path) -> tuple[int, int, int]:
    """Scan a folder with four threads and decode all of it in a process of its own: files, readable, peak bytes.

    The peak is the kernel's of that process alone; `ru_maxrss` would begin with that of the process it came from.
    """
    if not Path("/proc/self/status").exists():
        pytest.skip("needs a system that tells a process's peak memory in /proc")
    command = [sys.executable, "-W", "error", "-c", _MEMORY, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    n, n_readable, peak = map(int, done.stdout.split())
    return n, n_readable, peak


@pytest.mark.slow
def test_bombs_and_giants_stay_below_512_mb(tmp_path: Path) -> None:
    """Four at a time: each would fit alone, all of them together would not."""
    written(tmp_path / "bomb.png", bomb_png(30_000, 10))
    for i in range(2):
        written(tmp_path / f"large{i}.png", bomb_png(8000))  # 64 million pixels: decoded, and given at half size
    flat = Image.new("L", (20_000, 10_000), 99)  # 200 million pixels
    written(tmp_path / "giant.jpg", saved(flat, "JPEG"))
    flat.crop((0, 0, 6000, 5000)).convert("RGB").save(tmp_path / "many.jpg", progressive=True, subsampling=0)
    flat.crop((0, 0, 4500, 4500)).convert("RGB").save(tmp_path / "large.webp", quality=50, method=0)
    n, n_readable, peak = peak_memory(tmp_path)
    assert (n, n_readable) == (6, 5)
    assert peak < 512e6


def test_giant_pictures_come_reduced() -> None:
    pixels = decode(bomb_png(8000))
    assert pixels.shape == (4000, 4000, 3)


def test_large_decodes_wait_for_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    content = bomb_png(2000)
    allowance = limits._Allowance(30_000_000)  # one such picture takes 28 million bytes
    monkeypatch.setattr(limits._state, "allowance", allowance)
    with ThreadPoolExecutor(4) as pool:
        shapes = [pixels.shape for pixels in pool.map(decode, [content] * 8)]
    assert shapes == [(2000, 2000, 3)] * 8
    assert allowance.free == 30_000_000
