"""Headers of picture files: what Pillow writes is read right, and nothing but a whole still picture is accepted."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from service.pictures import MAX_PIXELS, BadPicture, Picture, read_picture

FORMATS = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}
MODES = {"PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"), "JPEG": ("L", "RGB", "CMYK"), "WEBP": ("RGB", "RGBA")}


def saved(kind: str, width: int = 20, height: int = 12, mode: str = "RGB", **options: object) -> bytes:
    """A noisy picture as Pillow saves it."""
    file = io.BytesIO()
    noise = Image.effect_noise((width, height), 80)
    picture = noise if mode in ("L", "I;16") else noise.convert("RGB")  # there is no way from RGB to I;16
    picture.convert(mode).save(file, kind, **options)
    return file.getvalue()


def turned(kind: str, orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x010F] = "a camera"
    exif[0x0112] = orientation
    return saved(kind, exif=exif)


def png(width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG with this header and these further chunks."""
    whole = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), *chunks]
    body = b"".join(struct.pack(">I", len(b)) + k + b + struct.pack(">I", zlib.crc32(k + b)) for k, b in whole)
    return b"\x89PNG\r\n\x1a\n" + body


PIXELS, END = (b"IDAT", zlib.compress(b"\0" * 4)), (b"IEND", b"")
WHOLE = [
    *(saved(kind, mode=mode) for kind, modes in MODES.items() for mode in modes),
    saved("JPEG", progressive=True), saved("WEBP", lossless=True), turned("JPEG", 6), turned("WEBP", 6),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "mode"), [(kind, mode) for kind, modes in MODES.items() for mode in modes])
def test_what_pillow_writes_is_read(kind: str, mode: str) -> None:
    wanted = Picture(media_type=FORMATS[kind], width=33, height=7)
    assert read_picture(saved(kind, 33, 7, mode)) == wanted


@settings(deadline=None)
@given(kind=st.sampled_from(list(FORMATS)), width=st.integers(1, 300), height=st.integers(1, 300))
def test_the_size_is_that_of_the_decoder(kind: str, width: int, height: int) -> None:
    picture = read_picture(saved(kind, width, height))
    assert (picture.width, picture.height) == (width, height)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_on_its_side_has_the_size_it_is_shown_in(kind: str, orientation: int) -> None:
    data = turned(kind, orientation)
    with Image.open(io.BytesIO(data)) as opened:
        from PIL import ImageOps

        shown = ImageOps.exif_transpose(opened).size
    picture = read_picture(data)
    assert (picture.width, picture.height) == shown == ((12, 20) if orientation > 4 else (20, 12))


@pytest.mark.parametrize("data", WHOLE, ids=range(len(WHOLE)))
def test_every_beginning_of_a_picture_is_refused(data: bytes) -> None:
    read_picture(data)
    for length in range(len(data)):
        with pytest.raises(BadPicture):
            read_picture(data[:length])


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(WHOLE), st.data())
def test_damage_never_raises_anything_else(whole: bytes, draw: st.DataObject) -> None:
    """Bytes exchanged anywhere, and something cut out: a picture or BadPicture."""
    data = bytearray(whole)
    for at in draw.draw(st.lists(st.integers(0, len(data) - 1), max_size=8)):
        data[at] = draw.draw(st.integers(0, 255))
    start = draw.draw(st.integers(0, len(data)))
    del data[start : start + draw.draw(st.integers(0, 40))]
    try:
        picture = read_picture(bytes(data))
    except BadPicture:
        return
    assert 0 < picture.width * picture.height <= MAX_PIXELS


@given(st.sampled_from([b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF\x20\0\0\0WEBPVP8X", b""]), st.binary())
def test_no_bytes_raise_anything_else(start: bytes, rest: bytes) -> None:
    with pytest.raises(BadPicture):
        read_picture(start + rest)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "no PNG, JPEG or WebP picture"),
        (b"hello, I am a picture", "no PNG, JPEG or WebP picture"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "no PNG, JPEG or WebP picture"),
        (saved("GIF"), "no PNG, JPEG or WebP picture"),
        (png(50_000, 50_000, PIXELS, END), "50000 x 50000 px are not opened"),
        (png(1, 20_000, PIXELS, END), "16384 on a side"),
        (png(0, 5, PIXELS, END), "0 x 5 px is an empty picture"),
        (png(5, 5, END), "no pixels before its end"),
        (png(5, 5, (b"acTL", bytes(8)), PIXELS, END), "animated"),
        (png(5, 5, PIXELS, END) + b"PK", "2 bytes follow the end of the PNG"),
        (saved("WEBP") + b"PK", "2 bytes follow the end of the WebP"),
        (b"RIFF\x04\0\0\0WAVE", "no WebP picture"),
    ],
    ids=range(12),
)  # fmt: skip
def test_what_is_no_still_picture_is_named(data: bytes, says: str) -> None:
    with pytest.raises(BadPicture, match=says):
        read_picture(data)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_an_animation_is_refused(kind: str) -> None:
    file = io.BytesIO()
    frames = [Image.effect_noise((20, 12), 80).convert("RGB") for _ in range(3)]
    frames[0].save(file, kind, save_all=True, append_images=frames[1:])
    with pytest.raises(BadPicture, match="animated"):
        read_picture(file.getvalue())


def test_what_a_phone_puts_behind_a_jpeg_is_let_pass() -> None:
    assert read_picture(saved("JPEG") + b"MotionPhoto\0ftypmp42").width == 20


def test_a_file_is_read_where_it_lies(tmp_path: Path) -> None:
    from mmap import ACCESS_READ, mmap

    (tmp_path / "a").write_bytes(saved("JPEG", 64, 48))
    with (tmp_path / "a").open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as mapped:
        assert read_picture(mapped) == Picture(media_type="image/jpeg", width=64, height=48)
