"""Pictures as files: a PNG encoder made for speed, and the text chunks that other picture tools read.

Format: W3C PNG (third edition). Filter "Up" on every row and zlib level 1 with run-length matching take
36 ms for 1024x1024 where Pillow's default takes 700 ms, and make photo-like files a little smaller.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from service.tasks.denoising import Denoising
from service.worker.frames import SpooledFile

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_UP = 2


def png(pixels: NDArray[np.uint8], texts: Mapping[str, str]) -> bytes:
    """A PNG of `pixels` (height, width, 3) with one text chunk for each of `texts` (keyword -> text)."""
    height, width, channels = pixels.shape
    assert channels == 3, f"{pixels.shape} is not RGB; expected (height, width, 3)"
    rows = pixels.reshape(height, width * 3)
    filtered = np.empty((height, 1 + width * 3), np.uint8)  # (height, filter type + bytes)
    filtered[:, 0] = _UP
    filtered[0, 1:] = rows[0]  # above the first row stand zeros
    np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])  # modulo 256, as the format wants it
    deflate = zlib.compressobj(1, zlib.DEFLATED, zlib.MAX_WBITS, 9, zlib.Z_RLE)
    return b"".join(
        (
            _SIGNATURE,
            _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
            *(_text_chunk(keyword, text) for keyword, text in texts.items()),
            _chunk(b"IDAT", deflate.compress(filtered.data) + deflate.flush()),
            _chunk(b"IEND", b""),
        )
    )


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _text_chunk(keyword: str, text: str) -> bytes:
    """tEXt where Latin-1 is enough, because every reader knows it; else iTXt, uncompressed UTF-8."""
    try:
        return _chunk(b"tEXt", keyword.encode("latin-1") + b"\0" + text.encode("latin-1"))
    except UnicodeEncodeError:
        return _chunk(b"iTXt", keyword.encode("latin-1") + b"\0\0\0\0\0" + text.encode())


def picture_texts(
    job: str, attempt: int, model: str, params: Denoising, size: tuple[int, int], sampler: str
) -> dict[str, str]:
    """What a picture says about itself: `parameters` as picture tools write it, `safelight` as JSON.

    The JSON holds what makes the picture again: job, attempt, task, model and params.
    """
    facts = {
        "Steps": params.steps,
        "Sampler": sampler,
        "CFG scale": f"{params.guidance:g}",
        "Seed": params.seed,
        "Size": f"{size[0]}x{size[1]}",
        "Model": model,
    }
    lines = [params.prompt]
    if params.negative_prompt:
        lines.append(f"Negative prompt: {params.negative_prompt}")
    lines.append(", ".join(f"{name}: {value}" for name, value in facts.items()))
    ours: dict[str, Any] = {
        "job": job,
        "attempt": attempt,
        "task": params.TASK,
        "model": model,
        "params": msgspec.to_builtins(params),
    }
    return {"parameters": "\n".join(lines), "safelight": json.dumps(ours, ensure_ascii=True)}


def spool(folder: Path, data: bytes, media_type: str, width: int, height: int) -> SpooledFile:
    """Write `data` to a new file in `folder`; durable on return. The name says nothing about the job."""
    name = f"{secrets.token_hex(12)}.{media_type.rpartition('/')[2]}"
    with (folder / name).open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    _sync_folder(folder)
    digest = hashlib.sha256(data).hexdigest()
    return SpooledFile(name=name, digest=digest, media_type=media_type, bytes=len(data), width=width, height=height)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
