"""The task text-to-audio: any diffusers folder whose pipeline makes a wave from a prompt."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.tasks.text_to_audio import TextToAudio
from service.worker import encoding, sound
from service.worker.frames import SpooledFile
from service.worker.pipelines import stock
from service.worker.pipelines.loading import Loaded, load
from service.worker.run import Made, Run

__all__ = ["compute", "load"]

LENGTHS = ("audio_end_in_s", "audio_length_in_s", "audio_duration_s", "audio_duration", "duration")
"""What the classes call it: Stable Audio, AudioLDM2, LongCat, ACE-Step, Stable Audio 3."""


def compute(run: Run, loaded: Loaded) -> Made:
    """Make the sound. Raises Cancelled within a step of being told to halt; the pipeline stays usable."""
    params = run.params
    assert isinstance(params, TextToAudio), f"task {TextToAudio.TASK} got {type(params).__name__}"
    wave = np.asarray(stock.call(run, loaded, dict.fromkeys(LENGTHS, params.seconds)).audios[0])
    rate_hz = _rate_hz(loaded.pipe)
    facts = {"sample_rate_hz": rate_hz}
    return Made(stock.facts(params, loaded) | facts, partial(_export, run, params, np.atleast_2d(wave).T, rate_hz))


def _rate_hz(pipe: Any) -> int:
    """Samples a second of what the pipeline makes; a vocoder, where there is one, has the last word."""
    if (rate_hz := getattr(pipe, "sample_rate", None)) is not None:
        return int(rate_hz)
    part = getattr(pipe, "vocoder", None) or pipe.vae
    return int(part.config.sampling_rate)


def _export(run: Run, params: TextToAudio, wave: NDArray[np.float32], rate_hz: int) -> tuple[SpooledFile, ...]:
    """Write the sound, `wave` (samples, channels). Needs no device."""
    record = encoding.record(run.job, run.attempt, run.model.id, params)
    data = sound.encode(wave, rate_hz, params.format, record)
    about = {"seconds": round(len(wave) / rate_hz, 3), "sample_rate_hz": rate_hz}
    return (encoding.spool(run.folder, data, f"audio/{params.format}", **about),)
