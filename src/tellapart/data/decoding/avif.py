"""AVIF: the sizes and numbers of its parts, before libavif and dav1d set memory aside for them.

Boxes are those of ISO/IEC 14496-12 and 23008-12. A file's boxes may claim another size than the AV1 data in it, and
dav1d goes by the data's: so their sequence headers are read too (AV1 specification, 5.5).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from tellapart.data.decoding.bounded_file import read_at
from tellapart.data.decoding.messages import Unusable

#: What libavif and dav1d take, in bytes a pixel, besides the file: measured.
BYTES_PER_PIXEL = 12
#: Copies of the file in memory meanwhile.
N_COPIES = 2
_MAX_BOXES = 2_000
# Bytes of the boxes about pictures and films; a colour profile is the largest thing in the first.
_MAX_LENGTHS = {b"meta": 4_000_000, b"moov": 1_000_000}
# Bytes of the boxes that list items. libavif looks each one up among all the others.
_MAX_LISTS = 64_000
_MAX_SAMPLES = 100_000  # frames of a sequence
_MAX_UNITS = 1_000
_SEQUENCE_HEADER = 1

_Boxes = Iterator[tuple[bytes, bytes]]
_Size = tuple[int, int]


def matches(start: bytes) -> bool:
    """Whether a file begins like an AVIF file."""
    return start[4:8] == b"ftyp" and start[8:12] in (b"avif", b"avis", b"mif1")


def size(file: BinaryIO) -> _Size:
    """Check a file's parts; width and height, in pixels, of the largest picture in it.

    Raises:
        Unusable: it has too many parts.
    """
    sizes = [(0, 0)]
    position = 0
    for _ in range(_MAX_BOXES):
        head = read_at(file, position, 16)
        if len(head) < 8:
            return _largest(sizes)
        length, n_head = _length(head)
        kind = head[4:8]
        if kind in _MAX_LENGTHS:
            limit = _MAX_LENGTHS[kind]
            body = read_at(file, position + n_head, min(length - n_head if length else limit + 1, limit + 1))
            if len(body) > limit:
                raise Unusable("an AVIF file whose list of pictures is longer than can be read")
            sizes += _of_items(file, body[4:]) if kind == b"meta" else _of_tracks(file, body)
        if length == 0:
            return _largest(sizes)
        position += length
    raise Unusable(f"an AVIF file of more than {_MAX_BOXES:,} boxes")


def _length(head: bytes) -> tuple[int, int]:
    """A box's length, 0 for "to the end of the file", and that of its head."""
    length = int.from_bytes(head[:4], "big")
    if length == 1 and len(head) >= 16:
        return max(int.from_bytes(head[8:16], "big"), 16), 16
    return (max(length, 8) if length else 0), 8


def _children(body: bytes) -> _Boxes:
    position = 0
    for _ in range(_MAX_BOXES):
        head = body[position : position + 16]
        if len(head) < 8:
            return
        length, n_head = _length(head)
        end = position + length if length else len(body)
        yield head[4:8], body[position + n_head : end]
        position = end
    raise Unusable(f"an AVIF file of more than {_MAX_BOXES:,} boxes")


def _of_items(file: BinaryIO, meta: bytes) -> list[_Size]:
    """Sizes that the properties of items claim, and that their data have."""
    sizes: list[_Size] = []
    inside, locations, n_lists = b"", b"", 0
    for kind, body in _children(meta):
        if kind == b"iprp":
            for name, group in _children(body):
                if name == b"ipco":
                    sizes += [_sides(value[4:]) for label, value in _children(group) if label == b"ispe"]
                else:
                    n_lists += len(group)
        elif kind == b"idat":
            inside = body
        else:
            n_lists += len(body)
            locations = body if kind == b"iloc" else locations
    if n_lists > _MAX_LISTS:
        raise Unusable("an AVIF file of more pictures than can be read")
    for in_idat, offset in _locations(locations):
        sizes.append(_of_data(file, offset) if not in_idat else _of_units(inside[offset:]))
    return sizes


def _sides(body: bytes) -> _Size:
    return int.from_bytes(body[:4], "big"), int.from_bytes(body[4:8], "big")


def _largest(sizes: list[_Size]) -> _Size:
    return max(sizes, key=lambda sides: sides[0] * sides[1])


def _locations(body: bytes) -> Iterator[tuple[bool, int]]:
    """Where each item begins (iloc): whether in the box idat, and the offset of its first piece."""
    if len(body) < 8:
        return
    version, reader = body[0], _Numbers(body[6:])
    n_offset, n_length, n_base, n_index = body[4] >> 4, body[4] & 15, body[5] >> 4, body[5] & 15
    n_index = n_index if version in (1, 2) else 0
    wide = 4 if version == 2 else 2
    for _ in range(reader.next(wide)):
        if reader.at_end():
            return
        reader.next(wide)
        method = reader.next(2) & 15 if version in (1, 2) else 0
        reader.next(2)
        base = reader.next(n_base)
        for i in range(reader.next(2)):
            reader.next(n_index)
            offset = base + reader.next(n_offset)
            reader.next(n_length)
            if i == 0:
                yield method == 1, offset
            if reader.at_end():
                break


def _of_tracks(file: BinaryIO, moov: bytes) -> list[_Size]:
    """Sizes that the first frames of a sequence have. Tables of frames are looked for by their names."""
    sizes: list[_Size] = []
    for name, n_skip in ((b"stsz", 8), (b"stz2", 8)):
        for body in moov.split(name)[1:]:
            if int.from_bytes(body[n_skip : n_skip + 4], "big") > _MAX_SAMPLES:
                raise Unusable(f"an AVIF file of more than {_MAX_SAMPLES:,} frames")
    for name, n_offset in ((b"stco", 4), (b"co64", 8)):
        offsets = [int.from_bytes(body[8 : 8 + n_offset], "big") for body in moov.split(name)[1:100]]
        sizes += [_of_data(file, offset) for offset in offsets]
    return sizes


def _of_data(file: BinaryIO, offset: int) -> _Size:
    return _of_units(read_at(file, offset, 64_000))


def _of_units(data: bytes) -> _Size:
    """The largest size that the sequence headers among some units (OBU) allow."""
    position, sizes = 0, [(0, 0)]
    for _ in range(_MAX_UNITS):
        if position >= len(data):
            break
        head = data[position]
        position += 2 if head & 4 else 1
        n_body = len(data) - position
        if head & 2:
            n_body = 0
            for shift in range(0, 56, 7):
                byte = data[position] if position < len(data) else 0
                position += 1
                n_body |= (byte & 127) << shift
                if byte < 128:
                    break
        if head >> 3 & 15 == _SEQUENCE_HEADER:
            sizes.append(_of_sequence(data[position : position + min(n_body, 500)]))
        position += n_body
    return _largest(sizes)


def _of_sequence(data: bytes) -> _Size:
    """Width and height of the largest frame that a sequence header allows."""
    bits = _Bits(data)
    bits.next(4)
    if bits.next(1):  # reduced_still_picture_header
        bits.next(5)
    else:
        n_delay = 0
        if bits.next(1):  # timing_info_present_flag
            bits.next(64)
            if bits.next(1):
                bits.skip_uvlc()
            if bits.next(1):  # decoder_model_info_present_flag
                n_delay = bits.next(5) + 1
                bits.next(42)
        delayed = bits.next(1)
        for _ in range(bits.next(5) + 1):
            bits.next(12)
            if bits.next(5) > 7:
                bits.next(1)
            if n_delay and bits.next(1):
                bits.next(2 * n_delay + 1)
            if delayed and bits.next(1):
                bits.next(4)
    n_width, n_height = bits.next(4) + 1, bits.next(4) + 1
    return bits.next(n_width) + 1, bits.next(n_height) + 1


class _Bits:
    """Reads numbers of so many bits; zeros past the end."""

    def __init__(self, data: bytes) -> None:
        self.value, self.n_left = int.from_bytes(data, "big"), 8 * len(data)

    def next(self, n: int) -> int:
        self.n_left -= n
        return self.value >> self.n_left & ((1 << n) - 1) if self.n_left >= 0 else 0

    def skip_uvlc(self) -> None:
        n_zeros = 0
        while self.n_left > 0 and not self.next(1):
            n_zeros += 1
        self.next(min(n_zeros, 32))


class _Numbers:
    """Reads numbers of so many bytes; zeros past the end."""

    def __init__(self, data: bytes) -> None:
        self.data, self.position = data, 0

    def next(self, n: int) -> int:
        self.position += n
        return int.from_bytes(self.data[self.position - n : self.position], "big")

    def at_end(self) -> bool:
        return self.position >= len(self.data)
