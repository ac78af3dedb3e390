"""What writing a result costs: `python -m benchmarks.encoders` prints the tables of docs/worker.md.

Picture, video and sound are made here: soft shapes with the grain of a photo, moving, and two tones with noise.
Each is written as the worker does it and in the ways that were not chosen.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from typing import Any

import av
import numpy as np
import soundfile
from numpy.typing import NDArray
from PIL import Image

from service.worker import encoding, sound, video

ROUNDS = 5
TEXTS = {"parameters": "a fox in the snow", "safelight": "{}"}


def main() -> None:
    """Measure and print."""
    dice = np.random.default_rng(1)
    frames = film(dice, 81, 480, 832)
    print("| picture, 1024 x 1024 px | CPU ms | kB | PSNR dB |\n|---|---|---|---|")
    picture = film(dice, 1, 1024, 1024)[0]
    for name, write in picture_ways(picture).items():
        took_s, data = _measured(write)
        opened = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
        _row(name, f"{1000 * took_s:.0f}", data, _psnr(opened, picture))
    print("\n| video, 81 frames of 832 x 480 px | CPU ms a frame | kB | PSNR dB |\n|---|---|---|---|")
    for name, write in video_ways(frames).items():
        took_s, data = _measured(write, rounds=1)
        _row(name, f"{1000 * took_s / len(frames):.1f}", data, _psnr(_decoded(data), frames))
    print("\n| sound, 30 s of stereo at 44,100 Hz | CPU ms | kB |\n|---|---|---|")
    at = np.arange(30 * 44_100)
    wave = np.stack([0.5 * np.sin(0.03 * at), 0.4 * np.sin(0.05 * at)], 1) + dice.normal(0, 0.01, (len(at), 2))
    for name, write in sound_ways(wave.astype(np.float32)).items():
        took_s, data = _measured(write)
        _row(name, f"{1000 * took_s:.0f}", data)


def picture_ways(picture: NDArray[np.uint8]) -> dict[str, Callable[[], bytes]]:
    """Ways to write a picture; in bold how the worker does it."""
    image = Image.fromarray(picture)
    return {
        "**PNG, ours**": lambda: encoding.picture(picture, "png", TEXTS),
        "PNG, Pillow, level 1": lambda: _saved(image, "PNG", compress_level=1),
        "PNG, Pillow, as it comes": lambda: _saved(image, "PNG"),
        "**WebP, quality 90, method 2**": lambda: encoding.picture(picture, "webp", TEXTS),
        "WebP, quality 90, method 4": lambda: _saved(image, "WEBP", quality=90, method=4),
        "**JPEG, quality 95, 4:4:4**": lambda: encoding.picture(picture, "jpeg", TEXTS),
        "JPEG, quality 95, 4:2:0": lambda: _saved(image, "JPEG", quality=95),
    }


def video_ways(frames: NDArray[np.uint8]) -> dict[str, Callable[[], bytes]]:
    """Ways to write a video."""

    def by(codec: str, container: str, **options: str) -> Callable[[], bytes]:
        return lambda: _filmed(frames, codec, container, options)

    return {
        "**H.264, veryfast, crf 18**": lambda: video.mp4(frames, 24, "{}"),
        "H.264, ultrafast, crf 18": by("libx264", "mp4", preset="ultrafast", crf="18"),
        "H.264, medium, crf 18": by("libx264", "mp4", preset="medium", crf="18"),
        "VP9, realtime, cpu-used 8, crf 31": by(
            "libvpx-vp9", "webm", deadline="realtime", crf="31", b="0", **{"cpu-used": "8"}
        ),
        "AV1 (SVT), preset 10, crf 30": by("libsvtav1", "mp4", preset="10", crf="30"),
    }


def sound_ways(wave: NDArray[np.float32]) -> dict[str, Callable[[], bytes]]:
    """Ways to write a sound."""
    return {
        "**FLAC, 16 bits**": lambda: sound.encode(wave, 44_100, "flac", "{}"),
        "**WAV, 16 bits**": lambda: sound.encode(wave, 44_100, "wav", "{}"),
        "FLAC, 24 bits": lambda: _heard(wave, "FLAC", "PCM_24"),
    }


def film(dice: np.random.Generator, count: int, height: int, width: int) -> NDArray[np.uint8]:
    """Soft shapes that drift to the left, a pixel a frame, under a grain that stays."""
    cells = dice.integers(0, 256, (height // 24, (width + count) // 24, 3), dtype=np.uint8)
    soft = Image.fromarray(cells).resize((width + count, height), Image.Resampling.BICUBIC)
    wide, grain = np.asarray(soft).astype(np.float32), dice.normal(0, 3, (height, width, 3))
    return np.stack([np.clip(wide[:, at : at + width] + grain, 0, 255).astype(np.uint8) for at in range(count)])


def _measured(write: Callable[[], bytes], rounds: int = ROUNDS) -> tuple[float, bytes]:
    """The median CPU seconds of all threads, and what was written."""
    seconds = []
    for _ in range(rounds):
        began = time.process_time()
        data = write()
        seconds.append(time.process_time() - began)
    return sorted(seconds)[rounds // 2], data


def _row(name: str, cost: str, data: bytes, psnr: float | None = None) -> None:
    quality = [] if psnr is None else ["lossless" if psnr == np.inf else f"{psnr:.1f}"]
    print(f"| {' | '.join([name, cost, f'{len(data) / 1000:,.0f}', *quality])} |")


def _psnr(made: NDArray[Any], wanted: NDArray[Any]) -> float:
    error = float(((made.astype(np.float32) - wanted) ** 2).mean())
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))


def _saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def _filmed(frames: NDArray[np.uint8], codec: str, container: str, options: dict[str, str]) -> bytes:
    out = io.BytesIO()
    with av.open(out, "w", format=container) as file:
        stream: Any = file.add_stream(codec, rate=24, options=options)
        stream.height, stream.width = frames.shape[1:3]
        for frame in frames:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        file.mux(stream.encode())
    return out.getvalue()


def _decoded(data: bytes) -> NDArray[np.uint8]:
    with av.open(io.BytesIO(data)) as file:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)])


def _heard(wave: NDArray[np.float32], kind: str, subtype: str) -> bytes:
    out = io.BytesIO()
    soundfile.write(out, wave, 44_100, format=kind, subtype=subtype)
    return out.getvalue()


if __name__ == "__main__":
    main()
