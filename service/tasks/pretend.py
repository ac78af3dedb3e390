"""The task pretend: goes through the motions of a job without a model. For measuring, and for tests of the rest."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from service.tasks.task import Params


class Pretend(Params, frozen=True, kw_only=True):
    """`steps` steps of `step_s` seconds each, then an empty result, or the failure that `outcome` names."""

    TASK: ClassVar[str] = "pretend"
    RUNNER: ClassVar[str] = "service.worker.pipelines.pretend"
    PHASES: ClassVar[tuple[str, ...]] = ("denoising",)

    steps: Annotated[int, Meta(ge=0, le=10_000, description="steps to report")] = 1
    step_s: Annotated[float, Meta(ge=0.0, le=60.0, description="seconds a step takes")] = 0.0
    outcome: Annotated[
        Literal["completed", "failed", "crash"],
        Meta(description="how it ends; crash ends the process that runs it"),
    ] = "completed"
