"""What a video file is, read from its boxes and never decoded: MP4, whole, with a picture track, and its size.

Source: ISO/IEC 14496-12 (ISO base media file format). Whatever the bytes are, the answer is a Picture or
BadPicture.
"""

from __future__ import annotations

from collections.abc import Iterator

from service.pictures import BadPicture, Bytes, Picture, check_size, read_picture

MEDIA_TYPE = "video/mp4"
MAX_TRACKS = 64
MAX_BOXES = 1 << 16  # of one level; a video in fragments has some for each second


def read_input(data: Bytes) -> Picture:
    """What the file `data` is, of all that a job can start from. Raises BadPicture."""
    return read_video(data) if data[4:8] == b"ftyp" else read_picture(data)


def read_video(data: Bytes) -> Picture:
    """What the MP4 file `data` is, with the width and height of its frames in px. Raises BadPicture."""
    boxes = {kind: (begin, end) for kind, begin, end in _boxes(data, 0, len(data))}
    if not {b"moov", b"mdat"} <= set(boxes):
        raise BadPicture("the MP4 has no index or no frames; send the whole file")
    tracks = [(begin, end) for kind, begin, end in _boxes(data, *boxes[b"moov"]) if kind == b"trak"]
    for begin, end in tracks[:MAX_TRACKS]:
        if (size := _frame_size(data, begin, end)) is not None:
            picture = Picture(media_type=MEDIA_TYPE, width=size[0], height=size[1])
            check_size(picture)
            return picture
    raise BadPicture("the MP4 has no video track; send one with frames")


def _boxes(data: Bytes, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Every box between two places: its type, and where its content begins and ends."""
    for _ in range(MAX_BOXES):
        if at >= end:
            return
        size, head = int.from_bytes(data[at : at + 4], "big"), 8
        if size == 1:
            size, head = int.from_bytes(data[at + 8 : at + 16], "big"), 16
        elif size == 0:  # up to the end of the file
            size = end - at
        if size < head or at + size > end:
            raise BadPicture("the MP4 is cut off before its end, or damaged; send the whole file")
        yield bytes(data[at + 4 : at + 8]), at + head, at + size
        at += size
    raise BadPicture(f"the MP4 has more than {MAX_BOXES} boxes in a row; send it as one track without fragments")


def _frame_size(data: Bytes, begin: int, end: int) -> tuple[int, int] | None:
    """Width and height of a track in px; None where it is none of pictures."""
    boxes = {kind: place for kind, *place in _boxes(data, begin, end)}
    if b"tkhd" not in boxes or b"mdia" not in boxes:
        return None
    media = {kind: place for kind, *place in _boxes(data, *boxes[b"mdia"])}
    handler = media.get(b"hdlr", (0, 0))[0]
    if data[handler + 8 : handler + 12] != b"vide":
        return None
    sides = data[boxes[b"tkhd"][1] - 8 : boxes[b"tkhd"][1]]  # the last 8 bytes, in 16.16 fixed point
    return int.from_bytes(sides[:4], "big") >> 16, int.from_bytes(sides[4:], "big") >> 16
