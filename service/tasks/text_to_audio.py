"""The task text-to-audio: a sound from a prompt."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from service.tasks.denoising import Denoising

SoundFormat = Literal["flac", "wav"]


class TextToAudio(Denoising, frozen=True, kw_only=True):
    """A sound or music as `prompt` says, at the sample rate of the model."""

    TASK: ClassVar[str] = "text-to-audio"
    RUNNER: ClassVar[str] = "service.worker.pipelines.text_to_audio"

    seconds: Annotated[float, Meta(gt=0.0, le=600.0, description="length; models have a maximum of their own")]
    format: Annotated[SoundFormat, Meta(description="of the file; both are lossless, flac is smaller")] = "flac"
