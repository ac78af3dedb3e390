"""The task enhance: a fuller prompt from a short one, by a small language model."""

from __future__ import annotations

from typing import Annotated, ClassVar

from msgspec import Meta

from service.tasks.task import MAX_SEED, Params


class Enhance(Params, frozen=True, kw_only=True):
    """A text that says more than `prompt`. It is the job's file: as a fact of the job it would stand in public."""

    TASK: ClassVar[str] = "enhance"
    RUNNER: ClassVar[str] = "service.worker.pipelines.enhance"
    PRIVATE: ClassVar[frozenset[str]] = frozenset({"prompt"})
    PHASES: ClassVar[tuple[str, ...]] = ("loading_model", "preparing", "writing", "exporting")
    STEPPING: ClassVar[str] = "writing"

    prompt: Annotated[str, Meta(min_length=1, max_length=4000, description="what to say more about")]
    seed: Annotated[int, Meta(ge=0, le=MAX_SEED, description="starts the choice of words; drawn when absent")]
    max_new_tokens: Annotated[int, Meta(ge=1, le=2048, description="tokens; about four letters each")] = 128
    temperature: Annotated[float, Meta(ge=0.0, le=2.0, description="0 takes the likeliest words")] = 0.7
