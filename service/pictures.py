"""What a picture file is, read from its headers and never decoded: PNG, JPEG or WebP, whole, still, and its size.

Sources: W3C PNG (third edition), ITU-T T.81 (JPEG), RFC 9649 (WebP), TIFF 6.0 for the orientation in EXIF.
Strict: what is accepted has its end, and no more pixels than a worker can open. Whatever the bytes are, the answer
is a Picture or BadPicture.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from mmap import mmap

import msgspec

MAX_PIXELS = 64 << 20  # 200 MB once opened; the largest phone cameras make 50 million
MAX_SIDE_PX = 16_384

MEDIA_TYPES = ("image/png", "image/jpeg", "image/webp")

Bytes = bytes | mmap


class Picture(msgspec.Struct, frozen=True, kw_only=True):
    """A still picture; `width` and `height` in px as it is shown, turned as its EXIF data says."""

    media_type: str
    width: int
    height: int


class BadPicture(ValueError):
    """The bytes are no picture that is taken; the message says why and what to do."""


def read_picture(data: Bytes) -> Picture:
    """What the picture file `data` is. Raises BadPicture."""
    for start, read in _READERS.items():
        if data[: len(start)] == start:
            picture = read(data)
            check_size(picture)
            return picture
    raise BadPicture("the bytes are no PNG, JPEG or WebP picture; send the file itself, in one of these formats")


def check_size(picture: Picture) -> None:
    """Raise BadPicture for one with no pixels, or with more than a worker can open."""
    width, height = picture.width, picture.height
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE_PX:
        raise BadPicture(
            f"{width} x {height} px are not opened; the most are {MAX_PIXELS} px, and {MAX_SIDE_PX} on a side"
        )
    if width * height == 0:
        raise BadPicture(f"{width} x {height} px is an empty picture; send one with pixels")


# PNG

_PNG_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}  # by colour type


def _png(data: Bytes) -> Picture:
    size, is_turned, has_pixels, end = (0, 0), False, False, 0
    for number, (kind, start, stop) in enumerate(_png_chunks(data)):
        if (number == 0) != (kind == b"IHDR"):
            raise BadPicture("the PNG does not begin with its one header; send an undamaged file")
        if kind == b"IHDR":
            size = _png_header(data[start:stop])
        elif kind == b"acTL":
            raise BadPicture("the PNG is animated; send a still picture")
        elif kind == b"eXIf":
            is_turned = _is_turned(data[start:stop])
        elif kind == b"IDAT":
            has_pixels = True
        elif kind == b"IEND":
            end = stop + 4  # its checksum
            break
    if not has_pixels:
        raise BadPicture("the PNG has no pixels before its end; send an undamaged file")
    _check_end(data, end, "PNG")
    return _picture("image/png", *size, is_turned)


def _png_chunks(data: Bytes) -> Iterator[tuple[bytes, int, int]]:
    """Kind, start and stop of each chunk's body; raises when the file ends within one, or without IEND."""
    at = 8
    while True:
        length, kind = int.from_bytes(_take(data, at, 4, "PNG")), _take(data, at + 4, 4, "PNG")
        start, stop = at + 8, at + 8 + length
        if stop + 4 > len(data):
            raise _cut_off("PNG")
        yield kind, start, stop
        at = stop + 4


def _png_header(body: bytes) -> tuple[int, int]:
    width, height, rest = int.from_bytes(body[:4]), int.from_bytes(body[4:8]), body[8:]
    if len(rest) != 5 or rest[0] not in _PNG_DEPTHS.get(rest[1], ()) or rest[2:4] != b"\0\0" or rest[4] > 1:
        raise BadPicture("the PNG has a header that the format does not know; send an undamaged file")
    return width, height


# JPEG

_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # SOF0 to SOF15; those three are tables
_DECODED_FRAMES = {0xC0, 0xC1, 0xC2}  # baseline, extended, progressive: what every library opens
_END_OF_IMAGE, _START_OF_SCAN, _APP1 = 0xD9, 0xDA, 0xE1
_AFTER_SCAN = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]")  # neither a stuffed byte nor a restart


def _jpeg(data: Bytes) -> Picture:
    """Bytes after the end are let pass: phones put a second picture or a film there."""
    size, is_turned, has_scan, at = None, False, False, 2
    while True:
        marker, at = _jpeg_marker(data, at)
        if marker == _END_OF_IMAGE:
            break
        stop = at + int.from_bytes(_take(data, at, 2, "JPEG"))
        if stop < at + 2 or stop > len(data):
            raise _cut_off("JPEG")
        body = data[at + 2 : stop]
        at = stop
        if marker in _FRAMES:
            if size is not None or marker not in _DECODED_FRAMES:
                raise BadPicture("the JPEG is lossless, arithmetic or has several frames; save an ordinary one")
            size = _jpeg_size(body)
        elif marker == _APP1 and body[:6] == b"Exif\0\0":
            is_turned = _is_turned(body[6:])
        elif marker == _START_OF_SCAN:
            following = _AFTER_SCAN.search(data, stop)
            if following is None:
                raise _cut_off("JPEG")
            has_scan, at = True, following.start()
    if size is None or not has_scan:
        raise BadPicture("the JPEG has no pixels before its end; send an undamaged file")
    return _picture("image/jpeg", *size, is_turned)


def _jpeg_marker(data: Bytes, at: int) -> tuple[int, int]:
    """The marker at `at`, and where what follows it begins."""
    if _take(data, at, 1, "JPEG") != b"\xff":
        raise BadPicture(f"the JPEG has no marker at byte {at}; send an undamaged file")
    while (byte := _take(data, at, 1, "JPEG")) == b"\xff":
        at += 1
    return byte[0], at + 1


def _jpeg_size(body: bytes) -> tuple[int, int]:
    if len(body) < 6 or body[0] != 8 or body[5] not in (1, 3, 4):
        raise BadPicture("the JPEG has not 8 bits in 1, 3 or 4 colours; save it as an ordinary one")
    return int.from_bytes(body[3:5]), int.from_bytes(body[1:3])


# WebP

_ANIMATED = 0x02


def _webp(data: Bytes) -> Picture:
    if data[8:12] != b"WEBP":
        raise BadPicture("the bytes are a RIFF file but no WebP picture; send a PNG, JPEG or WebP")
    end = 8 + int.from_bytes(_take(data, 4, 4, "WebP"), "little")
    canvas, size, is_turned, at = None, None, False, 12
    while at < end:
        kind = _take(data, at, 4, "WebP")
        start = at + 8
        stop = start + int.from_bytes(_take(data, at + 4, 4, "WebP"), "little")
        if stop > len(data):
            raise _cut_off("WebP")
        head = data[start : min(stop, start + 10)]
        if kind == b"VP8X":
            canvas = _webp_canvas(head)
        elif kind in (b"VP8 ", b"VP8L") and size is None:
            size = _vp8_size(head) if kind == b"VP8 " else _vp8l_size(head)
        elif kind == b"EXIF":
            is_turned = _is_turned(data[start:stop].removeprefix(b"Exif\0\0"))
        at = stop + stop % 2
    if size is None or canvas not in (None, size):
        raise BadPicture("the WebP has no picture of the size it names; send an undamaged file")
    if at != end:
        raise _cut_off("WebP")
    _check_end(data, end, "WebP")
    return _picture("image/webp", *size, is_turned)


def _webp_canvas(head: bytes) -> tuple[int, int]:
    if len(head) == 10 and head[0] & _ANIMATED:
        raise BadPicture("the WebP is animated; send a still picture")
    return int.from_bytes(head[4:7], "little") + 1, int.from_bytes(head[7:10], "little") + 1


def _vp8_size(head: bytes) -> tuple[int, int] | None:
    """14 bits each behind the start code of a key frame."""
    if len(head) < 10 or head[0] & 1 or head[3:6] != b"\x9d\x01\x2a":
        return None
    return int.from_bytes(head[6:8], "little") & 0x3FFF, int.from_bytes(head[8:10], "little") & 0x3FFF


def _vp8l_size(head: bytes) -> tuple[int, int] | None:
    """14 bits each, less one, behind the signature."""
    if len(head) < 5 or head[0] != 0x2F:
        return None
    bits = int.from_bytes(head[1:5], "little")
    return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1


_READERS: Mapping[bytes, Callable[[Bytes], Picture]] = {
    b"\x89PNG\r\n\x1a\n": _png,
    b"\xff\xd8\xff": _jpeg,
    b"RIFF": _webp,
}


# what they share

_ORIENTATION, _SHORT = 0x0112, 3
_TURNED = range(5, 9)  # a quarter turn, with or without a reflection


def _is_turned(exif: bytes) -> bool:
    """Whether the orientation in the EXIF data exchanges width and height; what cannot be read turns nothing."""
    order = {b"II*\0": "little", b"MM\0*": "big"}.get(exif[:4])
    if order is None:
        return False

    def number(at: int, size: int) -> int:
        return int.from_bytes(exif[at : at + size], order)  # type: ignore[arg-type]

    table = number(4, 4)
    for entry in range(table + 2, table + 2 + 12 * min(number(table, 2), 512), 12):
        if (number(entry, 2), number(entry + 2, 2)) == (_ORIENTATION, _SHORT):
            return number(entry + 8, 2) in _TURNED
    return False


def _picture(media_type: str, width: int, height: int, is_turned: bool) -> Picture:
    if is_turned:
        width, height = height, width
    return Picture(media_type=media_type, width=width, height=height)


def _take(data: Bytes, at: int, size: int, what: str) -> bytes:
    taken = data[at : at + size]
    if len(taken) < size:
        raise _cut_off(what)
    return taken


def _check_end(data: Bytes, end: int, what: str) -> None:
    if len(data) < end:
        raise _cut_off(what)
    if len(data) > end:
        raise BadPicture(f"{len(data) - end} bytes follow the end of the {what}; send the picture alone")


def _cut_off(what: str) -> BadPicture:
    return BadPicture(f"the {what} is cut off before its end; send the whole file")
