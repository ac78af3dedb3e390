"""Sounds as files: FLAC, half the size of WAV, or WAV for tools that read nothing else; both keep 16 bits."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from service.tasks.text_to_audio import SoundFormat


def encode(wave: NDArray[Any], rate_hz: int, kind: SoundFormat, record: str) -> bytes:
    """A file of `wave` (samples, channels), -1..1, louder is clipped; `record` is its comment."""
    out = io.BytesIO()
    with soundfile.SoundFile(
        out, "w", samplerate=rate_hz, channels=wave.shape[1], format=kind.upper(), subtype="PCM_16"
    ) as file:
        file.comment = record
        file.write(np.clip(np.nan_to_num(wave), -1.0, 1.0))
    return out.getvalue()
